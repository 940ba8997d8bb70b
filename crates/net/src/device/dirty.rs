//! Marks what a device queue writes to its ring in the log of a migration. What it writes to buffers is marked where that is written.
//!
//! While there is a log, chains are given back one by one: then it is known which words of the ring were written, and no other is marked.

use vring_mem::guest::{DirtyLog, GuestMemory, RingLog};
use vring_ring::{Area, DeviceRing};

/// Where a half writes to its ring.
#[derive(Debug, Default)]
pub(super) struct RingDirt {
    /// Without addresses only packets are logged: the front end did not ask for the ring (`VHOST_VRING_F_LOG`).
    at: Option<RingLog>,
    /// Written, or about to be, and not marked: area, offset, bytes.
    places: Vec<(Area, u64, u64)>,
}

impl RingDirt {
    pub(super) fn new(at: Option<RingLog>) -> Self {
        Self {
            at,
            places: Vec::new(),
        }
    }

    /// The next chain is about to be completed.
    #[cold]
    pub(super) fn note<R: DeviceRing>(&mut self, ring: &R) {
        if self.at.is_some() {
            self.places.push(ring.used_place());
        }
    }

    /// What was noted has been published.
    #[cold]
    pub(super) fn mark<R: DeviceRing>(&mut self, log: &DirtyLog, ring: &R) {
        let Some(at) = self.at else { return };
        let index = ring.index_place().filter(|_| !self.places.is_empty());
        for (area, offset, len) in self.places.drain(..).chain(index) {
            mark(log, at, area, offset, len);
        }
    }

    /// A new half, or one that asks for kicks or for none, has written its wish.
    pub(super) fn mark_event<R: DeviceRing>(&self, memory: &GuestMemory, ring: &R) {
        if let (Some(log), Some(at)) = (memory.log(), self.at) {
            let (area, offset, len) = ring.event_word();
            mark(log, at, area, offset, len);
        }
    }
}

fn mark(log: &DirtyLog, at: RingLog, area: Area, offset: u64, len: u64) {
    log.mark(area.address(&at).saturating_add(offset), len);
}
