//! The registers of version 1 (4.1.4).

use super::capability::{self, Capability, Kind};
use super::{NO_VECTOR, Notifier, QueueSetup, Status, Transport};
use crate::{PciAddress, PciError, Window};

/// `struct virtio_pci_common_cfg` (4.1.4.3).
const DEVICE_FEATURE_SELECT: u64 = 0;
const DEVICE_FEATURE: u64 = 4;
const DRIVER_FEATURE_SELECT: u64 = 8;
const DRIVER_FEATURE: u64 = 12;
const CONFIG_VECTOR: u64 = 16;
const NUM_QUEUES: u64 = 18;
const STATUS: u64 = 20;
const GENERATION: u64 = 21;
const QUEUE_SELECT: u64 = 22;
const QUEUE_SIZE: u64 = 24;
const QUEUE_VECTOR: u64 = 26;
const QUEUE_ENABLE: u64 = 28;
const QUEUE_NOTIFY_OFF: u64 = 30;
const QUEUE_DESC: u64 = 32;
const QUEUE_DRIVER: u64 = 40;
const QUEUE_DEVICE: u64 = 48;
const COMMON_SIZE: u32 = 56;

/// See the module.
#[derive(Debug)]
pub struct Modern {
    address: PciAddress,
    common: Window,
    notify: Window,
    multiplier: u32,
    isr: Window,
    config: Window,
}

impl Modern {
    /// Finds them; `None` when the device has no capability of virtio's.
    ///
    /// # Errors
    /// [`PciError::Broken`]: one is missing, too small, or lies outside of its BAR.
    pub fn find(
        address: PciAddress,
        config: &Window,
        bar: &dyn Fn(u8) -> Result<Window, PciError>,
    ) -> Result<Option<Self>, PciError> {
        let all = capability::read(address, config)?;
        if all.is_empty() {
            return Ok(None);
        }
        let window = |kind: Kind, least: u32| -> Result<(Window, Capability), PciError> {
            // BARs above the fifth are reserved, and a driver passes them by (4.1.4.1).
            let found = all.iter().find(|one| one.kind == kind && one.bar < 6);
            let one = *found.ok_or_else(|| PciError::Broken {
                address,
                expected: format!("a virtio capability for {kind:?}"),
                got: "that it has none".into(),
            })?;
            let registers = bar(one.bar)?;
            let inside = registers.part(one.offset.into(), one.len.into());
            let window = inside
                .filter(|_| one.len >= least)
                .ok_or_else(|| PciError::Broken {
                    address,
                    expected: format!(
                        "{kind:?} registers of at least {least} bytes in BAR {} of {}",
                        one.bar,
                        registers.len()
                    ),
                    got: format!("{} at {:#x}", one.len, one.offset),
                })?;
            Ok((window, one))
        };
        let (notify, capability) = window(Kind::Notify, 2)?;
        Ok(Some(Self {
            address,
            common: window(Kind::Common, COMMON_SIZE)?.0,
            notify,
            multiplier: capability.multiplier,
            isr: window(Kind::Isr, 1)?.0,
            config: window(Kind::Device, 1)?.0,
        }))
    }

    fn select(&self, index: u16) {
        self.common.write16(QUEUE_SELECT, index);
    }

    fn refused(&self, what: String) -> PciError {
        PciError::Refused {
            address: self.address,
            what,
        }
    }

    /// The register of a queue, which stands `notify_off` times the multiplier behind the first (4.1.4.4).
    fn notifier(&self, index: u16) -> Result<Notifier, PciError> {
        let off = self.common.read16(QUEUE_NOTIFY_OFF);
        let at = u64::from(off) * u64::from(self.multiplier);
        let register = self.notify.part(at, 2).ok_or_else(|| PciError::Broken {
            address: self.address,
            expected: format!(
                "a notification register of queue {index} within {} bytes",
                self.notify.len()
            ),
            got: format!("{off} times {}", self.multiplier),
        })?;
        Ok(Notifier { register, index })
    }
}

impl Transport for Modern {
    fn is_modern(&self) -> bool {
        true
    }

    fn features(&self) -> u64 {
        let half = |select| {
            self.common.write32(DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read32(DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn set_features(&self, features: u64) {
        for (select, shift) in [(0, 0), (1, 32)] {
            self.common.write32(DRIVER_FEATURE_SELECT, select);
            #[expect(clippy::cast_possible_truncation, reason = "takes the number apart")]
            self.common
                .write32(DRIVER_FEATURE, (features >> shift) as u32);
        }
    }

    fn status(&self) -> Status {
        Status::from_bits_retain(self.common.read8(STATUS))
    }

    fn set_status(&self, status: Status) {
        self.common.write8(STATUS, status.bits());
    }

    fn queue_count(&self) -> u16 {
        self.common.read16(NUM_QUEUES)
    }

    fn queue_size(&self, index: u16) -> u16 {
        self.select(index);
        self.common.read16(QUEUE_SIZE)
    }

    fn set_queue(&self, queue: &QueueSetup) -> Result<Notifier, PciError> {
        let index = queue.index;
        self.select(index);
        if self.common.read16(QUEUE_ENABLE) != 0 {
            return Err(self.refused(format!("has queue {index} enabled already after a reset")));
        }
        self.common.write16(QUEUE_SIZE, queue.size);
        if self.common.read16(QUEUE_SIZE) != queue.size {
            return Err(self.refused(format!(
                "does not take {} descriptors for queue {index}",
                queue.size
            )));
        }
        self.common.write64(QUEUE_DESC, queue.desc);
        self.common.write64(QUEUE_DRIVER, queue.driver);
        self.common.write64(QUEUE_DEVICE, queue.device);
        if let Some(vector) = queue.vector {
            self.common.write16(QUEUE_VECTOR, vector);
            if self.common.read16(QUEUE_VECTOR) == NO_VECTOR {
                return Err(self.refused(format!("has no vector {vector} for queue {index}")));
            }
        }
        let notifier = self.notifier(index)?;
        self.common.write16(QUEUE_ENABLE, 1);
        Ok(notifier)
    }

    fn take_isr(&self) -> u8 {
        self.isr.read8(0)
    }

    fn set_config_vector(&self, vector: u16) -> Result<(), PciError> {
        self.common.write16(CONFIG_VECTOR, vector);
        if self.common.read16(CONFIG_VECTOR) == NO_VECTOR {
            return Err(self.refused(format!("has no vector {vector} for its configuration")));
        }
        Ok(())
    }

    fn set_msix(&self, _on: bool) {}

    fn read_config(&self, bytes: &mut [u8]) -> Result<usize, PciError> {
        let len =
            usize::try_from(self.config.len()).map_or(bytes.len(), |len| len.min(bytes.len()));
        for _ in 0..64 {
            // What changes in between has another generation behind it (4.1.4.3.1).
            let generation = self.common.read8(GENERATION);
            for (at, byte) in (0..).zip(&mut bytes[..len]) {
                *byte = self.config.read8(at);
            }
            if self.common.read8(GENERATION) == generation {
                return Ok(len);
            }
        }
        Err(self.refused("changes its configuration faster than it can be read".into()))
    }

    fn write_config(&self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            self.config.write8(at, *byte);
        }
    }
}
