//! What a split ring promises, at both of its ends. The two halves stand in one process, on one region that the device half sees
//! as guest memory.

mod events;
mod hostile;
mod model;
mod oracle;
mod properties;

use std::sync::Arc;

use vring_mem::guest::{GuestMemory, GuestRegion};
use vring_mem::{Pages, Region};
use vring_peer::RawRing;

use super::{SplitDevice, SplitDriver};
use crate::{DeviceRing, DriverRing, Piece, RingFeatures, SplitLayout};

/// The address of the region as the device knows it.
const BASE: u64 = 0x1_0000_0000;

/// All four sets of features.
const FEATURES: [RingFeatures; 4] = [
    features(false, false),
    features(false, true),
    features(true, false),
    features(true, true),
];

const fn features(event_idx: bool, indirect: bool) -> RingFeatures {
    RingFeatures {
        event_idx,
        indirect,
    }
}

/// A ring in a region of its own.
struct Bed {
    region: Arc<Region>,
    memory: Arc<GuestMemory>,
    layout: SplitLayout,
    size: u16,
}

impl Bed {
    fn new(size: u16) -> Self {
        let layout = SplitLayout::new(size, true);
        let region = Region::create("ring-test", layout.total, Pages::Base).unwrap();
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

    fn driver(&self, features: RingFeatures) -> SplitDriver {
        SplitDriver::new(&self.region, 0, BASE, self.size, &self.layout, features)
    }

    fn at(&self, part: usize) -> std::ptr::NonNull<u8> {
        self.memory.translate(BASE + part as u64, 1).unwrap()
    }

    /// The device half; it takes up at the used index that stands in the ring.
    fn device(&self, features: RingFeatures) -> SplitDevice {
        let l = &self.layout;
        // SAFETY: the layout lies inside the region, which the bed keeps mapped and which outlives the halves in every test.
        unsafe {
            SplitDevice::new(
                self.at(l.desc),
                self.at(l.avail),
                self.at(l.used),
                self.size,
                features,
            )
        }
    }

    /// The same ring, to be written by hand.
    fn raw(&self) -> RawRing {
        let l = &self.layout;
        // SAFETY: as in device.
        unsafe {
            RawRing::new(
                self.at(l.desc),
                self.at(l.avail),
                self.at(l.used),
                self.size,
            )
        }
    }
}

/// A piece that nobody follows.
fn piece(len: u32) -> Piece {
    Piece {
        addr: BASE + 64,
        len,
    }
}

/// Runs a new ring up to `index`, so that a test begins near the wrap of the indexes.
fn run_to(driver: &mut SplitDriver, device: &mut SplitDevice, index: u16) {
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
