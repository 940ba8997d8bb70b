//! The drivers, one file each.

mod agree;
mod control;
mod kind;
mod netdev;
mod null;
mod packet;
mod paths;
mod pcap;
mod ring;
mod tap;
mod vhost;
mod virtio_pci;
mod virtio_user;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use vring_vhost::SocketRole;

pub use pcap::Recording;

use crate::port::{Driver, Shared, check_mtu};
use crate::{Device, Offloads, Port, PortConfig, PortError};

/// Most queues of one direction.
pub(crate) const MAX_QUEUES: u16 = 128;

/// Opens a device as a port. Its link may come up later, when the peer is there: see [`Port::events`].
///
/// # Errors
/// What is wrong with the arguments, the paths or the memory: see [`PortError`].
pub fn open(device: &Device, config: &PortConfig) -> Result<Port, PortError> {
    let reserved = Name::reserve(&device.name)?;
    check_mtu(&device.name, config.mtu)?;
    check_offloads(device, config.offloads)?;
    let (shared, driver) = match device.driver.name {
        "net_af_packet" => packet::open(device, config),
        "net_null" => null::open(device, config),
        "net_pcap" => pcap::open(device, config),
        "net_ring" => ring::open(device, config),
        "net_tap" => tap::open(device, config),
        "net_vhost" => vhost::open(device, config),
        "net_virtio_pci" => virtio_pci::open(device, config),
        "net_virtio_user" => virtio_user::open(device, config),
        other => unreachable!("{other} stands in the table of drivers"),
    }?;
    Port::new(shared, driver, config, reserved)
}

/// Nothing is agreed to that nobody does.
fn check_offloads(device: &Device, wanted: Offloads) -> Result<(), PortError> {
    let can = Offloads::SOFTWARE.union(device.driver.offloads);
    let cannot = wanted.difference(can);
    if cannot == Offloads::NONE {
        return Ok(());
    }
    let can = can.names().join(", ");
    Err(PortError::NotSupported {
        name: device.name.clone(),
        what: format!("the offload {}", cannot.names().join(", ")),
        why: format!("{} can do {can}", device.driver.name),
    })
}

/// What opening a driver gives.
type Opened = Result<(std::sync::Arc<Shared>, Box<dyn Driver>), PortError>;

/// The name of an open port, which no other port can have meanwhile.
#[derive(Debug)]
pub(crate) struct Name(String);

static NAMES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

impl Name {
    fn reserve(name: &str) -> Result<Self, PortError> {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if names.insert(name.to_owned()) {
            Ok(Self(name.to_owned()))
        } else {
            Err(PortError::NameInUse {
                name: name.to_owned(),
            })
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        NAMES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.0);
    }
}

/// Checks how many queues are asked for against how many there are.
fn check_queues(
    device: &Device,
    config: &PortConfig,
    max_rx: u16,
    max_tx: u16,
    least: u16,
) -> Result<(), PortError> {
    for (what, got, max) in [
        ("receive queues", config.rx_queues, max_rx),
        ("transmit queues", config.tx_queues, max_tx),
    ] {
        if got > max || got < least {
            return Err(PortError::Queues {
                name: device.name.clone(),
                what,
                max,
                got,
            });
        }
    }
    Ok(())
}

/// A locally administered address that no other port of this process or machine is likely to have.
fn random_mac() -> [u8; 6] {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        .to_ne_bytes();
    [0x02, random[0], random[1], random[2], random[3], random[4]]
}

/// What a vhost-user port of either end tells of itself.
fn socket_details(path: &str, role: SocketRole, connected: bool) -> BTreeMap<&'static str, String> {
    let role = if role == SocketRole::Listen {
        "server"
    } else {
        "client"
    };
    let peer = if connected { "connected" } else { "none" };
    [
        ("socket", path.into()),
        ("role", role.into()),
        ("peer", peer.into()),
    ]
    .into()
}
