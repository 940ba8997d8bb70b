//! What can be changed while a port is open. Queues stand still for a moment at most.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use vring_net::soft::{RssConfig, RxConfig};

use super::{AppliedBy, Driver, Port, PortConfig, rx_mode};
use crate::PortError;
use crate::queue::{Halt, Queue, Side};

/// Least payload of an Ethernet frame: what IPv4 demands of a link.
pub const MIN_MTU: u16 = 68;
/// Most payload of an Ethernet frame, as DPDK's virtio driver has it.
pub const MAX_MTU: u16 = 9728;

/// What was set last.
#[derive(Debug)]
pub(super) struct Settings {
    mtu: u16,
    /// Queues that are used, of those that there are.
    pub(super) rx_queues: u16,
    tx_queues: u16,
    started: bool,
    pub(super) rx: RxConfig,
    /// The device goes by the table of `rx`.
    pub(super) steers: bool,
    pub(super) applied: BTreeMap<&'static str, AppliedBy>,
}

impl Settings {
    pub(super) fn new(config: &PortConfig, driver: &dyn Driver) -> Self {
        Self {
            mtu: config.mtu,
            rx_queues: config.rx_queues,
            tx_queues: config.tx_queues,
            started: true,
            rx: rx_mode::at_open(config, driver),
            steers: false,
            applied: BTreeMap::new(),
        }
    }
}

/// Checks an MTU.
pub(crate) fn check_mtu(name: &str, mtu: u16) -> Result<(), PortError> {
    if (MIN_MTU..=MAX_MTU).contains(&mtu) {
        return Ok(());
    }
    Err(PortError::Mtu {
        name: name.to_owned(),
        max: MAX_MTU.into(),
        got: mtu.into(),
    })
}

impl Port {
    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings of a port that is open.
    pub(super) fn open_settings(&self) -> Result<MutexGuard<'_, Settings>, PortError> {
        if *self.closed.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(PortError::Closed {
                name: self.name().to_owned(),
            });
        }
        Ok(self.settings())
    }

    /// Who applies what was set, by what it is: as far as somebody has to.
    #[must_use]
    pub fn applied(&self) -> BTreeMap<&'static str, AppliedBy> {
        self.settings().applied.clone()
    }

    /// Largest payload of a frame, in bytes. Longer frames pass all the same: it is what peers and applications go by.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.settings().mtu
    }

    /// Sets the MTU, and tells the device where it can be told.
    ///
    /// # Errors
    /// [`PortError::Mtu`], [`PortError::Closed`], or what the device says.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), PortError> {
        check_mtu(self.name(), mtu)?;
        let mut settings = self.open_settings()?;
        let by = self.driver.set_mtu(mtu)?;
        settings.mtu = mtu;
        settings.applied.insert("mtu", by);
        Ok(())
    }

    /// Whether the port moves packets, as far as this side decides.
    #[must_use]
    pub fn started(&self) -> bool {
        self.settings().started
    }

    /// Lets all queues move packets again.
    ///
    /// # Errors
    /// [`PortError::Closed`].
    pub fn start(&self) -> Result<(), PortError> {
        self.run(true)
    }

    /// All queues stand still and the link is down, until [`Port::start`]. The peer stays connected; what it sends waits in the rings.
    ///
    /// # Errors
    /// [`PortError::Closed`].
    pub fn stop(&self) -> Result<(), PortError> {
        self.run(false)
    }

    fn run(&self, on: bool) -> Result<(), PortError> {
        let mut settings = self.open_settings()?;
        settings.started = on;
        self.halt_all(Halt::PORT, !on);
        self.shared.change_link(|link| link.stopped = !on);
        Ok(())
    }

    /// Sets the link up or down, whatever the peer does. While it is down the queues stand still: what stands in the rings stays there, nothing
    /// is dropped, and a peer that sends on finds its ring full.
    ///
    /// # Errors
    /// [`PortError::Closed`], or what the device says.
    pub fn set_link(&self, up: bool) -> Result<(), PortError> {
        let mut settings = self.open_settings()?;
        let by = self.driver.set_link(up)?;
        settings.applied.insert("link", by);
        self.halt_all(Halt::LINK, !up);
        self.shared.change_link(|link| link.set_down = !up);
        Ok(())
    }

    fn halt_all(&self, why: Halt, on: bool) {
        self.shared.rx.iter().for_each(|queue| queue.halt(why, on));
        self.shared.tx.iter().for_each(|queue| queue.halt(why, on));
    }

    /// Starts or stops one receive queue. A queue that stands still moves nothing and loses nothing.
    ///
    /// # Errors
    /// [`PortError::NoQueue`], [`PortError::Closed`].
    pub fn set_rx_queue(&self, index: u16, on: bool) -> Result<(), PortError> {
        let queue = self.queue(&self.shared.rx, "receive", index)?;
        self.switch(queue, true, index, Halt::QUEUE, on)
    }

    /// Starts or stops one transmit queue. Likewise.
    ///
    /// # Errors
    /// [`PortError::NoQueue`], [`PortError::Closed`].
    pub fn set_tx_queue(&self, index: u16, on: bool) -> Result<(), PortError> {
        let queue = self.queue(&self.shared.tx, "transmit", index)?;
        self.switch(queue, false, index, Halt::QUEUE, on)
    }

    fn queue<'a, Q>(
        &self,
        queues: &'a [Q],
        what: &'static str,
        index: u16,
    ) -> Result<&'a Q, PortError> {
        queues
            .get(usize::from(index))
            .ok_or_else(|| PortError::NoQueue {
                name: self.name().to_owned(),
                what,
                count: queues.len(),
                got: index,
            })
    }

    /// The driver is told when our side stands still: after it stopped, before it starts.
    fn switch<P: Side + ?Sized>(
        &self,
        queue: &Queue<P>,
        receives: bool,
        index: u16,
        why: Halt,
        on: bool,
    ) -> Result<(), PortError> {
        let _one_at_a_time = self.open_settings()?;
        self.switch_unlocked(queue, receives, index, why, on);
        Ok(())
    }

    fn switch_unlocked<P: Side + ?Sized>(
        &self,
        queue: &Queue<P>,
        receives: bool,
        index: u16,
        why: Halt,
        on: bool,
    ) {
        const TOLD: Halt = Halt::QUEUE.union(Halt::UNUSED);
        let before = queue.info().halts & TOLD;
        if on {
            if !before.is_empty() && (before - why).is_empty() {
                self.driver.set_queue(receives, index, true);
            }
            queue.halt(why, false);
        } else {
            queue.halt(why, true);
            if before.is_empty() {
                self.driver.set_queue(receives, index, false);
            }
        }
    }

    /// Receive and transmit queues that are used.
    #[must_use]
    pub fn used_queues(&self) -> (u16, u16) {
        let settings = self.settings();
        (settings.rx_queues, settings.tx_queues)
    }

    /// Uses the first queues of each direction only, from now on; the others stand still. At most those that the port was opened with. A table
    /// that spreads packets over queues becomes an even one.
    ///
    /// # Errors
    /// [`PortError::ActiveQueues`], [`PortError::Closed`].
    pub fn set_queues(&self, rx: u16, tx: u16) -> Result<(), PortError> {
        let (all_rx, all_tx) = (&self.shared.rx, &self.shared.tx);
        for (what, got, max) in [
            ("receive queues", rx, all_rx.len()),
            ("transmit queues", tx, all_tx.len()),
        ] {
            if usize::from(got) > max || usize::from(got) < max.min(1) {
                return Err(PortError::ActiveQueues {
                    name: self.name().to_owned(),
                    what,
                    max,
                    got,
                });
            }
        }
        let mut settings = self.open_settings()?;
        let before = (settings.rx_queues, settings.tx_queues);
        (settings.rx_queues, settings.tx_queues) = (rx, tx);
        let mut config = settings.rx.clone();
        if let Some(rss) = &mut config.hash {
            rss.table = RssConfig::even(rx).table;
        }
        if let Err(error) = self.apply(&mut settings, config) {
            (settings.rx_queues, settings.tx_queues) = before;
            return Err(error);
        }
        for queue in all_rx {
            let index = queue.index();
            self.switch_unlocked(queue, true, index, Halt::UNUSED, index < rx);
        }
        for queue in all_tx {
            let index = queue.index();
            self.switch_unlocked(queue, false, index, Halt::UNUSED, index < tx);
        }
        Ok(())
    }
}
