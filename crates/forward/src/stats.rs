//! What a stream has done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use vring_mem::burst::MAX_BURST;

use crate::Measure;

/// What a stream has done, as testpmd's forward statistics count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// Packets received.
    pub rx: u64,
    /// Packets sent.
    pub tx: u64,
    /// Packets freed because the transmit queue did not take them.
    pub dropped: u64,
    /// Packets that came with a wrong checksum of IPv4, as far as the csum engine looked.
    pub bad_ip: u64,
    /// Packets that came marked as having a wrong checksum of layer 4; likewise.
    pub bad_l4: u64,
    /// Processor cycles of turns that moved something, where they are counted.
    pub cycles: u64,
}

/// How many bursts there were of each number of packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BurstSpread {
    /// Number of packets and number of bursts, those that there were.
    pub rx: Vec<(usize, u64)>,
    /// Likewise.
    pub tx: Vec<(usize, u64)>,
}

/// How long packets were between the two queues, in nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyStats {
    /// All of them.
    pub histogram: Histogram<u64>,
    /// How much two that follow each other differ, smoothed as RFC 3550 (6.4.1) does.
    pub jitter: f64,
    /// The last of them.
    last: Option<u64>,
}

impl LatencyStats {
    /// Those of two streams together. The jitter is the mean of both, by their packets.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        let (own, others) = (self.histogram.len() as f64, other.histogram.len() as f64);
        if own + others > 0.0 {
            self.jitter = (self.jitter * own + other.jitter * others) / (own + others);
        }
        let _both_have_all_values = self.histogram.add(other.histogram);
        self
    }
}

/// Written by the lcore alone, read by anyone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) rx: AtomicU64,
    pub(crate) tx: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) bad_ip: AtomicU64,
    pub(crate) bad_l4: AtomicU64,
    pub(crate) cycles: AtomicU64,
    pub(crate) bursts: Option<Box<Bursts>>,
    pub(crate) latency: Option<Box<Latency>>,
}

impl Counters {
    pub(crate) fn new(measure: Measure) -> Self {
        Self {
            bursts: measure.bursts.then(Box::default),
            latency: measure.latency.then(Box::default),
            ..Self::default()
        }
    }

    pub(crate) fn read(&self) -> StreamStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StreamStats {
            rx: load(&self.rx),
            tx: load(&self.tx),
            dropped: load(&self.dropped),
            bad_ip: load(&self.bad_ip),
            bad_l4: load(&self.bad_l4),
            cycles: load(&self.cycles),
        }
    }
}

/// Adds, as the only one who writes.
#[inline(always)]
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.store(
        counter.load(Ordering::Relaxed) + n as u64,
        Ordering::Relaxed,
    );
}

/// Counts bursts by their number of packets.
#[derive(Debug)]
pub(crate) struct Bursts {
    rx: [AtomicU64; MAX_BURST + 1],
    tx: [AtomicU64; MAX_BURST + 1],
}

impl Default for Bursts {
    fn default() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            rx: zeros(),
            tx: zeros(),
        }
    }
}

impl Bursts {
    pub(crate) fn rx(&self, packets: usize) {
        add(&self.rx[packets], 1);
    }

    pub(crate) fn tx(&self, packets: usize) {
        add(&self.tx[packets], 1);
    }

    pub(crate) fn read(&self) -> BurstSpread {
        let spread = |counts: &[AtomicU64]| {
            let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
            counts.enumerate().filter(|&(_, count)| count > 0).collect()
        };
        BurstSpread {
            rx: spread(&self.rx),
            tx: spread(&self.tx),
        }
    }
}

/// Collects how long packets were here. The lock is held by whoever looks, once in a while, and for a moment.
#[derive(Debug)]
pub(crate) struct Latency(Mutex<LatencyStats>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new(3).expect("three digits are in range");
        Self(Mutex::new(LatencyStats {
            histogram,
            jitter: 0.0,
            last: None,
        }))
    }
}

impl Latency {
    /// `packets` were here for so long.
    pub(crate) fn record(&self, time: Duration, packets: usize) {
        if packets == 0 {
            return;
        }
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut stats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = stats.last;
        let _saturates = stats.histogram.record_n(nanos, packets as u64);
        if let Some(last) = last {
            let differ = nanos.abs_diff(last) as f64;
            stats.jitter += (differ - stats.jitter) / 16.0;
        }
        stats.last = Some(nanos);
    }

    pub(crate) fn read(&self) -> LatencyStats {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The processor's counter of cycles: of its nominal clock, whatever clock it runs at.
#[inline(always)]
pub(crate) fn cycles() -> u64 {
    // SAFETY: every x86-64 has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// How many cycles of [`cycles`] there are in a second: measured against the system's clock since the first call.
#[must_use]
pub fn cycles_per_second() -> u64 {
    static START: OnceLock<(u64, Instant)> = OnceLock::new();
    let (cycles_then, then) = *START.get_or_init(|| (cycles(), Instant::now()));
    // Long enough that reading two clocks one after the other does not count.
    while then.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    let (passed, seconds) = (
        cycles().wrapping_sub(cycles_then),
        then.elapsed().as_secs_f64(),
    );
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a clock rate"
    )]
    let rate = (passed as f64 / seconds) as u64;
    rate
}
