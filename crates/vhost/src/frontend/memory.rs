//! Shares the driver's memory.

use std::os::fd::BorrowedFd;

use zerocopy::IntoBytes;

use super::Frontend;
use crate::error::VhostError;
use crate::message::{MAX_FDS, MemoryRegion, MemoryTable, ProtocolFeatures, Request, SingleRegion};

/// A piece of our memory that the back end shall map. The descriptor stays ours.
#[derive(Clone, Copy, Debug)]
pub struct FrontendRegion<'a> {
    /// First guest-physical address: what descriptors in the rings count in.
    pub guest_addr: u64,
    /// First address in this process: what ring addresses count in.
    pub user_addr: u64,
    /// Bytes.
    pub size: u64,
    /// Where the region begins in the file.
    pub mmap_offset: u64,
    /// The file: memfd, hugetlbfs or shm.
    pub fd: BorrowedFd<'a>,
}

impl Frontend {
    /// How many memory regions the back end can map.
    pub fn get_max_mem_slots(&mut self) -> Result<u64, VhostError> {
        self.query(Request::GET_MAX_MEM_SLOTS, &[])
    }

    /// Shares memory in the way that was agreed on: region by region with `CONFIGURE_MEM_SLOTS`, else as one table of at most
    /// eight. For the first time on a connection; later changes are up to the caller.
    ///
    /// # Errors
    /// [`VhostError::BadValue`] if there are more regions than the back end has slots for.
    pub fn share_memory(&mut self, regions: &[FrontendRegion<'_>]) -> Result<(), VhostError> {
        if !self
            .protocol
            .contains(ProtocolFeatures::CONFIGURE_MEM_SLOTS)
        {
            return self.set_mem_table(regions);
        }
        let slots = self.get_max_mem_slots()?;
        check_count(Request::ADD_MEM_REG, regions.len(), slots)?;
        regions
            .iter()
            .try_for_each(|region| self.add_mem_region(region))
    }

    /// Replaces the whole memory map by at most eight regions.
    ///
    /// # Errors
    /// [`VhostError::BadValue`] for more than eight.
    pub fn set_mem_table(&mut self, regions: &[FrontendRegion<'_>]) -> Result<(), VhostError> {
        check_count(Request::SET_MEM_TABLE, regions.len(), MAX_FDS as u64)?;
        let table = MemoryTable {
            count: u32::try_from(regions.len()).unwrap_or(u32::MAX),
            padding: 0,
        };
        let mut payload = table.as_bytes().to_vec();
        for region in regions {
            payload.extend_from_slice(wire_region(region).as_bytes());
        }
        let fds: Vec<_> = regions.iter().map(|region| region.fd).collect();
        self.tell(Request::SET_MEM_TABLE, &payload, &fds)
    }

    /// Adds one region (protocol feature `CONFIGURE_MEM_SLOTS`).
    pub fn add_mem_region(&mut self, region: &FrontendRegion<'_>) -> Result<(), VhostError> {
        let payload = SingleRegion {
            padding: 0,
            region: wire_region(region),
        };
        self.tell(Request::ADD_MEM_REG, payload.as_bytes(), &[region.fd])
    }

    /// Removes one region (protocol feature `CONFIGURE_MEM_SLOTS`). Its descriptor is not sent.
    pub fn remove_mem_region(&mut self, region: &FrontendRegion<'_>) -> Result<(), VhostError> {
        let payload = SingleRegion {
            padding: 0,
            region: wire_region(region),
        };
        self.tell(Request::REM_MEM_REG, payload.as_bytes(), &[])
    }
}

fn wire_region(region: &FrontendRegion<'_>) -> MemoryRegion {
    MemoryRegion {
        guest_addr: region.guest_addr,
        size: region.size,
        user_addr: region.user_addr,
        mmap_offset: region.mmap_offset,
    }
}

fn check_count(request: Request, count: usize, max: u64) -> Result<(), VhostError> {
    if count as u64 <= max {
        return Ok(());
    }
    Err(VhostError::BadValue {
        request,
        reason: format!("expected at most {max} memory regions, got {count}"),
    })
}
