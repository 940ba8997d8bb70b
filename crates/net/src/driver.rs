//! The driver's half: receives into buffers of the mempool that it posted, transmits buffers where they lie.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::copy::prefetch_read;
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};
use vring_ring::{DriverRing, Piece, RingFault};

use crate::header::{self, HeaderLayout, NUM_BUFFERS};
use crate::{Counters, DropReason, ETH_HEADER, Tally};

/// Buffers that are posted or taken back at a time.
const BATCH: usize = 64;

/// Descriptors that are used up between two looks at what the device has read: each look takes the line of its index away from it,
/// and each buffer that waits for one is missing elsewhere.
const PARKED: usize = 64;

/// The mempool's memory as the device sees it.
#[derive(Debug, Clone)]
pub struct DriverMemory {
    /// The mempool.
    pub pool: Arc<Mempool>,
    /// The device's address of the region's first byte.
    pub device_base: u64,
}

impl DriverMemory {
    #[inline(always)]
    fn piece(&self, addr: u32, len: u32) -> Piece {
        Piece {
            addr: self.device_base + u64::from(addr),
            len,
        }
    }
}

/// The receive queue of a driver. `MRG`: packets in several buffers were negotiated.
#[derive(Debug)]
pub struct DriverRx<R: DriverRing, const MRG: bool> {
    ring: R,
    memory: DriverMemory,
    header: u32,
    /// The ring is filled up when that many descriptors are free.
    refill_at: usize,
}

impl<R: DriverRing, const MRG: bool> DriverRx<R, MRG> {
    /// A receive queue on a new ring, which it fills with buffers as far as there are any.
    #[must_use]
    pub fn new(ring: R, memory: DriverMemory, layout: HeaderLayout) -> Self {
        debug_assert_eq!(layout.mergeable, MRG);
        let refill_at = (usize::from(ring.size()) / 4).clamp(1, 32);
        let mut rx = Self {
            ring,
            memory,
            header: layout.len,
            refill_at,
        };
        rx.refill();
        rx
    }

    /// Appends received packets to the burst.
    ///
    /// # Errors
    /// The device broke the rules of the ring.
    #[inline]
    pub fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let (first, room) = (burst.len(), burst.capacity() - burst.len());
        let ready = self.ring.used_ready(room)?.min(room);
        if MRG {
            for nth in 0..ready {
                let used = self.ring.peek_used(nth)?;
                prefetch_read(self.memory.pool.ptr(used.token - self.header));
            }
        }
        let (mut at, mut bytes, mut left) = (first, 0u64, ready);
        let (addrs, lens, all_flags) = burst.arrays_mut();
        while left > 0 {
            let buffers = if MRG { self.buffer_count()? } else { 1 };
            if buffers > left {
                // The rest of the packet is not there yet, or not within this burst's reach.
                if usize::from(self.ring.size()) < buffers
                    || self.ring.used_ready(buffers)? < buffers
                {
                    break;
                }
            }
            let packet = if MRG && buffers != 1 {
                self.pop_chain(buffers)?
            } else {
                Some(self.pop_one()?)
            };
            left = left.saturating_sub(buffers);
            match packet {
                Some((addr, len, flags)) if len >= ETH_HEADER => {
                    (addrs[at], lens[at], all_flags[at]) = (addr, len, flags);
                    at += 1;
                    bytes += u64::from(len);
                }
                Some((addr, _, flags)) => {
                    counters.drop(DropReason::RxRunt, 1);
                    self.memory.pool.free_packet(addr, flags);
                }
                None => counters.drop(DropReason::RxOversize, 1),
            }
        }
        burst.set_len(at);
        let notify = if self.ring.free_descs() >= self.refill_at {
            self.refill_counted(counters)
        } else {
            false
        };
        Ok(Tally {
            packets: at - first,
            refused: 0,
            bytes,
            notify,
        })
    }

    /// In how many buffers the next packet lies.
    #[inline(always)]
    fn buffer_count(&self) -> Result<usize, RingFault> {
        let used = self.ring.peek_used(0)?;
        let at = self
            .memory
            .pool
            .ptr(used.token - self.header)
            .wrapping_add(NUM_BUFFERS);
        // SAFETY: the header lies inside the posted buffer; volatile, because the device can write there at any time.
        let count = unsafe { at.cast::<u16>().read_volatile() };
        if count == 0 || count > self.ring.size() {
            return Err(RingFault::BufferCount {
                count,
                size: self.ring.size(),
            });
        }
        Ok(count.into())
    }

    /// Takes a buffer, with its bytes checked against what was posted. The buffer stays ours even if the device lied about them.
    #[inline(always)]
    fn pop_checked(&mut self, min: u32) -> Result<(u32, u32), RingFault> {
        let max = self.memory.pool.data_room() + self.header;
        let used = self.ring.pop_used()?;
        if (min..=max).contains(&used.len) {
            return Ok((used.token, used.len));
        }
        self.memory.pool.free_bulk(&[used.token]);
        Err(RingFault::UsedLength {
            len: used.len,
            min,
            max,
        })
    }

    #[inline(always)]
    fn pop_one(&mut self) -> Result<(u32, u32, u32), RingFault> {
        let (addr, len) = self.pop_checked(self.header)?;
        Ok((addr, len - self.header, 0))
    }

    /// Joins the buffers of one packet. `None`, with the buffers freed, if they are more than a packet can have.
    #[cold]
    fn pop_chain(&mut self, buffers: usize) -> Result<Option<(u32, u32, u32)>, RingFault> {
        let pool = self.memory.pool.clone();
        let (head, len) = self.pop_checked(self.header)?;
        let mut last = Segment {
            addr: head,
            len: len - self.header,
        };
        let mut total = last.len;
        for nth in 1..buffers {
            pool.link(last, NO_SEG);
            match self.pop_checked(0) {
                // Only the first buffer begins with a header: the others hold data from their first byte.
                Ok((addr, len)) if nth < MAX_SEGS => {
                    let segment = Segment {
                        addr: addr - self.header,
                        len,
                    };
                    pool.link(last, segment.addr);
                    total += len;
                    last = segment;
                }
                Ok((addr, _)) => pool.free_bulk(&[addr]),
                Err(fault) => {
                    pool.free_packet(head, flags::MULTI);
                    return Err(fault);
                }
            }
        }
        pool.link(last, NO_SEG);
        if buffers > MAX_SEGS {
            pool.free_packet(head, flags::MULTI);
            return Ok(None);
        }
        Ok(Some((head, total, flags::MULTI)))
    }

    /// Posts free buffers; whether the device wants to be told.
    #[inline(always)]
    fn refill_counted(&mut self, counters: &Counters) -> bool {
        let notify = self.refill();
        if self.ring.free_descs() >= self.refill_at {
            counters.no_buffer();
        }
        notify
    }

    #[inline(always)]
    fn refill(&mut self) -> bool {
        let mut buffers = [0; BATCH];
        let room = self.memory.pool.data_room();
        loop {
            let wanted = self.ring.free_descs().min(BATCH);
            self.ring.prefetch_free(wanted);
            let got = self.memory.pool.alloc_bulk(&mut buffers[..wanted]);
            for &addr in &buffers[..got] {
                self.ring.push(
                    addr,
                    self.memory.piece(addr - self.header, room + self.header),
                    true,
                );
            }
            if got < BATCH {
                break;
            }
        }
        self.ring.publish();
        self.ring.needs_kick()
    }

    /// Asks for calls, or for none: true when packets came in meanwhile.
    pub fn want_calls(&mut self, on: bool) -> bool {
        self.ring.want_calls(on)
    }

    /// The device is gone: counts what it had delivered and nobody took.
    pub fn abandon(&mut self, counters: &Counters) {
        if let Ok(unread @ 1..) = self.ring.used_ready(usize::MAX) {
            counters.drop(DropReason::RxUnread, unread as u64);
        }
    }
}

impl<R: DriverRing, const MRG: bool> Drop for DriverRx<R, MRG> {
    fn drop(&mut self) {
        while let Some(used) = self.ring.take_outstanding() {
            self.memory.pool.free_bulk(&[used.token]);
        }
    }
}

/// The transmit queue of a driver.
#[derive(Debug)]
pub struct DriverTx<R: DriverRing> {
    ring: R,
    memory: DriverMemory,
    header: u32,
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

impl<R: DriverRing> DriverTx<R> {
    /// A transmit queue on a new ring. At `spare_header`, the device finds [`crate::MAX_HEADER`] zeros.
    #[must_use]
    pub fn new(ring: R, memory: DriverMemory, layout: HeaderLayout, spare_header: u64) -> Self {
        let reclaim_below = usize::from(ring.size()).saturating_sub(PARKED);
        Self { ring, memory, header: layout.len, spare_header, reclaim_below }
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
        for ((&addr, &len), &packet_flags) in addrs.iter().zip(lens).zip(all_flags) {
            let simple = packet_flags & flags::MULTI == 0
                && self.memory.pool.checked(addr, len, self.header);
            if simple && len >= ETH_HEADER {
                if self.ring.free_descs() == 0 {
                    break;
                }
                let start = addr - self.header;
                // SAFETY: `checked` found the header's room before the data, inside the packet's own buffer.
                unsafe { header::clear(self.memory.pool.ptr(start), self.header) };
                self.ring
                    .push(addr, self.memory.piece(start, len + self.header), false);
            } else {
                match self.push_slow(addr, len, packet_flags) {
                    Outcome::Sent => (),
                    Outcome::Full => break,
                    Outcome::Refused(reason) => {
                        counters.drop(reason, 1);
                        self.memory.pool.free_packet(addr, packet_flags);
                        tally.refused += 1;
                        continue;
                    }
                }
            }
            tally.packets += 1;
            tally.bytes += u64::from(len);
        }
        burst.remove_front(tally.packets + tally.refused);
        if tally.packets > 0 {
            self.ring.publish();
            tally.notify = self.ring.needs_kick();
        }
        Ok(tally)
    }

    /// Several segments, no headroom left, or nonsense.
    #[cold]
    fn push_slow(&mut self, addr: u32, len: u32, packet_flags: u32) -> Outcome {
        let pool = self.memory.pool.clone();
        let Ok(segments) = pool.segments(addr, len, packet_flags) else {
            return Outcome::Refused(DropReason::TxBadPacket);
        };
        if len < ETH_HEADER {
            return Outcome::Refused(DropReason::TxBadPacket);
        }
        let mut pieces = [Piece { addr: 0, len: 0 }; MAX_SEGS + 1];
        let mut used = 0;
        for (i, segment) in segments.enumerate() {
            if i == 0 && pool.checked(segment.addr, segment.len, self.header) {
                let start = segment.addr - self.header;
                // SAFETY: as in tx.
                unsafe { header::clear(pool.ptr(start), self.header) };
                pieces[0] = self.memory.piece(start, segment.len + self.header);
                used = 1;
                continue;
            }
            if i == 0 {
                pieces[0] = Piece {
                    addr: self.spare_header,
                    len: self.header,
                };
                used = 1;
                if packet_flags & flags::MULTI == 0 {
                    // It is pushed as a chain, and will be freed as one.
                    pool.link(segment, NO_SEG);
                }
            }
            pieces[used] = self.memory.piece(segment.addr, segment.len);
            used += 1;
        }
        if self.ring.push_chain(addr, &pieces[..used]) {
            return Outcome::Sent;
        }
        if used > usize::from(self.ring.size()) {
            return Outcome::Refused(DropReason::TxTooBig);
        }
        Outcome::Full
    }

    /// Gives back the buffers of packets that the device has read.
    ///
    /// # Errors
    /// The device broke the rules of the ring.
    #[inline]
    pub fn reclaim(&mut self) -> Result<(), RingFault> {
        let mut buffers = [0; BATCH];
        loop {
            let ready = self.ring.used_ready(BATCH)?.min(BATCH);
            let mut single = 0;
            for _ in 0..ready {
                let popped = self.ring.pop_used();
                match popped {
                    Ok(used) if !used.chain => {
                        buffers[single] = used.token;
                        single += 1;
                    }
                    Ok(used) => self.memory.pool.free_packet(used.token, flags::MULTI),
                    Err(fault) => {
                        self.memory.pool.free_bulk(&buffers[..single]);
                        return Err(fault);
                    }
                }
            }
            self.memory.pool.free_bulk(&buffers[..single]);
            if ready < BATCH {
                return Ok(());
            }
        }
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

impl<R: DriverRing> Drop for DriverTx<R> {
    fn drop(&mut self) {
        while let Some(used) = self.ring.take_outstanding() {
            self.free(used.token, used.chain);
        }
    }
}
