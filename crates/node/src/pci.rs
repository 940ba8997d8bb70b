//! What is on the PCI bus.

use napi_derive::napi;
use vring_pci::{Access, Sysfs};

/// A virtio network device.
#[napi(object)]
pub struct PciFacts {
    /// As `0000:00:03.0`.
    pub address: String,
    /// `vfio`, `uio`, or nothing where no driver has it.
    pub access: Option<String>,
    /// The kernel's driver that has it, where it is not for processes.
    pub driver: Option<String>,
}

/// The virtio network devices of this machine, by address.
#[napi(catch_unwind)]
pub fn pci_devices() -> Vec<PciFacts> {
    let found = Sysfs::default().scan();
    let devices = found.iter().filter(|found| found.is_virtio_net());
    devices
        .map(|found| {
            let name = Some(found.access.name().to_owned());
            let (access, driver) = match found.access {
                Access::Kernel(_) => (None, name),
                Access::NoDriver => (None, None),
                Access::Uio | Access::Vfio => (name, None),
            };
            PciFacts {
                address: found.address.to_string(),
                access,
                driver,
            }
        })
        .collect()
}
