//! Captures: copies of the packets of queues, written as a file as they come.
//!
//! A queue's thread copies packets into a ring, if they pass a filter, and never waits: what does not fit is dropped, and counted. A thread of
//! the capture's own writes what is in the rings. A queue that nobody captures does not notice.

mod filter;
mod format;
mod ring;
mod tap;
mod writer;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::EventfdFlags;

use crate::event::signal;
use crate::{PortError, RxQueue, TxQueue};

pub use filter::Filter;
pub use format::CaptureFormat;
use format::Direction;
pub use tap::{Staged, Tap};
use writer::Writer;

/// Most bytes of a packet that are captured.
pub const MAX_SNAPLEN: u32 = 262_144;

/// A queue whose packets are captured.
#[derive(Debug, Clone)]
pub enum CapturedQueue {
    /// What it receives, as the application gets it.
    Rx(Arc<RxQueue>),
    /// What it sends, as the application gave it.
    Tx(Arc<TxQueue>),
}

/// A queue, and the name of its port in the capture.
#[derive(Debug, Clone)]
pub struct CaptureSource {
    /// The queue.
    pub queue: CapturedQueue,
    /// Queues with the same name are one interface.
    pub interface: String,
}

/// How packets are captured.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// Bytes of a packet at most, 1 to [`MAX_SNAPLEN`].
    pub snaplen: u32,
    /// Which packets; all without one.
    pub filter: Option<Filter>,
    /// The expression that the filter was made of, for readers of the file.
    pub expression: String,
    /// What is written.
    pub format: CaptureFormat,
    /// Bytes of each queue's ring.
    pub buffer: usize,
    /// Ends after so many packets.
    pub limit: Option<u64>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            snaplen: MAX_SNAPLEN,
            filter: None,
            expression: String::new(),
            format: CaptureFormat::PcapNg,
            buffer: 4 << 20,
            limit: None,
        }
    }
}

/// What became of the packets of a queue since the capture began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaptureStats {
    /// Copied.
    pub captured: u64,
    /// Not what the filter wants.
    pub filtered: u64,
    /// Wanted, or not looked at, and not copied because the ring was full.
    pub dropped: u64,
}

/// A queue with its ring.
#[derive(Debug, Clone)]
struct Source {
    queue: CapturedQueue,
    interface: u32,
    tap: Arc<Tap>,
}

impl Source {
    fn begin(&self) {
        match &self.queue {
            CapturedQueue::Rx(queue) => queue.add_tap(&self.tap),
            CapturedQueue::Tx(queue) => queue.add_tap(&self.tap),
        }
    }

    /// When this returns, the queue's thread does not touch the ring any more.
    fn end(&self) {
        match &self.queue {
            CapturedQueue::Rx(queue) => queue.remove_tap(&self.tap),
            CapturedQueue::Tx(queue) => queue.remove_tap(&self.tap),
        }
    }

    fn is_closed(&self) -> bool {
        match &self.queue {
            CapturedQueue::Rx(queue) => queue.is_closed(),
            CapturedQueue::Tx(queue) => queue.is_closed(),
        }
    }

    fn number(&self) -> (u16, Direction) {
        match &self.queue {
            CapturedQueue::Rx(queue) => (queue.index(), Direction::In),
            CapturedQueue::Tx(queue) => (queue.index(), Direction::Out),
        }
    }

    fn stats(&self) -> CaptureStats {
        let counts = &self.tap.ring.counts;
        CaptureStats {
            captured: counts.captured.load(Ordering::Relaxed),
            filtered: counts.filtered.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
        }
    }
}

/// A capture that runs until it is stopped, its limit is reached, its reader is gone or all its ports are closed. Dropped, it stops.
#[derive(Debug)]
pub struct Capture {
    sources: Vec<Source>,
    stop: Arc<OwnedFd>,
    ended: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Capture {
    /// Begins to capture. What is written goes to `output`, a file, a pipe or a socket, which is closed at the end.
    ///
    /// # Errors
    /// [`PortError::Capture`] for an option out of range, [`PortError::System`] without a thread.
    pub fn start(
        sources: Vec<CaptureSource>,
        options: CaptureOptions,
        output: OwnedFd,
    ) -> Result<Self, PortError> {
        if !(1..=MAX_SNAPLEN).contains(&options.snaplen) {
            return Err(PortError::Capture {
                path: "the capture".into(),
                expected: "a snaplen from 1 to 262144",
                got: options.snaplen.to_string(),
            });
        }
        let failed = |what: &str, error: std::io::Error| PortError::system(what, error);
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| failed("eventfd", error.into()))?;
        rustix::io::ioctl_fionbio(&output, true)
            .map_err(|error| failed("making the output non-blocking", error.into()))?;
        let (stop, ended) = (Arc::new(stop), Arc::new(AtomicBool::new(false)));
        let mut interfaces: Vec<String> = Vec::new();
        let filter = options.filter.clone().map(Arc::new);
        let buffer = options
            .buffer
            .max(2 * (options.snaplen as usize).min(usize::from(u16::MAX)));
        let sources: Vec<Source> = sources
            .into_iter()
            .map(|CaptureSource { queue, interface }| {
                let known = interfaces.iter().position(|name| *name == interface);
                let number = known.unwrap_or_else(|| {
                    interfaces.push(interface);
                    interfaces.len() - 1
                });
                Source {
                    queue,
                    interface: u32::try_from(number).unwrap_or(u32::MAX),
                    tap: Arc::new(Tap::new(buffer, options.snaplen, filter.clone())),
                }
            })
            .collect();
        let writer = Writer::new(sources.clone(), interfaces, &options, output, stop.clone());
        let finished = ended.clone();
        // Before the writer runs, which takes them away again: one that ends at once leaves none.
        sources.iter().for_each(Source::begin);
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || {
                writer.run();
                finished.store(true, Ordering::Release);
            });
        let thread = thread.map_err(|error| {
            sources.iter().for_each(Source::end);
            failed("starting a thread", error)
        })?;
        Ok(Self {
            sources,
            stop,
            ended,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What became of the packets, a source each, in their order.
    #[must_use]
    pub fn stats(&self) -> Vec<CaptureStats> {
        self.sources.iter().map(Source::stats).collect()
    }

    /// Whether nothing more will be written.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends it; what was captured is written before. It does not wait.
    pub fn request_stop(&self) {
        signal(&*self.stop);
    }

    /// Ends it, and waits until all is written, or its reader has not read for a second.
    pub fn stop(&self) {
        self.request_stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic was reported by the panic hook. The taps that it left are taken away below.
            let _reported = thread.join();
        }
        self.sources.iter().for_each(Source::end);
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
    }
}
