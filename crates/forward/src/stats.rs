//! What a stream has done.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a stream has done, as testpmd's forward statistics count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// Packets received.
    pub rx: u64,
    /// Packets sent.
    pub tx: u64,
    /// Packets freed because the transmit queue did not take them.
    pub dropped: u64,
}

/// Written by the lcore alone, read by anyone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) rx: AtomicU64,
    pub(crate) tx: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> StreamStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StreamStats {
            rx: load(&self.rx),
            tx: load(&self.tx),
            dropped: load(&self.dropped),
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
