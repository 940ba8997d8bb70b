//! Where the parts of a packed virtqueue lie (2.8.10: 16, 4 and 4 bytes alignment).

use crate::layout::INDIRECT_DESCS;

/// Largest packed ring (2.8.10.1).
pub const MAX_PACKED_SIZE: u16 = 32768;

/// Whether a packed ring can have that many descriptors: any number from 1 to 32768.
#[must_use]
pub fn check_packed_size(size: usize) -> Option<u16> {
    u16::try_from(size)
        .ok()
        .filter(|size| (1..=MAX_PACKED_SIZE).contains(size))
}

/// Offsets in bytes from the start of the memory that a driver sets aside for one ring.
///
/// The two suppression words are written by one side and read by the other after each burst: neither shares a cache line, nor the pair of
/// lines that processors fetch together, with anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLayout {
    /// Descriptor ring.
    pub desc: usize,
    /// Driver event suppression: when the driver wants calls.
    pub driver_event: usize,
    /// Device event suppression: when the device wants kicks.
    pub device_event: usize,
    /// Indirect tables, one for each descriptor.
    pub indirect: Option<usize>,
    /// Bytes in all.
    pub total: usize,
}

impl PackedLayout {
    /// The layout of a ring of `size` descriptors, with or without room for indirect tables.
    #[must_use]
    pub const fn new(size: u16, indirect: bool) -> Self {
        const PAIR: usize = 128;
        let n = size as usize;
        let driver_event = (16 * n).next_multiple_of(PAIR);
        let device_event = driver_event + PAIR;
        let end = device_event + PAIR;
        let tables = if indirect { n * INDIRECT_DESCS * 16 } else { 0 };
        Self {
            desc: 0,
            driver_event,
            device_event,
            indirect: if indirect { Some(end) } else { None },
            total: end + tables,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number from 1 to 32768 is a size, and no other.
    #[test]
    fn sizes() {
        let good = (0..70_000).filter(|&n| check_packed_size(n).is_some());
        assert!(good.eq(1..=32_768));
    }

    /// Parts are aligned, do not overlap and stay inside, at every size.
    #[test]
    fn parts_do_not_overlap() {
        for size in 1..=MAX_PACKED_SIZE {
            for indirect in [false, true] {
                let l = PackedLayout::new(size, indirect);
                assert!(l.desc == 0 && 16 * usize::from(size) <= l.driver_event);
                assert!(
                    l.driver_event.is_multiple_of(128) && l.driver_event + 128 <= l.device_event
                );
                let end = l.device_event + 128;
                assert!(l.device_event.is_multiple_of(128) && end <= l.indirect.unwrap_or(l.total));
                let tables = usize::from(size) * INDIRECT_DESCS * 16;
                assert_eq!(l.total, l.indirect.map_or(end, |at| at + tables));
            }
        }
    }
}
