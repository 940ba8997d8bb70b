//! Receives what the driver transmits.

use std::mem::MaybeUninit;
use std::sync::Arc;

use vring_mem::burst::{Packet, flags};
use vring_mem::copy::{copy, prefetch_read};
use vring_mem::guest::{Access, GuestMemory, RegionView, RingLog};
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};
use vring_ring::{DescFlags, DeviceRing, Head, RingFault};

use super::dirty::RingDirt;
use super::pieces::Pieces;
use super::{LOOK_AHEAD, ask, or_gone, translate};
use crate::header::{self, HeaderLayout};
use crate::offload::{self, Header};
use crate::{Counters, DropReason, ETH_HEADER, Tally};

/// The receive queue of a device: the other end is the driver's transmit queue. `OFF`: the header says something, by what
/// [`HeaderLayout::to_device`] gives.
#[derive(Debug)]
pub struct DeviceRx<R: DeviceRing, const OFF: bool = false> {
    ring: R,
    memory: Arc<GuestMemory>,
    /// The region that was hit last.
    view: RegionView,
    pool: Arc<Mempool>,
    header: u32,
    mergeable: bool,
    gives: u32,
    /// The packet of odd shape that was received last, where the header says something.
    odd: Packet,
    pieces: Pieces,
    dirt: RingDirt,
}

/// What became of a chain of any shape.
enum Gathered {
    /// A packet of that length and flags; with metadata, it stands in `odd`.
    Packet(u32, u32),
    /// Dropped under a name.
    Dropped,
    /// It stays in the ring until there are buffers.
    NoBuffers,
}

/// A chain that was looked at.
#[derive(Clone, Copy)]
struct Look {
    /// Its data behind the header, if it is one descriptor that fits one buffer; else null.
    data: *const u8,
    /// Bytes of the data.
    len: u32,
    id: u16,
}

impl<R: DeviceRing, const OFF: bool> DeviceRx<R, OFF> {
    /// A receive queue on a ring of this memory.
    #[must_use]
    pub fn new(
        ring: R,
        memory: Arc<GuestMemory>,
        pool: Arc<Mempool>,
        layout: HeaderLayout,
    ) -> Self {
        Self {
            ring,
            memory,
            view: RegionView::EMPTY,
            pool,
            header: layout.len,
            mergeable: layout.mergeable,
            gives: if OFF { layout.to_device.gives } else { 0 },
            odd: Packet::default(),
            pieces: Pieces::default(),
            dirt: RingDirt::default(),
        }
    }

    /// With the addresses under which the ring's areas are logged, while the memory has a log.
    #[must_use]
    pub fn with_ring_log(mut self, ring_log: Option<RingLog>) -> Self {
        self.dirt = RingDirt::new(ring_log);
        self.dirt.mark_event(&self.memory, &self.ring);
        self
    }

    /// Goes on in other memory, or in the same with other translations. Only between bursts.
    pub fn set_memory(&mut self, memory: &Arc<GuestMemory>) {
        (self.memory, self.view) = (memory.clone(), RegionView::EMPTY);
    }

    /// Appends received packets to the burst.
    ///
    /// # Errors
    /// The driver broke the rules of the ring.
    #[inline]
    pub fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        if self.memory.is_poisoned() {
            return Err(RingFault::MemoryGone);
        }
        let result = match self.memory.log() {
            Some(_) => self.rx_logged(burst, counters),
            None => self.rx_all(burst, counters),
        };
        result.map_err(|fault| or_gone(&self.memory, fault))
    }

    #[inline(always)]
    fn rx_all(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let (first, room) = (burst.len(), burst.capacity() - burst.len());
        let ready = self.ring.ready(room)?.min(room);
        if ready == 0 {
            return Ok(Tally::default());
        }
        let (mut at, mut done, mut tally) = (first, 0, Tally::default());
        while done < ready {
            let wanted = (ready - done).min(LOOK_AHEAD);
            let (addrs, ..) = burst.arrays_mut();
            let got = self.pool.alloc_bulk(&mut addrs[at..at + wanted]);
            if got == 0 {
                counters.no_buffer();
                break;
            }
            let result = self.rx_some(burst, at, got, &mut tally, counters);
            at = first + tally.packets;
            burst.set_len(at);
            match result {
                Ok(true) => done += got,
                Ok(false) => break,
                // What came before the fault is received now; the fault is met again at the front next time.
                Err(_) if tally.packets > 0 => break,
                Err(fault) => {
                    ask(fault, &mut self.ring, &self.memory, counters)?;
                    break;
                }
            }
        }
        self.ring.publish();
        tally.notify = self.ring.needs_call();
        Ok(tally)
    }

    /// While pages are logged: chain by chain, and what is written of the ring is marked.
    #[cold]
    fn rx_logged(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let room = burst.capacity() - burst.len();
        let (ready, mut done) = (self.ring.ready(room)?.min(room), 0);
        let (mut tally, mut fault) = (Tally::default(), None);
        while done < ready {
            let mut buffer = [0];
            if self.pool.alloc_bulk(&mut buffer) == 0 {
                counters.no_buffer();
                break;
            }
            match self.rx_odd(buffer[0], counters) {
                Ok(Gathered::Packet(len, packet_flags)) => {
                    burst.push_packet(&Packet {
                        addr: buffer[0],
                        len,
                        flags: packet_flags,
                        ..self.odd
                    });
                    tally.packets += 1;
                    tally.bytes += u64::from(len);
                }
                Ok(Gathered::Dropped) => self.pool.free_bulk(&buffer),
                stopped => {
                    self.pool.free_bulk(&buffer);
                    fault = stopped.err();
                    break;
                }
            }
            done += 1;
        }
        self.ring.publish();
        if let Some(log) = self.memory.log().filter(|_| done > 0) {
            self.dirt.mark(log, &self.ring);
            log.tell();
        }
        // What came before a fault is received now; the fault is met again at the front next time.
        if let Some(fault) = fault.filter(|_| tally.packets == 0) {
            ask(fault, &mut self.ring, &self.memory, counters)?;
        }
        tally.notify = self.ring.needs_call();
        Ok(tally)
    }

    /// Receives up to `count` chains into the fresh buffers that stand in the burst from `first` on. On return, the packets of the burst
    /// from `first` on are complete as far as the tally says; buffers that were not needed are free. False when it had to stop for want of
    /// buffers.
    #[inline(always)]
    fn rx_some(
        &mut self,
        burst: &mut Burst,
        first: usize,
        count: usize,
        tally: &mut Tally,
        counters: &Counters,
    ) -> Result<bool, RingFault> {
        let ((addrs, lens, all_flags), mut meta) = burst.all_mut();
        let buffers: &mut [u32] = &mut addrs[first..first + count];
        let mut looks = [const { MaybeUninit::<Look>::uninit() }; LOOK_AHEAD];
        let looked = match self.look(&mut looks[..count]) {
            Ok(looks) => looks,
            Err(fault) => {
                self.pool.free_bulk(buffers);
                return Err(fault);
            }
        };
        let geometry = self.pool.geometry();
        let (mut nth, mut kept) = (0, 0);
        while nth < looked.len() {
            let run = nth;
            while nth < looked.len() && !looked[nth].data.is_null() {
                let (buffer, len) = (buffers[nth], looked[nth].len);
                // SAFETY: `look` translated the descriptor and compared its length with the buffer's room; the map is held.
                unsafe { copy(geometry.ptr(buffer), looked[nth].data, len as usize) };
                (buffers[kept], lens[first + kept], all_flags[first + kept]) = (buffer, len, 0);
                if OFF {
                    let Some(packet) = self.said(looked[nth], buffer) else {
                        // It is told, and dropped, where chains of any shape are.
                        break;
                    };
                    all_flags[first + kept] = packet.flags;
                    if packet.flags != 0 {
                        meta.set(first + kept, &packet);
                    }
                }
                tally.bytes += u64::from(len);
                kept += 1;
                nth += 1;
            }
            tally.packets += nth - run;
            self.ring
                .complete_read_many(nth - run, |i| looked[run + i].id);
            if nth == looked.len() {
                break;
            }
            let buffer = buffers[nth];
            match self.rx_odd(buffer, counters) {
                Ok(Gathered::Packet(len, packet_flags)) => {
                    (buffers[kept], lens[first + kept], all_flags[first + kept]) =
                        (buffer, len, packet_flags);
                    if OFF && packet_flags & flags::META != 0 {
                        meta.set(first + kept, &self.odd);
                    }
                    tally.packets += 1;
                    tally.bytes += u64::from(len);
                    kept += 1;
                }
                Ok(Gathered::Dropped) => self.pool.free_bulk(&[buffer]),
                stopped => {
                    self.pool.free_bulk(&buffers[nth..]);
                    return stopped.map(|_| false);
                }
            }
            nth += 1;
        }
        self.pool.free_bulk(&buffers[looked.len()..]);
        Ok(true)
    }

    /// The packet in `buffer`, with what the header of its chain says; `None` when that is a lie.
    #[inline(always)]
    fn said(&self, look: Look, buffer: u32) -> Option<Packet> {
        let mut packet = Packet {
            addr: buffer,
            len: look.len,
            ..Packet::default()
        };
        let at = look.data.wrapping_sub(self.header as usize);
        // SAFETY: `look` translated the descriptor with its header, of 10 bytes at least; the map is held.
        if unsafe { offload::is_plain(at) } {
            return Some(packet);
        }
        // SAFETY: as above.
        let header = unsafe { header::copy_in(at, self.header) };
        offload::decode(&header, self.gives, &self.pool, &mut packet).then_some(packet)
    }

    /// Reads the first descriptors of chains, and asks for the data of those that are simple.
    #[inline(always)]
    fn look<'a>(&mut self, looks: &'a mut [MaybeUninit<Look>]) -> Result<&'a [Look], RingFault> {
        let (mut view, header, memory) = (self.view, self.header, &self.memory);
        let longest = self.pool.data_room() - ETH_HEADER;
        let looked = self.ring.peek_many(looks.len(), |nth, Head { id, desc }| {
            let special = desc
                .flags
                .intersects(DescFlags::NEXT | DescFlags::WRITE | DescFlags::INDIRECT);
            let len = desc.len.wrapping_sub(header);
            let mut data = std::ptr::null();
            // One comparison for both ends: what is shorter than headers wraps to a number that is too large.
            if !special
                && len.wrapping_sub(ETH_HEADER) <= longest
                && let Some(ptr) = translate(&mut view, memory, desc.addr, desc.len, Access::READ)
            {
                data = ptr.wrapping_add(header as usize).cast_const();
                prefetch_read(data);
            }
            looks[nth].write(Look { data, len, id });
            true
        })?;
        self.view = view;
        // SAFETY: peek_many called the closure for each of the first `looked`.
        Ok(unsafe { std::slice::from_raw_parts(looks.as_ptr().cast(), looked) })
    }

    /// Receives the chain at the front, whatever its shape, and gives it back.
    fn rx_odd(&mut self, buffer: u32, counters: &Counters) -> Result<Gathered, RingFault> {
        let head = self.ring.peek(0)?;
        let gathered = self.gather(head, buffer, counters)?;
        if !matches!(gathered, Gathered::NoBuffers) {
            if self.memory.log().is_some() {
                self.dirt.note(&self.ring);
            }
            self.ring.complete(head.id, 0);
        }
        Ok(gathered)
    }

    /// Receives a chain of any shape into `buffer` and as many more as it takes.
    #[cold]
    fn gather(
        &mut self,
        head: Head,
        buffer: u32,
        counters: &Counters,
    ) -> Result<Gathered, RingFault> {
        self.pieces.clear();
        self.pieces
            .add_chain(&self.ring, head, &self.memory, false)?;
        let (room, header) = (self.pool.data_room(), u64::from(self.header));
        let Some(len) = self
            .pieces
            .total()
            .checked_sub(header)
            .filter(|&len| len >= u64::from(ETH_HEADER))
        else {
            counters.drop(DropReason::RxRunt, 1);
            return Ok(Gathered::Dropped);
        };
        let more = len.div_ceil(room.into()).saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a chain has at most 16 MiB"
        )]
        let (more, total) = (more as usize, len as u32);
        if more >= MAX_SEGS.min(self.pool.count() as usize) {
            counters.drop(DropReason::RxOversize, 1);
            return Ok(Gathered::Dropped);
        }
        let mut buffers = [0; MAX_SEGS];
        let got = self.pool.alloc_bulk(&mut buffers[..more]);
        if got < more {
            self.pool.free_bulk(&buffers[..got]);
            counters.no_buffer();
            return Ok(Gathered::NoBuffers);
        }
        let mut said = Header::default();
        if OFF {
            // SAFETY: the header is as long as that at most, and the chain longer; the map is held by self.
            unsafe { self.pieces.read(said.as_mut_ptr(), self.header as usize) };
        } else {
            self.pieces.skip(self.header as usize);
        }
        let (mut addr, mut left) = (buffer, total);
        for &next in buffers[..more].iter().chain([&NO_SEG]) {
            let len = left.min(room);
            // SAFETY: a fresh buffer has `room` bytes from addr; the map is held by self.
            unsafe { self.pieces.read(self.pool.ptr(addr), len as usize) };
            if more > 0 {
                self.pool.link(Segment { addr, len }, next);
            }
            left -= len;
            addr = next;
        }
        let packet_flags = if more > 0 { flags::MULTI } else { 0 };
        if !OFF {
            return Ok(Gathered::Packet(total, packet_flags));
        }
        self.odd = Packet {
            addr: buffer,
            len: total,
            flags: packet_flags,
            ..Packet::default()
        };
        if !offload::decode(&said, self.gives, &self.pool, &mut self.odd) {
            counters.drop(DropReason::RxBadOffload, 1);
            self.pool.free_bulk(&buffers[..more]);
            return Ok(Gathered::Dropped);
        }
        Ok(Gathered::Packet(total, self.odd.flags))
    }

    /// Bits of [`flags::META`] that its packets may have.
    #[must_use]
    pub fn gives(&self) -> u32 {
        self.gives
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

    /// Asks for kicks, or for none: true when chains came in meanwhile.
    pub fn want_kicks(&mut self, on: bool) -> bool {
        let came = self.ring.want_kicks(on);
        self.dirt.mark_event(&self.memory, &self.ring);
        came
    }

    /// Where a device would go on.
    #[must_use]
    pub fn base(&self) -> u32 {
        self.ring.base()
    }
}
