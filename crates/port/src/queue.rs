//! A port's queues: one thread at a time, one virtual call a burst.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::event::epoll;
use vring_mem::{Burst, Mempool};
use vring_net::{Counters, DropReason, Tally};
use vring_ring::RingFault;

use crate::event::{clear, eventfd, signal};
use crate::lock::PollLock;
use crate::owner::{NOBODY, Owner, Ticket};
use crate::{EventQueue, PortError, PortEvent};

/// What a queue is attached to. What it holds of the mempool goes back when it is dropped.
pub trait Path: Send {
    /// The peer is gone: counts the packets that it was given and did not confirm.
    fn abandon(&mut self, counters: &Counters) {
        let _holds_none = counters;
    }

    /// Where a vring goes on when it is started again (vhost-user's `VRING_BASE`).
    fn base(&self) -> u32 {
        0
    }
}

/// Receives.
pub trait RxPath: Path {
    /// Appends packets to the burst until it is full or there are no more. Never blocks.
    ///
    /// # Errors
    /// The peer broke the rules: the path is not used again.
    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault>;
    /// Asks the peer for notifications, or for none. Returns true when packets came in meanwhile: do not sleep.
    fn want_wake(&mut self, on: bool) -> bool;
    /// Nothing will ever come again.
    fn finished(&self) -> bool {
        false
    }
}

/// Transmits.
pub trait TxPath: Path {
    /// Takes packets from the front of the burst; what it does not take stays. Never blocks.
    ///
    /// # Errors
    /// The peer broke the rules: the path is not used again.
    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault>;
    /// Gives back buffers of packets that are through, without sending.
    ///
    /// # Errors
    /// The peer broke the rules: the path is not used again.
    fn reclaim(&mut self) -> Result<(), RingFault> {
        Ok(())
    }
}

/// A snapshot of a queue's counters, since the last reset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueStats {
    /// Packets.
    pub packets: u64,
    /// Bytes, without virtio-net headers.
    pub bytes: u64,
    /// Times that no buffer was free for a waiting packet.
    pub nombuf: u64,
    /// Notifications sent to the peer.
    pub notifications: u64,
    /// Drops by name; only those that happened.
    pub drops: BTreeMap<&'static str, u64>,
}

impl QueueStats {
    fn read(counters: &Counters) -> Self {
        let drops = DropReason::ALL
            .iter()
            .map(|&r| (r.name(), counters.dropped(r)))
            .filter(|&(_, n)| n != 0)
            .collect();
        Self {
            packets: counters.packets(),
            bytes: counters.bytes(),
            nombuf: counters.nombuf(),
            notifications: counters.notifications(),
            drops,
        }
    }

    fn since(mut self, start: &Self) -> Self {
        self.packets -= start.packets;
        self.bytes -= start.bytes;
        self.nombuf -= start.nombuf;
        self.notifications -= start.notifications;
        for (name, n) in &start.drops {
            if let Some(now) = self.drops.get_mut(name) {
                *now -= n;
            }
        }
        self.drops.retain(|_, n| *n != 0);
        self
    }
}

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
    /// Readable when it is worth to poll again. Its set changes with the peer; the descriptor never does.
    wake: OwnedFd,
    /// In `wake`: signalled by ourselves, when the link changes or the port is closed.
    nudge: OwnedFd,
    /// In `wake`: what the peer signals.
    wake_source: Mutex<Option<Arc<OwnedFd>>>,
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
        let wake = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| PortError::system("epoll_create", e))?;
        let nudge = eventfd()?;
        watch(&wake, &nudge)?;
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
            wake,
            nudge,
            wake_source: Mutex::default(),
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
        self.wake.as_fd()
    }

    /// Says that a peer signals on `source` from now on, and where it wants to be notified itself.
    pub(crate) fn set_wake_source(&self, source: Option<Arc<OwnedFd>>) -> Result<(), PortError> {
        let mut current = self
            .wake_source
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = current.take() {
            let _already_gone = epoll::delete(&self.wake, &*old);
        }
        if let Some(new) = source {
            watch(&self.wake, &*new)?;
            *current = Some(new);
        }
        Ok(())
    }

    /// Wakes the user, if it sleeps.
    pub(crate) fn nudge(&self) {
        signal(&self.nudge);
    }

    /// Takes the wake-ups that have come, so that [`Queue::wake_fd`] is not readable any more.
    fn drain_wake(&self) {
        clear(&self.nudge);
        if let Some(source) = self
            .wake_source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            clear(&**source);
        }
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

    #[inline(always)]
    fn run(
        &self,
        who: Owner,
        burst: &mut Burst,
        f: impl FnOnce(&mut P, &mut Burst, &Counters) -> Result<Tally, RingFault>,
    ) -> Result<usize, PortError> {
        if self.owner.load(Ordering::Relaxed) != who.number() {
            self.claim(who)?;
        }
        // SAFETY: an owner stays on its thread, and this one has the queue.
        let Some(mut slot) = (unsafe { self.slot.try_lock() }) else {
            return Ok(0);
        };
        let slot = &mut *slot;
        let Some(path) = slot.path.as_deref_mut() else {
            return self.idle();
        };
        match f(path, burst, &self.counters) {
            Ok(tally) => {
                self.counters.count(&tally);
                if tally.notify
                    && let Some(fd) = &slot.notify
                {
                    signal(&**fd);
                }
                Ok(tally.packets + tally.refused)
            }
            Err(fault) => {
                path.abandon(&self.counters);
                slot.path = None;
                self.report(fault);
                Ok(0)
            }
        }
    }

    /// Nothing attached: a link that is down moves nothing, a closed port is an error.
    #[cold]
    fn idle(&self) -> Result<usize, PortError> {
        if self.is_closed() {
            Err(PortError::Closed {
                name: self.label.clone(),
            })
        } else {
            Ok(0)
        }
    }

    #[cold]
    fn report(&self, fault: RingFault) {
        if let Some(events) = self.events.upgrade() {
            events.push(PortEvent::Error(PortError::Fault {
                queue: self.label.clone(),
                fault,
            }));
        }
    }
}

impl RxQueue {
    /// Appends received packets to the burst; how many. They belong to the burst's owner now. Zero when there are none, the link is down,
    /// or the burst is full. Claims the queue if nobody has it.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    #[inline]
    pub fn burst(&self, who: Owner, burst: &mut Burst) -> Result<usize, PortError> {
        self.run(who, burst, RxPath::rx)
    }

    /// Before sleeping on [`Queue::wake_fd`]: asks the peer to notify. True when packets came in meanwhile: poll, do not sleep.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    pub fn arm(&self, who: Owner) -> Result<bool, PortError> {
        self.claim(who)?;
        self.drain_wake();
        // SAFETY: as in run.
        let pending = unsafe { self.slot.lock_as_owner() }
            .path
            .as_deref_mut()
            .is_some_and(|path| path.want_wake(true));
        Ok(pending || self.is_closed())
    }

    /// Whether nothing will ever come again: the capture is through. Known from the burst on that found no more.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    pub fn finished(&self, who: Owner) -> Result<bool, PortError> {
        self.claim(who)?;
        // SAFETY: as in run.
        let slot = unsafe { self.slot.lock_as_owner() };
        Ok(slot.path.as_deref().is_some_and(RxPath::finished))
    }

    /// After sleeping: asks the peer not to notify, since we poll.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    pub fn disarm(&self, who: Owner) -> Result<(), PortError> {
        self.claim(who)?;
        self.drain_wake();
        // SAFETY: as in run.
        if let Some(path) = unsafe { self.slot.lock_as_owner() }.path.as_deref_mut() {
            path.want_wake(false);
        }
        Ok(())
    }
}

impl TxQueue {
    /// Sends from the front of the burst; how many were accepted. Those belong to the driver now; the rest moves to the front of the burst
    /// and stays its owner's. Zero when the ring is full or the link is down. Claims the queue if nobody has it.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    #[inline]
    pub fn burst(&self, who: Owner, burst: &mut Burst) -> Result<usize, PortError> {
        self.run(who, burst, TxPath::tx)
    }

    /// Gives back buffers of packets that are through, as far as the peer has said so.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    pub fn reclaim(&self, who: Owner) -> Result<(), PortError> {
        self.claim(who)?;
        // SAFETY: as in run.
        let mut slot = unsafe { self.slot.lock_as_owner() };
        if let Some(path) = slot.path.as_deref_mut()
            && let Err(fault) = path.reclaim()
        {
            path.abandon(&self.counters);
            slot.path = None;
            self.report(fault);
        }
        Ok(())
    }
}

fn watch(set: &OwnedFd, fd: impl AsFd) -> Result<(), PortError> {
    epoll::add(set, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
        .map_err(|e| PortError::system("epoll_ctl", e))
}
