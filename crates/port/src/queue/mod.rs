//! A port's queues: one thread at a time, one virtual call a burst.

mod burst;
mod kinds;
mod path;
mod soft;
mod stats;
mod wake;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vring_mem::Mempool;
use vring_net::{Counters, DropReason};

use crate::capture::Tap;
use crate::event::Notify;
use crate::lock::PollLock;
use crate::owner::{NOBODY, Owner, Ticket};
use crate::{EventQueue, PortError};

use kinds::Kinds;
pub use kinds::{KIND_NAMES, KINDS};
pub use path::{DescStatus, Mode, Path, RxPath, TxPath};
pub use soft::Side;
use soft::Soft;
pub use stats::QueueStats;
pub(crate) use stats::TakeMissed;
use stats::{Missed, Outside};
pub use wake::Sleep;
use wake::Wake;

bitflags::bitflags! {
    /// Why a queue stands still. It moves packets while it is attached and none of these is so.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Halt: u8 {
        /// The queue was stopped by itself.
        const QUEUE = 1 << 0;
        /// The port was stopped.
        const PORT = 1 << 1;
        /// The port's link was set down.
        const LINK = 1 << 2;
        /// The port works with fewer queues now.
        const UNUSED = 1 << 3;
        /// The peer is not there. The ring waits for the one that comes in its place.
        const PEER = 1 << 4;
    }
}

/// What the data path works with, behind the lock.
struct Slot<P: Side + ?Sized> {
    path: Option<Box<P>>,
    /// Here the path waits while the queue stands still: the data path then finds none, and needs to know no more.
    parked: Option<Box<P>>,
    halts: Halt,
    /// Where the peer waits to be notified.
    notify: Option<Arc<dyn Notify>>,
    soft: P::Soft,
}

impl<P: Side + ?Sized> Slot<P> {
    /// The path, whether the queue stands still or not.
    fn attached(&mut self) -> Option<&mut P> {
        self.path.as_deref_mut().or(self.parked.as_deref_mut())
    }

    /// The path to where it belongs.
    fn settle(&mut self) {
        let path = self.path.take().or(self.parked.take());
        if self.halts.is_empty() {
            self.path = path;
        } else {
            self.parked = path;
        }
    }
}

/// What a queue is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInfo {
    /// Descriptors of its ring; 0 where there is none, or not yet.
    pub size: u32,
    /// How it moves packets; `None` while it is not attached.
    pub mode: Option<Mode>,
    /// Why it stands still; empty when it does not.
    pub halts: Halt,
}

/// A queue of either direction.
pub struct Queue<P: Side + ?Sized> {
    label: String,
    index: u16,
    pool: Arc<Mempool>,
    owner: AtomicU64,
    closed: AtomicBool,
    slot: PollLock<Slot<P>>,
    counters: Counters,
    kinds: Arc<Kinds>,
    start: Mutex<QueueStats>,
    missed: Missed,
    wake: Wake,
    events: Weak<EventQueue>,
}

/// Receives.
pub type RxQueue = Queue<dyn RxPath>;
/// Transmits.
pub type TxQueue = Queue<dyn TxPath>;

impl<P: Side + ?Sized> fmt::Debug for Queue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl<P: Side + ?Sized> Queue<P> {
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
                parked: None,
                halts: Halt::default(),
                notify: None,
                soft: Soft::new(pool),
            }),
            counters: Counters::default(),
            kinds: Arc::default(),
            start: Mutex::default(),
            missed: Missed::default(),
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
        self.read().since(&start)
    }

    fn read(&self) -> QueueStats {
        let outside = Outside {
            notified: self.wake.signals(),
            missed: self.missed.count(),
        };
        QueueStats::read(&self.counters, &self.kinds, outside)
    }

    /// Counts packets by size and by kind of address from now on, or no longer: [`QueueStats::kinds`]. It costs a look at the first bytes of
    /// each packet.
    pub fn count_kinds(&self, on: bool) {
        let kinds = on.then(|| self.kinds.clone());
        self.slot
            .lock()
            .soft
            .watch(|watchers| watchers.kinds = kinds);
    }

    /// Copies packets there from now on.
    pub(crate) fn add_tap(&self, tap: &Arc<Tap>) {
        let tap = tap.clone();
        self.slot
            .lock()
            .soft
            .watch(|watchers| watchers.taps.push(tap));
    }

    /// No longer: when this returns, the queue's thread does not touch it any more.
    pub(crate) fn remove_tap(&self, tap: &Arc<Tap>) {
        let others = |one: &Arc<Tap>| !Arc::ptr_eq(one, tap);
        let mut slot = self.slot.lock();
        slot.soft.watch(|watchers| watchers.taps.retain(others));
    }

    /// Counts from zero again. The counters themselves run on, so that nobody but the queue's user writes them.
    pub fn reset_stats(&self) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = self.read();
    }

    /// Counts packets that the queue's user dropped. Only for the one that has the queue.
    pub fn count_drop(&self, reason: DropReason, n: u64) {
        self.counters.drop(reason, n);
    }

    /// Readable when polling is worth while: after [`Queue::arm`], or when the link changed. Stays the same for the queue's life.
    ///
    /// # Errors
    /// [`PortError::Closed`].
    pub fn wake_fd(&self) -> Result<Arc<Sleep>, PortError> {
        self.wake.sleep().ok_or_else(|| PortError::Closed {
            name: self.label.clone(),
        })
    }

    /// Says that a peer signals on `source` from now on, and where it wants to be notified itself.
    pub(crate) fn set_wake_source(&self, source: Option<Arc<OwnedFd>>) -> Result<(), PortError> {
        self.wake.set_source(source)
    }

    /// Who counts the packets that the kernel drops before this queue could take them.
    pub(crate) fn set_missed(&self, source: Option<TakeMissed>) {
        self.missed.set(source);
    }

    /// Wakes the user, if it sleeps.
    pub(crate) fn nudge(&self) {
        self.wake.nudge();
    }

    /// Attaches the queue. What it was attached to before is dropped when nobody is in a burst.
    pub(crate) fn attach(&self, path: Box<P>, notify: Option<Arc<dyn Notify>>) {
        self.detach();
        {
            let mut slot = self.slot.lock();
            slot.soft.attached(&path);
            slot.path = Some(path);
            slot.notify = notify;
            slot.settle();
        }
        // The control thread filled a ring, and has no use for what its cache took besides.
        self.pool.flush_thread_cache();
        self.nudge();
    }

    /// Detaches the queue: when this returns, no burst uses what it was attached to, and its buffers are back in the mempool.
    pub(crate) fn detach(&self) {
        let mut slot = self.slot.lock();
        slot.notify = None;
        if let Some(mut path) = slot.path.take().or(slot.parked.take()) {
            slot.soft.detached(&self.pool, &self.counters);
            path.abandon(&self.counters);
            drop(path);
            self.pool.flush_thread_cache();
        }
    }

    /// Lets the queue stand still for a reason, or no longer for that reason. When this returns, no burst is under way. What stands in the ring
    /// stays there.
    pub(crate) fn halt(&self, why: Halt, on: bool) {
        {
            let mut slot = self.slot.lock();
            slot.halts.set(why, on);
            slot.settle();
        }
        if !on {
            self.nudge();
        }
    }

    /// What it is now. Takes the queue from its user for a moment.
    #[must_use]
    pub fn info(&self) -> QueueInfo {
        let mut slot = self.slot.lock();
        let halts = slot.halts;
        let path = slot.attached();
        QueueInfo {
            size: path.as_ref().map_or(0, |path| path.size()),
            mode: path.map(|path| path.mode()),
            halts,
        }
    }

    /// What the descriptor `offset` places from the one that is next in turn is doing. Takes the queue from its user for a moment.
    ///
    /// # Errors
    /// [`PortError::NoDescriptor`]: there is no ring now, or a smaller one. [`PortError::NotSupported`]: the driver cannot tell.
    pub fn desc_status(&self, offset: u32) -> Result<DescStatus, PortError> {
        let mut slot = self.slot.lock();
        let size = slot.attached().map_or(0, |path| path.size());
        if offset >= size {
            return Err(PortError::NoDescriptor {
                queue: self.label.clone(),
                size,
                got: offset,
            });
        }
        slot.attached()
            .and_then(|path| path.desc_status(offset))
            .ok_or_else(|| self.no_ring())
    }

    /// Packets that wait in the ring, see [`Path::used_count`]. Takes the queue from its user for a moment.
    ///
    /// # Errors
    /// [`PortError::NotSupported`]: there is no ring that could be looked at.
    pub fn used_count(&self) -> Result<u32, PortError> {
        let mut slot = self.slot.lock();
        slot.attached()
            .and_then(Path::used_count)
            .ok_or_else(|| self.no_ring())
    }

    fn no_ring(&self) -> PortError {
        PortError::NotSupported {
            name: self.label.clone(),
            what: "looking at descriptors".into(),
            why: "the queue has no ring that can be looked at, or is not attached to one now"
                .into(),
        }
    }

    /// Changes where the peer wants to be notified.
    pub(crate) fn set_notify(&self, notify: Option<Arc<dyn Notify>>) {
        self.slot.lock().notify = notify;
    }

    /// Notifies the peer, whether it wants to be or not.
    pub(crate) fn notify(&self) {
        if let Some(notify) = &self.slot.lock().notify {
            notify.notify();
        }
    }

    /// Runs something on the path, between bursts.
    pub(crate) fn with_path<R>(&self, f: impl FnOnce(&mut P) -> R) -> Option<R> {
        self.slot.lock().attached().map(f)
    }

    /// The end of the queue. Its user gets an error from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.detach();
        let _the_set_is_ours = self.set_wake_source(None);
        self.set_missed(None);
        self.wake.close();
    }

    /// Whether the port was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
