//! What only a split ring promises, and who can break it how.

mod hostile;
mod in_order;
mod oracle;
#[cfg(target_arch = "x86_64")]
mod vectors;

use vring_peer::RawRing;

use super::{Device, Driver, SplitDevice, SplitDriver};
use crate::inflight::Areas;
use crate::inflight::tests::Kept;
use crate::tests::{self, BASE, FEATURES, Format, features, piece, run_to};
use crate::{DeviceRing, DriverRing, Piece, RingFeatures, SplitLayout};

const SIZES: &[u16] = &[
    2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768,
];

/// A split ring, used in order or not.
pub(crate) struct SplitKind<const IN_ORDER: bool>;
pub(crate) type Split = SplitKind<false>;
pub(crate) type SplitInOrder = SplitKind<true>;

impl<const IN_ORDER: bool> Format for SplitKind<IN_ORDER> {
    type Driver = Driver<IN_ORDER>;
    type Device = Device<IN_ORDER>;
    type Layout = SplitLayout;
    const IN_ORDER: bool = IN_ORDER;
    const SIZES: &'static [u16] = SIZES;

    fn layout(size: u16) -> (SplitLayout, usize) {
        let layout = SplitLayout::new(size, true);
        (layout, layout.total)
    }

    fn driver(bed: &tests::Bed<Self>, features: RingFeatures) -> Self::Driver {
        Driver::new(&bed.region, 0, BASE, bed.size, &bed.layout, features)
    }

    fn device(bed: &tests::Bed<Self>, features: RingFeatures) -> Self::Device {
        let [desc, avail, used] = areas(bed);
        // SAFETY: the layout lies inside the region, which the bed keeps mapped and which outlives the halves in every test.
        unsafe { Device::new(desc, avail, used, bed.size, features) }
    }
}

impl<const IN_ORDER: bool> Kept for SplitKind<IN_ORDER> {
    const PACKED: bool = false;

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

    fn take_up(bed: &tests::Bed<Self>, features: RingFeatures, _base: u32) -> Self::Device {
        Self::device(bed, features)
    }
}

type Bed = tests::Bed<Split>;

fn areas<const IN_ORDER: bool>(
    bed: &tests::Bed<SplitKind<IN_ORDER>>,
) -> [std::ptr::NonNull<u8>; 3] {
    let l = &bed.layout;
    [l.desc, l.avail, l.used].map(|part| bed.at(part))
}

/// The same ring, to be written by hand.
pub(crate) fn raw<const IN_ORDER: bool>(bed: &tests::Bed<SplitKind<IN_ORDER>>) -> RawRing {
    let [desc, avail, used] = areas(bed);
    // SAFETY: as in Split::device.
    unsafe { RawRing::new(desc, avail, used, bed.size) }
}
