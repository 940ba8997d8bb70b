//! The messages that change the memory map.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vring_mem::guest::{GuestMemory, GuestRegion};
use zerocopy::FromBytes;

use super::session::{Session, expect_fds};
use crate::error::VhostError;
use crate::message::{F_LOG_ALL, MAX_FDS, MemoryRegion, MemoryTable, Request, SingleRegion};
use crate::wire;

impl Session<'_> {
    pub(super) fn set_mem_table(
        &mut self,
        payload: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(), VhostError> {
        let request = Request::SET_MEM_TABLE;
        let (table, rest) =
            MemoryTable::read_from_prefix(payload).map_err(|_| VhostError::PayloadSize {
                request: request.to_string(),
                expected: size_of::<MemoryTable>(),
                got: payload.len(),
            })?;
        let count = table.count as usize;
        if count > MAX_FDS {
            return Err(VhostError::BadValue {
                request,
                reason: format!("expected at most {MAX_FDS} regions, got {count}"),
            });
        }
        if rest.len() != count * size_of::<MemoryRegion>() {
            return Err(VhostError::PayloadSize {
                request: request.to_string(),
                expected: size_of::<MemoryTable>() + count * size_of::<MemoryRegion>(),
                got: payload.len(),
            });
        }
        expect_fds(request, &fds, count)?;
        let regions = rest
            .chunks_exact(size_of::<MemoryRegion>())
            .zip(fds)
            .map(|(bytes, fd)| map(request, wire::parse(request, bytes)?, fd))
            .collect::<Result<_, _>>()?;
        let memory =
            GuestMemory::new(regions).map_err(|source| VhostError::Memory { request, source })?;
        self.set_memory(memory);
        Ok(())
    }

    pub(super) fn add_mem_region(
        &mut self,
        payload: &[u8],
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), VhostError> {
        let request = Request::ADD_MEM_REG;
        let SingleRegion { region, .. } = wire::parse(request, payload)?;
        expect_fds(request, &fds, 1)?;
        let region = map(request, region, fds.swap_remove(0))?;
        let memory = self.map.with_region(region);
        self.set_memory(memory.map_err(|source| VhostError::Memory { request, source })?);
        Ok(())
    }

    pub(super) fn remove_mem_region(
        &mut self,
        payload: &[u8],
        fds: &[OwnedFd],
    ) -> Result<(), VhostError> {
        let request = Request::REM_MEM_REG;
        let SingleRegion { region, .. } = wire::parse(request, payload)?;
        // Some front ends send the region's descriptor here too; the specification allows it to be closed unused.
        if fds.len() > 1 {
            expect_fds(request, fds, 0)?;
        }
        let memory = self
            .map
            .without_region(region.guest_addr, region.user_addr, region.size);
        self.set_memory(memory.map_err(|source| VhostError::Memory { request, source })?);
        Ok(())
    }

    /// Puts another map in place. No ring runs meanwhile, and those that the new map still holds run after.
    fn set_memory(&mut self, map: GuestMemory) {
        self.stop_all();
        self.map = map;
        self.rebuild_memory();
        self.start_complete();
    }

    /// Makes what rings work with from what was told. No ring runs meanwhile.
    pub(super) fn rebuild_memory(&mut self) {
        let logs = self.features & F_LOG_ALL != 0;
        let log = self.log.clone().filter(|_| logs);
        self.memory = Arc::new(self.map.with_log(log));
    }
}

fn map(
    request: Request,
    region: MemoryRegion,
    fd: OwnedFd,
) -> Result<Arc<GuestRegion>, VhostError> {
    let MemoryRegion {
        guest_addr,
        size,
        user_addr,
        mmap_offset,
    } = region;
    GuestRegion::map(guest_addr, user_addr, size, mmap_offset, fd)
        .map(Arc::new)
        .map_err(|source| VhostError::Memory { request, source })
}
