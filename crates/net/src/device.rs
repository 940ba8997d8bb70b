//! The device's half: one copy between guest memory and the mempool, in each direction.

mod dirty;
mod pieces;
mod rx;
mod tx;

use std::ptr::NonNull;

use vring_mem::guest::{Access, GuestMemory, RegionView};
use vring_ring::{DescFlags, DeviceRing, RingFault};

use crate::Counters;

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

/// What came of a burst that stopped at a fault: a translation that is not known yet is asked for, with those of the chains behind it, and the
/// burst is only shorter. All else stays a fault.
#[cold]
fn ask<R: DeviceRing>(
    fault: RingFault,
    ring: &mut R,
    memory: &GuestMemory,
    counters: &Counters,
) -> Result<(), RingFault> {
    /// Descriptors that are looked at for more that is missing.
    const MOST_ASKED: usize = 256;
    let RingFault::Miss { addr, len, access } = fault else {
        return Err(fault);
    };
    let mut asked = memory.want(addr, len.into(), access);
    let waiting = ring.ready(LOOK_AHEAD)?.min(LOOK_AHEAD);
    let mut left = MOST_ASKED;
    for nth in 0..waiting {
        // A lie, or a table that is not known yet, is met when it is the first.
        let Ok(head) = ring.peek(nth) else { break };
        if head.desc.flags.contains(DescFlags::INDIRECT) {
            asked += memory.want(head.desc.addr, head.desc.len.into(), Access::READ);
        }
        let _as_far_as_it_is_known = ring.walk(head, memory, &mut |desc| {
            left -= 1;
            asked += memory.want(desc.addr, desc.len.into(), access);
            if left == 0 { Err(fault) } else { Ok(()) }
        });
        if left == 0 {
            break;
        }
    }
    counters.iotlb_missed(asked as u64);
    Ok(())
}

/// Where `len` bytes of guest memory are, by the region that was hit last and else by the map.
#[inline(always)]
fn translate(
    view: &mut RegionView,
    memory: &GuestMemory,
    addr: u64,
    len: u32,
    access: Access,
) -> Option<*mut u8> {
    if let Some(ptr) = view.translate(addr, len.into()) {
        return Some(ptr.as_ptr());
    }
    *view = memory.region_of(addr, access)?;
    view.translate(addr, len.into()).map(NonNull::as_ptr)
}
