//! Segmentation: one large packet as many that fit the wire. TCP by sequence numbers, UDP as datagrams (USO), UDP as IP fragments (UFO).

use std::sync::Arc;

use vring_mem::Mempool;
use vring_mem::burst::{Packet, flags};
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};

use super::View;
use super::bytes::Cursor;
use super::csum::{self, Sum};
use super::headers::{self, FRAGMENT, HEAD, Headers, Ip, TCP, UDP};

/// Most packets that one is cut into: 64 KiB by 16 bytes. It bounds what a packet can cost.
const MAX_CUTS: usize = 4096;
/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER: usize = 8;
const UDP_HEADER: usize = 8;
/// An IP packet is not longer.
const MAX_IP: usize = 65535;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
const MORE_FRAGMENTS: u16 = 0x2000;

/// How the headers of each piece differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Datagrams,
    Fragments { id: u32 },
}

/// A packet that is being cut. It owns the packet until it is taken back.
#[derive(Debug)]
pub(super) struct Cutter {
    packet: Packet,
    kind: Kind,
    /// As they are before every piece, but for what [`Cutter::next`] changes.
    head: [u8; HEAD + FRAGMENT_HEADER],
    head_len: usize,
    at: Headers,
    /// Where the payload goes on.
    cursor: Cursor,
    /// Bytes of payload in each piece.
    size: usize,
    left: usize,
    done: usize,
    /// Pieces that are made.
    nth: u16,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// A packet, whose owner is the caller.
    Piece(Packet),
    /// The mempool is empty for now.
    NoBuffers,
    /// All pieces were made.
    Done,
}

/// Where a piece stands among the others.
struct Piece {
    len: usize,
    last: bool,
}

impl Cutter {
    /// Begins to cut. `None` when the packet is not what its flags say, or cannot be cut that way: it stays the caller's.
    pub(super) fn new(pool: &Mempool, packet: Packet, fragment_id: u32) -> Option<Self> {
        let view = View::new(pool, &packet)?;
        let mut bytes = [0; HEAD];
        let at = headers::parse(view.head(&mut bytes), view.len())?;
        let start_and_offset = (at.l4_at, csum::offset_in(at.protocol)?);
        let asked = csum::start_and_offset(packet.csum);
        if at.fragment || packet.flags & flags::CSUM_PARTIAL == 0 || asked != start_and_offset {
            return None;
        }
        let (kind, l4_len) = match (packet.flags & flags::GSO, at.ip, at.protocol) {
            (flags::GSO_TCP4, Ip::V4, TCP) | (flags::GSO_TCP6, Ip::V6, TCP) => {
                (Kind::Tcp, usize::from(bytes.get(at.l4_at + 12)? >> 4) * 4)
            }
            (flags::GSO_UDP_L4, _, UDP) => (Kind::Datagrams, UDP_HEADER),
            (flags::GSO_UDP, _, UDP) => (Kind::Fragments { id: fragment_id }, 0),
            _ => return None,
        };
        let min = if kind == Kind::Tcp { 20 } else { l4_len };
        let mut size = (packet.gso & 0xffff) as usize;
        if matches!(kind, Kind::Fragments { .. }) {
            size &= !7;
            // The checksum covers the whole datagram: it is right before there are pieces.
            if !csum::complete(&view, &packet) {
                return None;
            }
        }
        let payload_at = at.l4_at + l4_len;
        let left = view.len().checked_sub(payload_at)?;
        let mut head = [0; HEAD + FRAGMENT_HEADER];
        head[..HEAD].copy_from_slice(&bytes);
        let mut head_len = payload_at;
        if let (Kind::Fragments { id }, Ip::V6) = (kind, at.ip) {
            insert_fragment_header(&mut head, &at, id);
            head_len += FRAGMENT_HEADER;
        }
        let longest = head_len + size.min(left);
        let buffers = longest.div_ceil(pool.data_room() as usize);
        let fits = l4_len >= min
            && payload_at <= HEAD
            && size > 0
            && left > 0
            && left.div_ceil(size) <= MAX_CUTS
            && longest - at.ip_at <= MAX_IP
            && buffers <= MAX_SEGS.min(pool.count() as usize);
        let cursor = Cursor::new(pool, &packet, payload_at)?;
        fits.then_some(Self {
            packet,
            kind,
            head,
            head_len,
            at,
            cursor,
            size,
            left,
            done: 0,
            nth: 0,
        })
    }

    /// The packet, to be freed.
    pub(super) fn into_packet(self) -> Packet {
        self.packet
    }

    /// Makes the next piece, with the flags of `takes` left to the path.
    pub(super) fn next(&mut self, pool: &Arc<Mempool>, takes: u32) -> Next {
        if self.left == 0 {
            return Next::Done;
        }
        let len = self.size.min(self.left);
        let piece = Piece {
            len,
            last: len == self.left,
        };
        let Some(mut packet) = alloc(pool, self.head_len + len) else {
            return Next::NoBuffers;
        };
        let mut head = self.head;
        self.change_ip(&mut head, &piece);
        let l4 = &mut head[self.at.l4_at..];
        match self.kind {
            Kind::Tcp => change_tcp(l4, self.done, self.nth == 0, piece.last),
            Kind::Datagrams => {
                #[expect(clippy::cast_possible_truncation, reason = "below MAX_IP")]
                let length = (UDP_HEADER + len) as u16;
                l4[4..6].copy_from_slice(&length.to_be_bytes());
            }
            Kind::Fragments { .. } => (),
        }
        let view = View::new(pool, &packet);
        let filled = view.as_ref().is_some_and(|view| {
            view.fill(self.head_len, len, &mut self.cursor)
                && self.finish(&mut head, view, &mut packet, takes)
                && view.write(0, &head[..self.head_len])
        });
        if !filled {
            // Somebody changed the links of the packet while it was cut: what is left of it is lost.
            pool.free_packet(packet.addr, packet.flags);
            self.left = 0;
            return Next::Done;
        }
        packet.flags |= self.packet.flags & flags::VLAN;
        packet.tag = self.packet.tag & 0xffff;
        self.left -= len;
        self.done += len;
        self.nth = self.nth.wrapping_add(1);
        Next::Piece(packet)
    }

    /// Length, id and fragment offset of IP, and its own checksum.
    fn change_ip(&self, head: &mut [u8], piece: &Piece) {
        let (ip_at, l4_at) = (self.at.ip_at, self.at.l4_at);
        let total = self.head_len + piece.len - ip_at;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "new compared it with MAX_IP"
        )]
        let total = total as u16;
        let fragments = matches!(self.kind, Kind::Fragments { .. });
        // In units of 8 bytes, of at most 64 KiB.
        #[expect(clippy::cast_possible_truncation, reason = "13 bits by MAX_IP")]
        let (offset, more) = ((self.done / 8) as u16, !piece.last);
        match self.at.ip {
            Ip::V4 => {
                let ip = &mut head[ip_at..l4_at];
                ip[2..4].copy_from_slice(&total.to_be_bytes());
                if fragments {
                    let dont_fragment = u16::from(ip[6] & 0x40) << 8;
                    let more = if more { MORE_FRAGMENTS } else { 0 };
                    ip[6..8].copy_from_slice(&(dont_fragment | more | offset).to_be_bytes());
                } else {
                    let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(self.nth);
                    ip[4..6].copy_from_slice(&id.to_be_bytes());
                }
                ip[10..12].fill(0);
                let checksum = Sum::default().bytes(ip).checksum();
                ip[10..12].copy_from_slice(&checksum);
            }
            Ip::V6 => {
                head[ip_at + 4..ip_at + 6].copy_from_slice(&(total - 40).to_be_bytes());
                if fragments {
                    let field = offset << 3 | u16::from(more);
                    head[l4_at + 2..l4_at + 4].copy_from_slice(&field.to_be_bytes());
                }
            }
        }
    }

    /// The checksum of layer 4: left to the path where it takes that, else computed over the payload that stands in `view`.
    fn finish(&self, head: &mut [u8], view: &View<'_>, packet: &mut Packet, takes: u32) -> bool {
        let (l4_at, Some(offset)) = (self.at.l4_at, csum::offset_in(self.at.protocol)) else {
            return false;
        };
        if matches!(self.kind, Kind::Fragments { .. }) {
            return true;
        }
        let pseudo = csum::pseudo_header(head, &self.at, view.len() - l4_at);
        let field = l4_at + offset..l4_at + offset + 2;
        if takes & flags::CSUM_PARTIAL != 0 {
            head[field].copy_from_slice(&pseudo.folded());
            packet.flags |= flags::CSUM_PARTIAL;
            packet.csum = self.packet.csum;
            return true;
        }
        head[field.clone()].fill(0);
        let Some(payload) = view.sum(self.head_len, view.len()) else {
            return false;
        };
        // The header's length is even: TCP counts words of 32 bits, UDP has 8 bytes.
        let sum = pseudo
            .plus(Sum::default().bytes(&head[l4_at..self.head_len]))
            .plus(payload);
        head[field].copy_from_slice(&sum.checksum_not_zero());
        true
    }
}

/// The sequence number moves on; FIN and PSH are the last piece's, CWR the first one's (RFC 3168).
fn change_tcp(tcp: &mut [u8], done: usize, first: bool, last: bool) {
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most a packet's length, a u32"
    )]
    let sequence = sequence.wrapping_add(done as u32);
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !first {
        tcp[13] &= !CWR;
    }
    if !last {
        tcp[13] &= !(FIN | PSH);
    }
}

/// Puts a fragment header where layer 4 began (RFC 8200, 4.5).
fn insert_fragment_header(head: &mut [u8], at: &Headers, id: u32) {
    let l4 = &mut head[at.l4_at..at.l4_at + FRAGMENT_HEADER];
    l4[0] = at.protocol;
    l4[1..4].fill(0);
    l4[4..8].copy_from_slice(&id.to_be_bytes());
    head[at.protocol_at] = FRAGMENT;
}

/// A packet of that length in fresh buffers.
fn alloc(pool: &Arc<Mempool>, len: usize) -> Option<Packet> {
    let room = pool.data_room();
    let count = len.div_ceil(room as usize);
    let mut buffers = [0; MAX_SEGS];
    let buffers = &mut buffers[..count];
    let got = pool.alloc_bulk(buffers);
    if got < count {
        pool.free_bulk(&buffers[..got]);
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "new compared it with MAX_IP"
    )]
    let mut packet = Packet {
        addr: buffers[0],
        len: len as u32,
        ..Packet::default()
    };
    if count > 1 {
        packet.flags = flags::MULTI;
        let mut left = packet.len;
        for (nth, &addr) in buffers.iter().enumerate() {
            let len = left.min(room);
            let next = buffers.get(nth + 1).copied().unwrap_or(NO_SEG);
            pool.link(Segment { addr, len }, next);
            left -= len;
        }
    }
    Some(packet)
}
