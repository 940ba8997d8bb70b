//! What the header says of checksums and segments (5.1.6), from and to a packet's metadata.

use vring_mem::Mempool;
use vring_mem::burst::{Packet, flags};

use crate::soft::View;
use crate::{ETH_HEADER, Features, MAX_HEADER};

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

const TCP_CSUM: usize = 16;
const UDP_CSUM: usize = 6;

/// The largest `VIRTIO_NET_HASH_REPORT_*`.
const LAST_REPORT: u16 = 9;

/// A header as a copy; behind its length there are zeros.
pub type Header = [u8; MAX_HEADER];

/// What one side may say to the other, as bits of [`flags::META`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Direction {
    /// What the sender may ask of the receiver, or tell it: what [`crate::soft::Lower::takes`] of such a path is.
    pub takes: u32,
    /// What the receiver must expect.
    pub gives: u32,
}

impl Direction {
    /// From the driver to the device.
    pub(crate) fn to_device(features: Features) -> Self {
        let takes = of(
            features,
            &[
                (Features::CSUM, flags::CSUM_PARTIAL),
                (Features::HOST_TSO4, flags::GSO_TCP4),
                (Features::HOST_TSO6, flags::GSO_TCP6),
                (Features::HOST_ECN, flags::GSO_ECN),
                (Features::HOST_UFO, flags::GSO_UDP),
                (Features::HOST_USO, flags::GSO_UDP_L4),
            ],
        );
        Self {
            takes,
            gives: takes,
        }
    }

    /// From the device to the driver.
    pub(crate) fn to_driver(features: Features) -> Self {
        let gives = of(
            features,
            &[
                (Features::GUEST_CSUM, flags::CSUM_PARTIAL | flags::CSUM_GOOD),
                (Features::GUEST_TSO4, flags::GSO_TCP4),
                (Features::GUEST_TSO6, flags::GSO_TCP6),
                (Features::GUEST_ECN, flags::GSO_ECN),
                (Features::GUEST_UFO, flags::GSO_UDP),
                (Features::GUEST_USO4, flags::GSO_UDP_L4),
                (Features::GUEST_USO6, flags::GSO_UDP_L4),
                (Features::HASH_REPORT, flags::HASH),
            ],
        );
        // The flag does not say over which IP: the sender needs the word for both.
        let both = features.contains(Features::GUEST_USO4.union(Features::GUEST_USO6));
        let takes = if both {
            gives
        } else {
            gives & !flags::GSO_UDP_L4
        };
        Self { takes, gives }
    }
}

/// The flags for those features that were negotiated. Without checksums there are no segments (5.1.3.1).
fn of(features: Features, table: &[(Features, u32)]) -> u32 {
    let all = table
        .iter()
        .filter(|(feature, _)| features.contains(*feature))
        .fold(0, |all, (_, bits)| all | bits);
    if all & flags::CSUM_PARTIAL == 0 {
        all & flags::HASH
    } else {
        all
    }
}

/// Whether a header with nothing to tell of checksums and segments: its first 8 bytes are zeros.
///
/// # Safety
/// `at` is readable for 8 bytes.
#[inline(always)]
pub(crate) unsafe fn is_plain(at: *const u8) -> bool {
    // SAFETY: the caller's promise. The peer may write there at any time: what is decided by it does not matter for memory, and whoever
    // goes on reads the header again, once.
    unsafe { at.cast::<u64>().read_unaligned() == 0 }
}

fn le16(header: &Header, at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

/// Puts what the header says into the packet, as far as it was negotiated. False when it lies: the packet is to be dropped as
/// `rx_bad_offload`. The packet is a right one of this mempool.
#[must_use]
pub fn decode(header: &Header, gives: u32, pool: &Mempool, packet: &mut Packet) -> bool {
    if gives & flags::HASH != 0 {
        decode_hash(header, packet);
    }
    let (said, gso_type) = (header[0], header[1]);
    let (start, offset) = (le16(header, 6), le16(header, 8));
    if said & NEEDS_CSUM != 0 {
        let end = u32::from(start) + u32::from(offset) + 2;
        if gives & flags::CSUM_PARTIAL == 0 || u32::from(start) < ETH_HEADER || end > packet.len {
            return false;
        }
        packet.flags |= flags::CSUM_PARTIAL;
        packet.csum = u32::from(start) | u32::from(offset) << 16;
    } else if said & DATA_VALID != 0 {
        packet.flags |= flags::CSUM_GOOD & gives;
    }
    gso_type == GSO_NONE || decode_segments(header, gives, pool, packet)
}

fn decode_hash(header: &Header, packet: &mut Packet) {
    let report = le16(header, 16);
    if (1..=LAST_REPORT).contains(&report) {
        packet.flags |= flags::HASH;
        packet.tag = u32::from(report) << 16;
        packet.hash = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    }
}

/// `hdr_len` is a hint that peers fill differently: how long the headers are follows from where layer 4 begins (CVE-2024-11614).
fn decode_segments(header: &Header, gives: u32, pool: &Mempool, packet: &mut Packet) -> bool {
    let (kind, offset) = match header[1] & !GSO_ECN {
        GSO_TCPV4 => (flags::GSO_TCP4, TCP_CSUM),
        GSO_TCPV6 => (flags::GSO_TCP6, TCP_CSUM),
        GSO_UDP => (flags::GSO_UDP, UDP_CSUM),
        GSO_UDP_L4 => (flags::GSO_UDP_L4, UDP_CSUM),
        _ => return false,
    };
    let ecn = if header[1] & GSO_ECN == 0 {
        0
    } else {
        flags::GSO_ECN
    };
    let size = le16(header, 4);
    let negotiated = gives & (kind | ecn) == kind | ecn;
    let partial = packet.flags & flags::CSUM_PARTIAL != 0 && le16(header, 8) as usize == offset;
    if !negotiated || !partial || size == 0 || (ecn != 0 && offset != TCP_CSUM) {
        return false;
    }
    let start = usize::from(le16(header, 6));
    let Some(view) = View::new(pool, packet) else {
        return false;
    };
    let l4_len = if offset == TCP_CSUM {
        let mut byte = [0];
        if !view.read(start + 12, &mut byte) || byte[0] >> 4 < 5 {
            return false;
        }
        usize::from(byte[0] >> 4) * 4
    } else {
        8
    };
    let headers = start + l4_len;
    let Some(word) = u16::try_from(headers)
        .ok()
        .filter(|_| headers <= view.len())
    else {
        return false;
    };
    packet.flags |= kind | ecn;
    packet.gso = u32::from(size) | u32::from(word) << 16;
    true
}

/// The header for a packet, with what `takes` has of its metadata. `None` when a word there does not fit the packet: a script's mistake.
#[must_use]
pub fn encode(packet: &Packet, takes: u32) -> Option<Header> {
    let mut header = [0; MAX_HEADER];
    let told = packet.flags & takes;
    if told & flags::HASH != 0 {
        header[12..16].copy_from_slice(&packet.hash.to_le_bytes());
        header[16..18].copy_from_slice(&packet.tag.to_le_bytes()[2..]);
    }
    if told & flags::CSUM_PARTIAL != 0 {
        let (start, offset) = (packet.csum & 0xffff, packet.csum >> 16);
        if start < ETH_HEADER || start + offset + 2 > packet.len {
            return None;
        }
        header[0] = NEEDS_CSUM;
        header[6..10].copy_from_slice(&packet.csum.to_le_bytes());
    } else if told & flags::CSUM_GOOD != 0 {
        header[0] = DATA_VALID;
    }
    if told & flags::GSO == 0 {
        return Some(header);
    }
    let kind = match told & flags::GSO {
        flags::GSO_TCP4 => GSO_TCPV4,
        flags::GSO_TCP6 => GSO_TCPV6,
        flags::GSO_UDP => GSO_UDP,
        flags::GSO_UDP_L4 => GSO_UDP_L4,
        _ => return None,
    };
    let ecn = if told & flags::GSO_ECN == 0 {
        0
    } else {
        GSO_ECN
    };
    let (size, headers) = (packet.gso & 0xffff, packet.gso >> 16);
    let after_start = headers > packet.csum & 0xffff && headers <= packet.len;
    if header[0] & NEEDS_CSUM == 0 || size == 0 || !after_start {
        return None;
    }
    header[1] = kind | ecn;
    header[2..4].copy_from_slice(&packet.gso.to_le_bytes()[2..]);
    header[4..6].copy_from_slice(&packet.gso.to_le_bytes()[..2]);
    Some(header)
}
