//! The port contract.

mod configure;
mod rx_mode;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use vring_mem::Mempool;
use vring_net::soft::RxConfig;

use crate::drivers::Name;
use configure::Settings;
pub(crate) use configure::check_mtu;
pub use configure::{MAX_MTU, MIN_MTU};
pub use rx_mode::{MAX_ADDRESSES, RxParts};

use crate::offload::{OffloadInfo, Offloads};
use crate::queue::Queue;
use crate::{EventQueue, LinkStatus, PortError, PortEvent, RxQueue, TxQueue};

/// What all drivers are told. Zero queues of one direction are allowed where a driver makes sense without.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Where packets come from and go to.
    pub pool: Arc<Mempool>,
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of a receive ring, where this side chooses; 0 for the driver's own number.
    pub rx_desc: u16,
    /// Descriptors of a transmit ring, where this side chooses; 0 for the driver's own number.
    pub tx_desc: u16,
    /// Largest payload of an Ethernet frame, 68 to 9728.
    pub mtu: u16,
    /// What is to be done to packets: the drivers negotiate as much of it as they can, the rest is done in software.
    pub offloads: Offloads,
}

/// What a port is. Strings for people and scripts that print them.
#[derive(Debug, Clone, Default)]
pub struct PortInfo {
    /// The driver, as `net_vhost`.
    pub driver: &'static str,
    /// Most receive queues.
    pub max_rx_queues: u16,
    /// Most transmit queues.
    pub max_tx_queues: u16,
    /// Descriptors of each receive ring now, 0 while unknown.
    pub rx_desc: u16,
    /// Descriptors of each transmit ring now, 0 while unknown.
    pub tx_desc: u16,
    /// Negotiated feature names, empty while there is no peer.
    pub features: Vec<&'static str>,
    /// Further facts by name: socket, role, paths, capture files.
    pub details: BTreeMap<&'static str, String>,
}

/// What all ports have, shared with the threads of their driver.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) rx: Vec<Arc<RxQueue>>,
    pub(crate) tx: Vec<Arc<TxQueue>>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) pool: Arc<Mempool>,
    link: Mutex<Link>,
}

/// A link is up when the peer is there and nobody here wants it down.
#[derive(Debug)]
struct Link {
    peer: LinkStatus,
    set_down: bool,
    stopped: bool,
}

impl Link {
    fn status(&self) -> LinkStatus {
        LinkStatus {
            up: self.peer.up && !self.set_down && !self.stopped,
            ..self.peer
        }
    }
}

impl Shared {
    pub(crate) fn new(name: &str, config: &PortConfig) -> Result<Arc<Self>, PortError> {
        let events = Arc::new(EventQueue::new()?);
        let rx = (0..config.rx_queues)
            .map(|i| Queue::new(format!("{name} rx queue {i}"), i, &config.pool, &events));
        let tx = (0..config.tx_queues)
            .map(|i| Queue::new(format!("{name} tx queue {i}"), i, &config.pool, &events));
        Ok(Arc::new(Self {
            name: name.to_owned(),
            rx: rx.collect::<Result<_, _>>()?,
            tx: tx.collect::<Result<_, _>>()?,
            events: events.clone(),
            pool: config.pool.clone(),
            link: Mutex::new(Link {
                peer: LinkStatus::DOWN,
                set_down: false,
                stopped: false,
            }),
        }))
    }

    pub(crate) fn link(&self) -> LinkStatus {
        self.link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .status()
    }

    /// The link as the peer makes it. See [`Shared::change_link`].
    pub(crate) fn set_link(&self, status: LinkStatus) {
        self.change_link(|link| link.peer = status);
    }

    /// Changes the link, tells the listener if that is seen, and wakes who sleeps on a queue.
    fn change_link(&self, change: impl FnOnce(&mut Link)) {
        let (before, after) = {
            let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
            let before = link.status();
            change(&mut link);
            (before, link.status())
        };
        if before != after {
            self.events.push(PortEvent::Link(after));
            self.rx.iter().for_each(|queue| queue.nudge());
        }
    }
}

/// The part of a port that only its driver knows.
pub(crate) trait Driver: Send + Sync {
    /// What it is now.
    fn info(&self) -> PortInfo;
    /// Its Ethernet address when it is opened.
    fn mac(&self) -> [u8; 6];
    /// Stops its threads and gives everything back. The queues are closed afterwards. Called once.
    fn close(&self);

    /// What the device does to packets itself now.
    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    /// Partial checksums stay as the peer sent them, unless something else is asked for.
    fn keeps_partial(&self) -> bool {
        false
    }

    /// A queue was stopped, or is about to be started: the peer may be told. Our side of it stands still meanwhile.
    fn set_queue(&self, receives: bool, index: u16, on: bool) {
        let _peers_need_not_know = (receives, index, on);
    }

    /// The application wants the link up or down. The queues stand still while it is down, whatever the driver does besides.
    ///
    /// # Errors
    /// The device refused: nothing has changed then.
    fn set_link(&self, up: bool) -> Result<AppliedBy, PortError> {
        let _the_queues_do = up;
        Ok(AppliedBy::Software)
    }

    /// The port has another address from now on.
    ///
    /// # Errors
    /// The device refused: nothing has changed then.
    fn set_mac(&self, mac: [u8; 6]) -> Result<AppliedBy, PortError> {
        let _nobody_to_tell = mac;
        Ok(AppliedBy::Software)
    }

    /// Something else is to be received from now on, or in another way: which parts of it the device does. Software does the others; a device
    /// that hands on only what was asked for, and no more than that, need not do a part to help.
    ///
    /// # Errors
    /// The device refused: nothing has changed then.
    fn set_rx_mode(&self, config: &RxConfig) -> Result<RxParts, PortError> {
        let _no_such_device = config;
        Ok(RxParts::empty())
    }

    /// The port has another MTU from now on, which lies in the range that all ports have.
    ///
    /// # Errors
    /// The device refused: nothing has changed then.
    fn set_mtu(&self, mtu: u16) -> Result<AppliedBy, PortError> {
        let _nobody_to_tell = mtu;
        Ok(AppliedBy::Software)
    }
}

/// Who does what was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppliedBy {
    /// The device, or the peer behind it.
    Device,
    /// This process.
    Software,
}

impl AppliedBy {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Software => "software",
        }
    }
}

/// A port. Closed when dropped, if it was not before.
pub struct Port {
    shared: Arc<Shared>,
    driver: Box<dyn Driver>,
    settings: Mutex<Settings>,
    closed: Mutex<bool>,
    asked: Offloads,
    /// Free again when the port is gone.
    name: Mutex<Option<Name>>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl Port {
    pub(crate) fn new(
        shared: Arc<Shared>,
        driver: Box<dyn Driver>,
        config: &PortConfig,
        name: Name,
    ) -> Result<Self, PortError> {
        let settings = Settings::new(config, &*driver);
        let rx = settings.rx.clone();
        let port = Self {
            shared,
            driver,
            settings: Mutex::new(settings),
            closed: Mutex::new(false),
            name: Mutex::new(Some(name)),
            asked: config.offloads,
        };
        port.set_rx_mode(rx)?;
        Ok(port)
    }

    /// The device's name, as `net_vhost0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Receive queues.
    #[must_use]
    pub fn rx_queues(&self) -> &[Arc<RxQueue>] {
        &self.shared.rx
    }

    /// Transmit queues.
    #[must_use]
    pub fn tx_queues(&self) -> &[Arc<TxQueue>] {
        &self.shared.tx
    }

    /// The mempool that it was opened with.
    #[must_use]
    pub fn pool(&self) -> &Arc<Mempool> {
        &self.shared.pool
    }

    /// The link now.
    #[must_use]
    pub fn link(&self) -> LinkStatus {
        self.shared.link()
    }

    /// What happened and was not taken yet.
    #[must_use]
    pub fn events(&self) -> &Arc<EventQueue> {
        &self.shared.events
    }

    /// What it is now.
    #[must_use]
    pub fn info(&self) -> PortInfo {
        self.driver.info()
    }

    /// Who does which offloads.
    #[must_use]
    pub fn offloads(&self) -> OffloadInfo {
        OffloadInfo {
            asked: self.asked,
            device: self.driver.offloads(),
            software: Offloads::SOFTWARE,
        }
    }

    /// Takes the port away: the peer is let go, sockets are removed, all buffers go back to the mempool. Queues give
    /// [`PortError::Closed`] from now on. Closing twice is no error.
    pub fn close(&self) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *closed, true) {
            return;
        }
        self.driver.close();
        self.shared.rx.iter().for_each(|queue| queue.close());
        self.shared.tx.iter().for_each(|queue| queue.close());
        self.shared.set_link(LinkStatus::DOWN);
        self.shared.events.close();
        self.name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.close();
    }
}
