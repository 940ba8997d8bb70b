//! What happens to a port without being asked for: its link, faults, and what its peer asks of it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::EventfdFlags;

use crate::PortError;

/// Most events that wait for someone to take them. What comes after is not kept: nobody is listening.
const MAX_WAITING: usize = 1024;

/// The link of a port. A virtual link has the speed that DPDK's drivers for the same devices report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStatus {
    /// Packets can pass.
    pub up: bool,
    /// Megabits a second.
    pub speed: u32,
}

impl LinkStatus {
    /// Down, at 10 Gbit/s.
    pub const DOWN: Self = Self {
        up: false,
        speed: 10_000,
    };
    /// Up, at 10 Gbit/s.
    pub const UP: Self = Self {
        up: true,
        speed: 10_000,
    };
}

/// See the module.
#[derive(Debug)]
pub enum PortEvent {
    /// The link went up or down.
    Link(LinkStatus),
    /// A queue was stopped by its peer's fault, or the peer could not be served. Told once for each cause.
    Error(PortError),
    /// The guest behind the port announces its address (`VHOST_USER_SEND_RARP`): a RARP for it is received on the first queue.
    Rarp([u8; 6]),
    /// The peer told its MTU (`VHOST_USER_NET_SET_MTU`).
    Mtu(u16),
}

/// Events in order, with an eventfd that is readable while there are some.
#[derive(Debug)]
pub struct EventQueue {
    waiting: Mutex<VecDeque<PortEvent>>,
    /// Until the port is closed.
    fd: Mutex<Option<Arc<OwnedFd>>>,
}

impl EventQueue {
    pub(crate) fn new() -> Result<Self, PortError> {
        Ok(Self {
            waiting: Mutex::default(),
            fd: Mutex::new(Some(Arc::new(eventfd()?))),
        })
    }

    /// Adds an event and wakes the listener.
    pub(crate) fn push(&self, event: PortEvent) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push_back(event);
            if let Some(fd) = self.fd() {
                signal(&*fd);
            }
        }
    }

    /// Takes all events.
    #[must_use]
    pub fn drain(&self) -> Vec<PortEvent> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fd) = self.fd() {
            let _how_often = clear(&*fd);
        }
        waiting.drain(..).collect()
    }

    /// Readable while events wait; `None` when the port is closed.
    #[must_use]
    pub fn fd(&self) -> Option<Arc<OwnedFd>> {
        let fd = self.fd.lock().unwrap_or_else(PoisonError::into_inner);
        fd.clone()
    }

    /// The port is closed: nothing comes any more. What waits can still be taken.
    pub(crate) fn close(&self) {
        self.fd
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

/// A new eventfd that never blocks.
pub(crate) fn eventfd() -> Result<OwnedFd, PortError> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|e| PortError::system("eventfd", e))
}

/// Adds one. A full counter is as good: it is readable.
pub(crate) fn signal(fd: impl AsFd) {
    let _full_is_readable = rustix::io::write(fd, &1u64.to_ne_bytes());
}

/// Where the other side of a ring is told that something new stands in it.
pub(crate) trait Notify: Send + Sync {
    /// Tells it. Never blocks.
    fn notify(&self);
}

/// An eventfd: a process or the kernel sleeps on it.
impl Notify for OwnedFd {
    fn notify(&self) {
        signal(self);
    }
}

/// The same where there may be none.
pub(crate) fn by_eventfd(fd: Option<Arc<OwnedFd>>) -> Option<Arc<dyn Notify>> {
    fd.map(|fd| fd as _)
}

/// A register of a device.
impl Notify for vring_pci::virtio::Notifier {
    #[inline]
    fn notify(&self) {
        vring_pci::virtio::Notifier::notify(self);
    }
}

/// Back to zero; what it was. Of a descriptor that is no eventfd, nothing is known.
pub(crate) fn clear(fd: impl AsFd) -> u64 {
    let mut count = [0u8; 8];
    match rustix::io::read(fd, &mut count) {
        Ok(8) => u64::from_ne_bytes(count),
        _ => 0,
    }
}

/// What it is, without taking it.
pub(crate) fn count(fd: impl AsFd) -> u64 {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("eventfd-count:"));
    line.and_then(|count| u64::from_str_radix(count.trim(), 16).ok())
        .unwrap_or(0)
}
