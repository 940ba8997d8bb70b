//! In-flight records (vhost-user specification, "Inflight I/O tracking"): what a device writes down, in memory that the front end keeps, so that
//! the device that comes after a crash gives each chain back exactly once.
//!
//! Our halves take a chain and give it back within one burst, and publish a burst by one store. A burst that was not published was never
//! taken as far as the driver can tell, so coming back means to begin where nothing was given back yet, with the ring as the driver left it:
//!
//! * A split ring then *is* as the driver left it, and its used index says where. Its record has no marks.
//! * Of a packed ring, used elements lie over descriptors. Before one is written the descriptors go into the record, and [`resume`] puts them back.
//!
//! Devices that use chains in another order leave marks for chains that were taken and not given back. [`resume`] offers these to our half once
//! more, before all others and in the order in which they were taken.
//!
//! A crash is the end of a process: all stores before some instruction are there and none after it. So the order of stores counts here, and only
//! the compiler could change it.

mod record;
mod recorded;
#[cfg(all(test, not(feature = "loom")))]
pub(crate) mod tests;

use std::ptr::NonNull;

pub(crate) use record::in_order;
pub use record::{Record, record_bytes};
pub use recorded::Recorded;
pub(crate) use recorded::{Book, Recordable};

use crate::{Area, RingFault};

/// A ring's three areas and size, as a device is told of them.
#[derive(Debug, Clone, Copy)]
pub struct Areas {
    /// Descriptor area.
    pub desc: NonNull<u8>,
    /// Driver area.
    pub driver: NonNull<u8>,
    /// Device area.
    pub device: NonNull<u8>,
    /// Descriptors.
    pub size: u16,
}

/// Takes a ring up that another device left, by its record: afterwards nothing is in flight, and a half goes on at the returned base. A record
/// that no device has used yet says nothing: then that is `base`. `written` hears what of the ring was written, for the log of a migration.
///
/// May be interrupted at any point, and begun anew.
///
/// # Errors
/// The record says what cannot be. The front end can write there.
///
/// # Safety
/// The areas are those of a ring of the record's format, aligned and writable as the halves demand it, and mapped meanwhile.
pub unsafe fn resume(
    areas: Areas,
    base: u32,
    record: &Record,
    written: &mut dyn FnMut(Area, u64, u64),
) -> Result<u32, RingFault> {
    if !record.is_begun(areas.size)? {
        return Ok(base);
    }
    // SAFETY: the caller's promise.
    unsafe {
        if record.is_packed() {
            crate::packed::resume(areas, record, written)
        } else {
            crate::split::resume(areas, base, record, written)
        }
    }
}
