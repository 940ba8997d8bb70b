//! What the kernel tells of the bus: which devices there are, and who has them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{PciAddress, PciError};

/// virtio's vendor, and a network device's ids: of transitional and legacy ones, and of those that are modern alone (4.1.2).
const VENDOR: u16 = 0x1af4;
const NET: [u16; 2] = [0x1000, 0x1041];

/// Who stands between a process and a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// `uio_pci_generic`, or another driver that shows the device as `/dev/uio…`.
    Uio,
    /// `vfio-pci`.
    Vfio,
    /// Nobody.
    NoDriver,
    /// A driver of the kernel's own, by name: the device is not ours to take.
    Kernel(String),
}

impl Access {
    /// In a word.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Uio => "uio",
            Self::Vfio => "vfio",
            Self::NoDriver => "no driver",
            Self::Kernel(driver) => driver,
        }
    }
}

/// A device that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub address: PciAddress,
    /// Its vendor's id.
    pub vendor: u16,
    /// Its own.
    pub device: u16,
    /// Who has it.
    pub access: Access,
    /// Its folder in sysfs.
    pub path: PathBuf,
}

impl Found {
    /// Whether it is a virtio network device.
    #[must_use]
    pub fn is_virtio_net(&self) -> bool {
        self.vendor == VENDOR && NET.contains(&self.device)
    }
}

/// The folder of all devices.
#[derive(Debug, Clone)]
pub struct Sysfs {
    devices: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::at("/sys/bus/pci/devices")
    }
}

impl Sysfs {
    /// Another folder that looks like the kernel's.
    #[must_use]
    pub fn at(devices: impl Into<PathBuf>) -> Self {
        Self {
            devices: devices.into(),
        }
    }

    /// All devices, by address. What vanishes meanwhile is left out, and a machine without such a bus has none.
    #[must_use]
    pub fn scan(&self) -> Vec<Found> {
        let entries = fs::read_dir(&self.devices).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<_> = names
            .filter_map(|name| name.parse().ok())
            .filter_map(|address| self.find(address).ok())
            .collect();
        found.sort_by_key(|found| found.address);
        found
    }

    /// The device at that address.
    ///
    /// # Errors
    /// [`PciError::NoDevice`].
    pub fn find(&self, address: PciAddress) -> Result<Found, PciError> {
        let path = self.devices.join(address.to_string());
        let id = |name| hex_file(&path.join(name));
        let (Some(vendor), Some(device)) = (id("vendor"), id("device")) else {
            return Err(PciError::NoDevice { address });
        };
        Ok(Found {
            address,
            vendor,
            device,
            access: access(&path),
            path,
        })
    }
}

fn access(path: &Path) -> Access {
    let Ok(link) = fs::read_link(path.join("driver")) else {
        return Access::NoDriver;
    };
    let driver = link
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if driver == "vfio-pci" {
        Access::Vfio
    } else if path.join("uio").is_dir() {
        Access::Uio
    } else {
        Access::Kernel(driver)
    }
}

/// A file with a number like `0x1af4`.
fn hex_file(path: &Path) -> Option<u16> {
    let text = fs::read_to_string(path).ok()?;
    u16::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// A line of a device's `resource` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) is_ports: bool,
}

impl Resource {
    /// The device's BAR of that number; `None` where it has none.
    pub(crate) fn read(device: &Path, bar: u8) -> Option<Self> {
        const IORESOURCE_IO: u64 = 0x100;
        let text = fs::read_to_string(device.join("resource")).ok()?;
        let mut numbers = text
            .lines()
            .nth(bar.into())?
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        let mut next = || numbers.next().flatten();
        let (start, end, flags) = (next()?, next()?, next()?);
        let len = end.checked_sub(start)?.checked_add(1)?;
        (end != 0).then_some(Self {
            start,
            len,
            is_ports: flags & IORESOURCE_IO != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn make(devices: &Path, address: &str, device: &str, driver: Option<&str>) {
        let path = devices.join(address);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("vendor"), "0x1af4\n").unwrap();
        fs::write(path.join("device"), device).unwrap();
        if let Some(driver) = driver {
            symlink(format!("../drivers/{driver}"), path.join("driver")).unwrap();
        }
    }

    /// Devices are found in the order of their addresses, with who has them.
    #[test]
    fn scans() {
        let folder = std::env::temp_dir().join(format!("vring-sysfs-{}", std::process::id()));
        make(&folder, "0000:00:10.0", "0x1041\n", Some("vfio-pci"));
        make(&folder, "0000:00:03.0", "0x1000\n", None);
        make(&folder, "0000:00:04.0", "0x1000\n", Some("uio_pci_generic"));
        fs::create_dir(folder.join("0000:00:04.0/uio")).unwrap();
        make(&folder, "0000:00:05.0", "0x1005\n", Some("virtio-pci"));
        fs::write(
            folder.join("0000:00:03.0/resource"),
            "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n",
        )
        .unwrap();
        let sysfs = Sysfs::at(&folder);
        let seen: Vec<_> = sysfs
            .scan()
            .iter()
            .map(|found| {
                (
                    found.address.to_string(),
                    found.is_virtio_net(),
                    found.access.name().to_owned(),
                )
            })
            .collect();
        let expected = [
            ("0000:00:03.0", true, "no driver"),
            ("0000:00:04.0", true, "uio"),
            ("0000:00:05.0", false, "virtio-pci"),
            ("0000:00:10.0", true, "vfio"),
        ];
        assert_eq!(
            seen,
            expected.map(|(address, net, access)| (address.to_owned(), net, access.to_owned()))
        );
        let ports = Resource::read(&folder.join("0000:00:03.0"), 0);
        let expected = Resource {
            start: 0xc000,
            len: 32,
            is_ports: true,
        };
        assert_eq!(ports, Some(expected));
        assert_eq!(Resource::read(&folder.join("0000:00:03.0"), 1), None);
        assert_eq!(Resource::read(&folder.join("0000:00:03.0"), 7), None);
        let missing = sysfs.find("0000:00:1f.0".parse().unwrap()).unwrap_err();
        assert_eq!(missing.code(), "ERR_VRING_NO_SUCH_DEVICE");
        fs::remove_dir_all(folder).unwrap();
    }
}
