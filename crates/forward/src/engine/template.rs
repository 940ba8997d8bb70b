//! The packets that txonly, flowgen and `tx_first` send: Ethernet, IPv4, UDP, as testpmd's.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::copy::{copy, prefetch_write};
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};

use super::options::Template as Options;
use crate::ForwardError;
use crate::inet::{checksum, sum};

/// Bytes written to each packet: the headers and zeros up to a cache line. What follows is what the buffer held before.
const HEAD: usize = 64;
/// Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;
/// Most flows: as many as there are values of a byte.
const MAX_FLOWS: u16 = 256;

/// Packets to be copied into fresh buffers.
#[derive(Debug)]
pub(crate) struct Template {
    /// The headers of a packet of so many segments, one more than its place here.
    heads: Vec<Head>,
    segments: Vec<u32>,
    random_split: bool,
    /// Source addresses that differ from packet to packet, and the one that is next.
    flows: u32,
    next: u32,
    /// For the number of segments.
    random: u32,
}

/// The first bytes of a packet, and its length.
#[derive(Debug, Clone, Copy)]
struct Head {
    bytes: [u8; HEAD],
    total: u32,
}

impl Template {
    /// Packets as `options` says from `src` to `dst`.
    pub(crate) fn new(
        options: &Options,
        pool: &Mempool,
        src: [u8; 6],
        dst: [u8; 6],
    ) -> Result<Self, ForwardError> {
        let segments = &options.segments;
        check_segments(segments, pool.data_room() as usize)?;
        if options.flows == 0 || options.flows > MAX_FLOWS {
            return range("flows of txonly", 1, MAX_FLOWS.into(), options.flows.into());
        }
        let head = |count: usize| {
            let total = segments[..count].iter().sum();
            Head {
                bytes: headers(total, src, dst, options),
                total,
            }
        };
        Ok(Self {
            heads: (1..=segments.len()).map(head).collect(),
            segments: segments.clone(),
            random_split: options.random_split,
            flows: options.flows.into(),
            next: 0,
            random: 0x9e37_79b9,
        })
    }

    /// Appends up to `count` packets to the burst, as far as there are buffers and room.
    #[inline]
    pub(crate) fn fill(&mut self, pool: &Arc<Mempool>, burst: &mut Burst, count: usize) {
        if self.segments.len() > 1 {
            (0..count.min(burst.capacity() - burst.len()))
                .for_each(|_| self.fill_chain(pool, burst));
            return;
        }
        let head = self.heads[0];
        let at = burst.len();
        let end = (at + count).min(burst.capacity());
        let (addrs, lens, all_flags) = burst.arrays_mut();
        let got = pool.alloc_bulk(&mut addrs[at..end]);
        let fresh = at..at + got;
        for &addr in &addrs[fresh.clone()] {
            prefetch_write(pool.ptr(addr));
        }
        let bytes = HEAD.min(head.total as usize);
        for &addr in &addrs[fresh.clone()] {
            // SAFETY: a fresh buffer has room for at least 128 bytes of data, and it is ours.
            unsafe { copy(pool.ptr(addr), head.bytes.as_ptr(), bytes) };
        }
        lens[fresh.clone()].fill(head.total);
        all_flags[fresh.clone()].fill(0);
        burst.set_len(at + got);
        if self.flows > 1 {
            fresh.for_each(|i| self.set_flow(pool, burst, i));
        }
    }

    fn fill_chain(&mut self, pool: &Arc<Mempool>, burst: &mut Burst) {
        let count = if self.random_split {
            self.random_count()
        } else {
            self.segments.len()
        };
        let segments = &self.segments[..count];
        let head = self.heads[count - 1];
        let mut buffers = [0; MAX_SEGS];
        let buffers = &mut buffers[..count];
        let got = pool.alloc_bulk(buffers);
        if got < buffers.len() {
            pool.free_bulk(&buffers[..got]);
            return;
        }
        let bytes = HEAD.min(segments[0] as usize);
        // SAFETY: as in fill.
        unsafe { copy(pool.ptr(buffers[0]), head.bytes.as_ptr(), bytes) };
        for (i, (&addr, &len)) in buffers.iter().zip(segments).enumerate() {
            pool.link(
                Segment { addr, len },
                buffers.get(i + 1).copied().unwrap_or(NO_SEG),
            );
        }
        let multi = if count > 1 { flags::MULTI } else { 0 };
        burst.push(buffers[0], head.total, multi);
        if self.flows > 1 {
            self.set_flow(pool, burst, burst.len() - 1);
        }
    }

    /// From 1 to as many segments as there are (xorshift32).
    fn random_count(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random as usize % self.segments.len() + 1
    }

    /// Gives packet `i` of the burst, one that was filled here, the source address that is next: the destination's with another third byte, as
    /// testpmd makes them.
    fn set_flow(&mut self, pool: &Mempool, burst: &Burst, i: usize) {
        let dst = &self.heads[0].bytes[30..34];
        let dst = u32::from_be_bytes([dst[0], dst[1], dst[2], dst[3]]);
        set_address(pool, burst, i, 26, dst | self.next << 8);
        self.next = (self.next + 1) % self.flows;
    }

    /// Gives packet `i` of the burst, one that was filled here, another destination.
    pub(crate) fn set_dst(&self, pool: &Mempool, burst: &Burst, i: usize, ip: u32) {
        set_address(pool, burst, i, 30, ip);
    }
}

/// Writes an address of IPv4 and makes the header's checksum right again.
fn set_address(pool: &Mempool, burst: &Burst, i: usize, at: usize, ip: u32) {
    let addr = burst.packets().0[i];
    let packet = pool.ptr(addr);
    let mut header = [0; 20];
    // SAFETY: the packet was filled here: its first segment has more bytes than the headers.
    unsafe { copy(header.as_mut_ptr(), packet.wrapping_add(14), 20) };
    header[at - 14..at - 10].copy_from_slice(&ip.to_be_bytes());
    header[10..12].fill(0);
    let right = checksum(sum(&header));
    header[10..12].copy_from_slice(&right.to_be_bytes());
    // SAFETY: as above.
    unsafe { copy(packet.wrapping_add(14), header.as_ptr(), 20) };
}

fn range<T>(what: &'static str, min: usize, max: usize, got: usize) -> Result<T, ForwardError> {
    Err(ForwardError::Range {
        what,
        min,
        max,
        got,
    })
}

fn check_segments(segments: &[u32], room: usize) -> Result<(), ForwardError> {
    if segments.is_empty() || segments.len() > MAX_SEGS {
        return range("segments of txpkts", 1, MAX_SEGS, segments.len());
    }
    for (i, &len) in segments.iter().enumerate() {
        let min = if i == 0 { HEADERS } else { 1 };
        if !(min..=room).contains(&(len as usize)) {
            return range("bytes of a segment of txpkts", min, room, len as usize);
        }
    }
    let total: u32 = segments.iter().sum();
    if total > 65535 {
        return range("bytes of txpkts", HEADERS, 65535, total as usize);
    }
    Ok(())
}

/// Ethernet, IPv4 and UDP with a right IPv4 checksum and no UDP one.
fn headers(total: u32, src: [u8; 6], dst: [u8; 6], options: &Options) -> [u8; HEAD] {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the caller keeps the total in 16 bits"
    )]
    let (ip_len, udp_len) = (
        ((total - 14) as u16).to_be_bytes(),
        ((total - 34) as u16).to_be_bytes(),
    );
    let mut head = [0; HEAD];
    head[0..6].copy_from_slice(&dst);
    head[6..12].copy_from_slice(&src);
    head[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut head[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len);
    ip[8..10].copy_from_slice(&[64, 17]);
    ip[12..16].copy_from_slice(&options.ip.0.octets());
    ip[16..20].copy_from_slice(&options.ip.1.octets());
    let right = checksum(sum(ip));
    ip[10..12].copy_from_slice(&right.to_be_bytes());
    head[34..36].copy_from_slice(&options.udp.0.to_be_bytes());
    head[36..38].copy_from_slice(&options.udp.1.to_be_bytes());
    head[38..40].copy_from_slice(&udp_len);
    head
}
