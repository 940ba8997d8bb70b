//! A virtio device's registers, as the specification has them in two generations (4.1): modern ones are found by a list of capabilities, legacy
//! ones are the first BAR. Transitional devices have both.

mod capability;
mod legacy;
mod modern;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use legacy::Legacy;
pub use modern::Modern;

use crate::{Device, PciAddress, PciError, Window};

bitflags::bitflags! {
    /// The device's status (2.1).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Status: u8 {
        /// The driver has seen the device.
        const ACKNOWLEDGE = 1;
        /// The driver knows how to drive it.
        const DRIVER = 2;
        /// The driver is ready.
        const DRIVER_OK = 4;
        /// The features are agreed on.
        const FEATURES_OK = 8;
        /// The device met an error that only a reset ends.
        const NEEDS_RESET = 64;
        /// The driver gave up.
        const FAILED = 128;
        const _ = !0;
    }
}

/// Bits of the ISR register: which kind of interrupt it was (4.1.4.5).
pub const ISR_QUEUE: u8 = 1;
/// The configuration has changed.
pub const ISR_CONFIG: u8 = 2;

/// No vector of MSI-X (4.1.5.1.2).
const NO_VECTOR: u16 = 0xffff;

/// A queue as the device is told of it. Addresses are the device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSetup {
    /// Its number.
    pub index: u16,
    /// Descriptors.
    pub size: u16,
    /// Descriptor area.
    pub desc: u64,
    /// Driver area.
    pub driver: u64,
    /// Device area.
    pub device: u64,
    /// Its vector of MSI-X; `None` for none.
    pub vector: Option<u16>,
}

/// Where a device is told that a queue has something new.
#[derive(Debug, Clone)]
pub struct Notifier {
    register: Window,
    index: u16,
}

impl Notifier {
    /// Tells it.
    #[inline]
    pub fn notify(&self) {
        self.register.write16(0, self.index);
    }
}

/// The registers of either generation.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Whether they are those of version 1: 64 bits of features, queues anywhere, a generation of the configuration.
    fn is_modern(&self) -> bool;
    /// What the device offers.
    fn features(&self) -> u64;
    /// What the driver takes.
    fn set_features(&self, features: u64);
    /// The status.
    fn status(&self) -> Status;
    /// Sets it. Empty starts a reset: see [`reset`].
    fn set_status(&self, status: Status);
    /// Most queues that the device has; legacy ones do not say.
    fn queue_count(&self) -> u16;
    /// Most descriptors of a queue, 0 where there is none. Legacy queues have exactly so many.
    fn queue_size(&self, index: u16) -> u16;
    /// Gives the device a queue: how it is told of what is new there.
    ///
    /// # Errors
    /// [`PciError::Broken`], [`PciError::Refused`].
    fn set_queue(&self, queue: &QueueSetup) -> Result<Notifier, PciError>;
    /// Takes the kind of interrupt that fired; with a line, that also lets go of it.
    fn take_isr(&self) -> u8;
    /// The vector for changes of the configuration.
    ///
    /// # Errors
    /// [`PciError::Refused`].
    fn set_config_vector(&self, vector: u16) -> Result<(), PciError>;
    /// Says that MSI-X was switched on or off: in legacy registers, what is behind them moves.
    fn set_msix(&self, on: bool);
    /// Reads the configuration, all at one time; how many of the bytes there are.
    ///
    /// # Errors
    /// [`PciError::Refused`]: it never stays the same.
    fn read_config(&self, bytes: &mut [u8]) -> Result<usize, PciError>;
    /// Writes a part of it.
    fn write_config(&self, at: u64, bytes: &[u8]);
}

/// Finds the registers of a device: modern ones, unless there are none or `legacy` is asked for.
///
/// # Errors
/// [`PciError::Broken`]: what the device says of itself cannot be.
pub fn open(device: &Device, legacy: bool) -> Result<Box<dyn Transport>, PciError> {
    let address = device.address();
    if !legacy && let Some(modern) = Modern::find(address, device.config(), &|bar| device.bar(bar))?
    {
        return Ok(Box::new(modern));
    }
    Ok(Box::new(Legacy::new(address, device.bar(0)?)?))
}

/// Resets a device: when this returns, it does not touch memory any more, and knows no queue (2.4, 4.1.4.3.1).
///
/// # Errors
/// [`PciError::Refused`]: it does not answer within two seconds, or is gone.
pub fn reset(address: PciAddress, transport: &dyn Transport) -> Result<(), PciError> {
    transport.set_status(Status::empty());
    for _ in 0..2000 {
        let status = transport.status();
        if status.is_empty() {
            return Ok(());
        }
        if status == Status::all() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let what = format!(
        "was reset, and says that its status is {:#x} still",
        transport.status().bits()
    );
    Err(PciError::Refused { address, what })
}
