//! A port's queues: one thread at a time, one virtual call a burst.

mod burst;
mod path;
mod stats;
mod wake;

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vring_mem::Mempool;
use vring_net::{Counters, DropReason};

use crate::lock::PollLock;
use crate::owner::{NOBODY, Owner, Ticket};
use crate::{EventQueue, PortError};

pub use path::{DescStatus, Mode, Path, RxPath, TxPath};
pub use stats::QueueStats;
use wake::Wake;

/// What the data path works with, behind the lock.
struct Slot<P: ?Sized> {
    path: Option<Box<P>>,
    /// Where the peer waits to be notified.
    notify: Option<Arc<OwnedFd>>,
}

/// A queue of either direction.
pub struct Queue<P: ?Sized> {
    label: String,
    index: u16,
    pool: Arc<Mempool>,
    owner: AtomicU64,
    closed: AtomicBool,
    slot: PollLock<Slot<P>>,
    counters: Counters,
    start: Mutex<QueueStats>,
    wake: Wake,
    events: Weak<EventQueue>,
}

/// Receives.
pub type RxQueue = Queue<dyn RxPath>;
/// Transmits.
pub type TxQueue = Queue<dyn TxPath>;

impl<P: ?Sized> fmt::Debug for Queue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl<P: Path + ?Sized> Queue<P> {
    pub(crate) fn new(
        label: String,
        index: u16,
        pool: &Arc<Mempool>,
        events: &Arc<EventQueue>,
    ) -> Result<Arc<Self>, PortError> {
        Ok(Arc::new(Self {
            label,
            index,
            pool: pool.clone(),
            owner: AtomicU64::new(NOBODY),
            closed: AtomicBool::new(false),
            slot: PollLock::new(Slot {
                path: None,
                notify: None,
            }),
            counters: Counters::default(),
            start: Mutex::default(),
            wake: Wake::new()?,
            events: Arc::downgrade(events),
        }))
    }

    /// `port rx 0`, for messages.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its number among the port's queues of its direction.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The mempool of its packets.
    #[must_use]
    #[inline(always)]
    pub fn pool(&self) -> &Arc<Mempool> {
        &self.pool
    }

    /// Makes `who` the one user of the queue. Claiming again what one has is no error.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`] when someone else has it, [`PortError::Closed`].
    pub fn claim(&self, who: Owner) -> Result<(), PortError> {
        if self.owner.load(Ordering::Relaxed) == who.number() && !self.is_closed() {
            return Ok(());
        }
        self.pass(NOBODY, who.number())
    }

    /// Gives the queue up, if `who` has it.
    pub fn release(&self, who: Owner) {
        let _not_theirs = self.pass(who.number(), NOBODY);
    }

    /// Takes a queue that nobody has, for a thread that is still to come.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    pub fn reserve(self: &Arc<Self>) -> Result<Ticket<P>, PortError> {
        Ticket::new(self, NOBODY)
    }

    /// Gives up a queue that `from` has, or nobody, for another thread.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    pub fn hand_over(self: &Arc<Self>, from: Owner) -> Result<Ticket<P>, PortError> {
        self.claim(from)?;
        Ticket::new(self, from.number())
    }

    /// The queue goes from one number to another.
    pub(crate) fn pass(&self, from: u64, to: u64) -> Result<(), PortError> {
        // Release and acquire: the new user sees what the old one did.
        let passed = self
            .owner
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        if self.is_closed() && to != NOBODY {
            return Err(PortError::Closed {
                name: self.label.clone(),
            });
        }
        passed.map(|_| ()).map_err(|_| PortError::QueueBusy {
            queue: self.label.clone(),
        })
    }

    /// Counters since the last reset.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        QueueStats::read(&self.counters).since(&start)
    }

    /// Counts from zero again. The counters themselves run on, so that nobody but the queue's user writes them.
    pub fn reset_stats(&self) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) =
            QueueStats::read(&self.counters);
    }

    /// Counts packets that the queue's user dropped. Only for the one that has the queue.
    pub fn count_drop(&self, reason: DropReason, n: u64) {
        self.counters.drop(reason, n);
    }

    /// Readable when polling is worth while: after [`Queue::arm`], or when the link changed. Stays the same for the queue's life.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.fd()
    }

    /// Says that a peer signals on `source` from now on, and where it wants to be notified itself.
    pub(crate) fn set_wake_source(&self, source: Option<Arc<OwnedFd>>) -> Result<(), PortError> {
        self.wake.set_source(source)
    }

    /// Wakes the user, if it sleeps.
    pub(crate) fn nudge(&self) {
        self.wake.nudge();
    }

    /// Attaches the queue. What it was attached to before is dropped when nobody is in a burst.
    pub(crate) fn attach(&self, path: Box<P>, notify: Option<Arc<OwnedFd>>) {
        self.detach();
        *self.slot.lock() = Slot {
            path: Some(path),
            notify,
        };
        // The control thread filled a ring, and has no use for what its cache took besides.
        self.pool.flush_thread_cache();
        self.nudge();
    }

    /// Detaches the queue: when this returns, no burst uses what it was attached to, and its buffers are back in the mempool.
    pub(crate) fn detach(&self) {
        let mut slot = self.slot.lock();
        slot.notify = None;
        if let Some(mut path) = slot.path.take() {
            path.abandon(&self.counters);
            drop(path);
            self.pool.flush_thread_cache();
        }
    }

    /// Changes where the peer wants to be notified.
    pub(crate) fn set_notify(&self, notify: Option<Arc<OwnedFd>>) {
        self.slot.lock().notify = notify;
    }

    /// Runs something on the path, between bursts.
    pub(crate) fn with_path<R>(&self, f: impl FnOnce(&mut P) -> R) -> Option<R> {
        self.slot.lock().path.as_deref_mut().map(f)
    }

    /// The end of the queue. Its user gets an error from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.detach();
        let _the_set_is_ours = self.set_wake_source(None);
        self.nudge();
    }

    /// Whether the port was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
