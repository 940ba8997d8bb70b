//! What looks at the packets of a queue, on the queue's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use vring_mem::burst::MAX_BURST;
use vring_mem::{Burst, Mempool};

use super::filter::Filter;
use super::ring::Ring;

/// Copies packets into a ring.
#[derive(Debug)]
pub struct Tap {
    pub(super) ring: Ring,
    snaplen: u32,
    filter: Option<Arc<Filter>>,
}

/// What was done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Captured,
    Filtered,
    Dropped,
}

/// Packets that were looked at before they are sent; nobody may look at them afterwards.
#[derive(Debug)]
pub struct Staged {
    /// Where the ring's records would end with this packet.
    ends: [usize; MAX_BURST],
    outcomes: [Outcome; MAX_BURST],
}

impl Tap {
    pub(super) fn new(bytes: usize, snaplen: u32, filter: Option<Arc<Filter>>) -> Self {
        Self {
            ring: Ring::new(bytes),
            snaplen,
            filter,
        }
    }

    /// Captures the packets of a burst from `first` on, which were received.
    pub(crate) fn received(&self, pool: &Mempool, burst: &Burst, first: usize) {
        if burst.len() > first {
            let staged = self.stage(pool, burst, first);
            self.taken(&staged, burst.len() - first);
        }
    }

    /// Looks at the packets of a burst that is about to be sent.
    pub(crate) fn stage(&self, pool: &Mempool, burst: &Burst, first: usize) -> Staged {
        let (addrs, lens, flags) = burst.packets();
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let mut staged = Staged {
            ends: [0; MAX_BURST],
            outcomes: [Outcome::Filtered; MAX_BURST],
        };
        let mut position = self.ring.position();
        for (to, at) in (first..addrs.len()).enumerate() {
            let outcome = self.copy(pool, (addrs[at], lens[at], flags[at]), time, &mut position);
            (staged.ends[to], staged.outcomes[to]) = (position, outcome);
        }
        staged
    }

    /// The first so many of the packets were sent: those are captured.
    pub(crate) fn taken(&self, staged: &Staged, count: usize) {
        if count == 0 {
            return;
        }
        let outcomes = &staged.outcomes[..count];
        let number = |outcome| outcomes.iter().filter(|&&one| one == outcome).count() as u64;
        let counts = &self.ring.counts;
        add(&counts.captured, number(Outcome::Captured));
        add(&counts.filtered, number(Outcome::Filtered));
        add(&counts.dropped, number(Outcome::Dropped));
        self.ring.publish(staged.ends[count - 1]);
    }

    /// Copies a packet into a record at `position`, which moves behind it if it is wanted and there is room.
    fn copy(
        &self,
        pool: &Mempool,
        (addr, len, flags): (u32, u32, u32),
        time: u64,
        position: &mut usize,
    ) -> Outcome {
        let most = len.min(self.snaplen);
        let Some((begin, to)) = self.ring.reserve(*position, most as usize) else {
            return Outcome::Dropped;
        };
        // A script's mistake is no packet: the queue refuses it by itself.
        let Ok(segments) = pool.segments(addr, len, flags) else {
            return Outcome::Filtered;
        };
        let mut at = 0;
        for segment in segments {
            let some = segment.len.min(most - at);
            // A script on another thread may change the links meanwhile.
            if !pool.checked(segment.addr, some, 0) {
                return Outcome::Filtered;
            }
            // SAFETY: `at + some` is at most `most`, for which there is room behind `to`; the segment was checked.
            unsafe {
                vring_mem::copy::copy(to.add(at as usize), pool.ptr(segment.addr), some as usize);
            };
            at += some;
        }
        let wanted = self.filter.as_ref().map_or(u32::MAX, |filter| {
            // SAFETY: that many bytes were just written, and are ours until they are published.
            filter.run(unsafe { std::slice::from_raw_parts(to, at as usize) }, len)
        });
        if wanted == 0 {
            return Outcome::Filtered;
        }
        *position = self.ring.complete(begin, at.min(wanted), len, time);
        Outcome::Captured
    }
}

/// Adds, as the only one who writes.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}
