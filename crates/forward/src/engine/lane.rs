//! One stream at work: bursts in and out, counted as testpmd counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vring_mem::{Burst, Mempool};
use vring_port::{Owner, PortError};

use super::{Retry, Stream};
use crate::stats::{Counters, add};

/// What an engine works with in a turn.
pub(super) struct Lane<'a> {
    pub(super) stream: &'a Stream,
    pub(super) counters: &'a Counters,
    pub(super) burst: &'a mut Burst,
    pub(super) owner: Owner,
    pub(super) retry: Option<Retry>,
    /// The lcore is to stop.
    pub(super) stop: &'a AtomicBool,
    /// When the burst came; only where latency is measured.
    pub(super) came: Option<Instant>,
}

impl Lane<'_> {
    /// Fills the burst, which is empty; how many came.
    #[inline(always)]
    pub(super) fn receive(&mut self) -> Result<usize, PortError> {
        let Some(rx) = &self.stream.rx else {
            return Ok(0);
        };
        let received = rx.burst(self.owner, self.burst)?;
        if let Some(bursts) = &self.counters.bursts {
            bursts.rx(received);
        }
        if received > 0 {
            add(&self.counters.rx, received);
            if self.counters.latency.is_some() {
                self.came = Some(Instant::now());
            }
        }
        Ok(received)
    }

    /// Sends the burst; what the queue does not take is freed and counted. The burst is empty afterwards.
    #[inline(always)]
    pub(super) fn send(&mut self) -> Result<usize, PortError> {
        let sent = self.send_some()?;
        if let (Some(latency), Some(came)) = (&self.counters.latency, self.came) {
            latency.record(came.elapsed(), sent);
        }
        Ok(sent)
    }

    /// As [`Lane::send`], without saying how long it was here.
    #[inline(always)]
    pub(super) fn send_some(&mut self) -> Result<usize, PortError> {
        let Some(tx) = &self.stream.tx else {
            return Ok(0);
        };
        let mut result = tx.burst(self.owner, self.burst);
        if !self.burst.is_empty()
            && let (Ok(sent), Some(retry)) = (&result, self.retry)
        {
            result = self.again(retry).map(|more| sent + more);
        }
        if let Ok(sent) = result {
            add(&self.counters.tx, sent);
            if let Some(bursts) = &self.counters.bursts {
                bursts.tx(sent);
            }
        }
        if !self.burst.is_empty() {
            self.drop_all();
        }
        result
    }

    /// Frees the burst and counts it as dropped.
    pub(super) fn drop_all(&mut self) {
        add(&self.counters.dropped, self.burst.len());
        self.free_all();
    }

    /// Frees the burst: its packets were meant to end here.
    pub(super) fn free_all(&mut self) {
        // A reference to the pool would hold on to the lane.
        let pool = self.pool().clone();
        pool.free_burst(self.burst);
    }

    /// Offers what is left to the queue again, until it has taken it.
    #[cold]
    fn again(&mut self, retry: Retry) -> Result<usize, PortError> {
        let Some(tx) = &self.stream.tx else {
            return Ok(0);
        };
        let mut sent = 0;
        for _ in 0..retry.times {
            if self.burst.is_empty() || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let start = Instant::now();
            while start.elapsed() < retry.delay {
                std::hint::spin_loop();
            }
            sent += tx.burst(self.owner, self.burst)?;
        }
        Ok(sent)
    }

    /// The mempool of the stream's packets.
    #[inline(always)]
    pub(super) fn pool(&self) -> &Arc<Mempool> {
        match (&self.stream.rx, &self.stream.tx) {
            (Some(rx), _) => rx.pool(),
            (None, Some(tx)) => tx.pool(),
            (None, None) => unreachable!("an engine's streams are checked when it starts"),
        }
    }
}
