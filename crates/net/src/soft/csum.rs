//! The Internet checksum (RFC 1071), and those of TCP and UDP.
//!
//! Sums are taken over 16-bit words as they lie in memory, little end first: the ones' complement sum does not mind the order, and what
//! comes out is written as it was added up.

use vring_mem::burst::Packet;

use super::View;
use super::headers::{Headers, Ip, TCP, UDP};

/// A sum of 16-bit words that still has its carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes that follow an even number of others.
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        // SAFETY: a slice is readable for its length.
        self.add_at(0, unsafe { sum(bytes.as_ptr(), bytes.len()) })
    }

    /// Adds the sum of bytes that follow `before` others: after an odd number, each is the other half of its word.
    pub(super) fn add_at(self, before: usize, sum: u16) -> Self {
        let sum = if before % 2 == 1 {
            sum.swap_bytes()
        } else {
            sum
        };
        Self(self.0 + u64::from(sum))
    }

    /// Adds a number that stands in network order.
    pub(super) fn number(self, n: u32) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    /// Adds another sum, of bytes that follow an even number of others.
    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum with its carries added in: the bytes that stand for a pseudo header in a partial checksum.
    pub(super) fn folded(self) -> [u8; 2] {
        fold(self.0).to_ne_bytes()
    }

    /// The checksum as it is written.
    pub(super) fn checksum(self) -> [u8; 2] {
        (!fold(self.0)).to_ne_bytes()
    }

    /// The checksum as UDP writes it, where 0 means that there is none (RFC 768). The other zero of ones' complement is as good for TCP.
    pub(super) fn checksum_not_zero(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// What a right checksum makes of all it covers, itself included.
    fn is_right(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// Adds the carries in until 16 bits are left.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded")]
    let folded = sum as u16;
    folded
}

/// The folded sum of `len` bytes.
///
/// # Safety
/// `ptr` is readable for `len` bytes.
#[inline]
pub(super) unsafe fn sum(ptr: *const u8, len: usize) -> u16 {
    const BLOCK: usize = 64;
    // Words of 32 bits in lanes of 64: no carry is lost for 2³² of them, and the compiler makes vectors of it.
    let mut lanes = [0u64; BLOCK / 4];
    let mut at = 0;
    while at + BLOCK <= len {
        // SAFETY: the block ends at most at `len`.
        let words = unsafe { ptr.add(at).cast::<[u32; BLOCK / 4]>().read_unaligned() };
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(word);
        }
        at += BLOCK;
    }
    let mut rest = [0u8; BLOCK];
    // SAFETY: fewer than a block are left.
    unsafe { vring_mem::copy::copy(rest.as_mut_ptr(), ptr.add(at), len - at) };
    let mut total = 0;
    for (lane, word) in lanes.iter().zip(rest.as_chunks::<4>().0) {
        total += (lane >> 32) + (lane & 0xffff_ffff) + u64::from(u32::from_ne_bytes(*word));
    }
    fold(total)
}

/// The pseudo header of TCP and UDP over IP: addresses, protocol, bytes from the header of layer 4 on (RFC 793, RFC 8200 section 8.1).
/// `head` begins with the packet.
pub(super) fn pseudo_header(head: &[u8], headers: &Headers, l4_len: usize) -> Sum {
    let addresses = match headers.ip {
        Ip::V4 => headers.ip_at + 12..headers.ip_at + 20,
        Ip::V6 => headers.ip_at + 8..headers.ip_at + 40,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most a packet's length, a u32"
    )]
    Sum::default()
        .bytes(head.get(addresses).unwrap_or_default())
        .number(headers.protocol.into())
        .number(l4_len as u32)
}

/// Where the checksum stands in the header of layer 4.
pub(super) fn offset_in(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        _ => None,
    }
}

/// Whether the checksum of TCP or UDP is right. `None` when there is none, or it cannot be told: fragments, other protocols, lengths that do
/// not fit the packet.
pub(super) fn verify(view: &View<'_>, head: &[u8], headers: &Headers) -> Option<bool> {
    let at = headers.l4_at + offset_in(headers.protocol)?;
    let end = headers.end?;
    if headers.fragment || headers.rerouted || at + 2 > end {
        return None;
    }
    let field = head.get(at..at + 2)?;
    if headers.protocol == UDP && field == [0, 0] {
        // No checksum, which UDP over IPv6 must not do.
        return (headers.ip == Ip::V6).then_some(false);
    }
    let sum = view.sum(headers.l4_at, end)?;
    let pseudo = pseudo_header(head, headers, end - headers.l4_at);
    Some(sum.plus(pseudo).is_right())
}

/// Completes the checksum that the packet's `csum` word tells of. False when the word does not fit the packet.
pub(super) fn complete(view: &View<'_>, packet: &Packet) -> bool {
    let (start, offset) = start_and_offset(packet.csum);
    let Some(sum) = view.sum(start, view.len()) else {
        return false;
    };
    // The field is in the sum: it holds the pseudo header's.
    view.write(start + offset, &sum.checksum_not_zero())
}

/// What a `csum` word says.
pub(super) fn start_and_offset(csum: u32) -> (usize, usize) {
    ((csum & 0xffff) as usize, (csum >> 16) as usize)
}
