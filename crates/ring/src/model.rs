//! Publishing and suppressing, in every order that the memory model allows: the halves themselves, over loom's atomics.
//!
//! One side publishes two chains, one by one; the other takes once, then falls asleep unless a last look finds more. Whatever was published is
//! seen whole, and nobody sleeps through news. Run with `cargo test -p vring-ring --features loom --lib`.

pub(crate) mod cells;

use std::sync::{Arc, OnceLock};

use vring_mem::{Pages, Region};

use crate::packed::{self, PackedLayout};
use crate::{DeviceRing, DriverRing, Piece, RingFeatures, SplitLayout, split};

/// The halves of a new ring. Its memory stands for addresses only: what lies there is loom's.
trait Kind: 'static {
    type Driver: DriverRing + 'static;
    type Device: DeviceRing + 'static;
    fn halves(features: RingFeatures) -> (Self::Driver, Self::Device);
}

struct Split<const IN_ORDER: bool>;
struct Packed<const IN_ORDER: bool>;

const SIZE: u16 = 2;

fn region() -> &'static Arc<Region> {
    static REGION: OnceLock<Arc<Region>> = OnceLock::new();
    REGION.get_or_init(|| Region::create("ring-model", 4096, Pages::Base).unwrap())
}

fn at(part: usize) -> std::ptr::NonNull<u8> {
    std::ptr::NonNull::new(region().base().wrapping_add(part)).unwrap()
}

impl<const IN_ORDER: bool> Kind for Split<IN_ORDER> {
    type Driver = split::Driver<IN_ORDER>;
    type Device = split::Device<IN_ORDER>;

    fn halves(features: RingFeatures) -> (Self::Driver, Self::Device) {
        let l = SplitLayout::new(SIZE, false);
        let driver = split::Driver::new(region(), 0, 0, SIZE, &l, features);
        // SAFETY: inside the region, which is never unmapped.
        let device =
            unsafe { split::Device::new(at(l.desc), at(l.avail), at(l.used), SIZE, features) };
        (driver, device)
    }
}

impl<const IN_ORDER: bool> Kind for Packed<IN_ORDER> {
    type Driver = packed::Driver<IN_ORDER>;
    type Device = packed::Device<IN_ORDER>;

    fn halves(features: RingFeatures) -> (Self::Driver, Self::Device) {
        let l = PackedLayout::new(SIZE, false);
        let driver = packed::Driver::new(region(), 0, 0, SIZE, &l, features);
        let [desc, ours, theirs] = [l.desc, l.driver_event, l.device_event].map(at);
        // SAFETY: inside the region, which is never unmapped.
        let device =
            unsafe { packed::Device::new(desc, ours, theirs, SIZE, 0x8000_8000, features) };
        (driver, device.unwrap())
    }
}

fn piece(token: u32) -> Piece {
    Piece {
        addr: 1000 + u64::from(token),
        len: 100 + token,
    }
}

/// The halves once round a ring: then every word is there, made before there are threads, and the next chains come round its end.
fn halves<K: Kind>(features: RingFeatures) -> (K::Driver, K::Device) {
    let (mut driver, mut device) = K::halves(features);
    driver.push_many(&[7, 8], true, |_| piece(9));
    driver.publish();
    driver.needs_kick();
    assert_eq!(device.ready(2), Ok(2));
    let ids = [0, 1].map(|nth| device.peek(nth).unwrap().id);
    device.complete_many(2, |nth| (ids[nth], 9));
    device.publish();
    device.needs_call();
    assert_eq!(driver.used_ready(2), Ok(2));
    assert_eq!(driver.pop_many(&mut [0; 2], &mut [0; 2]), Ok(2));
    (driver, device)
}

fn explore(fences: bool, scene: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        cells::reset(fences);
        scene();
    });
}

/// The driver publishes, the device sleeps.
fn kicks<K: Kind>(features: RingFeatures) {
    let (mut driver, mut device) = halves::<K>(features);
    let publisher = loom::thread::spawn(move || {
        let mut told = false;
        for token in 0..2 {
            driver.push(token, piece(token), false);
            driver.publish();
            told |= driver.needs_kick();
        }
        told
    });
    let taken = device.ready(1).unwrap();
    for nth in 0..taken {
        let (desc, expected) = (
            device.peek(nth).unwrap().desc,
            piece(nth.try_into().unwrap()),
        );
        assert_eq!(
            (desc.addr, desc.len),
            (expected.addr, expected.len),
            "half a chain"
        );
    }
    let ids: Vec<u16> = (0..taken).map(|nth| device.peek(nth).unwrap().id).collect();
    device.complete_many(taken, |nth| (ids[nth], 0));
    let asleep = !device.want_kicks(true);
    let told = publisher.join().unwrap();
    let missed = device.ready(2).unwrap() > 0;
    assert!(told || !(asleep && missed), "slept through news");
}

/// The device gives back, the driver sleeps.
fn calls<K: Kind>(features: RingFeatures) {
    let (mut driver, mut device) = halves::<K>(features);
    driver.push_many(&[0, 1], true, |nth| piece(nth.try_into().unwrap()));
    driver.publish();
    assert_eq!(device.ready(2), Ok(2));
    let publisher = loom::thread::spawn(move || {
        let mut told = false;
        for len in 50..52 {
            let id = device.peek(0).unwrap().id;
            device.complete(id, len);
            device.publish();
            told |= device.needs_call();
        }
        told
    });
    let mut taken = 0;
    for _ in 0..driver.used_ready(1).unwrap() {
        let used = driver.pop_used().unwrap();
        assert_eq!(
            (used.token, used.len),
            (taken, 50 + taken),
            "half a used element"
        );
        taken += 1;
    }
    let asleep = !driver.want_calls(true);
    let told = publisher.join().unwrap();
    let missed = driver.used_ready(2).unwrap() > 0;
    assert!(told || !(asleep && missed), "slept through news");
}

macro_rules! proofs {
    ($($name:ident: $kind:ty, $event_idx:literal, $in_order:literal;)*) => {
        $(mod $name {
            use super::*;

            const FEATURES: RingFeatures = RingFeatures {
                event_idx: $event_idx,
                indirect: false,
                in_order: $in_order,
            };

            /// No kick is lost, and chains are seen whole.
            #[test]
            fn kicks_are_not_lost() {
                explore(true, || kicks::<$kind>(FEATURES));
            }

            /// No call is lost, and used elements are seen whole.
            #[test]
            fn calls_are_not_lost() {
                explore(true, || calls::<$kind>(FEATURES));
            }

            /// The model sees what it is for: without the fences of the code a kick is lost.
            #[test]
            #[should_panic(expected = "slept through news")]
            fn without_fences_a_kick_is_lost() {
                explore(false, || kicks::<$kind>(FEATURES));
            }

            /// As above, a call.
            #[test]
            #[should_panic(expected = "slept through news")]
            fn without_fences_a_call_is_lost() {
                explore(false, || calls::<$kind>(FEATURES));
            }
        })*
    };
}

proofs! {
    split_flags: Split<false>, false, false;
    split_events: Split<false>, true, false;
    split_in_order: Split<true>, true, true;
    packed_flags: Packed<false>, false, false;
    packed_events: Packed<false>, true, false;
    packed_in_order: Packed<true>, true, true;
}
