//! The control thread: interrupts, changes of the configuration, a device that needs a reset or goes away.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use vring_mem::Burst;
use vring_net::config::NetConfig;
use vring_net::control::Command;
use vring_pci::virtio::{ISR_CONFIG, ISR_QUEUE, Status};
use vring_pci::{Device, Interrupts};

use super::unit::{Irqs, Unit};
use super::{Slot, lock};
use crate::event::{clear, signal};
use crate::port::Shared;
use crate::{LinkStatus, PortError, PortEvent};

/// How often a device without interrupts is asked what happened, in nanoseconds.
const ASK: i64 = 2_000_000;
/// How long it waits before a device that did not come up is started again, and how often.
const AGAIN: i64 = 100_000_000;
const ATTEMPTS: usize = 50;

/// See the module.
pub(super) struct Watch {
    slot: Slot,
    shared: Arc<Shared>,
}

/// What a wait ended with.
enum Seen {
    Stopped,
    /// The kernel wants the device back, or it is gone.
    Gone,
    /// Some interrupt, or it is time to ask.
    Something,
}

/// The error of a device that is not there any more.
pub(super) fn lost(name: &str) -> PortError {
    PortError::DeviceLost {
        name: name.to_owned(),
        what:
            "the device was unplugged; close the port, and open it again when the device is there"
                .into(),
    }
}

impl Watch {
    pub(super) fn new(slot: Slot, shared: Arc<Shared>) -> Self {
        Self { slot, shared }
    }

    pub(super) fn run(self, stop: &OwnedFd) {
        let Some((pci, irqs)) = lock(&self.slot)
            .as_ref()
            .map(|unit| (unit.pci.clone(), unit.irqs()))
        else {
            return;
        };
        loop {
            let seen = match wait(stop, &pci, &irqs) {
                Seen::Something => self.look(stop, &pci, &irqs),
                seen => seen,
            };
            match seen {
                Seen::Something => (),
                Seen::Stopped => return,
                Seen::Gone => break,
            }
        }
        // The kernel waits until nobody has the device any more.
        if let Some(mut unit) = lock(&self.slot).take() {
            unit.stop(&self.shared);
        }
        drop(pci);
        self.shared
            .events
            .push(PortEvent::Error(lost(&self.shared.name)));
    }

    /// Finds out what happened.
    fn look(&self, stop: &OwnedFd, pci: &Device, irqs: &Irqs) -> Seen {
        let mut slot = lock(&self.slot);
        let Some(unit) = slot.as_mut() else {
            return Seen::Stopped;
        };
        let (queues, config) = match pci.interrupts() {
            // Its eventfd is the configuration's; queues have their own, unless there are too few.
            Interrupts::Vectors(_) => {
                clear(&*irqs.config);
                (unit.shares_vector(), true)
            }
            Interrupts::Line(_) | Interrupts::Polled => {
                let isr = unit.transport.take_isr();
                if isr == u8::MAX || (isr == 0 && pci.is_gone()) {
                    return Seen::Gone;
                }
                (isr & ISR_QUEUE != 0, isr & ISR_CONFIG != 0)
            }
        };
        if queues {
            irqs.rx.iter().for_each(|fd| signal(&**fd));
        }
        if config {
            if let Err(error) = self.config_changed(unit) {
                self.shared.events.push(PortEvent::Error(error));
            }
            if unit.transport.status().contains(Status::NEEDS_RESET) {
                if unit.pci.is_gone() {
                    return Seen::Gone;
                }
                self.restart(stop, unit);
            }
        }
        if let Interrupts::Line(line) = pci.interrupts() {
            line.rearm();
        }
        Seen::Something
    }

    /// The link, and whether the network is to be told where we are.
    fn config_changed(&self, unit: &mut Unit) -> Result<(), PortError> {
        let config = unit.read_config()?;
        self.shared.set_link(unit.link_of(&config));
        let announces = config
            .status
            .is_some_and(|status| status & NetConfig::ANNOUNCE != 0);
        if announces {
            self.announce(unit.address().unwrap_or_default());
            unit.send(&Command::AnnounceAck)?;
        }
        if config.mtu != unit.config.mtu
            && let Some(mtu) = config.mtu
        {
            self.shared.events.push(PortEvent::Mtu(mtu));
        }
        unit.config = config;
        Ok(())
    }

    /// Sends a RARP request for the own address, as after a migration: switches learn from it where the address is now.
    fn announce(&self, mac: [u8; 6]) {
        let mut frame = [0; 60];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&mac);
        // RARP: Ethernet, IPv4, lengths of both, "request reverse" (RFC 903).
        frame[12..22].copy_from_slice(&[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
        frame[22..28].copy_from_slice(&mac);
        frame[32..38].copy_from_slice(&mac);
        let (pool, mut buffer) = (&self.shared.pool, [0]);
        let Some(queue) = self.shared.tx.first() else {
            return;
        };
        if pool.alloc_bulk(&mut buffer) == 0 {
            return;
        }
        let mut burst = Burst::new(1);
        // SAFETY: the buffer is ours and fresh: data begins at that address, with room for the least frame and more.
        unsafe { vring_mem::copy::copy(pool.ptr(buffer[0]), frame.as_ptr(), frame.len()) };
        burst.push(buffer[0], 60, 0);
        queue.inject(&mut burst);
        pool.free_burst(&mut burst);
        pool.flush_thread_cache();
    }

    /// Begins anew with a device that met an error.
    fn restart(&self, stop: &OwnedFd, unit: &mut Unit) {
        let what =
            "the device met an error and asked for a reset (NEEDS_RESET); it is started again";
        self.shared.events.push(PortEvent::Error(PortError::Peer {
            name: self.shared.name.clone(),
            what: what.into(),
            code: "ERR_VRING_PCI_DEVICE",
        }));
        unit.stop(&self.shared);
        for attempt in 0..ATTEMPTS {
            match unit.start(&self.shared) {
                Ok(()) => return,
                Err(error) if attempt == 0 => self.shared.events.push(PortEvent::Error(error)),
                Err(_) => (),
            }
            if pause(stop) {
                return;
            }
        }
        self.shared.set_link(LinkStatus::DOWN);
    }
}

/// Waits for the next thing.
fn wait(stop: &OwnedFd, pci: &Device, irqs: &Irqs) -> Seen {
    let (irq, timeout): (Option<BorrowedFd<'_>>, _) = match pci.interrupts() {
        Interrupts::Vectors(_) => (Some(irqs.config.as_fd()), None),
        Interrupts::Line(line) => (Some(line.as_fd()), None),
        Interrupts::Polled => (None, Some(nanoseconds(ASK))),
    };
    let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
    let back = pci.wanted_back();
    fds.extend(back.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    fds.extend(irq.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    if poll(&mut fds, timeout.as_ref()).is_err() {
        // A signal: there is nothing yet.
        return Seen::Something;
    }
    if !fds[0].revents().is_empty() {
        return Seen::Stopped;
    }
    if back.is_some() && !fds[1].revents().is_empty() {
        return Seen::Gone;
    }
    let fired = fds.last().is_some_and(|fd| !fd.revents().is_empty());
    match pci.interrupts() {
        Interrupts::Line(line) if fired && !line.take() => Seen::Gone,
        _ => Seen::Something,
    }
}

fn nanoseconds(tv_nsec: i64) -> Timespec {
    Timespec { tv_sec: 0, tv_nsec }
}

/// A moment, unless it is time to stop: true then.
fn pause(stop: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(stop, PollFlags::IN)];
    poll(&mut fds, Some(&nanoseconds(AGAIN))).is_ok_and(|ready| ready > 0)
}
