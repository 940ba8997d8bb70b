//! Rings behind an IOMMU (`VIRTIO_F_ACCESS_PLATFORM`): the front end tells translations, and is asked for those that are missing.
//!
//! Rings get a map of what is known. An update makes a new one, for which running rings need not stop; many that come at once make one. What is
//! taken back is gone for the data paths before that is acknowledged.

use std::sync::Arc;

use vring_mem::guest::{Access, GuestMemory, Iotlb, Misses, Updated};

use super::Notifier;
use super::ring::Ring;
use super::session::Session;
use crate::error::VhostError;
use crate::message::{F_ACCESS_PLATFORM, IotlbMessage, Request, iotlb};

/// What a session knows of the IOMMU.
pub(super) struct Iommu {
    iotlb: Iotlb,
    pub(super) misses: Arc<Misses>,
    /// What was told since the rings' map was made.
    told: Vec<(u64, u64, Access)>,
}

impl Iommu {
    pub(super) fn new(notifier: &Notifier) -> Self {
        Self {
            iotlb: Iotlb::default(),
            misses: Arc::new(Misses::new(notifier.wake())),
            told: Vec::new(),
        }
    }

    /// Everything: the memory is another, or nobody told any longer of what is taken back.
    pub(super) fn forget(&mut self) {
        self.iotlb.clear();
        self.misses.clear();
        self.told.clear();
    }
}

impl Session<'_> {
    /// Whether addresses are I/O virtual.
    pub(super) fn has_iommu(&self) -> bool {
        self.features & F_ACCESS_PLATFORM != 0
    }

    pub(super) fn iotlb_message(&mut self, message: IotlbMessage) -> Result<(), VhostError> {
        let request = Request::IOTLB_MSG;
        let bad = |reason: String| VhostError::BadValue { request, reason };
        if !self.has_iommu() {
            return Err(bad(
                "expected none without VIRTIO_F_ACCESS_PLATFORM".to_owned()
            ));
        }
        match message.kind {
            iotlb::UPDATE => self.iotlb_update(message).map_err(bad),
            iotlb::INVALIDATE => {
                self.iotlb_invalidate(message.iova, message.size);
                Ok(())
            }
            kind => Err(bad(format!(
                "expected an update (2) or an invalidation (3), got kind {kind}"
            ))),
        }
    }

    fn iotlb_update(&mut self, message: IotlbMessage) -> Result<(), String> {
        let (range, user) = ((message.iova, message.size), message.user_addr);
        let access = Access::from_bits(message.access)
            .ok_or_else(|| format!("expected an access of 1 to 3, got {}", message.access))?;
        let rings = &self.rings;
        let in_use = |at, end| rings.iter().any(|ring| ring.uses(at, end));
        let iotlb = &mut self.iommu.iotlb;
        let updated = iotlb.update(range, user, access, &self.map, in_use)?;
        if updated == Updated::Nothing {
            self.iommu.misses.told(range.0, range.1, access);
            return Ok(());
        }
        self.iommu.told.push((range.0, range.1, access));
        if updated == Updated::Replaced {
            self.iotlb_changed(range.0, range.1);
        }
        Ok(())
    }

    fn iotlb_invalidate(&mut self, iova: u64, size: u64) {
        self.iommu.misses.told(iova, size, Access::all());
        if self.iommu.iotlb.invalidate(iova, size) {
            self.iommu.told.push((iova, size, Access::empty()));
            self.iotlb_changed(iova, size);
        }
    }

    /// Something else than before is true of a range: rings that lie in it stop, and all others use the new map when this returns.
    fn iotlb_changed(&mut self, iova: u64, size: u64) {
        let (first, end) = match size {
            0 => (0, u64::MAX),
            _ => (iova, iova.saturating_add(size)),
        };
        for index in 0..self.config.rings() {
            if self.rings[usize::from(index)].uses(first, end) {
                self.stop(index);
            }
        }
        self.iotlb_catch_up();
    }

    /// Gives rings the map of all that was told. Rings that waited for a translation start.
    pub(super) fn iotlb_catch_up(&mut self) {
        if self.iommu.told.is_empty() {
            return;
        }
        self.rebuild_memory();
        self.handler.set_memory(&self.memory);
        // Only now: with the map before, data paths would ask again.
        for (iova, size, access) in self.iommu.told.drain(..) {
            self.iommu.misses.told(iova, size, access);
        }
        self.start_complete();
    }

    /// A front end does not tell of what is taken back while no ring is there to use it: all of it is forgotten.
    pub(super) fn iotlb_flush(&mut self) {
        if self.has_iommu() && !self.rings.iter().any(Ring::is_complete) {
            self.iommu.forget();
            self.rebuild_memory();
        }
    }

    /// The map that rings work with, of the memory that the front end shared.
    pub(super) fn ring_memory(&self, map: GuestMemory) -> GuestMemory {
        if self.has_iommu() {
            let misses = self.iommu.misses.clone();
            self.iommu.iotlb.translated(&map, misses)
        } else {
            map
        }
    }
}
