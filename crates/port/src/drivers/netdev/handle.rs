//! What a port does to the kernel's device when it is asked to.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vring_net::soft::RxConfig;
use vring_netdev::{NetdevError, Netlink, set_address, set_carrier};

use super::receive::Told;
use super::{Kind, Netdev};
use crate::PortError;
use crate::port::{AppliedBy, RxParts};

/// The device of a port, until that is closed.
#[derive(Debug)]
pub(in crate::drivers) struct Handle {
    port: String,
    device: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    device: Arc<Netdev>,
    told: Told,
}

impl Handle {
    pub(in crate::drivers) fn new(port: &str, device: Arc<Netdev>) -> Self {
        Self {
            port: port.to_owned(),
            device: Mutex::new(Some(Open {
                device,
                told: Told::default(),
            })),
        }
    }

    /// Which device it is, for people.
    pub(in crate::drivers) fn details(&self) -> BTreeMap<&'static str, String> {
        let open = self.open();
        let Some(Open { device, .. }) = open.as_ref() else {
            return BTreeMap::new();
        };
        let kind = match device.kind {
            Kind::Macvtap if device.passthru => "macvtap, passthru",
            kind => kind.name(),
        };
        BTreeMap::from([
            ("device", device.name.clone()),
            ("device kind", kind.to_owned()),
            ("namespace", device.place().namespace.to_string()),
        ])
    }

    /// Lets the device go: its files are closed, unless a path still has them.
    pub(in crate::drivers) fn close(&self) {
        if let Some(mut open) = self.open().take() {
            open.told.forget(&open.device);
        }
    }

    /// Gives the device another MTU.
    pub(in crate::drivers) fn set_mtu(&self, mtu: u16) -> Result<AppliedBy, PortError> {
        self.apply(|device| {
            let place = device.place();
            Netlink::open(&place.namespace)?.set_mtu(place.index, mtu.into())?;
            Ok(AppliedBy::Device)
        })
    }

    /// Plugs the cable of a tap in or out, as the kernel sees it. Other devices have a link of their own.
    pub(in crate::drivers) fn set_link(&self, up: bool) -> Result<AppliedBy, PortError> {
        self.apply(|device| {
            if device.kind != Kind::Tap {
                return Ok(AppliedBy::Software);
            }
            set_carrier(device.queues[0].as_fd(), up).map(|()| AppliedBy::Device)
        })
    }

    /// Gives the device the port's address: a macvtap, and as in DPDK a tap, so far as that is no port of a bridge. Behind one, the address is of a
    /// station beyond it. A packet socket's device keeps its own, and takes frames to the port's besides ([`Handle::set_rx_mode`]).
    pub(in crate::drivers) fn set_mac(&self, mac: [u8; 6]) -> Result<AppliedBy, PortError> {
        self.apply(|device| {
            let place = device.place();
            let bridged = || -> Result<bool, NetdevError> {
                let link = Netlink::open(&place.namespace)?.link_at(place.index)?;
                Ok(link.master.is_some())
            };
            if device.kind == Kind::Packet || (device.kind == Kind::Tap && bridged()?) {
                return Ok(AppliedBy::Software);
            }
            set_address(device.queues[0].as_fd(), mac).map(|()| AppliedBy::Device)
        })
    }

    /// Has the device hand on what is wanted.
    pub(in crate::drivers) fn set_rx_mode(&self, config: &RxConfig) -> Result<RxParts, PortError> {
        let mut open = self.open();
        let Some(Open { device, told }) = open.as_mut() else {
            return Ok(RxParts::empty());
        };
        if device.kind == Kind::Macvtap && !device.passthru && !config.macs.is_empty() {
            return Err(PortError::NotSupported {
                name: self.port.clone(),
                what: "a further address".into(),
                why: format!(
                    "the device below {} hands it frames to one address only; make the macvtap with `mode passthru`",
                    device.name
                ),
            });
        }
        told.tell(device, config)
            .map_err(|source| self.failed(source))
    }

    fn apply(
        &self,
        f: impl FnOnce(&Netdev) -> Result<AppliedBy, NetdevError>,
    ) -> Result<AppliedBy, PortError> {
        match &*self.open() {
            None => Ok(AppliedBy::Software),
            Some(Open { device, .. }) => f(device).map_err(|source| self.failed(source)),
        }
    }

    fn failed(&self, source: NetdevError) -> PortError {
        PortError::Netdev {
            name: self.port.clone(),
            source,
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
