//! What a port does to the kernel's device when it is asked to.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vring_netdev::{NetdevError, Netlink, set_carrier};

use super::{Kind, Netdev};
use crate::PortError;
use crate::port::AppliedBy;

/// The device of a port, until that is closed.
#[derive(Debug)]
pub(in crate::drivers) struct Handle {
    port: String,
    details: BTreeMap<&'static str, String>,
    device: Mutex<Option<Arc<Netdev>>>,
}

impl Handle {
    pub(in crate::drivers) fn new(port: &str, device: Arc<Netdev>) -> Self {
        let details = [
            ("device", device.name.clone()),
            ("device kind", device.kind.name().to_owned()),
            ("namespace", device.namespace.to_string()),
        ];
        Self {
            port: port.to_owned(),
            details: details.into(),
            device: Mutex::new(Some(device)),
        }
    }

    /// Which device it is, for people.
    pub(in crate::drivers) fn details(&self) -> BTreeMap<&'static str, String> {
        self.details.clone()
    }

    /// Lets the device go: its files are closed, unless a path still has them.
    pub(in crate::drivers) fn close(&self) {
        self.device().take();
    }

    /// Gives the device another MTU.
    pub(in crate::drivers) fn set_mtu(&self, mtu: u16) -> Result<AppliedBy, PortError> {
        self.apply(|device| {
            Netlink::open(&device.namespace)?.set_mtu(device.index, mtu.into())?;
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

    fn apply(
        &self,
        f: impl FnOnce(&Netdev) -> Result<AppliedBy, NetdevError>,
    ) -> Result<AppliedBy, PortError> {
        match &*self.device() {
            None => Ok(AppliedBy::Software),
            Some(device) => f(device).map_err(|source| PortError::Netdev {
                name: self.port.clone(),
                source,
            }),
        }
    }

    fn device(&self) -> MutexGuard<'_, Option<Arc<Netdev>>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
