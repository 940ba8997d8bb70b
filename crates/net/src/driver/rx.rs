//! Receives into buffers that it posted.

use std::collections::VecDeque;

use vring_mem::Burst;
use vring_mem::burst::{Packet, flags};
use vring_mem::copy::prefetch_read;
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_ring::{DriverRing, Piece, RingFault};

use super::{BATCH, DriverMemory};
use crate::header::{self, HeaderLayout, NUM_BUFFERS};
use crate::offload;
use crate::{Counters, DropReason, ETH_HEADER, Tally};

/// The receive queue of a driver. `MRG`: packets in several buffers were negotiated. `OFF`: the header says something, by what
/// [`HeaderLayout::to_driver`] gives.
#[derive(Debug)]
pub struct DriverRx<R: DriverRing, const MRG: bool, const OFF: bool = false> {
    ring: R,
    memory: DriverMemory,
    header: u32,
    gives: u32,
    /// The ring is filled up when that many descriptors are free.
    refill_at: usize,
    /// Popped, with the bytes that the device says it wrote, but not received yet: what is not one packet in one buffer.
    pending: VecDeque<(u32, u32)>,
}

/// What became of the buffers of one packet.
enum Joined {
    Packet(Packet),
    Dropped(DropReason),
}

/// In how many buffers the packet lies whose header this is.
#[inline(always)]
fn buffer_count(header: *const u8) -> u16 {
    // SAFETY: the callers pass the beginning of a posted buffer; volatile, because the device can write there at any time. Headers with
    // mergeable buffers are long enough, and buffers aligned enough: headroom and stride are whole cache lines, the header is 12 or 20.
    unsafe { header.add(NUM_BUFFERS).cast::<u16>().read_volatile() }
}

impl<R: DriverRing, const MRG: bool, const OFF: bool> DriverRx<R, MRG, OFF> {
    /// A receive queue on a new ring, which it fills with buffers as far as there are any.
    #[must_use]
    pub fn new(ring: R, memory: DriverMemory, layout: HeaderLayout) -> Self {
        debug_assert_eq!(layout.mergeable, MRG);
        let refill_at = (usize::from(ring.size()) / 4).clamp(1, 32);
        let mut rx = Self {
            ring,
            memory,
            header: layout.len,
            gives: if OFF { layout.to_driver.gives } else { 0 },
            refill_at,
            pending: VecDeque::new(),
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
        let mut tally = Tally::default();
        let mut honest = true;
        if self.pending.is_empty() {
            honest = self.rx_simple(burst, &mut tally)?;
        }
        if !self.pending.is_empty() {
            match self.rx_pending(burst, &mut tally, counters) {
                // What came before the fault is received now; the fault is met again at the front next time.
                Err(fault) if tally.packets == 0 => return Err(fault),
                Err(_) => honest = false,
                Ok(()) => (),
            }
        }
        // Not while a lie waits at the front: a buffer that is posted now under the same id would make it true before it is told.
        if honest && self.ring.free_descs() >= self.refill_at {
            tally.notify = self.refill();
            if self.ring.free_descs() >= self.refill_at {
                counters.no_buffer();
            }
        }
        Ok(tally)
    }

    /// Receives packets of one buffer. At the first that is anything else, it and what came after it go to `pending`.
    /// False when the device named a buffer that it does not have behind those that were taken.
    #[inline(always)]
    fn rx_simple(&mut self, burst: &mut Burst, tally: &mut Tally) -> Result<bool, RingFault> {
        let (first, room) = (burst.len(), burst.capacity() - burst.len());
        let ready = self.ring.used_ready(room)?.min(room);
        let ((addrs, lens, all_flags), mut meta) = burst.all_mut();
        let (addrs, lens) = (
            &mut addrs[first..first + ready],
            &mut lens[first..first + ready],
        );
        let count = self.ring.pop_many(addrs, lens)?;
        let (geometry, header) = (self.memory.pool.geometry(), self.header);
        let (addrs, lens) = (&addrs[..count], &mut lens[..count]);
        if MRG || OFF {
            for &addr in addrs {
                prefetch_read(geometry.ptr(addr - header));
            }
        }
        let (longest, mut bytes, mut simple) = (self.memory.pool.data_room() - ETH_HEADER, 0, 0);
        for (&addr, len) in addrs.iter().zip(lens.iter_mut()) {
            let whole = !MRG || buffer_count(geometry.ptr(addr - header)) == 1;
            let data = len.wrapping_sub(header);
            // One comparison for both ends: what is shorter than an Ethernet header wraps to a number that is too large.
            if !whole || data.wrapping_sub(ETH_HEADER) > longest {
                break;
            }
            if OFF {
                let Some(packet) = self.said(Packet {
                    addr,
                    len: data,
                    ..Packet::default()
                }) else {
                    break;
                };
                all_flags[first + simple] = packet.flags;
                if packet.flags != 0 {
                    meta.set(first + simple, &packet);
                }
            }
            *len = data;
            bytes += u64::from(data);
            simple += 1;
        }
        if !OFF {
            all_flags[first..first + simple].fill(0);
        }
        if simple < count {
            self.pending.extend(
                addrs[simple..]
                    .iter()
                    .copied()
                    .zip(lens[simple..].iter().copied()),
            );
        }
        burst.set_len(first + simple);
        tally.packets += simple;
        tally.bytes += bytes;
        Ok(count == ready)
    }

    /// The packet with what its header says; `None` when that is a lie. The header lies before the packet's first byte.
    #[inline(always)]
    fn said(&self, mut packet: Packet) -> Option<Packet> {
        let pool = &self.memory.pool;
        let at = pool.ptr(packet.addr - self.header);
        // SAFETY: a posted buffer begins with a header's room, of 10 bytes at least.
        if self.gives & flags::HASH == 0 && unsafe { offload::is_plain(at) } {
            return Some(packet);
        }
        // SAFETY: as above, and it has the negotiated length.
        let header = unsafe { header::copy_in(at, self.header) };
        offload::decode(&header, self.gives, pool, &mut packet).then_some(packet)
    }

    /// Receives from what was popped: packets in several buffers, runts, lies.
    fn rx_pending(
        &mut self,
        burst: &mut Burst,
        tally: &mut Tally,
        counters: &Counters,
    ) -> Result<(), RingFault> {
        while !burst.is_full() {
            let Some(&(head, _)) = self.pending.front() else {
                return Ok(());
            };
            let count = if MRG {
                buffer_count(self.memory.pool.ptr(head - self.header))
            } else {
                1
            };
            if count == 0 || count > self.ring.size() {
                return Err(RingFault::BufferCount {
                    count,
                    size: self.ring.size(),
                });
            }
            if !self.await_buffers(count.into())? {
                return Ok(());
            }
            match self.join(count.into())? {
                Joined::Packet(packet) => {
                    burst.push_packet(&packet);
                    tally.packets += 1;
                    tally.bytes += u64::from(packet.len);
                }
                Joined::Dropped(reason) => counters.drop(reason, 1),
            }
        }
        Ok(())
    }

    /// Whether that many buffers are pending, with what the device has used by now.
    fn await_buffers(&mut self, count: usize) -> Result<bool, RingFault> {
        while self.pending.len() < count {
            if self.ring.used_ready(1)? == 0 {
                return Ok(false);
            }
            let used = self.ring.pop_used()?;
            self.pending.push_back((used.token, used.len));
        }
        Ok(true)
    }

    /// Makes one packet of the first `count` pending buffers, once all of their lengths are believed.
    fn join(&mut self, count: usize) -> Result<Joined, RingFault> {
        let (header, pool) = (self.header, self.memory.pool.clone());
        let max = pool.data_room() + header;
        for (nth, &(_, len)) in self.pending.iter().take(count).enumerate() {
            let min = if nth == 0 { header } else { 0 };
            if !(min..=max).contains(&len) {
                return Err(RingFault::UsedLength { len, min, max });
            }
        }
        let fits = count <= MAX_SEGS;
        let mut packet: Option<(u32, Segment)> = None;
        let mut total = 0;
        for (nth, (addr, len)) in self.pending.drain(..count).enumerate() {
            // Only the first buffer begins with a header: the others hold data from their first byte.
            let segment = if nth == 0 {
                Segment {
                    addr,
                    len: len - header,
                }
            } else {
                Segment {
                    addr: addr - header,
                    len,
                }
            };
            match packet {
                _ if !fits => pool.free_bulk(&[addr]),
                None => packet = Some((addr, segment)),
                Some((head, last)) => {
                    pool.link(last, segment.addr);
                    packet = Some((head, segment));
                }
            }
            total += segment.len;
        }
        let Some((head, last)) = packet else {
            return Ok(Joined::Dropped(DropReason::RxOversize));
        };
        pool.link(last, NO_SEG);
        let packet_flags = if count > 1 { flags::MULTI } else { 0 };
        if total < ETH_HEADER {
            pool.free_packet(head, packet_flags);
            return Ok(Joined::Dropped(DropReason::RxRunt));
        }
        let packet = Packet {
            addr: head,
            len: total,
            flags: packet_flags,
            ..Packet::default()
        };
        if !OFF {
            return Ok(Joined::Packet(packet));
        }
        Ok(self.said(packet).map_or_else(
            || {
                pool.free_packet(head, packet_flags);
                Joined::Dropped(DropReason::RxBadOffload)
            },
            Joined::Packet,
        ))
    }

    /// Posts free buffers; whether the device wants to be told.
    #[inline(always)]
    fn refill(&mut self) -> bool {
        let mut buffers = [0; BATCH];
        let (room, header) = (self.memory.pool.data_room(), self.header);
        let base = self.memory.device_base;
        loop {
            let wanted = self.ring.free_descs().min(BATCH);
            self.ring.prefetch_free(wanted);
            let got = self.memory.pool.alloc_bulk(&mut buffers[..wanted]);
            let buffers = &buffers[..got];
            self.ring.push_many(buffers, true, |nth| Piece {
                addr: base + u64::from(buffers[nth] - header),
                len: room + header,
            });
            if got < BATCH {
                break;
            }
        }
        self.ring.publish();
        self.ring.needs_kick()
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

    /// Asks for calls, or for none: true when packets came in meanwhile.
    pub fn want_calls(&mut self, on: bool) -> bool {
        self.ring.want_calls(on)
    }

    /// Bits of [`flags::META`] that its packets may have.
    #[must_use]
    pub fn gives(&self) -> u32 {
        self.gives
    }

    /// The device is gone: counts what it had delivered and nobody took.
    pub fn abandon(&mut self, counters: &Counters) {
        let unread = self.ring.used_ready(usize::MAX).unwrap_or(0) + self.pending.len();
        if unread > 0 {
            counters.drop(DropReason::RxUnread, unread as u64);
        }
    }
}

impl<R: DriverRing, const MRG: bool, const OFF: bool> Drop for DriverRx<R, MRG, OFF> {
    fn drop(&mut self) {
        for (addr, _) in self.pending.drain(..) {
            self.memory.pool.free_bulk(&[addr]);
        }
        while let Some(used) = self.ring.take_outstanding() {
            self.memory.pool.free_bulk(&[used.token]);
        }
    }
}
