//! The device's half: one copy between guest memory and the mempool, in each direction.

mod dirty;
mod pieces;
mod rx;
mod tx;

use std::ptr::NonNull;

use vring_mem::guest::{GuestMemory, RegionView};
use vring_ring::RingFault;

pub use rx::DeviceRx;
pub use tx::DeviceTx;

/// What a fault in this memory really is: where the peer took memory away there are zeros now, which look like a fault of another kind.
#[cold]
fn or_gone(memory: &GuestMemory, fault: RingFault) -> RingFault {
    if memory.is_poisoned() {
        RingFault::MemoryGone
    } else {
        fault
    }
}

/// Packets that are looked at ahead of being copied, so that their lines travel while others are worked on.
const LOOK_AHEAD: usize = 32;

/// Where `len` bytes of guest memory are, by the region that was hit last and else by the map.
#[inline(always)]
fn translate(view: &mut RegionView, memory: &GuestMemory, addr: u64, len: u32) -> Option<*mut u8> {
    if let Some(ptr) = view.translate(addr, len.into()) {
        return Some(ptr.as_ptr());
    }
    *view = memory.region_of(addr)?;
    view.translate(addr, len.into()).map(NonNull::as_ptr)
}
