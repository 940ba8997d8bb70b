//! What only a packed ring promises, and who can break it how.

use super::{PackedDevice, PackedDriver, PackedLayout};
use crate::RingFeatures;
use crate::tests::{BASE, Format};

pub(crate) struct Packed;

/// The base of a ring that nobody used (2.8.1): slot 0, both wrap counters 1.
const NEW: u32 = 0x8000_8000;

impl Format for Packed {
    type Driver = PackedDriver;
    type Device = PackedDevice;
    type Layout = PackedLayout;
    const SIZES: &'static [u16] = &[
        1, 2, 3, 4, 5, 7, 8, 255, 256, 257, 1000, 4096, 32_767, 32_768,
    ];

    fn layout(size: u16) -> (PackedLayout, usize) {
        let layout = PackedLayout::new(size, true);
        (layout, layout.total)
    }

    fn driver(bed: &Bed, features: RingFeatures) -> PackedDriver {
        PackedDriver::new(&bed.region, 0, BASE, bed.size, &bed.layout, features)
    }

    fn device(bed: &Bed, features: RingFeatures) -> PackedDevice {
        take_up(bed, features, NEW)
    }
}

type Bed = crate::tests::Bed<Packed>;

fn take_up(bed: &Bed, features: RingFeatures, base: u32) -> PackedDevice {
    let l = &bed.layout;
    let [desc, driver, device] = [l.desc, l.driver_event, l.device_event].map(|part| bed.at(part));
    // SAFETY: the layout lies inside the region, which the bed keeps mapped and which outlives the halves in every test.
    unsafe { PackedDevice::new(desc, driver, device, bed.size, base, features) }.unwrap()
}
