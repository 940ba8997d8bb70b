//! Packets by size and by kind of address: what DPDK's drivers for these devices count of every packet. Counted only where somebody asked
//! for it: it takes a look at the first bytes of each packet, which nobody needs to have in its caches otherwise.

use std::sync::atomic::{AtomicU64, Ordering};

use vring_mem::burst::MAX_BURST;
use vring_mem::{Burst, Mempool};

/// What one packet counts as: its size in the low bits, and whether it goes to a group or to everyone.
type Kind = u8;

const MULTICAST: Kind = 1 << 3;
const BROADCAST: Kind = 1 << 4;
/// Bits of the size.
const SIZE: Kind = 7;
/// Sizes, and the two kinds of addresses.
pub const KINDS: usize = 10;

/// The names of the counters, as DPDK's `rx_qN_…_packets`.
pub const KIND_NAMES: [&str; KINDS] = [
    "undersize",
    "size_64",
    "size_65_127",
    "size_128_255",
    "size_256_511",
    "size_512_1023",
    "size_1024_1518",
    "size_1519_max",
    "multicast",
    "broadcast",
];

/// Written by the queue's user, read by anyone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Kinds([AtomicU64; KINDS]);

/// The kinds of the packets of a burst that is about to be sent: afterwards nobody may look at them.
#[derive(Debug)]
pub(super) struct Seen {
    kinds: [Kind; MAX_BURST],
}

/// Which of the first eight counters a length belongs to. Lengths are without the check sequence, as DPDK counts them.
#[inline(always)]
fn size_of(len: u32) -> Kind {
    match len {
        0..64 => 0,
        64 => 1,
        // 65 to 127 have 7 bits, and each power of two after that one more.
        #[expect(clippy::cast_possible_truncation, reason = "at most 10 bits")]
        65..1024 => (32 - len.leading_zeros() - 5) as Kind,
        1024..1519 => 6,
        _ => 7,
    }
}

#[inline(always)]
fn kind_of(pool: &Mempool, addr: u32, len: u32) -> Kind {
    let size = size_of(len);
    if !pool.checked(addr, 8, 0) {
        // A script's mistake, which the queue refuses by itself.
        return size;
    }
    // SAFETY: 8 bytes inside a buffer; a peer may write to them meanwhile, hence volatile and no reference.
    let head = unsafe { pool.ptr(addr).cast::<u64>().read_volatile() };
    let to = head.to_le() & 0xffff_ffff_ffff;
    if to & 1 == 0 {
        size
    } else if to == 0xffff_ffff_ffff {
        size | BROADCAST
    } else {
        size | MULTICAST
    }
}

impl Kinds {
    #[inline(always)]
    fn add(&self, kinds: impl Iterator<Item = Kind>) {
        let mut sums = [0u64; KINDS];
        for kind in kinds {
            sums[usize::from(kind & SIZE)] += 1;
            sums[8] += u64::from(kind & MULTICAST != 0);
            sums[9] += u64::from(kind & BROADCAST != 0);
        }
        for (counter, n) in self.0.iter().zip(sums) {
            // One writer only: no locked instruction is needed.
            counter.store(
                counter.load(Ordering::Relaxed).wrapping_add(n),
                Ordering::Relaxed,
            );
        }
    }

    /// Counts the packets of a burst from `first` on.
    pub(super) fn count(&self, pool: &Mempool, burst: &Burst, first: usize) {
        let (addrs, lens, _) = burst.packets();
        let packets = addrs.iter().zip(lens).skip(first);
        self.add(packets.map(|(&addr, &len)| kind_of(pool, addr, len)));
    }

    /// Counts those that were taken of what was seen.
    pub(super) fn count_taken(&self, seen: &Seen, taken: usize) {
        self.add(seen.kinds.iter().copied().take(taken));
    }

    /// The counters now.
    pub(super) fn read(&self) -> [u64; KINDS] {
        std::array::from_fn(|i| self.0[i].load(Ordering::Relaxed))
    }
}

impl Seen {
    /// Looks at the packets of a burst.
    pub(super) fn look(pool: &Mempool, burst: &Burst) -> Self {
        let (addrs, lens, _) = burst.packets();
        let mut kinds = [0; MAX_BURST];
        for (kind, (&addr, &len)) in kinds.iter_mut().zip(addrs.iter().zip(lens)) {
            *kind = kind_of(pool, addr, len);
        }
        Self { kinds }
    }
}

#[cfg(test)]
mod tests {
    use super::{KIND_NAMES, size_of};

    /// Every length falls into the counter whose name says so.
    #[test]
    fn sizes() {
        for len in 0..3000u32 {
            let name = KIND_NAMES[usize::from(size_of(len))];
            let mut bounds = name
                .trim_start_matches("size_")
                .split('_')
                .map(|n| n.parse().unwrap_or(u32::MAX));
            let (low, high) = match name {
                "undersize" => (0, 63),
                _ => {
                    let low = bounds.next().unwrap();
                    (low, bounds.next().unwrap_or(low))
                }
            };
            assert!((low..=high).contains(&len), "{len} is in {name}");
        }
    }
}
