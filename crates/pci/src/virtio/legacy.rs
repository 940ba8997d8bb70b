//! The registers before version 1 (4.1.4.10): the first BAR, in ports as a rule.

use std::sync::atomic::{AtomicBool, Ordering};

use vring_ring::LEGACY_ALIGN;

use super::{NO_VECTOR, Notifier, QueueSetup, Status, Transport};
use crate::{PciAddress, PciError, Window};

const DEVICE_FEATURES: u64 = 0;
const DRIVER_FEATURES: u64 = 4;
const QUEUE_ADDRESS: u64 = 8;
const QUEUE_SIZE: u64 = 12;
const QUEUE_SELECT: u64 = 14;
const QUEUE_NOTIFY: u64 = 16;
const STATUS: u64 = 18;
const ISR: u64 = 19;
/// These two are there while MSI-X is on, and the configuration is behind them then.
const CONFIG_VECTOR: u64 = 20;
const QUEUE_VECTOR: u64 = 22;
const CONFIG: u64 = 20;
const CONFIG_WITH_MSIX: u64 = 24;

/// See the module.
#[derive(Debug)]
pub struct Legacy {
    address: PciAddress,
    registers: Window,
    msix: AtomicBool,
}

impl Legacy {
    /// They are the whole of BAR 0.
    ///
    /// # Errors
    /// [`PciError::Broken`]: it is too small.
    pub fn new(address: PciAddress, registers: Window) -> Result<Self, PciError> {
        if registers.len() < CONFIG_WITH_MSIX {
            return Err(PciError::Broken {
                address,
                expected: format!("legacy registers of at least {CONFIG_WITH_MSIX} bytes"),
                got: format!("BAR 0 of {}", registers.len()),
            });
        }
        Ok(Self {
            address,
            registers,
            msix: AtomicBool::new(false),
        })
    }

    fn config(&self) -> u64 {
        if self.msix.load(Ordering::Relaxed) {
            CONFIG_WITH_MSIX
        } else {
            CONFIG
        }
    }

    fn refused(&self, what: String) -> PciError {
        PciError::Refused {
            address: self.address,
            what,
        }
    }

    fn read_once(&self, bytes: &mut [u8]) -> usize {
        let from = self.config();
        let left = usize::try_from(self.registers.len() - from).unwrap_or(usize::MAX);
        let len = left.min(bytes.len());
        for (at, byte) in (from..).zip(&mut bytes[..len]) {
            *byte = self.registers.read8(at);
        }
        len
    }
}

impl Transport for Legacy {
    fn is_modern(&self) -> bool {
        false
    }

    fn features(&self) -> u64 {
        self.registers.read32(DEVICE_FEATURES).into()
    }

    fn set_features(&self, features: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "there are no more")]
        self.registers.write32(DRIVER_FEATURES, features as u32);
    }

    fn status(&self) -> Status {
        Status::from_bits_retain(self.registers.read8(STATUS))
    }

    fn set_status(&self, status: Status) {
        self.registers.write8(STATUS, status.bits());
    }

    fn queue_count(&self) -> u16 {
        u16::MAX
    }

    fn queue_size(&self, index: u16) -> u16 {
        self.registers.write16(QUEUE_SELECT, index);
        self.registers.read16(QUEUE_SIZE)
    }

    fn set_queue(&self, queue: &QueueSetup) -> Result<Notifier, PciError> {
        let index = queue.index;
        self.registers.write16(QUEUE_SELECT, index);
        if self.registers.read32(QUEUE_ADDRESS) != 0 {
            return Err(self.refused(format!("has queue {index} enabled already after a reset")));
        }
        let page = queue.desc / LEGACY_ALIGN as u64;
        let page = u32::try_from(page).map_err(|_| {
            self.refused(format!(
                "takes queues below 16 TiB alone, its memory is at {:#x}",
                queue.desc
            ))
        })?;
        self.registers.write32(QUEUE_ADDRESS, page);
        if self.registers.read32(QUEUE_ADDRESS) != page {
            return Err(self.refused(format!("does not take the address of queue {index}")));
        }
        if let Some(vector) = queue.vector {
            self.registers.write16(QUEUE_VECTOR, vector);
            if self.registers.read16(QUEUE_VECTOR) == NO_VECTOR {
                return Err(self.refused(format!("has no vector {vector} for queue {index}")));
            }
        }
        let register = self.registers.part(QUEUE_NOTIFY, 2);
        let register = register.ok_or_else(|| self.refused("has too few registers".into()))?;
        Ok(Notifier { register, index })
    }

    fn take_isr(&self) -> u8 {
        self.registers.read8(ISR)
    }

    fn set_config_vector(&self, vector: u16) -> Result<(), PciError> {
        self.registers.write16(CONFIG_VECTOR, vector);
        if self.registers.read16(CONFIG_VECTOR) == NO_VECTOR {
            return Err(self.refused(format!("has no vector {vector} for its configuration")));
        }
        Ok(())
    }

    fn set_msix(&self, on: bool) {
        self.msix.store(on, Ordering::Relaxed);
    }

    fn read_config(&self, bytes: &mut [u8]) -> Result<usize, PciError> {
        // There is no generation: what is read twice alike was so at one time (2.5.4).
        let mut again = bytes.to_vec();
        let len = self.read_once(bytes);
        for _ in 0..64 {
            self.read_once(&mut again);
            if again[..len] == bytes[..len] {
                return Ok(len);
            }
            bytes.copy_from_slice(&again);
        }
        Err(self.refused("changes its configuration faster than it can be read".into()))
    }

    fn write_config(&self, at: u64, bytes: &[u8]) {
        for (at, byte) in (self.config() + at..).zip(bytes) {
            self.registers.write8(at, *byte);
        }
    }
}
