//! By which other threads tell the one that serves a connection that there is something to tell the front end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::VhostError;

/// See the module. Outlives connections: what is told while there is none is forgotten when the next one begins.
#[derive(Debug)]
pub struct Notifier {
    wake: Arc<OwnedFd>,
    config: AtomicBool,
}

impl Notifier {
    pub(super) fn new() -> Result<Self, VhostError> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(|source| VhostError::System {
            call: "eventfd",
            source,
        })?;
        Ok(Self {
            wake: Arc::new(wake),
            config: AtomicBool::new(false),
        })
    }

    /// The device configuration space changed: the front end is told, if it opened a channel for that (protocol features `BACKEND_REQ` and
    /// `CONFIG`). Changes that come before it was told are told once.
    pub fn config_changed(&self) {
        self.config.store(true, Ordering::Release);
        let _full_is_readable = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// Readable when something is to be told.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// For data paths that have something to ask the front end.
    pub(super) fn wake(&self) -> Arc<OwnedFd> {
        self.wake.clone()
    }

    /// Takes what is to be told: whether the configuration changed. What is set after the descriptor was read makes it readable again.
    pub(super) fn take(&self) -> bool {
        let _empty_is_zero = rustix::io::read(&*self.wake, &mut [0u8; 8]);
        self.config.swap(false, Ordering::Acquire)
    }
}
