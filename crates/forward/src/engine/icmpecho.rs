//! Answers ARP requests for any address and pings to any; frees all else.

use vring_mem::Mempool;
use vring_mem::burst::{Packet, flags};
use vring_net::soft::View;
use vring_port::PortError;

use super::lane::Lane;
use super::{EngineOptions, Mode, Stream};
use crate::ForwardError;

/// As many as the answer changes: a VLAN tag, an IPv4 header with options, the head of ICMP.
const HEAD: usize = 14 + 4 + 60 + 8;
const VLAN: [u8; 2] = [0x81, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
/// Ethernet and IPv4, their lengths, a request.
const ARP_REQUEST: [u8; 8] = [0, 1, 0x08, 0x00, 6, 4, 0, 1];
const ICMP: u8 = 1;
const ECHO_REQUEST: [u8; 2] = [8, 0];

/// See the file's first line.
pub(super) struct IcmpEcho;

impl Mode for IcmpEcho {
    fn new(_: &Stream, _: &EngineOptions) -> Result<Self, ForwardError> {
        Ok(Self)
    }

    fn turn(&mut self, lane: &mut Lane<'_>, _: usize) -> Result<usize, PortError> {
        let received = lane.receive()?;
        let pool = lane.pool().clone();
        let mut kept = 0;
        for i in 0..received {
            let mut packet = lane.burst.packet(i);
            if answer(&pool, &mut packet, lane.stream.src) {
                lane.burst.set_packet(kept, &packet);
                kept += 1;
            } else {
                pool.free_packet(packet.addr, packet.flags);
            }
        }
        lane.burst.set_len(kept);
        if kept > 0 {
            lane.send()?;
        }
        Ok(received)
    }
}

/// Makes the answer of a request, in its place; false for what is no request.
fn answer(pool: &Mempool, packet: &mut Packet, own: [u8; 6]) -> bool {
    let Some(view) = View::new(pool, packet) else {
        return false;
    };
    let mut bytes = [0; HEAD];
    let len = view.head(&mut bytes).len();
    let head = &mut bytes[..len];
    let at = if head.get(12..14) == Some(&VLAN) {
        18
    } else {
        14
    };
    let answered = match head.get(at - 2..at) {
        Some(kind) if kind == ARP => answer_arp(head, at, own),
        Some(kind) if kind == IPV4 => answer_ping(head, at),
        _ => None,
    };
    packet.flags &= !(flags::CSUM_GOOD | flags::CSUM_BAD);
    answered.is_some_and(|()| view.write(0, head))
}

fn answer_arp(head: &mut [u8], at: usize, own: [u8; 6]) -> Option<()> {
    let arp = head.get_mut(at..at + 28)?;
    if arp[..8] != ARP_REQUEST {
        return None;
    }
    arp[7] = 2;
    // Sender's and target's addresses change places; the sender is we.
    let (sender, target) = arp[8..28].split_at_mut(10);
    sender.swap_with_slice(target);
    sender[..6].copy_from_slice(&own);
    head.copy_within(6..12, 0);
    head[6..12].copy_from_slice(&own);
    Some(())
}

fn answer_ping(head: &mut [u8], at: usize) -> Option<()> {
    let icmp = at + usize::from(head.get(at)? & 15) * 4;
    let fragment = u16::from_be_bytes([*head.get(at + 6)?, *head.get(at + 7)?]) & 0x1fff;
    if head[at] >> 4 != 4 || *head.get(at + 9)? != ICMP || icmp < at + 20 || fragment != 0 {
        return None;
    }
    if head.get(icmp..icmp + 2)? != ECHO_REQUEST || head.len() < icmp + 4 {
        return None;
    }
    let (dst, src) = head[..12].split_at_mut(6);
    dst.swap_with_slice(src);
    let (src, dst) = head[at + 12..at + 20].split_at_mut(4);
    src.swap_with_slice(dst);
    if src[0] & 0xf0 == 0xe0 {
        answer_from(head, at);
    }
    head[icmp] = 0;
    // The sum is less by what the type was: RFC 1624.
    let old = u16::from_be_bytes([head[icmp + 2], head[icmp + 3]]);
    let (sum, carry) = old.overflowing_add(u16::from_be_bytes(ECHO_REQUEST));
    let new = sum + u16::from(carry);
    head[icmp + 2..icmp + 4].copy_from_slice(&new.to_be_bytes());
    Some(())
}

/// A ping to a group is answered from another address of the asker's network: its last two bits are 1, or 2 where the asker's are.
fn answer_from(head: &mut [u8], at: usize) {
    let mut own = [0; 4];
    own.copy_from_slice(&head[at + 16..at + 20]);
    own[3] = if own[3] & 3 == 1 {
        own[3] & !3 | 2
    } else {
        own[3] & !3 | 1
    };
    head[at + 12..at + 16].copy_from_slice(&own);
    let end = at + usize::from(head[at] & 15) * 4;
    head[at + 10..at + 12].fill(0);
    let sum: u32 = head[at..end]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    head[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
}
