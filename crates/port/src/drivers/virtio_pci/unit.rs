//! A device that is ours: negotiates, gives it its queues, starts and stops it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use vring_net::config::{CONFIG_SIZE, NetConfig};
use vring_net::control::Command;
use vring_net::driver::DriverMemory;
use vring_net::{Features, HeaderLayout};
use vring_pci::virtio::{Notifier, Status, Transport, open, reset};
use vring_pci::{Device, Interrupts, Mapping, Sysfs};

use super::agree::{Options, agree, plan};
use super::command::Commands;
use super::memory::{Memory, Plan};
use super::rx_mode::Told;
use crate::drivers::paths::{driver_rx, driver_tx};
use crate::event::eventfd;
use crate::port::Shared;
use crate::queue::{RxPath, TxPath};
use crate::{LinkStatus, PortError};

/// See the module.
pub(super) struct Unit {
    pub(super) pci: Arc<Device>,
    pub(super) transport: Box<dyn Transport>,
    pub(super) options: Options,
    pub(super) features: Features,
    /// What the device said of itself when it was started.
    pub(super) config: NetConfig,
    pub(super) commands: Option<Commands>,
    pub(super) told: Told,
    pool: Mapping,
    memory: Option<Memory>,
    irqs: Irqs,
}

/// Readable when something happened.
#[derive(Debug, Clone)]
pub(super) struct Irqs {
    /// The configuration changed, where that has a vector of its own.
    pub(super) config: Arc<OwnedFd>,
    /// By receive queue: buffers were used.
    pub(super) rx: Vec<Arc<OwnedFd>>,
}

/// What is made before the device runs, and given to the queues when it does.
#[derive(Default)]
struct Made {
    rx: Vec<(usize, Box<dyn RxPath>, Notifier)>,
    tx: Vec<(usize, Box<dyn TxPath>, Notifier)>,
    commands: Option<Commands>,
}

impl Unit {
    /// Takes the device and resets it: whatever a process did with it that is gone, it does no more.
    pub(super) fn open(options: Options, shared: &Shared) -> Result<Self, PortError> {
        let pci = Device::open(&Sysfs::default(), options.address)?;
        pci.enable_registers();
        let transport = open(&pci, options.legacy)?;
        reset(options.address, &*transport)?;
        let pool = pci.map(shared.pool.region())?;
        let rx = shared.rx.iter().map(|_| eventfd().map(Arc::new));
        let irqs = Irqs {
            config: Arc::new(eventfd()?),
            rx: rx.collect::<Result<_, _>>()?,
        };
        let unit = Self {
            pci: Arc::new(pci),
            transport,
            options,
            features: Features::empty(),
            config: NetConfig::default(),
            commands: None,
            told: Told::default(),
            pool,
            memory: None,
            irqs,
        };
        unit.set_vectors()?;
        Ok(unit)
    }

    pub(super) fn irqs(&self) -> Irqs {
        self.irqs.clone()
    }

    /// The first vector is the configuration's, one is for each receive queue; where there are too few, those share one.
    fn set_vectors(&self) -> Result<(), PortError> {
        let Interrupts::Vectors(count) = *self.pci.interrupts() else {
            return Ok(());
        };
        let mut fds = vec![self.irqs.config.as_fd()];
        if usize::from(count) > self.irqs.rx.len() {
            fds.extend(self.irqs.rx.iter().map(|fd| fd.as_fd()));
        }
        self.pci.set_vectors(&fds)?;
        self.transport.set_msix(true);
        Ok(())
    }

    /// The vectors of the configuration and of a receive queue.
    fn vector(&self, queue: Option<usize>) -> Option<u16> {
        let Interrupts::Vectors(count) = *self.pci.interrupts() else {
            return None;
        };
        let own = usize::from(count) > self.irqs.rx.len();
        queue
            .filter(|queue| own && *queue < self.irqs.rx.len())
            .map_or(Some(0), |queue| u16::try_from(queue + 1).ok())
    }

    /// Whether an interrupt of the configuration's vector may be a queue's.
    pub(super) fn shares_vector(&self) -> bool {
        match *self.pci.interrupts() {
            Interrupts::Vectors(count) => usize::from(count) <= self.irqs.rx.len(),
            _ => true,
        }
    }

    /// Brings the device up and attaches the port's queues (3.1.1).
    ///
    /// # Errors
    /// The device says or does what it must not, lacks what was asked for, or there is no memory. It is reset then.
    pub(super) fn start(&mut self, shared: &Shared) -> Result<(), PortError> {
        let mut made = Made::default();
        let started = self.bring_up(shared, &mut made);
        if started.is_err() {
            self.halt();
            return started;
        }
        self.commands = made.commands.take();
        for (pair, path, notifier) in made.rx {
            let queue = &shared.rx[pair];
            queue.set_wake_source(Some(self.irqs.rx[pair].clone()))?;
            queue.attach(path, Some(Arc::new(notifier)));
            // Its buffers were there before the device looked.
            queue.notify();
        }
        for (pair, path, notifier) in made.tx {
            shared.tx[pair].attach(path, Some(Arc::new(notifier)));
        }
        if let Interrupts::Line(line) = self.pci.interrupts() {
            line.rearm();
        }
        self.tell_again()?;
        shared.set_link(self.link());
        Ok(())
    }

    fn bring_up(&mut self, shared: &Shared, made: &mut Made) -> Result<(), PortError> {
        reset(self.options.address, &*self.transport)?;
        self.pci.enable();
        let seen = Status::ACKNOWLEDGE | Status::DRIVER;
        self.transport.set_status(Status::ACKNOWLEDGE);
        self.transport.set_status(seen);
        self.features = agree(&self.options, &*self.transport, self.pci.has_iommu())?;
        let mut status = seen;
        if self.transport.is_modern() {
            status |= Status::FEATURES_OK;
            self.transport.set_status(status);
            if !self.transport.status().contains(Status::FEATURES_OK) {
                let names = self.features.names().join(", ");
                let what = format!("one that takes the features {names}");
                return Err(self.options.lacks(&what));
            }
        }
        self.config = self.read_config()?;
        let plans = plan(&self.options, &*self.transport, self.features, &self.config)?;
        if self
            .memory
            .as_ref()
            .is_none_or(|memory| !memory.suits(&plans, self.features))
        {
            self.memory = Some(Memory::new(
                &self.options.name,
                &self.pci,
                &plans,
                self.features,
                !self.transport.is_modern(),
            )?);
        }
        if let Some(vector) = self.vector(None) {
            self.transport.set_config_vector(vector)?;
        }
        self.make(shared, &plans, made)?;
        self.transport.set_status(status | Status::DRIVER_OK);
        if self.features.contains(Features::MQ)
            && let Some(commands) = &mut made.commands
        {
            commands.send(&Command::Pairs(self.options.pairs))?;
        }
        Ok(())
    }

    /// What the device says of itself now.
    pub(super) fn read_config(&self) -> Result<NetConfig, PortError> {
        let mut bytes = [0; CONFIG_SIZE];
        let len = self.transport.read_config(&mut bytes)?;
        NetConfig::read(&bytes[..len], self.features)
            .map_err(|bad| self.options.lacks(&bad.to_string()))
    }

    /// Makes the driver's halves and tells the device of them.
    fn make(&self, shared: &Shared, plans: &[Plan], made: &mut Made) -> Result<(), PortError> {
        let memory = self.memory.as_ref().expect("made just before");
        let layout = HeaderLayout::of(self.features);
        let packets = DriverMemory {
            pool: shared.pool.clone(),
            device_base: self.pool.base(),
        };
        let rings = 2 * usize::from(self.options.pairs);
        for nth in 0..plans.len() {
            let pair = nth / 2;
            let receives = nth < rings && nth % 2 == 0;
            let vector = receives.then(|| self.vector(Some(pair))).flatten();
            let (ring, setup) = memory.ring(nth, vector);
            let notifier = self.transport.set_queue(&setup)?;
            if nth == rings {
                let commands = Commands::new(
                    &self.options.name,
                    ring.into_commands(),
                    notifier,
                    self.features,
                    memory.commands(),
                );
                made.commands = Some(commands);
            } else if receives && pair < shared.rx.len() {
                let path = driver_rx(ring, packets.clone(), layout, self.pool.table());
                made.rx.push((pair, path, notifier));
            } else if !receives && pair < shared.tx.len() {
                let spare = memory.spare_header();
                let path = driver_tx(ring, packets.clone(), layout, spare, self.pool.table());
                made.tx.push((pair, path, notifier));
            }
        }
        Ok(())
    }

    /// Stops the device, and then takes the rings from the queues: from here on nobody touches the buffers in them.
    pub(super) fn stop(&mut self, shared: &Shared) {
        shared.set_link(LinkStatus::DOWN);
        self.commands = None;
        self.halt();
        shared.rx.iter().for_each(|queue| queue.detach());
        shared.tx.iter().for_each(|queue| queue.detach());
    }

    /// A device that does not let itself be reset is kept from memory all the same.
    fn halt(&self) {
        if reset(self.options.address, &*self.transport).is_err() {
            self.pci.disable();
        }
    }

    /// The link, as the device tells it; one that does not is up.
    pub(super) fn link(&self) -> LinkStatus {
        self.link_of(&self.config)
    }

    /// Likewise for what it says now.
    pub(super) fn link_of(&self, config: &NetConfig) -> LinkStatus {
        let up = config
            .status
            .is_none_or(|status| status & NetConfig::LINK_UP != 0);
        let known = config.speed.filter(|speed| (1..=1_000_000).contains(speed));
        LinkStatus {
            up,
            speed: known.unwrap_or(LinkStatus::UP.speed),
        }
    }

    /// Its address now.
    pub(super) fn address(&self) -> Option<[u8; 6]> {
        self.told.mac.or(self.config.mac)
    }

    /// Descriptors of the first receive and of the first transmit ring.
    pub(super) fn sizes(&self) -> (u16, u16) {
        let size = |nth| self.memory.as_ref().map_or(0, |memory| memory.size(nth));
        (size(0), size(1))
    }

    /// What the application set before, for a device that forgot it.
    fn tell_again(&mut self) -> Result<(), PortError> {
        let told = std::mem::take(&mut self.told);
        if let Some(mac) = told.mac {
            self.set_mac(mac)?;
        }
        if let Some(config) = told.rx {
            self.set_rx_mode(&config)?;
        }
        Ok(())
    }
}
