//! The messages that change the memory map.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vring_mem::guest::{GuestMemory, GuestMemoryError, GuestRegion, MAX_REGIONS};
use zerocopy::FromBytes;

use super::session::{Session, expect_fds};
use crate::error::VhostError;
use crate::message::{F_LOG_ALL, MAX_FDS, MemoryRegion, MemoryTable, Request, SingleRegion};
use crate::wire;

/// Most copies of regions that are remembered: of each one for each queue pair.
const MAX_COPIES: usize = 128 * MAX_REGIONS;

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
        self.copies.clear();
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
        if self.again(&region) {
            if self.copies.len() >= MAX_COPIES {
                let source = GuestMemoryError::TooMany { max: MAX_REGIONS };
                return Err(VhostError::Memory { request, source });
            }
            self.copies.push(region);
            return Ok(());
        }
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
        let copy = self.copies.iter().position(|copy| same(copy, &region));
        if let Some(at) = copy {
            self.copies.swap_remove(at);
            return Ok(());
        }
        let memory = self
            .map
            .without_region(region.guest_addr, region.user_addr, region.size);
        self.set_memory(memory.map_err(|source| VhostError::Memory { request, source })?);
        Ok(())
    }

    /// QEMU before 8.0 adds, and later removes, each region once for each queue pair. The region stays until the last of them is taken away.
    fn again(&self, region: &MemoryRegion) -> bool {
        self.map.regions().iter().any(|have| {
            let have = (have.guest_addr, have.user_addr, have.size, have.mmap_offset);
            have == (
                region.guest_addr,
                region.user_addr,
                region.size,
                region.mmap_offset,
            )
        })
    }

    /// Puts another map in place. No ring runs meanwhile, and those that the new map still holds run after.
    fn set_memory(&mut self, map: GuestMemory) {
        self.stop_all();
        self.map = map;
        // What the translations lead to may be other memory now, or none.
        self.iommu.forget();
        self.rebuild_memory();
        self.start_complete();
    }

    /// Makes what rings work with from what was told. No ring runs meanwhile.
    pub(super) fn rebuild_memory(&mut self) {
        let logs = self.features & F_LOG_ALL != 0;
        let log = self.log.clone().filter(|_| logs);
        self.memory = Arc::new(self.ring_memory(self.map.with_log(log)));
    }
}

/// What names a region where one is taken away.
fn same(a: &MemoryRegion, b: &MemoryRegion) -> bool {
    (a.guest_addr, a.user_addr, a.size) == (b.guest_addr, b.user_addr, b.size)
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
