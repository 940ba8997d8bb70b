//! How the user of a queue that sleeps is woken.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::epoll;

use crate::PortError;
use crate::event::{clear, count, eventfd, signal};

/// A descriptor that is readable when it is worth to poll again. Its set changes with the peer; the descriptor never does. It is closed when the port is
/// and the last who sleeps on it has gone.
pub struct Sleep {
    set: OwnedFd,
    /// In the set: signalled by ourselves, when the link changes or the port is closed.
    nudge: OwnedFd,
}

impl AsFd for Sleep {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

/// See the module.
pub(super) struct Wake {
    /// Until the port is closed.
    sleep: Mutex<Option<Arc<Sleep>>>,
    /// In the set: what the peer signals.
    source: Mutex<Option<Arc<OwnedFd>>>,
    /// Signals of the peer's that were taken.
    taken: AtomicU64,
}

impl Wake {
    pub(super) fn new() -> Result<Self, PortError> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| PortError::system("epoll_create", e))?;
        let nudge = eventfd()?;
        watch(&set, &nudge)?;
        Ok(Self {
            sleep: Mutex::new(Some(Arc::new(Sleep { set, nudge }))),
            source: Mutex::default(),
            taken: AtomicU64::new(0),
        })
    }

    /// What to sleep on; `None` when the port is closed.
    pub(super) fn sleep(&self) -> Option<Arc<Sleep>> {
        let sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        sleep.clone()
    }

    /// Wakes the user, and lets the descriptors go.
    pub(super) fn close(&self) {
        self.nudge();
        self.sleep
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// A peer signals on `source` from now on, or nobody does.
    pub(super) fn set_source(&self, source: Option<Arc<OwnedFd>>) -> Result<(), PortError> {
        let mut current = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = self.sleep();
        if let Some(old) = current.take() {
            if let Some(sleep) = &sleep {
                let _already_gone = epoll::delete(&sleep.set, &*old);
            }
            self.take(&old);
        }
        if let (Some(new), Some(sleep)) = (source, sleep) {
            watch(&sleep.set, &*new)?;
            *current = Some(new);
        }
        Ok(())
    }

    /// Wakes the user, if it sleeps.
    pub(super) fn nudge(&self) {
        if let Some(sleep) = self.sleep() {
            signal(&sleep.nudge);
        }
    }

    /// Takes the wake-ups that have come, so that the descriptor is not readable any more.
    pub(super) fn drain(&self) {
        if let Some(sleep) = self.sleep() {
            let _ours = clear(&sleep.nudge);
        }
        if let Some(source) = self
            .source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            self.take(source);
        }
    }

    fn take(&self, source: &OwnedFd) {
        self.taken.fetch_add(clear(source), Ordering::Relaxed);
    }

    /// How often the peer has signalled, as far as it does so by an eventfd. Who polls never takes the signals: they are counted where they wait.
    pub(super) fn signals(&self) -> u64 {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = source.as_ref().map_or(0, count);
        self.taken.load(Ordering::Relaxed) + waiting
    }
}

fn watch(set: &OwnedFd, fd: impl AsFd) -> Result<(), PortError> {
    epoll::add(set, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
        .map_err(|e| PortError::system("epoll_ctl", e))
}
