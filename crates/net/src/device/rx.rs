//! Receives what the driver transmits.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::copy::{copy, prefetch_read};
use vring_mem::guest::{GuestMemory, RegionView};
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};
use vring_ring::{DescFlags, DeviceRing, Head, RingFault};

use super::LOOK_AHEAD;
use super::pieces::Pieces;
use crate::header::HeaderLayout;
use crate::{Counters, DropReason, ETH_HEADER, Tally};

/// The receive queue of a device: the other end is the driver's transmit queue.
#[derive(Debug)]
pub struct DeviceRx<R: DeviceRing> {
    ring: R,
    memory: Arc<GuestMemory>,
    /// The region that was hit last.
    view: RegionView,
    pool: Arc<Mempool>,
    header: u32,
    pieces: Pieces,
}

/// What became of a chain of any shape.
enum Gathered {
    /// A packet of that length and flags.
    Packet(u32, u32),
    /// Dropped under a name.
    Dropped,
    /// It stays in the ring until there are buffers.
    NoBuffers,
}

/// A chain that was looked at.
#[derive(Clone, Copy)]
struct Look {
    head: Head,
    /// Its data behind the header, if it is one descriptor that fits one buffer; else null.
    data: *const u8,
}

impl<R: DeviceRing> DeviceRx<R> {
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
            pieces: Pieces::default(),
        }
    }

    /// Appends received packets to the burst.
    ///
    /// # Errors
    /// The driver broke the rules of the ring.
    #[inline]
    pub fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let (first, room) = (burst.len(), burst.capacity() - burst.len());
        let ready = self.ring.ready(room)?.min(room);
        if ready == 0 {
            return Ok(Tally::default());
        }
        self.ring.prefetch_heads(ready);
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
                Err(fault) => return Err(fault),
            }
        }
        self.ring.publish();
        tally.notify = self.ring.needs_call();
        Ok(tally)
    }

    /// Receives `count` chains into the fresh buffers that stand in the burst from `first` on. On return, the packets of the burst from
    /// `first` on are complete as far as the tally says; buffers that were not needed are free. False when it had to stop for want of buffers.
    #[inline(always)]
    fn rx_some(
        &mut self,
        burst: &mut Burst,
        first: usize,
        count: usize,
        tally: &mut Tally,
        counters: &Counters,
    ) -> Result<bool, RingFault> {
        let (addrs, lens, all_flags) = burst.arrays_mut();
        let mut looks = [const { std::mem::MaybeUninit::<Look>::uninit() }; LOOK_AHEAD];
        for (nth, slot) in looks[..count].iter_mut().enumerate() {
            match self.look(nth) {
                Ok(look) => slot.write(look),
                Err(fault) if nth == 0 => {
                    self.pool.free_bulk(&addrs[first..first + count]);
                    return Err(fault);
                }
                // Those before it are good: they are received first, and the fault is met again at the front.
                Err(_) => {
                    self.pool.free_bulk(&addrs[first + nth..first + count]);
                    return self.rx_some(burst, first, nth, tally, counters);
                }
            };
        }
        let mut at = first;
        for nth in 0..count {
            // SAFETY: the loop above wrote the first `count`.
            let look = unsafe { looks[nth].assume_init() };
            let buffer = addrs[first + nth];
            let received = if look.data.is_null() {
                match self.gather(look.head, buffer, counters) {
                    Ok(Gathered::Packet(len, packet_flags)) => Some((len, packet_flags)),
                    Ok(Gathered::Dropped) => None,
                    stopped => {
                        self.pool.free_bulk(&addrs[first + nth..first + count]);
                        return stopped.map(|_| false);
                    }
                }
            } else {
                let len = look.head.desc.len - self.header;
                // SAFETY: `look` translated the descriptor and compared its length with the buffer's room; the map is held.
                unsafe { copy(self.pool.ptr(buffer), look.data, len as usize) };
                Some((len, 0))
            };
            self.ring.complete(look.head.id, 0);
            match received {
                Some((len, packet_flags)) => {
                    (addrs[at], lens[at], all_flags[at]) = (buffer, len, packet_flags);
                    at += 1;
                    tally.packets += 1;
                    tally.bytes += u64::from(len);
                }
                None => self.pool.free_bulk(&[buffer]),
            }
        }
        Ok(true)
    }

    /// Reads a chain's first descriptor and asks for its data.
    #[inline(always)]
    fn look(&mut self, nth: usize) -> Result<Look, RingFault> {
        let head = self.ring.peek(nth)?;
        let desc = head.desc;
        let special = desc
            .flags
            .intersects(DescFlags::NEXT | DescFlags::WRITE | DescFlags::INDIRECT);
        let len = desc.len.wrapping_sub(self.header);
        // A length below the header wraps to one that is too long.
        if special || len < ETH_HEADER || len > self.pool.data_room() {
            return Ok(Look {
                head,
                data: std::ptr::null(),
            });
        }
        let Some(ptr) = self.translate(desc.addr, desc.len) else {
            return Ok(Look {
                head,
                data: std::ptr::null(),
            });
        };
        let data = ptr.wrapping_add(self.header as usize);
        prefetch_read(data);
        Ok(Look { head, data })
    }

    #[inline(always)]
    fn translate(&mut self, addr: u64, len: u32) -> Option<*const u8> {
        if let Some(ptr) = self.view.translate(addr, len.into()) {
            return Some(ptr.as_ptr());
        }
        self.view = self.memory.region_of(addr)?;
        self.view
            .translate(addr, len.into())
            .map(|ptr| ptr.as_ptr().cast_const())
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
        self.pieces.skip(self.header as usize);
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
        Ok(Gathered::Packet(
            total,
            if more > 0 { flags::MULTI } else { 0 },
        ))
    }

    /// Asks for kicks, or for none: true when chains came in meanwhile.
    pub fn want_kicks(&mut self, on: bool) -> bool {
        self.ring.want_kicks(on)
    }

    /// Where a device would go on.
    #[must_use]
    pub fn base(&self) -> u32 {
        self.ring.base()
    }
}
