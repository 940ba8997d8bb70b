//! The list of capabilities in a device's configuration space, as far as it is virtio's (4.1.4).

use crate::{PciAddress, PciError, Window};

/// What a capability is about (`cfg_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Common = 1,
    Notify = 2,
    Isr = 3,
    Device = 4,
}

/// Where a structure lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capability {
    pub(super) kind: Kind,
    pub(super) bar: u8,
    pub(super) offset: u32,
    pub(super) len: u32,
    /// Of notifications: how far the registers of two queues are apart.
    pub(super) multiplier: u32,
}

/// `PCI_STATUS` with its bit that says that there is a list, and where the list begins.
const STATUS: u64 = 6;
const HAS_LIST: u16 = 1 << 4;
const FIRST: u64 = 0x34;
/// Behind the header.
const LEAST: u8 = 0x40;
/// As many as there is room for, of 4 bytes each.
const MOST: usize = (256 - 0x40) / 4;
/// The vendor's own.
const VENDOR: u8 = 9;

/// virtio's capabilities in the device's order, which is the order of preference.
pub(super) fn read(address: PciAddress, config: &Window) -> Result<Vec<Capability>, PciError> {
    let mut found = Vec::new();
    if config.read16(STATUS) & HAS_LIST == 0 {
        return Ok(found);
    }
    let mut at = config.read8(FIRST) & !3;
    for _ in 0..MOST {
        if at == 0 {
            return Ok(found);
        }
        if at < LEAST {
            return Err(PciError::Broken {
                address,
                expected: format!("capabilities behind the header of {LEAST:#x} bytes"),
                got: format!("one at {at:#x}"),
            });
        }
        let place = u64::from(at);
        if config.read8(place) == VENDOR {
            found.extend(read_one(address, config, place)?);
        }
        at = config.read8(place + 1) & !3;
    }
    Err(PciError::Broken {
        address,
        expected: format!("a list of at most {MOST} capabilities"),
        got: "that it goes on and on".into(),
    })
}

/// A capability of a kind that we know.
fn read_one(address: PciAddress, config: &Window, at: u64) -> Result<Option<Capability>, PciError> {
    let kinds = [Kind::Common, Kind::Notify, Kind::Isr, Kind::Device];
    let number = config.read8(at + 3);
    let Some(kind) = kinds.into_iter().find(|kind| *kind as u8 == number) else {
        return Ok(None);
    };
    let (len, least) = (
        config.read8(at + 2),
        if kind == Kind::Notify { 20 } else { 16 },
    );
    if len < least || at + u64::from(least) > config.len() {
        return Err(PciError::Broken {
            address,
            expected: format!("a virtio capability of at least {least} bytes"),
            got: format!("one of {len} at {at:#x}"),
        });
    }
    let multiplier = if kind == Kind::Notify {
        config.read32(at + 16)
    } else {
        0
    };
    Ok(Some(Capability {
        kind,
        bar: config.read8(at + 4),
        offset: config.read32(at + 8),
        len: config.read32(at + 12),
        multiplier,
    }))
}
