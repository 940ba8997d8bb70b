//! Checksums made anew: what testpmd's csum engine does to each packet.

use vring_mem::Mempool;
use vring_mem::burst::{Packet, flags};

use super::View;
use super::csum::{self, Sum};
use super::headers::{self, HEAD, Headers, Ip, TCP, UDP};

/// Who fills in a checksum of layer 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layer4 {
    /// It is made here, over the whole packet.
    #[default]
    Now,
    /// The packet asks for it by [`flags::CSUM_PARTIAL`]: its path does it, or the software before that path.
    Later,
}

/// What is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renew {
    /// Who fills in those of UDP. A packet without one keeps none.
    pub udp: Layer4,
    /// Who fills in those of TCP.
    pub tcp: Layer4,
    /// Packets of TCP with more payload than so many bytes ask to be cut into pieces of that; 0: none.
    pub segment: u16,
    /// Packets longer than so many bytes, headers included, ask to be cut into pieces no longer than that, TCP into segments and UDP into
    /// fragments; 0: none.
    pub frame: u16,
}

/// Makes the checksums of a packet anew; whether the one of its IPv4 header was right. What is no IP packet, a fragment of one, or lies about its
/// lengths keeps what it has. One that is to be cut anyway keeps its partial checksum.
pub fn renew(pool: &Mempool, packet: &mut Packet, how: &Renew) -> bool {
    let Some(view) = View::new(pool, packet) else {
        return true;
    };
    let mut head = [0; HEAD];
    let head = view.head(&mut head);
    let Some(headers) = headers::parse(head, view.len()) else {
        return true;
    };
    let was_right = headers.ip == Ip::V6 || renew_ip(&view, head, &headers);
    if packet.flags & flags::GSO == 0 {
        renew_l4(&view, head, &headers, packet, how);
    }
    was_right
}

fn renew_ip(view: &View<'_>, head: &[u8], headers: &Headers) -> bool {
    let (at, end) = (headers.ip_at, headers.l4_at);
    let sum = Sum::default()
        .bytes(&head[at..at + 10])
        .bytes(&head[at + 12..end]);
    let checksum = sum.checksum();
    view.write(at + 10, &checksum);
    checksum == head[at + 10..at + 12]
}

fn renew_l4(
    view: &View<'_>,
    head: &[u8],
    headers: &Headers,
    packet: &mut Packet,
    how: &Renew,
) -> Option<()> {
    let at = headers.l4_at + csum::offset_in(headers.protocol)?;
    let end = headers.end?;
    let field = head.get(at..at + 2)?;
    if headers.fragment || headers.rerouted || at + 2 > end {
        return None;
    }
    let partial = packet.flags & flags::CSUM_PARTIAL != 0;
    if headers.protocol == UDP && field == [0, 0] && !partial {
        return None;
    }
    packet.flags &= !(flags::CSUM_PARTIAL | flags::CSUM_GOOD | flags::CSUM_BAD);
    let pseudo = csum::pseudo_header(head, headers, end - headers.l4_at);
    let who = if headers.protocol == TCP {
        how.tcp
    } else {
        how.udp
    };
    if ask_to_cut(head, headers, packet, how) || who == Layer4::Later {
        // Bytes behind the IP packet's end, as Ethernet pads short frames with, would be summed up by who completes it.
        if end == view.len() {
            view.write(at, &pseudo.folded());
            packet.csum = word(headers.l4_at, at - headers.l4_at);
            packet.flags |= flags::CSUM_PARTIAL;
            return Some(());
        }
        packet.flags &= !flags::GSO;
    }
    view.write(at, &[0, 0]);
    let sum = view.sum(headers.l4_at, end)?;
    view.write(at, &sum.plus(pseudo).checksum_not_zero());
    Some(())
}

/// Says in the packet that it is to be cut, where it is longer than asked for.
fn ask_to_cut(head: &[u8], headers: &Headers, packet: &mut Packet, how: &Renew) -> bool {
    let l4_len = match headers.protocol {
        TCP => head
            .get(headers.l4_at + 12)
            .map_or(0, |byte| usize::from(byte >> 4) * 4),
        // Fragments of an IP packet have no header of UDP but the first.
        _ => 0,
    };
    let before = headers.l4_at + l4_len;
    let payload = (packet.len as usize).saturating_sub(before);
    let most = match (headers.protocol, how.segment, how.frame) {
        (TCP, size, _) if size > 0 => usize::from(size),
        (_, _, frame) if frame > 0 => usize::from(frame).saturating_sub(before),
        _ => return false,
    };
    if most == 0 || payload <= most || (headers.protocol == TCP && l4_len < 20) {
        return false;
    }
    packet.flags |= match (headers.protocol, headers.ip) {
        (TCP, Ip::V4) => flags::GSO_TCP4,
        (TCP, Ip::V6) => flags::GSO_TCP6,
        _ => flags::GSO_UDP,
    };
    packet.gso = word(most, before);
    true
}

/// Two numbers of 16 bits in a word.
fn word(low: usize, high: usize) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "positions in the first bytes of a packet, and sizes of 16 bits"
    )]
    let word = (low as u32 & 0xffff) | (high as u32) << 16;
    word
}
