//! Transmits into what the driver posted to receive.

use std::mem::MaybeUninit;
use std::sync::Arc;

use vring_mem::burst::{Packet, flags};
use vring_mem::copy::{copy, prefetch_read, prefetch_write};
use vring_mem::guest::{Access, GuestMemory, RegionView, RingLog};
use vring_mem::{Burst, Mempool};
use vring_ring::{DescFlags, DeviceRing, Head, RingFault};

use super::dirty::RingDirt;
use super::pieces::Pieces;
use super::{LOOK_AHEAD, ask, or_gone, translate};
use crate::header::{self, HeaderLayout};
use crate::offload;
use crate::{Counters, DropReason, ETH_HEADER, MAX_HEADER, Tally};

/// The transmit queue of a device: the other end is the driver's receive queue. `OFF`: the header says what [`HeaderLayout::to_driver`] takes.
#[derive(Debug)]
pub struct DeviceTx<R: DeviceRing, const OFF: bool = false> {
    ring: R,
    memory: Arc<GuestMemory>,
    /// The region that was hit last.
    view: RegionView,
    pool: Arc<Mempool>,
    layout: HeaderLayout,
    pieces: Pieces,
    /// Id and capacity of the chains that a packet is spread over.
    chains: Vec<(u16, u64)>,
    dirt: RingDirt,
}

enum Outcome {
    Sent,
    Full,
    Refused(DropReason),
}

impl<R: DeviceRing, const OFF: bool> DeviceTx<R, OFF> {
    /// A transmit queue on a ring of this memory.
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
            layout,
            pieces: Pieces::default(),
            chains: Vec::new(),
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

    /// Bits of [`flags::META`] that it hands on to the driver.
    #[must_use]
    pub fn takes(&self) -> u32 {
        if OFF { self.layout.to_driver.takes } else { 0 }
    }

    /// Goes on in other memory, or in the same with other translations. Only between bursts.
    pub fn set_memory(&mut self, memory: &Arc<GuestMemory>) {
        (self.memory, self.view) = (memory.clone(), RegionView::EMPTY);
    }

    /// Takes packets from the front of the burst as far as the driver has posted room.
    ///
    /// # Errors
    /// The driver broke the rules of the ring.
    #[inline]
    pub fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        if self.memory.is_poisoned() {
            return Err(RingFault::MemoryGone);
        }
        let mut tally = Tally::default();
        let result = self.tx_all(burst, &mut tally, counters);
        let taken = tally.packets + tally.refused;
        if taken > 0 {
            self.free_front(burst, taken);
            self.ring.publish();
            if let Some(log) = self.memory.log() {
                self.dirt.mark(log, &self.ring);
                log.tell();
            }
        }
        // What came before a fault is sent now; the fault is met again at the front next time.
        if taken == 0
            && let Err(fault) = result
        {
            ask(fault, &mut self.ring, &self.memory, counters)
                .map_err(|fault| or_gone(&self.memory, fault))?;
        }
        tally.notify = self.ring.needs_call();
        Ok(tally)
    }

    #[inline(always)]
    fn tx_all(
        &mut self,
        burst: &Burst,
        tally: &mut Tally,
        counters: &Counters,
    ) -> Result<(), RingFault> {
        let (addrs, lens, _) = burst.packets();
        // While pages are logged everything goes the general way, which knows what it wrote.
        let look_ahead = if self.memory.log().is_some() {
            0
        } else {
            LOOK_AHEAD
        };
        let mut at = 0;
        while at < addrs.len() {
            let ready = self.ring.ready(addrs.len() - at)?;
            let ahead = ready.min(addrs.len() - at).min(look_ahead);
            let simple = self.tx_simple(burst, at, ahead, tally)?;
            at += simple;
            if simple > 0 {
                continue;
            }
            match self.scatter(&burst.packet(at))? {
                Outcome::Sent => {
                    tally.packets += 1;
                    tally.bytes += u64::from(lens[at]);
                }
                Outcome::Full => break,
                Outcome::Refused(reason) => {
                    counters.drop(reason, 1);
                    tally.refused += 1;
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// Sends packets of one segment into chains of one descriptor, from the front as long as both are so; how many.
    #[inline(always)]
    fn tx_simple(
        &mut self,
        burst: &Burst,
        at: usize,
        ahead: usize,
        tally: &mut Tally,
    ) -> Result<usize, RingFault> {
        let (addrs, lens, all_flags) = burst.packets();
        let (addrs, lens, all_flags) = (&addrs[at..at + ahead], &lens[at..], &all_flags[at..]);
        let takes = self.takes();
        let (mut view, header, memory, geometry) = (
            self.view,
            self.layout.len,
            &self.memory,
            self.pool.geometry(),
        );
        let mut targets = [const { MaybeUninit::<(*mut u8, u16)>::uninit() }; LOOK_AHEAD];
        let (lens, all_flags) = (&lens[..addrs.len()], &all_flags[..addrs.len()]);
        let special = DescFlags::NEXT | DescFlags::WRITE | DescFlags::INDIRECT;
        let count = self.ring.peek_many(addrs.len(), |nth, Head { id, desc }| {
            let (addr, len) = (addrs[nth], lens[nth]);
            let simple = (all_flags[nth] & flags::MULTI == 0)
                & (len >= ETH_HEADER)
                & geometry.checked(addr, len, 0);
            let wanted = u64::from(len) + u64::from(header);
            if !simple || desc.flags & special != DescFlags::WRITE || u64::from(desc.len) < wanted {
                return false;
            }
            if OFF
                && all_flags[nth] & flags::META != 0
                && offload::encode(&burst.packet(at + nth), takes).is_none()
            {
                return false;
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "at most the descriptor's length"
            )]
            let Some(start) = translate(&mut view, memory, desc.addr, wanted as u32, Access::WRITE)
            else {
                return false;
            };
            prefetch_read(start);
            prefetch_write(start.wrapping_add(header as usize));
            targets[nth].write((start, id));
            true
        })?;
        self.view = view;
        // SAFETY: peek_many counted the calls of the closure that wrote a target and said yes.
        let targets: &[(*mut u8, u16)] =
            unsafe { std::slice::from_raw_parts(targets.as_ptr().cast(), count) };
        for (nth, ((&(start, _), &addr), &len)) in targets.iter().zip(addrs).zip(lens).enumerate() {
            let said = OFF && all_flags[nth] & flags::META != 0;
            // SAFETY: the closure above translated header and data, and checked the packet against its buffer; the map is held.
            unsafe {
                if said {
                    let bytes = offload::encode(&burst.packet(at + nth), takes).unwrap_or_default();
                    header::copy_out(start, header, bytes, 1);
                } else {
                    header::write_received(start, header, 1);
                }
                copy(start.add(header as usize), geometry.ptr(addr), len as usize);
            }
            tally.bytes += u64::from(len);
        }
        self.ring
            .complete_many(count, |nth| (targets[nth].1, lens[nth] + header));
        tally.packets += count;
        Ok(count)
    }

    /// Sends a packet of any shape into chains of any shape.
    #[cold]
    fn scatter(&mut self, packet: &Packet) -> Result<Outcome, RingFault> {
        let (pool, len) = (self.pool.clone(), packet.len);
        let Ok(segments) = pool.segments(packet.addr, len, packet.flags) else {
            return Ok(Outcome::Refused(DropReason::TxBadPacket));
        };
        let Some(said) = offload::encode(packet, self.takes()).filter(|_| len >= ETH_HEADER) else {
            return Ok(Outcome::Refused(DropReason::TxBadPacket));
        };
        let header = self.layout.len;
        if let Some(outcome) = self.collect(u64::from(len) + u64::from(header))? {
            return Ok(outcome);
        }
        let mut bytes = [0u8; MAX_HEADER];
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most the ring's size, a u16"
        )]
        // SAFETY: the array is as long as the longest header; the pieces have room for header and packet, and the map is held.
        unsafe {
            header::copy_out(bytes.as_mut_ptr(), header, said, self.chains.len() as u16);
            self.pieces.write(bytes.as_ptr(), header as usize);
            for segment in segments {
                self.pieces
                    .write(pool.ptr(segment.addr), segment.len as usize);
            }
        }
        let mut left = u64::from(len) + u64::from(header);
        let logged = self.memory.log().is_some();
        if logged {
            self.pieces.mark_written(left, &self.memory);
        }
        for &(id, capacity) in &self.chains {
            let here = left.min(capacity);
            left -= here;
            if logged {
                self.dirt.note(&self.ring);
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "at most a packet and its header"
            )]
            self.ring.complete(id, here as u32);
        }
        Ok(Outcome::Sent)
    }

    /// Collects chains for that many bytes, one or (mergeable) as many as it takes. `None` when there is room enough.
    fn collect(&mut self, wanted: u64) -> Result<Option<Outcome>, RingFault> {
        self.pieces.clear();
        self.chains.clear();
        let most = if self.layout.mergeable {
            usize::from(self.ring.size())
        } else {
            1
        };
        while self.pieces.total() < wanted {
            let nth = self.chains.len();
            if nth == most {
                return Ok(Some(Outcome::Refused(DropReason::TxTooBig)));
            }
            if self.ring.ready(nth + 1)? <= nth {
                return Ok(Some(Outcome::Full));
            }
            let head = self.ring.peek(nth)?;
            let capacity = self
                .pieces
                .add_chain(&self.ring, head, &self.memory, true)?;
            // A first buffer that does not even take the header helps no packet (CVE-2022-2132).
            if nth == 0 && capacity < u64::from(self.layout.len) {
                return Err(RingFault::ShortBuffer {
                    len: capacity,
                    min: self.layout.len,
                });
            }
            self.chains.push((head.id, capacity));
        }
        Ok(None)
    }

    /// The first packets were copied or dropped: their buffers are free.
    #[inline(always)]
    fn free_front(&self, burst: &mut Burst, taken: usize) {
        let (addrs, _, all_flags) = burst.packets();
        if all_flags[..taken].iter().all(|f| f & flags::MULTI == 0)
            && addrs[..taken].iter().all(|&a| self.pool.checked(a, 0, 0))
        {
            self.pool.free_bulk(&addrs[..taken]);
        } else {
            for (&addr, &packet_flags) in addrs[..taken].iter().zip(all_flags) {
                self.pool.free_packet(addr, packet_flags);
            }
        }
        burst.remove_front(taken);
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

    /// Whether a packet may be spread over several of the driver's buffers.
    #[must_use]
    pub fn is_mergeable(&self) -> bool {
        self.layout.mergeable
    }

    /// Where a device would go on.
    #[must_use]
    pub fn base(&self) -> u32 {
        self.ring.base()
    }

    /// Kicks on this ring only say that there are new buffers: a polling device does not want them.
    pub fn want_kicks(&mut self, on: bool) -> bool {
        let came = self.ring.want_kicks(on);
        self.dirt.mark_event(&self.memory, &self.ring);
        came
    }
}
