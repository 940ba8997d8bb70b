//! Changes in the Ethernet header of packets that were just received.

use vring_mem::{Burst, Mempool};

/// Both addresses as they stand in a packet, as one number.
pub(super) fn both(dst: [u8; 6], src: [u8; 6]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&dst);
    bytes[6..12].copy_from_slice(&src);
    u128::from_le_bytes(bytes)
}

/// Changes the two addresses of each packet: 96 bits, the destination in the lower half.
#[inline(always)]
pub(super) fn addresses(pool: &Mempool, burst: &Burst, change: impl Fn(u128) -> u128) {
    for &addr in burst.packets().0 {
        // A burst that was just received holds packets of at least an Ethernet header, each inside its buffer.
        let at = pool.ptr(addr);
        // SAFETY: 12 bytes inside the buffer, which is the burst's; the peer may write to it, hence no reference.
        unsafe {
            let head = at.cast::<u64>().read_unaligned();
            let tail = at.add(8).cast::<u32>().read_unaligned();
            let changed = change(u128::from(head) | u128::from(tail) << 64);
            #[expect(clippy::cast_possible_truncation, reason = "takes the number apart")]
            let (head, tail) = (changed as u64, (changed >> 64) as u32);
            at.cast::<u64>().write_unaligned(head);
            at.add(8).cast::<u32>().write_unaligned(tail);
        }
    }
}
