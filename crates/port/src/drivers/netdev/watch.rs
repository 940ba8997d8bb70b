//! Watches the kernel's device: what `ip link` does to it becomes the port's link and events.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vring_netdev::{Link, LinkChange, LinkMonitor, NetdevError, Netlink, place_of};

use super::{Kind, Netdev, Place};
use crate::drivers::control::Control;
use crate::port::Shared;
use crate::{LinkStatus, PortError, PortEvent};

/// Why [`Watch::run`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drivers) enum Seen {
    /// The port is to be closed.
    Stopped,
    /// The device was deleted, or moved to where it cannot be followed.
    Gone,
    /// The further descriptor is readable.
    Alarm,
}

/// See the module.
#[derive(Debug)]
pub(in crate::drivers) struct Watch {
    monitor: LinkMonitor,
    netlink: Netlink,
    index: u32,
    mtu: Arc<AtomicU32>,
    /// A tap, whose file tells where it is moved to.
    tap: Option<Arc<Netdev>>,
}

impl Watch {
    /// Watches from now on, and keeps `mtu` as the device's is.
    pub(in crate::drivers) fn new(
        device: &Arc<Netdev>,
        mtu: Arc<AtomicU32>,
    ) -> Result<Self, NetdevError> {
        let Place { namespace, index } = device.place();
        Ok(Self {
            monitor: LinkMonitor::open(&namespace)?,
            netlink: Netlink::open(&namespace)?,
            index,
            mtu,
            tap: (device.kind == Kind::Tap).then(|| device.clone()),
        })
    }

    /// Starts the control thread of a port whose queues are attached to the device's own files: they are detached when the device is gone or the
    /// port is closed.
    pub(in crate::drivers) fn start(
        mut self,
        shared: &Arc<Shared>,
        device: &str,
    ) -> Result<Control, PortError> {
        let (shared, device) = (shared.clone(), device.to_owned());
        Control::start(&format!("{}-ctl", shared.name), move |stop| {
            let why = self.run(&shared, &stop, None);
            super::detach(&shared);
            if why == Seen::Gone {
                tell_gone(&shared, &device);
                wait(&stop);
            }
        })
    }

    /// Keeps the port's link like the device's until something else happens.
    pub(in crate::drivers) fn run(
        &mut self,
        shared: &Shared,
        stop: &OwnedFd,
        alarm: Option<&OwnedFd>,
    ) -> Seen {
        // What happened before the monitor was opened.
        let mut gone = self.ask(shared);
        while !gone || self.follow(shared) {
            let mut fds = vec![
                PollFd::new(stop, PollFlags::IN),
                PollFd::from_borrowed_fd(self.monitor.as_fd(), PollFlags::IN),
            ];
            fds.extend(alarm.map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => (),
                Err(errno) => {
                    tell(shared, &format!("watching it failed: {errno}"));
                    return Seen::Gone;
                }
            }
            if !fds[0].revents().is_empty() {
                return Seen::Stopped;
            }
            if fds.get(2).is_some_and(|fd| !fd.revents().is_empty()) {
                return Seen::Alarm;
            }
            gone = self.take(shared);
        }
        Seen::Gone
    }

    /// A tap that is gone may have been moved to another namespace: its file is still good there. True when it is watched again.
    fn follow(&mut self, shared: &Shared) -> bool {
        let Some(tap) = &self.tap else { return false };
        let found = || -> Option<(Place, LinkMonitor, Netlink)> {
            let (namespace, name) = place_of(tap.queues.first()?.as_fd())?;
            let monitor = LinkMonitor::open(&namespace).ok()?;
            let mut netlink = Netlink::open(&namespace).ok()?;
            let index = netlink.link(&name).ok()?.index;
            Some((Place { namespace, index }, monitor, netlink))
        };
        let Some((place, monitor, netlink)) = found() else {
            return false;
        };
        (self.index, self.monitor, self.netlink) = (place.index, monitor, netlink);
        tap.moved(place);
        !self.ask(shared)
    }

    /// Takes the changes that came: true when the device is gone.
    fn take(&mut self, shared: &Shared) -> bool {
        let changes = self
            .monitor
            .take()
            .unwrap_or_else(|_| vec![LinkChange::Missed]);
        for change in changes {
            match change {
                LinkChange::Now(link) if link.index == self.index => self.now(shared, &link),
                LinkChange::Gone { index } if index == self.index => return true,
                LinkChange::Missed if self.ask(shared) => return true,
                _ => (),
            }
        }
        false
    }

    /// Asks what the device is now: true when it is gone.
    fn ask(&mut self, shared: &Shared) -> bool {
        match self.netlink.link_at(self.index) {
            Ok(link) => self.now(shared, &link),
            Err(NetdevError::NoSuchDevice { .. }) => return true,
            Err(error) => tell(shared, &error.to_string()),
        }
        false
    }

    fn now(&mut self, shared: &Shared, link: &Link) {
        shared.set_link(if link.running {
            LinkStatus::UP
        } else {
            LinkStatus::DOWN
        });
        if self.mtu.swap(link.mtu, Ordering::Relaxed) != link.mtu {
            let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
            shared.events.push(PortEvent::Mtu(mtu));
        }
    }
}

/// Tells the port's listener what became of the device.
pub(in crate::drivers) fn tell(shared: &Shared, what: &str) {
    shared.events.push(PortEvent::Error(PortError::DeviceLost {
        name: shared.name.clone(),
        what: what.to_owned(),
    }));
}

/// Tells that the device is gone.
pub(in crate::drivers) fn tell_gone(shared: &Shared, device: &str) {
    tell(
        shared,
        &format!(
            "{device} was deleted, or moved to another namespace; open the port again where it is"
        ),
    );
}

/// Waits until the port is to be closed.
pub(in crate::drivers) fn wait(stop: &OwnedFd) {
    loop {
        let mut fds = [PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => (),
            _ => return,
        }
    }
}
