//! Receiving from a capture.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pcap_file::DataLink;
use vring_mem::burst::flags;
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};
use vring_net::{Counters, DropReason, ETH_HEADER, Tally};
use vring_ring::RingFault;

use super::MAX_PACKET;
use super::read::{Capture, Record};
use crate::port::Shared;
use crate::queue::{Mode, Path, RxPath};
use crate::{EventQueue, PortError, PortEvent};

/// See the module.
pub(super) struct PcapRx {
    pool: Arc<Mempool>,
    events: Arc<EventQueue>,
    capture: Capture,
    infinite: bool,
    /// Most bytes that a packet of this mempool can have.
    longest: usize,
    /// This pass through the file has given a packet.
    delivered: bool,
    /// What was told once is not told again.
    told_damage: bool,
    told_link: bool,
    finished: Arc<AtomicBool>,
}

/// What became of a record.
enum Outcome {
    Delivered(usize),
    Dropped(DropReason),
    /// No buffer is free: it is still the next one.
    Waits,
}

impl PcapRx {
    pub(super) fn new(shared: &Shared, capture: Capture, infinite: bool) -> Self {
        let pool = shared.pool.clone();
        // A packet that not even the empty mempool could hold would wait for ever.
        let segments = MAX_SEGS.min(pool.count() as usize);
        Self {
            longest: MAX_PACKET.min(segments * pool.data_room() as usize),
            pool,
            events: shared.events.clone(),
            capture,
            infinite,
            delivered: false,
            told_damage: false,
            told_link: false,
            finished: Arc::default(),
        }
    }

    /// True from when the capture was found to be through.
    pub(super) fn finished_flag(&self) -> Arc<AtomicBool> {
        self.finished.clone()
    }

    /// The next record, into the burst if it is a packet. None at the end of the capture.
    fn one(&mut self, burst: &mut Burst) -> Result<Option<Outcome>, PortError> {
        let Some(record) = self.capture.next()? else {
            return Ok(None);
        };
        let outcome = self.deliver(&record, burst)?;
        if !matches!(outcome, Outcome::Waits) {
            self.capture.consume(&record);
        }
        Ok(Some(outcome))
    }

    fn deliver(&mut self, record: &Record, burst: &mut Burst) -> Result<Outcome, PortError> {
        if record.link != DataLink::ETHERNET {
            self.tell_link(record.link);
            return Ok(Outcome::Dropped(DropReason::RxTruncated));
        }
        if record.len < ETH_HEADER as usize {
            return Ok(Outcome::Dropped(DropReason::RxRunt));
        }
        if record.len > self.longest {
            return Ok(Outcome::Dropped(DropReason::RxOversize));
        }
        let data = self.capture.data(record)?;
        match copy_in(&self.pool, data) {
            Some((addr, flags)) => {
                #[expect(clippy::cast_possible_truncation, reason = "at most MAX_PACKET")]
                burst.push(addr, record.len as u32, flags);
                Ok(Outcome::Delivered(record.len))
            }
            None => Ok(Outcome::Waits),
        }
    }

    /// At the end of the file, or of what can be read of it: whether to begin again. A file that gives no packet is not gone through
    /// again: a burst would never end.
    fn again(&mut self) -> bool {
        if self.infinite && self.delivered {
            self.delivered = false;
            self.capture.restart();
            return true;
        }
        if self.infinite {
            self.events.push(PortEvent::Error(PortError::Capture {
                path: self.capture.path().to_owned(),
                expected: "a packet to repeat, since infinite_rx is set",
                got: "none".into(),
            }));
        }
        self.finished.store(true, Ordering::Relaxed);
        false
    }

    #[cold]
    fn tell_damage(&mut self, error: PortError, counters: &Counters) {
        if !std::mem::replace(&mut self.told_damage, true) {
            counters.drop(DropReason::RxTruncated, 1);
            self.events.push(PortEvent::Error(error));
        }
    }

    #[cold]
    fn tell_link(&mut self, link: DataLink) {
        if !std::mem::replace(&mut self.told_link, true) {
            let (number, at) = (u32::from(link), self.capture.offset());
            self.events.push(PortEvent::Error(PortError::Capture {
                path: self.capture.path().to_owned(),
                expected: "packets of Ethernet interfaces only (link type 1)",
                got: format!("one of {link:?} (link type {number}) at byte {at}; such are dropped"),
            }));
        }
    }
}

/// Copies a packet into fresh buffers, linked if it takes more than one: its first byte's address and its flags. None when there are too few.
fn copy_in(pool: &Arc<Mempool>, data: &[u8]) -> Option<(u32, u32)> {
    if data.len() > pool.data_room() as usize {
        return copy_in_pieces(pool, data);
    }
    let mut addr = [NO_SEG];
    if pool.alloc_bulk(&mut addr) == 0 {
        return None;
    }
    fill(pool, addr[0], data);
    Some((addr[0], 0))
}

fn copy_in_pieces(pool: &Arc<Mempool>, data: &[u8]) -> Option<(u32, u32)> {
    let room = pool.data_room() as usize;
    let mut addrs = [NO_SEG; MAX_SEGS];
    let count = data.len().div_ceil(room);
    let addrs = &mut addrs[..count];
    let got = pool.alloc_bulk(addrs);
    if got < count {
        pool.free_bulk(&addrs[..got]);
        return None;
    }
    for (i, chunk) in data.chunks(room).enumerate() {
        let addr = addrs[i];
        fill(pool, addr, chunk);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_PACKET")]
        let len = chunk.len() as u32;
        let next = addrs.get(i + 1).copied().unwrap_or(NO_SEG);
        pool.link(Segment { addr, len }, next);
    }
    Some((addrs[0], flags::MULTI))
}

/// Fills a fresh buffer with at most as much as it takes.
fn fill(pool: &Mempool, addr: u32, data: &[u8]) {
    let len = data.len().min(pool.data_room() as usize);
    // SAFETY: a fresh buffer of ours has `data_room` bytes from its address; `data` is private memory, so the two do not overlap.
    unsafe { vring_mem::copy::copy(pool.ptr(addr), data.as_ptr(), len) };
}

impl Path for PcapRx {
    fn mode(&self) -> Mode {
        if self.infinite {
            Mode::new("capture, again and again", "infinite_rx=1")
        } else {
            Mode::new("capture, once", "infinite_rx=0")
        }
    }
}

impl RxPath for PcapRx {
    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let mut tally = Tally::default();
        while !burst.is_full() && !self.finished() {
            match self.one(burst) {
                Ok(Some(Outcome::Delivered(len))) => {
                    self.delivered = true;
                    tally.packets += 1;
                    tally.bytes += len as u64;
                }
                Ok(Some(Outcome::Dropped(reason))) => counters.drop(reason, 1),
                Ok(Some(Outcome::Waits)) => {
                    counters.no_buffer();
                    break;
                }
                Ok(None) => {
                    self.again();
                }
                Err(error) => {
                    self.tell_damage(error, counters);
                    self.again();
                }
            }
        }
        Ok(tally)
    }

    /// There is always something to receive, until the end.
    fn want_wake(&mut self, _on: bool) -> bool {
        !self.finished()
    }

    fn finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }
}
