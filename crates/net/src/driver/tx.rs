//! Transmits buffers where they lie.

use vring_mem::Burst;
use vring_mem::burst::{Packet, flags};
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_ring::{DriverRing, Piece, RingFault};

use super::{BATCH, DriverMemory};
use crate::header::{self, HeaderLayout};
use crate::offload::{self, Header};
use crate::{Counters, DropReason, ETH_HEADER, Tally};

/// Descriptors that are used up between two looks at what the device has read: each look takes the line of its index away from it,
/// and each buffer that waits for one is missing elsewhere.
const PARKED: usize = 64;

/// The transmit queue of a driver. `OFF`: the header says what [`HeaderLayout::to_device`] takes.
#[derive(Debug)]
pub struct DriverTx<R: DriverRing, const OFF: bool = false> {
    ring: R,
    memory: DriverMemory,
    header: u32,
    mergeable: bool,
    takes: u32,
    /// A header of zeros for packets that have no headroom left, by the device's address.
    spare_header: u64,
    /// The device's index is looked at again when fewer descriptors than this are free.
    reclaim_below: usize,
}

/// What became of a packet that needs a closer look.
enum Outcome {
    Sent,
    Full,
    Refused(DropReason),
}

impl<R: DriverRing, const OFF: bool> DriverTx<R, OFF> {
    /// A transmit queue on a new ring. At `spare_header`, the device finds [`crate::MAX_HEADER`] zeros.
    #[must_use]
    pub fn new(ring: R, memory: DriverMemory, layout: HeaderLayout, spare_header: u64) -> Self {
        let reclaim_below = usize::from(ring.size()).saturating_sub(PARKED);
        Self {
            ring,
            memory,
            header: layout.len,
            mergeable: layout.mergeable,
            takes: if OFF { layout.to_device.takes } else { 0 },
            spare_header,
            reclaim_below,
        }
    }

    /// Bits of [`flags::META`] that it hands on to the device.
    #[must_use]
    pub fn takes(&self) -> u32 {
        self.takes
    }

    /// Takes packets from the front of the burst as far as the ring has room.
    ///
    /// # Errors
    /// The device broke the rules of the ring.
    #[inline]
    pub fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let count = burst.len();
        if self.ring.free_descs() < count.max(self.reclaim_below) {
            self.reclaim()?;
            self.reclaim_below = self.ring.free_descs().saturating_sub(PARKED);
        }
        self.ring.prefetch_free(count);
        let mut tally = Tally::default();
        let (addrs, lens, all_flags) = burst.packets();
        let mut at = 0;
        while at < count {
            at += self.push_simple(burst, at, &mut tally);
            if at == count {
                break;
            }
            match self.push_slow(&burst.packet(at)) {
                Outcome::Sent => {
                    tally.packets += 1;
                    tally.bytes += u64::from(lens[at]);
                }
                Outcome::Full => {
                    // It may fit as soon as the device has read more, though single packets would find room enough: look next time.
                    self.reclaim_below = usize::MAX;
                    break;
                }
                Outcome::Refused(reason) => {
                    counters.drop(reason, 1);
                    self.memory.pool.free_packet(addrs[at], all_flags[at]);
                    tally.refused += 1;
                }
            }
            at += 1;
        }
        burst.remove_front(tally.packets + tally.refused);
        if tally.packets > 0 {
            self.ring.publish();
            tally.notify = self.ring.needs_kick();
        }
        Ok(tally)
    }

    /// Pushes packets of one segment with room for a header before it, from the front as far as they go; how many.
    #[inline(always)]
    fn push_simple(&mut self, burst: &Burst, at: usize, tally: &mut Tally) -> usize {
        let (addrs, lens, all_flags) = burst.packets();
        let (addrs, lens, all_flags) = (&addrs[at..], &lens[at..], &all_flags[at..]);
        let (geometry, header) = (self.memory.pool.geometry(), self.header);
        let most = addrs.len().min(self.ring.free_descs());
        let (mut count, mut bytes) = (0, 0);
        for ((&addr, &len), &packet_flags) in addrs[..most].iter().zip(lens).zip(all_flags) {
            let simple = (packet_flags & flags::MULTI == 0)
                & (len >= ETH_HEADER)
                & geometry.checked(addr, len, header);
            if !simple {
                break;
            }
            let start = geometry.ptr(addr - header);
            if OFF && packet_flags & flags::META != 0 {
                let Some(said) = offload::encode(&burst.packet(at + count), self.takes) else {
                    break;
                };
                // SAFETY: as below.
                unsafe { header::copy_out(start, header, said, 0) };
            } else {
                // SAFETY: `checked` found the header's room before the data, inside the packet's own buffer.
                unsafe { header::clear(start, header) };
            }
            bytes += u64::from(len);
            count += 1;
        }
        let base = self.memory.device_base;
        self.ring.push_many(&addrs[..count], false, |nth| Piece {
            addr: base + u64::from(addrs[nth] - header),
            len: lens[nth] + header,
        });
        tally.packets += count;
        tally.bytes += bytes;
        count
    }

    /// Several segments, no headroom left, nonsense, or no free descriptor.
    #[cold]
    fn push_slow(&mut self, packet: &Packet) -> Outcome {
        let pool = self.memory.pool.clone();
        let Ok(segments) = pool.segments(packet.addr, packet.len, packet.flags) else {
            return Outcome::Refused(DropReason::TxBadPacket);
        };
        let Some(said) = offload::encode(packet, self.takes).filter(|_| packet.len >= ETH_HEADER)
        else {
            return Outcome::Refused(DropReason::TxBadPacket);
        };
        let mut pieces = [Piece { addr: 0, len: 0 }; MAX_SEGS + 1];
        let (mut used, mut token, mut own_header) = (0, packet.addr, None);
        for (i, segment) in segments.enumerate() {
            if i == 0 && pool.checked(segment.addr, segment.len, self.header) {
                let start = segment.addr - self.header;
                // SAFETY: as in push_simple.
                unsafe { header::copy_out(pool.ptr(start), self.header, said, 0) };
                pieces[0] = self.memory.piece(start, segment.len + self.header);
                used = 1;
                continue;
            }
            if i == 0 {
                let addr = if said == Header::default() {
                    self.spare_header
                } else {
                    match self.header_of_its_own(&said) {
                        Some(header) => own_header = Some(header),
                        None => return Outcome::Full,
                    }
                    0
                };
                pieces[0] = Piece {
                    addr,
                    len: self.header,
                };
                used = 1;
                if packet.flags & flags::MULTI == 0 {
                    // It is pushed as a chain, and will be freed as one.
                    pool.link(segment, NO_SEG);
                }
            }
            pieces[used] = self.memory.piece(segment.addr, segment.len);
            used += 1;
        }
        if let Some(header) = own_header {
            pieces[0] = self.memory.piece(header, self.header);
            // One segment more than a packet may have could not be freed as one.
            if used > MAX_SEGS {
                pool.free_bulk(&[header]);
                return Outcome::Refused(DropReason::TxTooBig);
            }
            let segment = Segment {
                addr: header,
                len: self.header,
            };
            pool.link(segment, packet.addr);
            token = header;
        }
        if self.ring.push_chain(token, &pieces[..used]) {
            return Outcome::Sent;
        }
        if let Some(header) = own_header {
            pool.free_bulk(&[header]);
        }
        if used > self.ring.max_pieces() {
            return Outcome::Refused(DropReason::TxTooBig);
        }
        Outcome::Full
    }

    /// A buffer with a header that says something, for a packet without headroom: it is sent, and freed, as the packet's first segment.
    fn header_of_its_own(&self, said: &Header) -> Option<u32> {
        let pool = &self.memory.pool;
        let mut buffer = [0];
        if pool.alloc_bulk(&mut buffer) == 0 {
            return None;
        }
        // SAFETY: a fresh buffer has at least 128 bytes from there.
        unsafe { header::copy_out(pool.ptr(buffer[0]), self.header, *said, 0) };
        Some(buffer[0])
    }

    /// Gives back the buffers of packets that the device has read.
    ///
    /// # Errors
    /// The device broke the rules of the ring.
    #[inline]
    pub fn reclaim(&mut self) -> Result<(), RingFault> {
        let (mut tokens, mut lens) = ([0; BATCH], [0; BATCH]);
        loop {
            let ready = self.ring.used_ready(BATCH)?.min(BATCH);
            let count = self.ring.pop_many(&mut tokens[..ready], &mut lens)?;
            self.memory.pool.free_bulk(&tokens[..count]);
            if count < ready {
                let used = self.ring.pop_used()?;
                self.free(used.token, used.chain);
            } else if ready < BATCH {
                return Ok(());
            }
        }
    }

    /// Its ring, to look at.
    #[must_use]
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// Its ring, to ask how far the other side is.
    pub fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Whether buffers that merge were agreed on: it decides the header's length.
    #[must_use]
    pub fn is_mergeable(&self) -> bool {
        self.mergeable
    }

    /// The device is gone: counts what it was given and did not say it has read.
    pub fn abandon(&mut self, counters: &Counters) {
        // A fault here has been reported, or does not matter any more.
        let _fault = self.reclaim();
        let mut lost = 0;
        while let Some(used) = self.ring.take_outstanding() {
            self.free(used.token, used.chain);
            lost += 1;
        }
        if lost > 0 {
            counters.drop(DropReason::TxUnconfirmed, lost);
        }
    }

    fn free(&self, token: u32, chain: bool) {
        self.memory
            .pool
            .free_packet(token, if chain { flags::MULTI } else { 0 });
    }
}

impl<R: DriverRing, const OFF: bool> Drop for DriverTx<R, OFF> {
    fn drop(&mut self) {
        while let Some(used) = self.ring.take_outstanding() {
            self.free(used.token, used.chain);
        }
    }
}
