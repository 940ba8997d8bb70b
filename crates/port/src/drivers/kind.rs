//! The kinds of ring, of which the features choose one, and both halves of each.

use std::sync::Arc;

use vring_mem::Region;
use vring_net::Features;
use vring_ring::inflight::Recorded;
use vring_ring::packed::{
    PackedDevice, PackedDeviceInOrder, PackedDriver, PackedDriverInOrder, PackedLayout,
    check_packed_size,
};
use vring_ring::split::{SplitDevice, SplitDeviceInOrder, SplitDriver, SplitDriverInOrder};
use vring_ring::{
    DriverRing, Paged, Piece, RingFault, RingFeatures, SplitLayout, check_split_size,
};
use vring_vhost::VringConfig;

use crate::PortError;

/// What a ring needs to know of the features.
fn ring_features(features: Features) -> RingFeatures {
    RingFeatures {
        event_idx: features.contains(Features::EVENT_IDX),
        indirect: features.contains(Features::INDIRECT_DESC),
        in_order: features.contains(Features::IN_ORDER),
    }
}

/// The size of a ring of these features, if it can have that many descriptors.
///
/// # Errors
/// [`PortError::QueueSize`].
pub(super) fn check_size(name: &str, features: Features, size: usize) -> Result<u16, PortError> {
    let (checked, expected) = if features.contains(Features::RING_PACKED) {
        (check_packed_size(size), "a number from 1 to 32768")
    } else {
        (check_split_size(size), "a power of two from 2 to 32768")
    };
    checked.ok_or_else(|| PortError::QueueSize {
        name: name.to_owned(),
        expected,
        got: size,
    })
}

/// Where a new ring begins, in vhost-user's packing.
pub(super) fn first_base(features: Features) -> u32 {
    // Both wrap counters of a packed ring begin with 1 (2.8.1).
    if features.contains(Features::RING_PACKED) {
        0x8000_8000
    } else {
        0
    }
}

/// Where the parts of a ring lie that this side makes.
#[derive(Debug, Clone, Copy)]
pub(super) enum RingLayout {
    Split(SplitLayout),
    Packed(PackedLayout),
}

impl RingLayout {
    /// For a ring of `size`, with or without room for indirect tables.
    pub(super) fn new(features: Features, size: u16, indirect: bool) -> Self {
        if features.contains(Features::RING_PACKED) {
            Self::Packed(PackedLayout::new(size, indirect))
        } else {
            Self::Split(SplitLayout::new(size, indirect))
        }
    }

    /// The same for a legacy device, which computes where the parts are.
    pub(super) fn legacy(size: u16, indirect: bool) -> Self {
        Self::Split(SplitLayout::legacy(size, indirect))
    }

    /// Bytes in all.
    pub(super) fn total(&self) -> usize {
        match self {
            Self::Split(layout) => layout.total,
            Self::Packed(layout) => layout.total,
        }
    }

    /// Offsets of the descriptors, of the driver's and of the device's area.
    pub(super) fn areas(&self) -> [usize; 3] {
        match self {
            Self::Split(layout) => [layout.desc, layout.avail, layout.used],
            Self::Packed(layout) => [layout.desc, layout.driver_event, layout.device_event],
        }
    }
}

/// The driver's half of a ring of any kind.
pub(super) enum DriverKind {
    Split(SplitDriver),
    SplitInOrder(SplitDriverInOrder),
    Packed(PackedDriver),
    PackedInOrder(PackedDriverInOrder),
}

impl DriverKind {
    /// A new ring of `size` descriptors at `offset` bytes of `region`, which the device knows by the address `base`.
    pub(super) fn new(
        region: &Arc<Region>,
        offset: usize,
        base: u64,
        size: u16,
        layout: &RingLayout,
        features: Features,
    ) -> Self {
        let ring = ring_features(features);
        match (layout, ring.in_order) {
            (RingLayout::Split(layout), false) => {
                Self::Split(SplitDriver::new(region, offset, base, size, layout, ring))
            }
            (RingLayout::Split(layout), true) => Self::SplitInOrder(SplitDriverInOrder::new(
                region, offset, base, size, layout, ring,
            )),
            (RingLayout::Packed(layout), false) => {
                Self::Packed(PackedDriver::new(region, offset, base, size, layout, ring))
            }
            (RingLayout::Packed(layout), true) => Self::PackedInOrder(PackedDriverInOrder::new(
                region, offset, base, size, layout, ring,
            )),
        }
    }
}

/// The driver's half of a control queue: one request at a time.
pub(super) trait CommandRing: Send {
    /// Makes a request available to a ring that has none; whether the device wants to be told.
    fn send(&mut self, request: &[Piece], answer: Piece) -> bool;
    /// Whether it was answered.
    ///
    /// # Errors
    /// The device broke the rules of the ring.
    fn answered(&mut self) -> Result<bool, RingFault>;
}

impl<R: DriverRing> CommandRing for R {
    fn send(&mut self, request: &[Piece], answer: Piece) -> bool {
        let fits = self.push_request(0, request, answer);
        debug_assert!(fits, "the ring is empty");
        self.publish();
        self.needs_kick()
    }

    fn answered(&mut self) -> Result<bool, RingFault> {
        if self.used_ready(1)? == 0 {
            return Ok(false);
        }
        self.pop_used().map(|_| true)
    }
}

impl DriverKind {
    /// As a control queue.
    pub(super) fn into_commands(self) -> Box<dyn CommandRing> {
        match self {
            Self::Split(ring) => Box::new(ring),
            Self::SplitInOrder(ring) => Box::new(ring),
            Self::Packed(ring) => Box::new(ring),
            Self::PackedInOrder(ring) => Box::new(ring),
        }
    }
}

/// The device's half of a ring of any kind, that keeps a record of what is in flight or does not.
pub(super) enum DeviceKind {
    Split(SplitDevice),
    SplitInOrder(SplitDeviceInOrder),
    Packed(PackedDevice),
    PackedInOrder(PackedDeviceInOrder),
    SplitRecorded(Recorded<SplitDevice>),
    SplitInOrderRecorded(Recorded<SplitDeviceInOrder>),
    PackedRecorded(Recorded<PackedDevice>),
    PackedInOrderRecorded(Recorded<PackedDeviceInOrder>),
}

impl DeviceKind {
    /// Takes up the ring that a front end told of.
    ///
    /// # Errors
    /// The front end's base lies outside of the ring.
    pub(super) fn new(config: &VringConfig) -> Result<Self, RingFault> {
        let features = Features::from_bits_retain(config.features);
        let ring = ring_features(features);
        let VringConfig {
            desc,
            avail,
            used,
            size,
            base,
            ..
        } = *config;
        macro_rules! half {
            ($plain:ident, $recorded:ident, $ring:expr) => {
                match &config.record {
                    Some(record) => Self::$recorded(Recorded::new($ring, record.clone())),
                    None => Self::$plain($ring),
                }
            };
        }
        // SAFETY: the back end checked size, alignment and bounds of the three areas for this kind against the memory map, which the path
        // that gets the ring holds.
        unsafe {
            Ok(
                match (features.contains(Features::RING_PACKED), ring.in_order) {
                    (false, false) => {
                        let half = SplitDevice::new(desc, avail, used, size, ring);
                        half!(Split, SplitRecorded, half)
                    }
                    (false, true) => {
                        let half = SplitDeviceInOrder::new(desc, avail, used, size, ring);
                        half!(SplitInOrder, SplitInOrderRecorded, half)
                    }
                    (true, false) => {
                        let half = PackedDevice::new(desc, avail, used, size, base, ring)?;
                        half!(Packed, PackedRecorded, half)
                    }
                    (true, true) => {
                        let half = PackedDeviceInOrder::new(desc, avail, used, size, base, ring)?;
                        half!(PackedInOrder, PackedInOrderRecorded, half)
                    }
                },
            )
        }
    }
}

/// What a kind of ring is called when a port tells of its data paths.
pub(super) trait Named {
    /// The format, and the order where it is agreed on.
    const NAME: &'static str;
}

macro_rules! named {
    ($($ring:ty = $name:literal),*) => { $(impl Named for $ring { const NAME: &'static str = $name; })* };
}

/// Where the pages are does not change what it is.
impl<R: Named> Named for Paged<R> {
    const NAME: &'static str = R::NAME;
}

named!(
    SplitDriver = "split",
    SplitDriverInOrder = "split, in order",
    PackedDriver = "packed",
    PackedDriverInOrder = "packed, in order",
    SplitDevice = "split",
    SplitDeviceInOrder = "split, in order",
    PackedDevice = "packed",
    PackedDeviceInOrder = "packed, in order",
    Recorded<SplitDevice> = "split",
    Recorded<SplitDeviceInOrder> = "split, in order",
    Recorded<PackedDevice> = "packed",
    Recorded<PackedDeviceInOrder> = "packed, in order"
);
