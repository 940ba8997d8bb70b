//! Why a peer's memory was refused.

use thiserror::Error;

use super::MapError;

/// Why a region or a map of regions was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GuestMemoryError {
    /// Address plus size passes the end of the address space.
    #[error("memory region {guest_addr:#x}: {what} {start:#x} + size {size:#x} overflows")]
    Overflow {
        /// The region's guest-physical address.
        guest_addr: u64,
        /// Which of the region's addresses.
        what: &'static str,
        /// That address.
        start: u64,
        /// Bytes in the region.
        size: u64,
    },
    /// Two regions claim the same addresses.
    #[error(
        "memory region {guest_addr:#x} (front-end address {user_addr:#x}, size {size:#x}) overlaps one that is mapped already"
    )]
    Overlap {
        /// The region's guest-physical address.
        guest_addr: u64,
        /// The region's address in the front end.
        user_addr: u64,
        /// Bytes in the region.
        size: u64,
    },
    /// More regions than [`super::MAX_REGIONS`].
    #[error("expected at most {max} memory regions, got one more")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// A region to be removed is not in the map.
    #[error(
        "no memory region {guest_addr:#x} (front-end address {user_addr:#x}, size {size:#x}) is mapped"
    )]
    Unknown {
        /// The guest-physical address that was named.
        guest_addr: u64,
        /// The front end's address that was named.
        user_addr: u64,
        /// The size that was named.
        size: u64,
    },
    /// Its file cannot be mapped.
    #[error("memory region {guest_addr:#x}: {source}")]
    Map {
        /// The region's guest-physical address.
        guest_addr: u64,
        /// Why.
        source: MapError,
    },
}

impl GuestMemoryError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Overflow { .. } => "ERR_VRING_MEMORY_OVERFLOW",
            Self::Overlap { .. } => "ERR_VRING_MEMORY_OVERLAP",
            Self::TooMany { .. } => "ERR_VRING_MEMORY_SLOTS",
            Self::Unknown { .. } => "ERR_VRING_MEMORY_UNKNOWN",
            Self::Map { source, .. } => source.code(),
        }
    }
}
