//! What only a split ring promises, and who can break it how.

mod hostile;
mod model;
mod oracle;

use vring_peer::RawRing;

use super::{SplitDevice, SplitDriver};
use crate::tests::{BASE, FEATURES, Format, features, piece, run_to};
use crate::{DeviceRing, DriverRing, Piece, RingFeatures, SplitLayout};

pub(crate) struct Split;

impl Format for Split {
    type Driver = SplitDriver;
    type Device = SplitDevice;
    type Layout = SplitLayout;
    const SIZES: &'static [u16] = &[
        2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768,
    ];

    fn layout(size: u16) -> (SplitLayout, usize) {
        let layout = SplitLayout::new(size, true);
        (layout, layout.total)
    }

    fn driver(bed: &Bed, features: RingFeatures) -> SplitDriver {
        SplitDriver::new(&bed.region, 0, BASE, bed.size, &bed.layout, features)
    }

    fn device(bed: &Bed, features: RingFeatures) -> SplitDevice {
        let [desc, avail, used] = areas(bed);
        // SAFETY: the layout lies inside the region, which the bed keeps mapped and which outlives the halves in every test.
        unsafe { SplitDevice::new(desc, avail, used, bed.size, features) }
    }
}

type Bed = crate::tests::Bed<Split>;

fn areas(bed: &Bed) -> [std::ptr::NonNull<u8>; 3] {
    let l = &bed.layout;
    [l.desc, l.avail, l.used].map(|part| bed.at(part))
}

/// The same ring, to be written by hand.
fn raw(bed: &Bed) -> RawRing {
    let [desc, avail, used] = areas(bed);
    // SAFETY: as in Split::device.
    unsafe { RawRing::new(desc, avail, used, bed.size) }
}
