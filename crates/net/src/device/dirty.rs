//! Marks what a device queue writes in the log of a migration.

use vring_mem::guest::{DirtyLog, GuestMemory, RingLog};
use vring_ring::{Area, DeviceRing};

/// Marks what the ring's half wrote since its base was `since`. Without addresses for the log only packets are logged: the front end did not
/// ask for the ring (`VHOST_VRING_F_LOG`).
#[cold]
pub(super) fn mark_ring<R: DeviceRing>(log: &DirtyLog, at: Option<RingLog>, ring: &R, since: u32) {
    if let Some(at) = at {
        ring.written(since, &mut |area, offset, len| {
            mark(log, at, area, offset, len);
        });
    }
    if ring.base() != since {
        log.tell();
    }
}

/// Marks where a new half, or one that asks for kicks or for none, has written.
pub(super) fn mark_event<R: DeviceRing>(memory: &GuestMemory, at: Option<RingLog>, ring: &R) {
    if let (Some(log), Some(at)) = (memory.log(), at) {
        let (area, offset, len) = ring.event_word();
        mark(log, at, area, offset, len);
    }
}

fn mark(log: &DirtyLog, at: RingLog, area: Area, offset: u64, len: u64) {
    log.mark(area.address(&at).saturating_add(offset), len);
}
