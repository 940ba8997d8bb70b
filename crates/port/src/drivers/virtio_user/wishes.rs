//! Which receive rings the application wants filled: the control thread, which has the connection, tells the back end.
//!
//! Transmit rings stay enabled: a back end may throw away what stands in a disabled one, and a queue that is stopped loses nothing.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use crate::PortError;
use crate::event::{clear, eventfd, signal};

/// See the module. They outlive sessions.
#[derive(Debug)]
pub(super) struct Wishes {
    /// Readable when there is something new.
    fd: OwnedFd,
    /// Rings that are not to be filled.
    off: Mutex<BTreeSet<u16>>,
}

impl Wishes {
    pub(super) fn new() -> Result<Self, PortError> {
        Ok(Self {
            fd: eventfd()?,
            off: Mutex::default(),
        })
    }

    /// A receive queue was stopped, or is about to start.
    pub(super) fn set(&self, queue: u16, on: bool) {
        {
            let mut off = self.off.lock().unwrap_or_else(PoisonError::into_inner);
            let ring = 2 * queue;
            if on {
                off.remove(&ring);
            } else {
                off.insert(ring);
            }
        }
        signal(&self.fd);
    }

    /// The rings that are not to be filled, from now on.
    pub(super) fn take(&self) -> BTreeSet<u16> {
        let _how_often = clear(&self.fd);
        self.off
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
