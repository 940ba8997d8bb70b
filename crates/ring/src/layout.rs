//! Where the parts of a split virtqueue lie (2.7: 16, 2 and 4 bytes alignment).

/// Largest split ring (2.7).
pub const MAX_SPLIT_SIZE: u16 = 32768;

/// Descriptors of one indirect table on the driver's side. A packet of more segments goes out as a direct chain.
pub(crate) const INDIRECT_DESCS: usize = 16;

/// Whether a split ring can have that many descriptors: a power of two from 2 to 32768.
#[must_use]
pub fn check_split_size(size: usize) -> Option<u16> {
    u16::try_from(size)
        .ok()
        .filter(|&s| (2..=MAX_SPLIT_SIZE).contains(&s) && s.is_power_of_two())
}

/// `VIRTIO_PCI_VRING_ALIGN`: alignment of a legacy device's rings (4.1.5.1.3).
pub const LEGACY_ALIGN: usize = 4096;

/// Offsets in bytes from the start of the memory that a driver sets aside for one ring.
///
/// What the driver writes and what the device writes never share a cache line, nor the pair of lines that processors fetch together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitLayout {
    /// Descriptor table.
    pub desc: usize,
    /// Available ring.
    pub avail: usize,
    /// Used ring.
    pub used: usize,
    /// Indirect tables, one for each descriptor.
    pub indirect: Option<usize>,
    /// Bytes in all.
    pub total: usize,
}

impl SplitLayout {
    /// The layout of a ring of `size` descriptors, with or without room for indirect tables.
    #[must_use]
    pub const fn new(size: u16, indirect: bool) -> Self {
        const PAIR: usize = 128;
        let avail = (desc_bytes(size as usize)).next_multiple_of(PAIR);
        Self::with(size, avail, PAIR, indirect)
    }

    /// The same as legacy devices want it, which are told one address alone: the available ring right behind the table, the used ring on the next
    /// page of 4 KiB (2.7.2).
    #[must_use]
    pub const fn legacy(size: u16, indirect: bool) -> Self {
        Self::with(size, desc_bytes(size as usize), LEGACY_ALIGN, indirect)
    }

    const fn with(size: u16, avail: usize, align: usize, indirect: bool) -> Self {
        const PAIR: usize = 128;
        let n = size as usize;
        let used = (avail + avail_bytes(n)).next_multiple_of(align);
        let end = (used + used_bytes(n)).next_multiple_of(PAIR);
        let tables = if indirect { n * INDIRECT_DESCS * 16 } else { 0 };
        Self {
            desc: 0,
            avail,
            used,
            indirect: if indirect { Some(end) } else { None },
            total: end + tables,
        }
    }
}

/// Bytes of a descriptor table.
pub(crate) const fn desc_bytes(n: usize) -> usize {
    16 * n
}

/// Bytes of an available ring: flags, idx, entries, `used_event`.
pub(crate) const fn avail_bytes(n: usize) -> usize {
    6 + 2 * n
}

/// Bytes of a used ring: flags, idx, elements, `avail_event`.
pub(crate) const fn used_bytes(n: usize) -> usize {
    6 + 8 * n
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only powers of two from 2 to 32768 are sizes.
    #[test]
    fn sizes() {
        let good: Vec<usize> = (0..70_000)
            .filter(|&n| check_split_size(n).is_some())
            .collect();
        assert_eq!(good, (1..=15).map(|p| 1 << p).collect::<Vec<_>>());
    }

    /// A legacy device finds the parts where it computes them to be.
    #[test]
    fn legacy_parts() {
        for p in 1..=15 {
            let n = 1usize << p;
            let l = SplitLayout::legacy(check_split_size(n).unwrap(), true);
            assert_eq!((l.desc, l.avail), (0, 16 * n));
            assert_eq!(l.used, (16 * n + 2 * (3 + n)).next_multiple_of(4096));
            assert!(l.used + used_bytes(n) <= l.indirect.unwrap());
        }
    }

    /// Parts are aligned, do not overlap and stay inside.
    #[test]
    fn parts_do_not_overlap() {
        for p in 1..=15 {
            for indirect in [false, true] {
                let n = 1usize << p;
                let l = SplitLayout::new(check_split_size(n).unwrap(), indirect);
                assert!(
                    l.desc.is_multiple_of(16)
                        && l.avail.is_multiple_of(128)
                        && l.used.is_multiple_of(128)
                );
                assert!(desc_bytes(n) <= l.avail && l.avail + avail_bytes(n) <= l.used);
                assert!(
                    l.used + used_bytes(n) <= l.indirect.unwrap_or(l.total)
                        && l.indirect.unwrap_or(0) <= l.total
                );
            }
        }
    }
}
