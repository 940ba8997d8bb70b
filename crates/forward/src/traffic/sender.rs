//! One stream's packets: which comes next, when it is due, and its way into the transmit queue.

use std::sync::Arc;

use vring_mem::Burst;
use vring_mem::burst::MAX_BURST;
use vring_mem::copy::prefetch_write;
use vring_port::{Owner, PortError, TxQueue};

use super::frame::FrameSpec;
use super::source::Source;
use super::{Rate, TrafficOptions};
use crate::ForwardError;

/// A sender that fell behind by more than this many nanoseconds of packets does not send them in one go: they are counted as late.
const MAX_BEHIND: f64 = 1e7;

/// What one sender has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Packets that the transmit queue took.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were due, but could not be sent in time.
    pub late: u64,
    /// When the first and the last of them were taken, in nanoseconds since the run began.
    pub taken: (u64, u64),
    /// The first of its flows.
    pub first_flow: u16,
    /// Its flows: packet `n` belongs to flow `first_flow + n % flows`.
    pub flows: u16,
}

impl Sent {
    /// How many packets of that flow were sent.
    #[must_use]
    pub fn of_flow(&self, flow: u16) -> u64 {
        let Some(nth) = flow
            .checked_sub(self.first_flow)
            .filter(|&nth| nth < self.flows)
        else {
            return 0;
        };
        let flows = u64::from(self.flows);
        self.packets / flows + u64::from(self.packets % flows > nth.into())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sender {
    tx: Arc<TxQueue>,
    source: Source,
    pub(super) sent: Sent,
    /// Packets made: some of them may wait in the burst.
    made: u64,
    pace: Pace,
    /// When it was first asked: from then on packets are due.
    begin: Option<u64>,
    /// No packet is made after so many, and after so many nanoseconds.
    limit: u64,
    until: u64,
    burst: Burst,
}

/// When packets are due.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// When the queue takes them.
    Any,
    /// So many a nanosecond.
    Even(f64),
    /// When they came in the recording, so many times as fast.
    Recorded(f64),
}

impl Sender {
    pub(super) fn new(
        options: &TrafficOptions,
        spec: &FrameSpec,
        tx: Arc<TxQueue>,
        first_flow: u16,
    ) -> Result<Self, ForwardError> {
        let source = Source::new(options, spec, tx.pool(), first_flow)?;
        Ok(Self {
            burst: Burst::new(options.burst),
            pace: match options.rate {
                None => Pace::Any,
                Some(Rate::Packets(packets)) => Pace::Even(packets / 1e9),
                Some(Rate::Bits(bits)) => Pace::Even(bits / source.mean_bits() / 1e9),
                Some(Rate::Recorded(speed)) => Pace::Recorded(speed),
            },
            source,
            tx,
            sent: Sent {
                first_flow,
                flows: options.flows,
                ..Sent::default()
            },
            made: 0,
            begin: None,
            limit: options.limit.unwrap_or(u64::MAX),
            until: options.duration.unwrap_or(u64::MAX),
        })
    }

    /// Whether the last packet was taken by the queue.
    pub(super) fn is_done(&self, now: u64) -> bool {
        self.burst.is_empty() && (self.made >= self.limit || now >= self.until)
    }

    /// Sends what is due at `now`, up to a burst; how many packets.
    #[inline]
    pub(super) fn turn(&mut self, owner: Owner, now: u64) -> Result<usize, PortError> {
        loop {
            let due = self.due(now);
            if due == 0 {
                break;
            }
            let before = self.made;
            self.make(due, now);
            // At the pace of a recording, one packet says when the next is due.
            if self.made == before || !matches!(self.pace, Pace::Recorded(_)) {
                break;
            }
        }
        if self.burst.is_empty() {
            return Ok(0);
        }
        let lens = self.burst.packets().1;
        let before: u64 = lens.iter().map(|&len| u64::from(len)).sum();
        let taken = self.tx.burst(owner, &mut self.burst)?;
        let after: u64 = self
            .burst
            .packets()
            .1
            .iter()
            .map(|&len| u64::from(len))
            .sum();
        if taken > 0 {
            if self.sent.packets == 0 {
                self.sent.taken.0 = now;
            }
            self.sent.taken.1 = now;
        }
        self.sent.packets += taken as u64;
        self.sent.bytes += before - after;
        Ok(taken)
    }

    /// How many packets to make now at most, beside those that wait in the burst.
    #[inline]
    fn due(&mut self, now: u64) -> usize {
        let room = self.burst.capacity() - self.burst.len();
        if now >= self.until || room == 0 || self.made >= self.limit {
            return 0;
        }
        let time = now - *self.begin.get_or_insert(now);
        let left = usize::try_from(self.limit - self.made)
            .unwrap_or(usize::MAX)
            .min(room);
        match self.pace {
            Pace::Any => left,
            Pace::Even(rate) => self.due_evenly(time, rate).min(left),
            Pace::Recorded(speed) => usize::from(self.has_come(time, speed)).min(left),
        }
    }

    #[inline]
    fn due_evenly(&mut self, time: u64, rate: f64) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits are years of nanoseconds"
        )]
        let (time, gone) = (time as f64, (self.made + self.sent.late) as f64);
        let behind = time * rate - gone;
        if behind < 0.0 {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive numbers of packets"
        )]
        {
            if behind > MAX_BEHIND * rate + self.burst.capacity() as f64 {
                self.sent.late += (behind - MAX_BEHIND * rate) as u64;
            }
            // The first packet is due at once, the next when its time has come.
            behind as usize + 1
        }
    }

    /// Whether the next packet of the recording is due.
    #[inline]
    fn has_come(&self, time: u64, speed: f64) -> bool {
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits are years of nanoseconds"
        )]
        let (time, recorded) = (time as f64, self.source.recorded_time() as f64);
        time * speed >= recorded
    }

    /// Makes up to `count` packets, as far as there are buffers; of a recording at its own pace as many as have come.
    #[inline]
    fn make(&mut self, count: usize, now: u64) {
        let pool = self.tx.pool().clone();
        let at = self.burst.len();
        let mut fresh = [0; MAX_BURST];
        let got = pool.alloc_bulk(&mut fresh[..count]);
        for &addr in &fresh[..got] {
            prefetch_write(pool.ptr(addr));
        }
        let written = fresh[..got]
            .iter()
            .take_while(|&&addr| self.source.write(&pool, &mut self.burst, addr, now))
            .count();
        pool.free_bulk(&fresh[written..got]);
        self.made += (self.burst.len() - at) as u64;
    }

    /// Gives up the packets that the queue did not take; its last ones come back to the pool.
    pub(super) fn finish(&mut self, owner: Owner) -> Result<(), PortError> {
        self.tx.pool().free_burst(&mut self.burst);
        self.tx.reclaim(owner)
    }
}

#[cfg(test)]
mod tests;
