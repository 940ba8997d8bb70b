//! The lock between a queue's data path and the control thread.
//!
//! The data path only ever tries it: while the control thread has it, a burst moves nothing. The control thread waits for at most one
//! burst. Uncontended, it costs one exchange and one store a burst.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PollLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through a guard, and there is at most one.
unsafe impl<T: Send> Sync for PollLock<T> {}

impl<T> PollLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// For the data path.
    #[inline(always)]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        // Acquire, against the releasing store of the guard's drop: we see all that the last holder did to the value.
        if self.taken.swap(true, Ordering::Acquire) {
            None
        } else {
            Some(Guard { lock: self })
        }
    }

    /// For the control thread: waits for the burst under way.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            // The holder may share this processor: give it away.
            std::thread::yield_now();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    lock: &'a PollLock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: we are the one guard.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we are the one guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data path never waits: it finds the lock taken and goes on.
    #[test]
    fn try_lock_fails_while_taken() {
        let lock = PollLock::new(1);
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(guard);
        *lock.try_lock().unwrap() += 1;
        assert_eq!(*lock.lock(), 2);
    }
}
