//! The record of what is in flight, which outlives the back end: the front end keeps the file.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vring_mem::guest::SharedFile;
use vring_mem::{Pages, Region};
use vring_ring::inflight::{Areas, Record, record_bytes, resume};

use super::VringConfig;
use super::session::{Session, expect_fds};
use crate::error::VhostError;
use crate::message::{F_RING_PACKED, InflightArea, MAX_VRING_SIZE, Request};
use crate::wire;

/// The records of all rings, one after the other.
pub(super) struct Inflight {
    file: Arc<SharedFile>,
    rings: u16,
    size: u16,
}

impl Inflight {
    /// That of one ring, if there is one.
    pub fn record(&self, ring: u16, packed: bool) -> Option<Record> {
        let at = u64::from(ring) * record_bytes(packed, self.size);
        let record = Record::new(&self.file, at, packed, self.size);
        record.filter(|_| ring < self.rings)
    }
}

/// Takes up what another back end left of a ring, and says where the ring goes on.
pub(super) fn take_up(config: &VringConfig) -> Result<u32, String> {
    let Some(record) = &config.record else {
        return Ok(config.base);
    };
    let areas = Areas {
        desc: config.desc,
        driver: config.avail,
        device: config.used,
        size: config.size,
    };
    // SAFETY: `locate` checked size, alignment and bounds of the areas for the negotiated format, of which the record is too, and config holds the
    // memory.
    let base = unsafe {
        resume(areas, config.base, record, &mut |area, offset, len| {
            if let Some((log, at)) = config.memory.log().zip(config.log) {
                log.mark(area.address(&at).saturating_add(offset), len);
            }
        })
    };
    base.map_err(|fault| format!("ring {}: {fault}", config.index))
}

impl Session<'_> {
    fn packed(&self) -> bool {
        self.features & F_RING_PACKED != 0
    }

    /// How many rings and of which size a message is about (CVE-2021-3839), and the bytes of their records.
    fn inflight_area(
        &self,
        request: Request,
        payload: &[u8],
    ) -> Result<(InflightArea, u64), VhostError> {
        let area: InflightArea = wire::parse(request, payload)?;
        let most = self.ring_count();
        let bad = |reason| VhostError::BadValue { request, reason };
        if !(1..=most).contains(&area.num_queues) {
            let got = area.num_queues;
            return Err(bad(format!("expected 1 to {most} rings, got {got}")));
        }
        if !(1..=MAX_VRING_SIZE).contains(&area.queue_size.into()) {
            let got = area.queue_size;
            return Err(bad(format!(
                "expected rings of 1 to {MAX_VRING_SIZE} descriptors, got {got}"
            )));
        }
        let bytes = record_bytes(self.packed(), area.queue_size);
        Ok((area, u64::from(area.num_queues) * bytes))
    }

    /// Makes a record in a file of its own. Nothing of it is kept here: the front end passes it when it starts rings.
    pub(super) fn get_inflight_fd(
        &self,
        payload: &[u8],
    ) -> Result<(InflightArea, OwnedFd), VhostError> {
        let request = Request::GET_INFLIGHT_FD;
        let (area, bytes) = self.inflight_area(request, payload)?;
        let none = |reason: String| VhostError::BadValue { request, reason };
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        let region = Region::create("vring-inflight", len, Pages::Base)
            .map_err(|error| none(error.to_string()))?;
        let fd = region.fd().try_clone_to_owned();
        let fd = fd.map_err(|error| none(error.to_string()))?;
        let area = InflightArea {
            mmap_size: bytes,
            mmap_offset: 0,
            ..area
        };
        Ok((area, fd))
    }

    /// Puts another record in place, and lets go of the one before (CVE-2020-10726). Rings take up what it says when they start.
    pub(super) fn set_inflight_fd(
        &mut self,
        payload: &[u8],
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), VhostError> {
        let request = Request::SET_INFLIGHT_FD;
        let (area, bytes) = self.inflight_area(request, payload)?;
        expect_fds(request, &fds, 1)?;
        let bad = |reason| VhostError::BadValue { request, reason };
        if area.mmap_size < bytes {
            return Err(bad(format!(
                "expected {bytes} bytes for {} rings of {} descriptors, got {}",
                area.num_queues, area.queue_size, area.mmap_size
            )));
        }
        if !area.mmap_offset.is_multiple_of(8) {
            return Err(bad(format!(
                "expected an offset of whole words, got {:#x}",
                area.mmap_offset
            )));
        }
        let file = SharedFile::map(fds.swap_remove(0), area.mmap_offset, area.mmap_size)
            .map_err(|source| VhostError::Map { request, source })?;
        self.stop_all();
        self.inflight = Some(Inflight {
            file: Arc::new(file),
            rings: area.num_queues,
            size: area.queue_size,
        });
        self.take_up_all();
        self.start_complete();
        Ok(())
    }
}
