//! The data path: bursts in and out, by the one that has the queue.

use std::sync::atomic::Ordering;

use vring_mem::copy::copy;
use vring_mem::{Burst, Mempool};
use vring_net::soft::RxConfig;
use vring_net::{Counters, Tally};
use vring_ring::RingFault;

use super::soft::{Side, Soft};
use super::{Queue, RxPath, RxQueue, Slot, TxQueue};
use crate::owner::Owner;
use crate::{PortError, PortEvent};

impl<P: Side + ?Sized> Queue<P> {
    #[inline(always)]
    fn run(
        &self,
        who: Owner,
        burst: &mut Burst,
        f: impl FnOnce(
            &mut P::Soft,
            &mut P,
            &Mempool,
            &mut Burst,
            &Counters,
        ) -> Result<Tally, RingFault>,
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
        match f(&mut slot.soft, path, &self.pool, burst, &self.counters) {
            Ok(tally) => {
                self.count(&tally, slot);
                Ok(tally.packets + tally.refused)
            }
            Err(fault) => {
                self.fail(slot, fault);
                Ok(0)
            }
        }
    }

    /// Counts what was moved, and notifies the peer that wants to be.
    #[inline(always)]
    fn count(&self, tally: &Tally, slot: &Slot<P>) {
        self.counters.count(tally);
        if tally.notify
            && let Some(notify) = &slot.notify
        {
            notify.notify();
        }
    }

    /// The peer broke the rules: the path is not used again.
    #[cold]
    fn fail(&self, slot: &mut Slot<P>, fault: RingFault) {
        slot.soft.detached(&self.pool, &self.counters);
        if let Some(mut path) = slot.path.take() {
            path.abandon(&self.counters);
        }
        self.report(fault);
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
        self.run(who, burst, |soft, path, pool, burst, counters| {
            soft.rx(path, pool, burst, counters)
        })
    }

    /// Before sleeping on [`Queue::wake_fd`]: asks the peer to notify. True when packets came in meanwhile: poll, do not sleep.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    pub fn arm(&self, who: Owner) -> Result<bool, PortError> {
        self.claim(who)?;
        self.wake.drain();
        // SAFETY: as in run.
        let mut slot = unsafe { self.slot.lock_as_owner() };
        let slot = &mut *slot;
        let pending = slot
            .path
            .as_deref_mut()
            .is_some_and(|path| path.want_wake(true) || slot.soft.has_own());
        Ok(pending || self.is_closed())
    }

    /// Lets the application receive a frame that the port made, before all else. Not while the queue is detached, nor without a free buffer.
    pub(crate) fn put(&self, frame: &[u8]) {
        {
            let mut slot = self.slot.lock();
            let mut buffer = [0];
            if slot.attached().is_none() || self.pool.alloc_bulk(&mut buffer) == 0 {
                return;
            }
            // SAFETY: a fresh buffer is ours, and longer than the frames that ports make.
            unsafe { copy(self.pool.ptr(buffer[0]), frame.as_ptr(), frame.len()) };
            if !slot
                .soft
                .put(buffer[0], u32::try_from(frame.len()).unwrap_or(0))
            {
                self.pool.free_bulk(&buffer);
            }
        }
        self.pool.flush_thread_cache();
        self.nudge();
    }

    /// What software does to packets from now on.
    pub(crate) fn configure(&self, config: &RxConfig) {
        self.slot.lock().soft.configure(&self.pool, config);
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
        self.wake.drain();
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
        let before = burst.len();
        self.run(who, burst, |soft, path, pool, burst, counters| {
            soft.tx(path, pool, burst, counters)
        })?;
        // A packet that is cut is taken once and counts as its pieces.
        Ok(before.saturating_sub(burst.len()))
    }

    /// Sends from a control thread, between two bursts of the queue's user. What is not taken stays in the burst.
    pub(crate) fn inject(&self, burst: &mut Burst) {
        let mut slot = self.slot.lock();
        let slot = &mut *slot;
        if let Some(path) = slot.path.as_deref_mut() {
            match slot.soft.tx(path, &self.pool, burst, &self.counters) {
                Ok(tally) => self.count(&tally, slot),
                Err(fault) => self.fail(slot, fault),
            }
        }
    }

    /// Gives back buffers of packets that are through, as far as the peer has said so.
    ///
    /// # Errors
    /// [`PortError::QueueBusy`], [`PortError::Closed`].
    pub fn reclaim(&self, who: Owner) -> Result<(), PortError> {
        self.claim(who)?;
        // SAFETY: as in run.
        let mut slot = unsafe { self.slot.lock_as_owner() };
        let slot = &mut *slot;
        if let Some(path) = slot.path.as_deref_mut() {
            match slot.soft.reclaim(path, &self.counters) {
                Ok(tally) => self.count(&tally, slot),
                Err(fault) => self.fail(slot, fault),
            }
        }
        Ok(())
    }
}
