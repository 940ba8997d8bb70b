//! `net_tap`: an Ethernet device of the kernel's, whose other end is the port. A frame is one system call, straight from or to the mempool.

mod rx;
mod tx;

use std::sync::Arc;

use vring_net::soft::RxConfig;
use vring_net::{Features, HeaderLayout};

use super::agree::Half;
use super::control::Control;
use super::netdev::{self, Ask, Handle, Kind, Netdev, Wanted, Watch};
use super::{MAX_QUEUES, Opened, check_queues};
use crate::port::{AppliedBy, Driver, RxParts, Shared};
use crate::{Device, Offloads, PortConfig, PortError, PortInfo};
use rx::TapRx;
use tx::TapTx;

/// Bytes of the virtio-net header before each frame.
const HEADER: usize = 12;
/// Queues of one direction unless something else is asked for, as in DPDK.
const QUEUES: usize = 16;

pub(super) fn open(device: &Device, config: &PortConfig) -> Opened {
    let max = device.number("queues", QUEUES, 1, MAX_QUEUES.into())?;
    let max = u16::try_from(max).unwrap_or(MAX_QUEUES);
    check_queues(device, config, max, max, 0)?;
    let wanted = Wanted::parse(device)?;
    let queues = config.rx_queues.max(config.tx_queues).max(1);
    let ask = Ask {
        queues,
        header: u8::try_from(HEADER).unwrap_or(u8::MAX),
        mtu: config.mtu,
        offloads: Half::Driver.features(config.offloads),
    };
    let netdev = Arc::new(Netdev::open(&wanted, ask)?);
    if netdev.kind == Kind::Packet || !netdev.has_header {
        let expected = "a tap or macvtap; net_af_packet is for other devices";
        return Err(device.bad("iface", expected.into(), &netdev.name));
    }
    let shared = Shared::new(&device.name, config)?;
    attach(&shared, &netdev)?;
    let watch = Watch::new(&netdev, netdev.watched_mtu()).map_err(|source| PortError::Netdev {
        name: device.name.clone(),
        source,
    })?;
    let control = watch.start(&shared, &netdev.name)?;
    let port = Tap {
        control,
        max,
        mac: netdev.mac,
        agreed: netdev.offloads,
        device: Handle::new(&device.name, netdev),
    };
    Ok((shared, Box::new(port)))
}

fn attach(shared: &Shared, device: &Netdev) -> Result<(), PortError> {
    let layout = HeaderLayout::of(device.offloads | Features::VERSION_1);
    for (queue, file) in shared.rx.iter().zip(&device.queues) {
        queue.set_wake_source(Some(Arc::new(netdev::readable(&**file)?)))?;
        let gives = layout.to_driver.gives;
        queue.attach(Box::new(TapRx::new(file, &shared.pool, gives)), None);
    }
    for (queue, file) in shared.tx.iter().zip(&device.queues) {
        let takes = layout.to_device.takes;
        queue.attach(Box::new(TapTx::new(file, &shared.pool, takes)), None);
    }
    Ok(())
}

struct Tap {
    control: Control,
    max: u16,
    mac: [u8; 6],
    agreed: Features,
    device: Handle,
}

impl Driver for Tap {
    fn info(&self) -> PortInfo {
        PortInfo {
            driver: "net_tap",
            max_rx_queues: self.max,
            max_tx_queues: self.max,
            features: self.agreed.names(),
            details: self.device.details(),
            ..Default::default()
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn close(&self) {
        self.control.stop();
        self.device.close();
    }

    fn set_link(&self, up: bool) -> Result<AppliedBy, PortError> {
        self.device.set_link(up)
    }

    fn offloads(&self) -> Offloads {
        Half::Driver.offloads(self.agreed)
    }

    fn set_mac(&self, mac: [u8; 6]) -> Result<AppliedBy, PortError> {
        self.device.set_mac(mac)
    }

    fn set_rx_mode(&self, config: &RxConfig) -> Result<RxParts, PortError> {
        self.device.set_rx_mode(config)
    }

    fn set_mtu(&self, mtu: u16) -> Result<AppliedBy, PortError> {
        self.device.set_mtu(mtu)
    }
}
