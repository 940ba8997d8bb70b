//! `net_virtio_pci`: the virtio driver on a device of the PCI bus, taken from the kernel by UIO or VFIO, or bound to nobody.

mod agree;
mod command;
mod memory;
mod rx_mode;
mod unit;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vring_net::Features;
use vring_net::soft::RxConfig;
use vring_pci::{Interrupts, PciAddress};

use super::agree::Half;
use super::control::Control;
use super::{MAX_QUEUES, Opened, check_queues, random_mac};
use crate::port::{AppliedBy, Driver, RxParts, Shared};
use crate::{Device, Offloads, PortConfig, PortError, PortInfo, RxOffloads};
use agree::Options;
use unit::Unit;
use watch::Watch;

/// The device, until it is closed or lost.
type Slot = Arc<Mutex<Option<Unit>>>;

fn lock(slot: &Slot) -> MutexGuard<'_, Option<Unit>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn open(device: &Device, config: &PortConfig) -> Opened {
    check_queues(device, config, MAX_QUEUES, MAX_QUEUES, 0)?;
    let options = options(device, config)?;
    let shared = Shared::new(&device.name, config)?;
    let mut unit = Unit::open(options, &shared)?;
    unit.start(&shared)?;
    let port = VirtioPci {
        mac: unit.config.mac.unwrap_or_else(random_mac),
        details: details(&unit),
        control: Mutex::new(None),
        slot: Arc::new(Mutex::new(Some(unit))),
        shared: shared.clone(),
    };
    // From here on, an error closes what was started.
    let watch = Watch::new(port.slot.clone(), shared.clone());
    let control = Control::start(&format!("{}-ctl", device.name), move |stop| {
        watch.run(&stop);
    })
    .inspect_err(|_| port.close())?;
    *port.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
    Ok((shared, Box::new(port)))
}

fn options(device: &Device, config: &PortConfig) -> Result<Options, PortError> {
    let address = match device.get("addr") {
        Some(text) => text,
        None if PciAddress::is_one(&device.name) => &device.name,
        None => device.require("addr")?,
    };
    let mut wanted = Features::MAC
        | Features::MTU
        | Features::STATUS
        | Features::SPEED_DUPLEX
        | Features::CTRL_VQ
        | Features::CTRL_RX
        | Features::CTRL_MAC_ADDR
        | Features::GUEST_ANNOUNCE;
    wanted.set(Features::MRG_RXBUF, device.switch("mrg_rxbuf", true)?);
    wanted.set(Features::EVENT_IDX, device.switch("event_idx", true)?);
    wanted.set(Features::INDIRECT_DESC, device.switch("indirect", true)?);
    wanted.set(Features::RING_PACKED, device.switch("packed_vq", true)?);
    wanted.set(Features::IN_ORDER, device.switch("in_order", true)?);
    // Whoever agrees on it is sent no VLAN that it has not named.
    let filters = config.offloads.rx.contains(RxOffloads::VLAN_FILTER);
    wanted.set(Features::CTRL_VLAN, filters);
    let pairs = config.rx_queues.max(config.tx_queues).max(1);
    wanted.set(Features::MQ, pairs > 1);
    wanted |= Half::Driver.features(config.offloads);
    Ok(Options {
        name: device.name.clone(),
        address: address.parse()?,
        pairs,
        rx_size: config.rx_desc,
        tx_size: config.tx_desc,
        wanted,
        legacy: device.switch("legacy", false)?,
    })
}

/// What does not change while the device is ours.
fn details(unit: &Unit) -> BTreeMap<&'static str, String> {
    let generation = if unit.transport.is_modern() {
        "modern"
    } else {
        "legacy"
    };
    let interrupts = match unit.pci.interrupts() {
        Interrupts::Vectors(count) => format!("MSI-X, {count} vectors"),
        Interrupts::Line(_) => "line".into(),
        Interrupts::Polled => "none".into(),
    };
    let dma = if unit.pci.has_iommu() {
        "IOMMU"
    } else {
        "physical"
    };
    [
        ("address", unit.pci.address().to_string()),
        ("access", unit.pci.access().name().to_owned()),
        ("registers", generation.into()),
        ("interrupts", interrupts),
        ("dma", dma.into()),
    ]
    .into()
}

struct VirtioPci {
    mac: [u8; 6],
    details: BTreeMap<&'static str, String>,
    control: Mutex<Option<Control>>,
    slot: Slot,
    shared: Arc<Shared>,
}

impl VirtioPci {
    /// Does something on the device, which may be lost.
    fn on_device<R>(
        &self,
        f: impl FnOnce(&mut Unit) -> Result<R, PortError>,
    ) -> Result<R, PortError> {
        match lock(&self.slot).as_mut() {
            Some(unit) => f(unit),
            None => Err(watch::lost(&self.shared.name)),
        }
    }
}

impl Driver for VirtioPci {
    fn info(&self) -> PortInfo {
        let slot = lock(&self.slot);
        let unit = slot.as_ref();
        let most = unit.map_or(0, |unit| unit.config.max_virtqueue_pairs.unwrap_or(1));
        let (rx, tx) = unit.map_or((0, 0), Unit::sizes);
        PortInfo {
            driver: "net_virtio_pci",
            max_rx_queues: most.min(MAX_QUEUES),
            max_tx_queues: most.min(MAX_QUEUES),
            rx_desc: rx,
            tx_desc: tx,
            features: unit.map_or_else(Vec::new, |unit| unit.features.names()),
            details: self.details.clone(),
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn offloads(&self) -> Offloads {
        let slot = lock(&self.slot);
        slot.as_ref()
            .map_or(Offloads::NONE, |unit| Half::Driver.offloads(unit.features))
    }

    fn close(&self) {
        let control = self
            .control
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(control) = control {
            control.stop();
        }
        if let Some(mut unit) = lock(&self.slot).take() {
            unit.stop(&self.shared);
        }
    }

    fn set_mac(&self, mac: [u8; 6]) -> Result<AppliedBy, PortError> {
        self.on_device(|unit| unit.set_mac(mac))
    }

    fn set_rx_mode(&self, config: &RxConfig) -> Result<RxParts, PortError> {
        // A device that is lost has nothing to receive.
        if let Some(unit) = lock(&self.slot).as_mut() {
            unit.set_rx_mode(config)?;
        }
        Ok(RxParts::empty())
    }

    fn set_mtu(&self, mtu: u16) -> Result<AppliedBy, PortError> {
        self.on_device(|unit| match unit.config.mtu {
            Some(max) if mtu > max => Err(PortError::Mtu {
                name: self.shared.name.clone(),
                max: max.into(),
                got: mtu.into(),
            }),
            _ => Ok(AppliedBy::Software),
        })
    }
}

impl Drop for VirtioPci {
    /// A port that could not be made whole: the device must not go on with buffers that are somebody else's then.
    fn drop(&mut self) {
        self.close();
    }
}
