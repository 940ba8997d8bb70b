//! What can go wrong with a device on the bus.

use std::io;

use crate::PciAddress;

/// A failure to take or use a device.
#[derive(Debug, thiserror::Error)]
pub enum PciError {
    /// Not an address.
    #[error("expected a PCI address like 0000:00:03.0, got '{got}'")]
    BadAddress {
        /// What came.
        got: String,
    },
    /// There is no such device.
    #[error("{address}: there is no such PCI device (see /sys/bus/pci/devices)")]
    NoDevice {
        /// The address.
        address: PciAddress,
    },
    /// It is something else.
    #[error(
        "{address}: expected a virtio network device (1af4:1000 or 1af4:1041), got {vendor:04x}:{device:04x}"
    )]
    Kind {
        /// The address.
        address: PciAddress,
        /// Its vendor.
        vendor: u16,
        /// What it is.
        device: u16,
    },
    /// A driver of the kernel's has it.
    #[error(
        "{address}: expected a device that is bound to vfio-pci or uio_pci_generic, or to no driver; {driver} of the kernel has it: bind it with \
         'vring devbind -b vfio-pci {address}'"
    )]
    Bound {
        /// The address.
        address: PciAddress,
        /// The driver.
        driver: String,
    },
    /// Another process drives it.
    #[error("{address}: process {pid} drives this device: end it first")]
    InUse {
        /// The address.
        address: PciAddress,
        /// The process, as far as it can be told.
        pid: String,
    },
    /// The process may not.
    #[error("no permission for {path}: run as root, or give the user access to it")]
    Permission {
        /// The file.
        path: String,
    },
    /// What the device says of itself cannot be.
    #[error("{address}: expected {expected}, the device says {got}")]
    Broken {
        /// The address.
        address: PciAddress,
        /// What should be.
        expected: String,
        /// What is.
        got: String,
    },
    /// The device does not do what it is told.
    #[error("{address}: the device {what}")]
    Refused {
        /// The address.
        address: PciAddress,
        /// What it did.
        what: String,
    },
    /// VFIO does not give the device.
    #[error("{address}: {what}")]
    Vfio {
        /// The address.
        address: PciAddress,
        /// Why, and what to do.
        what: String,
    },
    /// Memory that a device cannot be given.
    #[error(
        "{address}: without an IOMMU a device needs memory on hugepages, this lies on pages of 4 KiB: reserve some with 'vring hugepages --setup 256M', \
         or use an IOMMU and vfio-pci"
    )]
    NoHugepages {
        /// The address.
        address: PciAddress,
    },
    /// Physical addresses are not told.
    #[error(
        "{address}: /proc/self/pagemap does not tell physical addresses: run with CAP_SYS_ADMIN, or use an IOMMU and vfio-pci"
    )]
    NoPhysical {
        /// The address.
        address: PciAddress,
    },
    /// A system call failed.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl PciError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadAddress { .. } => "ERR_VRING_BAD_DEVARG",
            Self::NoDevice { .. } => "ERR_VRING_NO_SUCH_DEVICE",
            Self::Kind { .. } => "ERR_VRING_DEVICE_KIND",
            Self::Bound { .. } | Self::InUse { .. } => "ERR_VRING_DEVICE_IN_USE",
            Self::Permission { .. } | Self::NoPhysical { .. } => "ERR_VRING_PERMISSION",
            Self::Broken { .. } | Self::Refused { .. } => "ERR_VRING_PCI_DEVICE",
            Self::Vfio { .. } => "ERR_VRING_VFIO",
            Self::NoHugepages { .. } => "ERR_VRING_NO_HUGEPAGES",
            Self::System { .. } => "ERR_VRING_SYSTEM",
        }
    }

    /// A call on the file `path` failed.
    pub(crate) fn file(path: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), source.into());
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Permission { path }
        } else {
            Self::System { what: path, source }
        }
    }
}
