//! The memory of a peer, as the device half sees it: which guest-physical and which front-end addresses are backed by which
//! bytes of this process.
//!
//! A [`GuestRegion`] is one mapping of a file that the peer passed. A [`GuestMemory`] is an immutable, sorted table of
//! regions: a change of the map makes a new table, and whoever still uses the old one keeps its mappings alive.
//!
//! The peer can write this memory at any time, so nothing here hands out a reference: only raw pointers, for volatile or
//! atomic access. The peer can also truncate the file; see [`GuestMemory::is_poisoned`].

mod error;
mod file;
mod iotlb;
mod log;
mod misses;
mod region;

use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::sigbus;

pub use error::GuestMemoryError;
pub use file::{MapError, SharedFile};
pub use iotlb::{Iotlb, MAX_TRANSLATIONS, Updated};
pub use log::{DirtyLog, LOG_PAGE, RingLog};
pub use misses::Misses;
pub use region::GuestRegion;

/// The most regions that one [`GuestMemory`] holds: as many slots as QEMU and the rust-vmm family offer.
pub const MAX_REGIONS: usize = 509;

bitflags::bitflags! {
    /// What a device does to bytes, or may do. An IOMMU can allow the one and forbid the other; without one everything is allowed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        /// It reads.
        const READ = 1;
        /// It writes.
        const WRITE = 2;
    }
}

/// Where the guest-physical addresses `start..end` are in this process. A plain value that a queue caches next to its ring
/// while it holds the [`GuestMemory`] that it came from; it must not be used any longer than that.
#[derive(Clone, Copy, Debug)]
pub struct RegionView {
    /// First guest-physical address.
    pub start: u64,
    /// First guest-physical address behind the region.
    pub end: u64,
    /// Address of `start` in this process.
    pub host: *mut u8,
}

// SAFETY: an address and two numbers. Who dereferences `host` must hold the GuestMemory, on whatever thread.
unsafe impl Send for RegionView {}
// SAFETY: as for Send.
unsafe impl Sync for RegionView {}

impl RegionView {
    /// A view that contains nothing: the state of a cache before its first hit.
    pub const EMPTY: Self = Self {
        start: 0,
        end: 0,
        host: ptr::null_mut(),
    };

    /// Address of `len` bytes at `gpa`, or `None` if any of them is outside. With `len` 0 the address itself must be inside.
    #[inline]
    #[must_use]
    pub fn translate(&self, gpa: u64, len: u64) -> Option<NonNull<u8>> {
        if gpa < self.start || gpa >= self.end || len > self.end - gpa {
            return None;
        }
        let offset = usize::try_from(gpa - self.start).ok()?;
        NonNull::new(self.host.wrapping_add(offset))
    }
}

/// An immutable table of regions, sorted by guest-physical address and free of overlap. Cheap to share as
/// `Arc<GuestMemory>`; the mappings live as long as any table that holds them.
#[derive(Debug, Default)]
pub struct GuestMemory {
    regions: Box<[Arc<GuestRegion>]>,
    /// The regions again, side by side, for the search on the data path. Behind an IOMMU: what may be read, by I/O virtual address.
    views: Box<[RegionView]>,
    /// Behind an IOMMU: what may be written, and where to ask for more.
    iommu: Option<(Box<[RegionView]>, Arc<Misses>)>,
    log: Option<Arc<DirtyLog>>,
}

impl GuestMemory {
    /// A table of the given regions, in any order.
    ///
    /// # Errors
    /// If there are more than [`MAX_REGIONS`], or two overlap in guest-physical or in front-end addresses.
    pub fn new(mut regions: Vec<Arc<GuestRegion>>) -> Result<Self, GuestMemoryError> {
        if regions.len() > MAX_REGIONS {
            return Err(GuestMemoryError::TooMany { max: MAX_REGIONS });
        }
        // Regions were checked not to overflow when they were mapped, so the sums below are safe.
        for key in [user_addr as fn(&Arc<GuestRegion>) -> u64, guest_addr] {
            regions.sort_by_key(key);
            for pair in regions.windows(2) {
                if key(&pair[0]) + pair[0].size > key(&pair[1]) {
                    return Err(GuestMemoryError::Overlap {
                        guest_addr: pair[1].guest_addr,
                        user_addr: pair[1].user_addr,
                        size: pair[1].size,
                    });
                }
            }
        }
        let views = regions.iter().map(|region| region.view()).collect();
        Ok(Self {
            regions: regions.into_boxed_slice(),
            views,
            iommu: None,
            log: None,
        })
    }

    /// The same regions, with a log of the pages that the device writes, or without one.
    #[must_use]
    pub fn with_log(&self, log: Option<Arc<DirtyLog>>) -> Self {
        Self {
            regions: self.regions.clone(),
            views: self.views.clone(),
            iommu: self.iommu.clone(),
            log,
        }
    }

    /// The same memory behind an IOMMU, see [`Iotlb::translated`]. All of the tables lies inside the regions.
    fn with_tables(
        &self,
        reads: Box<[RegionView]>,
        writes: Box<[RegionView]>,
        misses: Arc<Misses>,
    ) -> Self {
        Self {
            regions: self.regions.clone(),
            views: reads,
            iommu: Some((writes, misses)),
            log: self.log.clone(),
        }
    }

    /// Where to ask for translations; none without an IOMMU.
    #[inline]
    #[must_use]
    pub fn misses(&self) -> Option<&Misses> {
        self.iommu.as_ref().map(|(_, misses)| &**misses)
    }

    /// How many stretches of addresses can be read; without an IOMMU, how many regions there are.
    #[must_use]
    pub fn stretches(&self) -> usize {
        self.views.len()
    }

    /// Asks for the translations of `len` bytes at `addr` that are missing. How many pages are asked for now that were not before.
    #[cold]
    pub fn want(&self, addr: u64, len: u64, access: Access) -> usize {
        /// Of one buffer: what is longer is asked for as it is reached.
        const MAX_PAGES: usize = 20;
        let Some(misses) = self.misses() else {
            return 0;
        };
        let (mut at, end) = (addr, addr.saturating_add(len.max(1)));
        let mut asked = 0;
        for _ in 0..MAX_PAGES {
            if at >= end {
                break;
            }
            at = match self.region_of(at, access) {
                Some(view) => view.end,
                None => {
                    asked += usize::from(misses.want(at, access));
                    (at | (LOG_PAGE - 1)).saturating_add(1)
                }
            };
        }
        asked
    }

    /// Where the device half marks what it writes, while the front end asks for that.
    #[inline]
    #[must_use]
    pub fn log(&self) -> Option<&DirtyLog> {
        self.log.as_deref()
    }

    /// Marks `len` bytes at an address of this process that [`GuestMemory::translate`] gave, after they were written. Nothing without a
    /// log, or outside all regions.
    #[cold]
    pub fn mark_written(&self, at: *const u8, len: usize) {
        let Some(log) = self.log() else { return };
        if let Some(guest_addr) = self.guest_address_of(at) {
            log.mark(guest_addr, len as u64);
        }
    }

    /// The guest-physical address of an address of this process, if that is in a region.
    #[must_use]
    pub fn guest_address_of(&self, at: *const u8) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = (at as u64).wrapping_sub(region.host().as_ptr() as u64);
            (offset < region.size).then(|| region.guest_addr + offset)
        })
    }

    /// The guest-physical address of a front-end address, if that is in a region.
    #[must_use]
    pub fn guest_address(&self, uva: u64) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = uva.checked_sub(region.user_addr)?;
            (offset < region.size).then(|| region.guest_addr + offset)
        })
    }

    /// This table and one region more.
    ///
    /// # Errors
    /// As [`GuestMemory::new`].
    pub fn with_region(&self, region: Arc<GuestRegion>) -> Result<Self, GuestMemoryError> {
        let mut regions = self.regions.to_vec();
        regions.push(region);
        Self::new(regions)
    }

    /// This table without the region that has exactly these numbers.
    ///
    /// # Errors
    /// [`GuestMemoryError::Unknown`] if there is none.
    pub fn without_region(
        &self,
        guest_addr: u64,
        user_addr: u64,
        size: u64,
    ) -> Result<Self, GuestMemoryError> {
        let regions: Vec<_> = self
            .regions
            .iter()
            .filter(|region| !region.is(guest_addr, user_addr, size))
            .cloned()
            .collect();
        if regions.len() == self.regions.len() {
            return Err(GuestMemoryError::Unknown {
                guest_addr,
                user_addr,
                size,
            });
        }
        Self::new(regions)
    }

    /// The regions, sorted by guest-physical address.
    #[must_use]
    pub fn regions(&self) -> &[Arc<GuestRegion>] {
        &self.regions
    }

    /// The region that holds the guest-physical address `gpa`; behind an IOMMU, a stretch around the I/O virtual address `gpa` to which the
    /// device has that access. A range that crosses into an adjacent one is walked with this, piece by piece.
    #[inline]
    #[must_use]
    pub fn region_of(&self, gpa: u64, access: Access) -> Option<RegionView> {
        let views = match &self.iommu {
            Some((writes, _)) if access.contains(Access::WRITE) => writes,
            _ => &self.views,
        };
        let behind = views.partition_point(|view| view.start <= gpa);
        let view = views.get(behind.checked_sub(1)?)?;
        (gpa < view.end).then_some(*view)
    }

    /// Address in this process of `len` bytes at the guest-physical address `gpa`, see [`GuestMemory::region_of`]. `None` unless all of them
    /// are in one region; with `len` 0 the address itself must still be inside one.
    #[inline]
    #[must_use]
    pub fn translate(&self, gpa: u64, len: u64, access: Access) -> Option<NonNull<u8>> {
        self.region_of(gpa, access)?.translate(gpa, len)
    }

    /// As [`GuestMemory::translate`], for an address of the front end's own address space (rings are given so).
    #[must_use]
    pub fn translate_user(&self, uva: u64, len: u64) -> Option<NonNull<u8>> {
        self.user_view(uva)?.translate(uva, len)
    }

    /// The region that holds an address of the front end's own address space, in terms of that.
    fn user_view(&self, uva: u64) -> Option<RegionView> {
        self.regions.iter().find_map(|region| {
            let end = region.user_addr + region.size;
            (region.user_addr <= uva && uva < end).then(|| RegionView {
                start: region.user_addr,
                end,
                host: region.host().as_ptr(),
            })
        })
    }

    /// Whether any region, or the log, was lost (see [`GuestRegion::is_poisoned`]). While no peer of this process ever lost one, this is
    /// one load.
    #[inline]
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        sigbus::poisoned_count() != 0
            && (self.regions.iter().any(|region| region.is_poisoned())
                || self.log().is_some_and(DirtyLog::is_poisoned))
    }
}

fn guest_addr(region: &Arc<GuestRegion>) -> u64 {
    region.guest_addr
}

fn user_addr(region: &Arc<GuestRegion>) -> u64 {
    region.user_addr
}

#[cfg(test)]
mod tests;
