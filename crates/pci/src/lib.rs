//! virtio devices on the PCI bus, driven from this process.
//!
//! A [`PciAddress`] names a device, [`Sysfs`] finds it, [`Device`] takes it: by UIO, by VFIO, or with no driver of the kernel's in between. What
//! the device's registers say is in [`virtio`]. Written after the virtio specification 1.2, chapter 4.1, and the kernel's
//! `Documentation/driver-api/vfio.rst` and `uio-howto.rst`.
//!
//! The device is a peer like any other: what its configuration space, capabilities and registers say is read once, checked, and then used.

mod address;
mod device;
mod dma;
mod error;
mod irq;
mod lock;
mod pagemap;
mod registers;
mod sysfs;
mod vfio;
pub mod virtio;

pub use address::PciAddress;
pub use device::Device;
pub use dma::Mapping;
pub use error::PciError;
pub use irq::{Interrupts, Line};
pub use registers::{Registers, Window};
pub use sysfs::{Access, Found, Sysfs};
