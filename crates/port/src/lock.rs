//! The lock between a queue's data path and the control thread.
//!
//! The data path only ever tries it: while the control thread wants it, a burst moves nothing. The control thread waits for at most one
//! burst.
//!
//! The usual lock takes a locked instruction, which waits until all earlier stores have left the processor: on a polling core those are
//! stores to lines that the peer has, a hundred nanoseconds each. Here the data path only stores its own flag and then loads the control
//! thread's; what keeps the two in order is a barrier that the control thread puts into every core, by `membarrier(2)`. Where the kernel
//! has none, the data path pays for a fence of its own.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::thread::{MembarrierCommand, membarrier};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PollLock<T> {
    /// The data path is in a burst, or looks whether it may.
    busy: AtomicBool,
    /// The control thread wants in, or is.
    wanted: AtomicBool,
    /// Between control threads.
    control: Mutex<()>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through a guard. A data path and a control thread never have one at the same time (see try_lock), nor
// do two control threads, nor two data paths by the promise of try_lock's callers.
unsafe impl<T: Send> Sync for PollLock<T> {}

/// Whether the control thread's barrier reaches the cores of the data paths.
fn barrier_reaches_all() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok())
}

impl<T> PollLock<T> {
    pub(crate) fn new(value: T) -> Self {
        barrier_reaches_all();
        Self {
            busy: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            control: Mutex::new(()),
            value: UnsafeCell::new(value),
        }
    }

    /// For the data path. `None` while the control thread is at work.
    ///
    /// # Safety
    /// Only the one thread that has the queue calls this, and not while it has a guard.
    #[inline(always)]
    pub(crate) unsafe fn try_lock(&self) -> Option<BurstGuard<'_, T>> {
        self.busy.store(true, Ordering::Relaxed);
        // Against the barrier in lock: our store of `busy` before our load of `wanted`, its store of `wanted` before its load of `busy`. At
        // least one of the two sees the other; without, both could miss and both go in.
        if barrier_reaches_all() {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
        // Acquire, against the releasing store of the control guard: we see all that it did to the value.
        if self.wanted.load(Ordering::Acquire) {
            self.busy.store(false, Ordering::Release);
            return None;
        }
        Some(BurstGuard { lock: self })
    }

    /// For the thread that has the queue, outside the data path: waits while the control thread is at work.
    ///
    /// # Safety
    /// As for [`PollLock::try_lock`].
    pub(crate) unsafe fn lock_as_owner(&self) -> BurstGuard<'_, T> {
        loop {
            // SAFETY: the caller's promise.
            if let Some(guard) = unsafe { self.try_lock() } {
                return guard;
            }
            std::thread::yield_now();
        }
    }

    /// For control threads: waits for the burst under way.
    pub(crate) fn lock(&self) -> ControlGuard<'_, T> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        self.wanted.store(true, Ordering::Relaxed);
        // See try_lock. The fence orders our own store and load, and membarrier those of every core that runs a thread of ours.
        fence(Ordering::SeqCst);
        if barrier_reaches_all() {
            membarrier(MembarrierCommand::PrivateExpedited)
                .expect("membarrier was registered, and needs no memory");
        }
        // Acquire, against the releasing store of the burst's guard.
        while self.busy.load(Ordering::Acquire) {
            // The burst's thread may share this processor: give it away.
            std::thread::yield_now();
        }
        ControlGuard {
            lock: self,
            _control: control,
        }
    }
}

/// The data path's turn.
#[derive(Debug)]
pub(crate) struct BurstGuard<'a, T> {
    lock: &'a PollLock<T>,
}

/// The control thread's turn.
#[derive(Debug)]
pub(crate) struct ControlGuard<'a, T> {
    lock: &'a PollLock<T>,
    _control: MutexGuard<'a, ()>,
}

macro_rules! reaches_the_value {
    ($guard:ident) => {
        impl<T> Deref for $guard<'_, T> {
            type Target = T;

            #[inline(always)]
            fn deref(&self) -> &T {
                // SAFETY: this is the one guard.
                unsafe { &*self.lock.value.get() }
            }
        }

        impl<T> DerefMut for $guard<'_, T> {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut T {
                // SAFETY: this is the one guard.
                unsafe { &mut *self.lock.value.get() }
            }
        }
    };
}

reaches_the_value!(BurstGuard);
reaches_the_value!(ControlGuard);

impl<T> Drop for BurstGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.busy.store(false, Ordering::Release);
    }
}

impl<T> Drop for ControlGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.wanted.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data path never waits: it finds the lock taken and goes on.
    #[test]
    fn try_lock_fails_while_control_is_at_work() {
        let lock = PollLock::new(1);
        let guard = lock.lock();
        // SAFETY: this thread is the only user.
        assert!(unsafe { lock.try_lock() }.is_none());
        drop(guard);
        // SAFETY: as above.
        *unsafe { lock.try_lock() }.unwrap() += 1;
        assert_eq!(*lock.lock(), 2);
    }

    /// Two threads that both count by reading and writing lose nothing: at no time do both have the value.
    #[test]
    fn excludes() {
        const TURNS: u64 = 20_000;
        let lock = PollLock::new(0u64);
        let turns = std::thread::scope(|scope| {
            let data = scope.spawn(|| {
                let mut turns = 0;
                while turns < 50 * TURNS {
                    // SAFETY: this thread is the only one on the data path.
                    if let Some(mut value) = unsafe { lock.try_lock() } {
                        *value += 1;
                        turns += 1;
                    }
                }
                turns
            });
            for _ in 0..TURNS {
                *lock.lock() += 1;
            }
            data.join().unwrap()
        });
        assert_eq!(*lock.lock(), turns + TURNS);
    }
}
