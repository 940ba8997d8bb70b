//! What only a packed ring promises, and who can break it how.

mod any_order;
mod hostile;
mod in_order;
mod places;

use std::ptr::NonNull;

use vring_peer::RawPacked;

use super::{Device, Driver, PackedDevice, PackedDriver, PackedLayout};
use crate::RingFeatures;
use crate::inflight::Areas;
use crate::inflight::tests::Kept;
use crate::tests::{self, BASE, Format};

/// A packed ring, used in order or not.
pub(crate) struct PackedKind<const IN_ORDER: bool>;
pub(crate) type Packed = PackedKind<false>;
pub(crate) type PackedInOrder = PackedKind<true>;

/// The base of a ring that nobody used (2.8.1): slot 0, both wrap counters 1.
const NEW: u32 = 0x8000_8000;

impl<const IN_ORDER: bool> Format for PackedKind<IN_ORDER> {
    type Driver = Driver<IN_ORDER>;
    type Device = Device<IN_ORDER>;
    type Layout = PackedLayout;
    const IN_ORDER: bool = IN_ORDER;
    const SIZES: &'static [u16] = &[
        1, 2, 3, 4, 5, 7, 8, 255, 256, 257, 1000, 4096, 32_767, 32_768,
    ];

    fn layout(size: u16) -> (PackedLayout, usize) {
        let layout = PackedLayout::new(size, true);
        (layout, layout.total)
    }

    fn driver(bed: &tests::Bed<Self>, features: RingFeatures) -> Self::Driver {
        Driver::new(&bed.region, 0, BASE, bed.size, &bed.layout, features)
    }

    fn device(bed: &tests::Bed<Self>, features: RingFeatures) -> Self::Device {
        take_up(bed, features, NEW)
    }
}

impl<const IN_ORDER: bool> Kept for PackedKind<IN_ORDER> {
    const PACKED: bool = true;

    fn areas(bed: &tests::Bed<Self>) -> Areas {
        let [desc, driver, device] = areas(bed);
        let size = bed.size;
        Areas {
            desc,
            driver,
            device,
            size,
        }
    }

    fn take_up(bed: &tests::Bed<Self>, features: RingFeatures, base: u32) -> Self::Device {
        take_up(bed, features, base)
    }
}

type Bed = tests::Bed<Packed>;

fn areas<const IN_ORDER: bool>(bed: &tests::Bed<PackedKind<IN_ORDER>>) -> [NonNull<u8>; 3] {
    let l = &bed.layout;
    [l.desc, l.driver_event, l.device_event].map(|part| bed.at(part))
}

/// The same ring, to be written by hand.
pub(crate) fn raw<const IN_ORDER: bool>(bed: &tests::Bed<PackedKind<IN_ORDER>>) -> RawPacked {
    let [desc, driver, device] = areas(bed);
    // SAFETY: as in take_up.
    unsafe { RawPacked::new(desc, driver, device, bed.size) }
}

fn take_up<const IN_ORDER: bool>(
    bed: &tests::Bed<PackedKind<IN_ORDER>>,
    features: RingFeatures,
    base: u32,
) -> Device<IN_ORDER> {
    let [desc, driver, device] = areas(bed);
    // SAFETY: the layout lies inside the region, which the bed keeps mapped and which outlives the halves in every test.
    unsafe { Device::new(desc, driver, device, bed.size, base, features) }.unwrap()
}
