//! The packets that txonly and tx_first send: Ethernet, IPv4, UDP, as testpmd's.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::copy::{copy, prefetch_write};
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};

use crate::ForwardError;

/// Bytes written to each packet: the headers and zeros up to a cache line. What follows is what the buffer held before.
const HEAD: usize = 64;
/// Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;

/// A packet to be copied into fresh buffers.
#[derive(Debug)]
pub(crate) struct Template {
    head: [u8; HEAD],
    segments: Vec<u32>,
    total: u32,
}

impl Template {
    /// A packet of these segments from `src` to `dst`.
    pub(crate) fn new(
        segments: &[u32],
        pool: &Mempool,
        src: [u8; 6],
        dst: [u8; 6],
    ) -> Result<Self, ForwardError> {
        let range = |what, min, max, got: usize| {
            Err(ForwardError::Range {
                what,
                min,
                max,
                got,
            })
        };
        if segments.is_empty() || segments.len() > MAX_SEGS {
            return range("segments of txpkts", 1, MAX_SEGS, segments.len());
        }
        let room = pool.data_room() as usize;
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
        Ok(Self {
            head: headers(total, src, dst),
            segments: segments.to_vec(),
            total,
        })
    }

    /// Appends up to `count` packets to the burst, as far as there are buffers and room.
    #[inline]
    pub(crate) fn fill(&self, pool: &Arc<Mempool>, burst: &mut Burst, count: usize) {
        if self.segments.len() > 1 {
            (0..count.min(burst.capacity() - burst.len()))
                .for_each(|_| self.fill_chain(pool, burst));
            return;
        }
        let at = burst.len();
        let end = (at + count).min(burst.capacity());
        let (addrs, lens, all_flags) = burst.arrays_mut();
        let got = pool.alloc_bulk(&mut addrs[at..end]);
        let fresh = at..at + got;
        for &addr in &addrs[fresh.clone()] {
            prefetch_write(pool.ptr(addr));
        }
        let bytes = HEAD.min(self.total as usize);
        for &addr in &addrs[fresh.clone()] {
            // SAFETY: a fresh buffer has room for at least 128 bytes of data, and it is ours.
            unsafe { copy(pool.ptr(addr), self.head.as_ptr(), bytes) };
        }
        lens[fresh.clone()].fill(self.total);
        all_flags[fresh].fill(0);
        burst.set_len(at + got);
    }

    fn fill_chain(&self, pool: &Arc<Mempool>, burst: &mut Burst) {
        let mut buffers = [0; MAX_SEGS];
        let buffers = &mut buffers[..self.segments.len()];
        let got = pool.alloc_bulk(buffers);
        if got < buffers.len() {
            pool.free_bulk(&buffers[..got]);
            return;
        }
        let bytes = HEAD.min(self.segments[0] as usize);
        // SAFETY: as in fill.
        unsafe { copy(pool.ptr(buffers[0]), self.head.as_ptr(), bytes) };
        for (i, (&addr, &len)) in buffers.iter().zip(&self.segments).enumerate() {
            pool.link(
                Segment { addr, len },
                buffers.get(i + 1).copied().unwrap_or(NO_SEG),
            );
        }
        burst.push(buffers[0], self.total, flags::MULTI);
    }
}

/// 198.18.0.1 to 198.18.0.2, port 9 to port 9 (RFC 2544's network, the discard port), with a right IPv4 checksum and no UDP one.
fn headers(total: u32, src: [u8; 6], dst: [u8; 6]) -> [u8; HEAD] {
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
    ip[12..20].copy_from_slice(&[198, 18, 0, 1, 198, 18, 0, 2]);
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    head[34..38].copy_from_slice(&[0, 9, 0, 9]);
    head[38..40].copy_from_slice(&udp_len);
    head
}
