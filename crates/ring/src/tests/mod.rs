//! What a ring promises, in either format, at both of its ends. The two halves stand in one process, on one region that the device half sees
//! as guest memory.

mod events;
mod properties;
mod scribble;

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::Arc;

use vring_mem::guest::{Access, GuestMemory, GuestRegion};
use vring_mem::{Pages, Region};

use crate::{DeviceRing, DriverRing, Piece, RingFeatures};

/// The address of the region as the device knows it.
pub(crate) const BASE: u64 = 0x1_0000_0000;

/// All four sets of features; whether in order is the format's to say.
pub(crate) const FEATURES: [RingFeatures; 4] = [
    features(false, false),
    features(false, true),
    features(true, false),
    features(true, true),
];

pub(crate) const fn features(event_idx: bool, indirect: bool) -> RingFeatures {
    RingFeatures {
        event_idx,
        indirect,
        in_order: false,
    }
}

/// A format of rings with its two halves.
pub(crate) trait Format: Sized {
    type Driver: DriverRing;
    type Device: DeviceRing;
    type Layout;
    /// Chains are used in order, and those that are only read in batches.
    const IN_ORDER: bool;
    /// Sizes to test.
    const SIZES: &'static [u16];

    fn layout(size: u16) -> (Self::Layout, usize);
    fn driver(bed: &Bed<Self>, features: RingFeatures) -> Self::Driver;
    /// The device half of a ring that is new, or that no chain waits in.
    fn device(bed: &Bed<Self>, features: RingFeatures) -> Self::Device;
}

/// A ring in a region of its own.
pub(crate) struct Bed<F: Format> {
    pub(crate) region: Arc<Region>,
    pub(crate) memory: Arc<GuestMemory>,
    pub(crate) layout: F::Layout,
    pub(crate) size: u16,
}

impl<F: Format> Bed<F> {
    pub(crate) fn new(size: u16) -> Self {
        let (layout, total) = F::layout(size);
        let region = Region::create("ring-test", total, Pages::Base).unwrap();
        let fd = region.fd().try_clone_to_owned().unwrap();
        let guest = GuestRegion::map(BASE, BASE, region.len() as u64, 0, fd).unwrap();
        let memory = Arc::new(GuestMemory::new(vec![Arc::new(guest)]).unwrap());
        Self {
            region,
            memory,
            layout,
            size,
        }
    }

    pub(crate) fn driver(&self, features: RingFeatures) -> F::Driver {
        F::driver(self, Self::features(features))
    }

    pub(crate) fn device(&self, features: RingFeatures) -> F::Device {
        F::device(self, Self::features(features))
    }

    fn features(features: RingFeatures) -> RingFeatures {
        RingFeatures {
            in_order: F::IN_ORDER,
            ..features
        }
    }

    /// Where the device has a part of the ring.
    pub(crate) fn at(&self, part: usize) -> NonNull<u8> {
        self.memory
            .translate(BASE + part as u64, 1, Access::WRITE)
            .unwrap()
    }
}

/// Makes tests of functions that are generic over the format.
macro_rules! for_each_format {
    ($($test:ident),* $(,)?) => {
        mod split {
            $(#[test] fn $test() { super::$test::<crate::split::tests::Split>(); })*
        }
        mod split_in_order {
            $(#[test] fn $test() { super::$test::<crate::split::tests::SplitInOrder>(); })*
        }
        mod packed_in_order {
            $(#[test] fn $test() { super::$test::<crate::packed::tests::PackedInOrder>(); })*
        }
        mod packed {
            $(#[test] fn $test() { super::$test::<crate::packed::tests::Packed>(); })*
        }
    };
}
pub(crate) use for_each_format;

/// A piece that nobody follows.
pub(crate) fn piece(len: u32) -> Piece {
    Piece {
        addr: BASE + 64,
        len,
    }
}

/// All chains that are left can be taken back, each once, whatever the device did.
pub(crate) fn take_back(mut driver: impl DriverRing, expected: impl IntoIterator<Item = u32>) {
    let mut back = BTreeSet::new();
    while let Some(used) = driver.take_outstanding() {
        assert!(back.insert(used.token), "token {} twice", used.token);
    }
    assert_eq!(back, expected.into_iter().collect());
    assert_eq!(driver.free_descs(), usize::from(driver.size()));
}

/// Runs a new ring up to `index`, so that a test begins near the wrap of the indexes.
pub(crate) fn run_to(driver: &mut impl DriverRing, device: &mut impl DeviceRing, index: u16) {
    let mut left = usize::from(index);
    while left > 0 {
        let count = left.min(usize::from(driver.size()));
        for _ in 0..count {
            driver.push(7, piece(60), false);
        }
        driver.publish();
        driver.needs_kick();
        assert_eq!(device.ready(count).unwrap(), count);
        for _ in 0..count {
            let id = device.peek(0).unwrap().id;
            device.complete(id, 0);
        }
        device.publish();
        device.needs_call();
        assert_eq!(driver.used_ready(count).unwrap(), count);
        for _ in 0..count {
            driver.pop_used().unwrap();
        }
        left -= count;
    }
}
