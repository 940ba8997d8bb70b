//! The memory of a peer, as the device half sees it: which guest-physical and which front-end addresses are backed by which
//! bytes of this process.
//!
//! A [`GuestRegion`] is one mapping of a file that the peer passed. A [`GuestMemory`] is an immutable, sorted table of
//! regions: a change of the map makes a new table, and whoever still uses the old one keeps its mappings alive.
//!
//! The peer can write this memory at any time, so nothing here hands out a reference: only raw pointers, for volatile or
//! atomic access. The peer can also truncate the file; see [`GuestMemory::is_poisoned`].

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::fs::{FileType, fstat, fstatfs};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use thiserror::Error;

use crate::sigbus::{self, Guard};

/// The most regions that one [`GuestMemory`] holds: as many slots as QEMU and the rust-vmm family offer.
pub const MAX_REGIONS: usize = 509;

/// `f_type` of a hugetlbfs file system (linux/magic.h), where mappings are aligned to the huge page.
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// Why a region or a map of regions was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GuestMemoryError {
    /// A region without a byte.
    #[error(
        "expected a memory region of at least one byte, got size 0 at guest address {guest_addr:#x}"
    )]
    Empty {
        /// The region's guest-physical address.
        guest_addr: u64,
    },
    /// Address plus size passes the end of the address space.
    #[error("memory region {guest_addr:#x}: {what} {start:#x} + size {size:#x} overflows")]
    Overflow {
        /// The region's guest-physical address.
        guest_addr: u64,
        /// Which of the region's addresses.
        what: &'static str,
        /// That address.
        start: u64,
        /// Bytes in the region.
        size: u64,
    },
    /// Two regions claim the same addresses.
    #[error(
        "memory region {guest_addr:#x} (front-end address {user_addr:#x}, size {size:#x}) overlaps one that is mapped already"
    )]
    Overlap {
        /// The region's guest-physical address.
        guest_addr: u64,
        /// The region's address in the front end.
        user_addr: u64,
        /// Bytes in the region.
        size: u64,
    },
    /// More regions than [`MAX_REGIONS`].
    #[error("expected at most {max} memory regions, got one more")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// A region to be removed is not in the map.
    #[error(
        "no memory region {guest_addr:#x} (front-end address {user_addr:#x}, size {size:#x}) is mapped"
    )]
    Unknown {
        /// The guest-physical address that was named.
        guest_addr: u64,
        /// The front end's address that was named.
        user_addr: u64,
        /// The size that was named.
        size: u64,
    },
    /// The descriptor is not a regular file (memfd, shm, hugetlbfs), so its length cannot be known.
    #[error(
        "memory region {guest_addr:#x}: expected a regular file (memfd, hugetlbfs, shm), got another kind of descriptor"
    )]
    NotAFile {
        /// The region's guest-physical address.
        guest_addr: u64,
    },
    /// The file ends before the region does.
    #[error(
        "memory region {guest_addr:#x}: needs {needed:#x} bytes of its file, which has {file_size:#x}"
    )]
    FileTooShort {
        /// The region's guest-physical address.
        guest_addr: u64,
        /// Offset plus size.
        needed: u64,
        /// Length of the file.
        file_size: u64,
    },
    /// The process guards as many mappings as it can.
    #[error("memory region {guest_addr:#x}: too many mappings of peers' memory in this process")]
    NoGuard {
        /// The region's guest-physical address.
        guest_addr: u64,
    },
    /// A system call failed.
    #[error("memory region {guest_addr:#x}: {call} failed: {source}")]
    System {
        /// The region's guest-physical address.
        guest_addr: u64,
        /// Name of the system call.
        call: &'static str,
        /// What the kernel said.
        source: rustix::io::Errno,
    },
}

impl GuestMemoryError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "ERR_VRING_MEMORY_EMPTY",
            Self::Overflow { .. } => "ERR_VRING_MEMORY_OVERFLOW",
            Self::Overlap { .. } => "ERR_VRING_MEMORY_OVERLAP",
            Self::TooMany { .. } | Self::NoGuard { .. } => "ERR_VRING_MEMORY_SLOTS",
            Self::Unknown { .. } => "ERR_VRING_MEMORY_UNKNOWN",
            Self::NotAFile { .. } => "ERR_VRING_MEMORY_NOT_A_FILE",
            Self::FileTooShort { .. } => "ERR_VRING_MEMORY_SHORT_FILE",
            Self::System { .. } => "ERR_VRING_MEMORY_MAP",
        }
    }
}

/// An owned mmap. Unmaps on drop, after the guard in it is gone.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
    guard: Option<Guard>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The SIGBUS handler must forget the range before it can become somebody else's.
        self.guard = None;
        // SAFETY: `start` and `len` are what mmap returned and was given (rounded to the page size that it mapped with), and
        // the owner of this Mapping is the last that could use the memory.
        let result = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(result.is_ok(), "munmap of a whole mapping: {result:?}");
    }
}

/// One region of a peer's memory, mapped here shared and writable for as long as this object lives.
pub struct GuestRegion {
    /// First guest-physical address.
    pub guest_addr: u64,
    /// First address in the front end's own address space; ring addresses come in these terms.
    pub user_addr: u64,
    /// Bytes.
    pub size: u64,
    /// Where the region begins in the file that was passed.
    pub mmap_offset: u64,
    host: NonNull<u8>,
    mapping: Mapping,
}

// SAFETY: the region owns its mapping; `host` is an address and not a borrow, and all access to the memory is by raw pointer
// under the rules of whoever makes it. No method here writes to anything that is not atomic.
unsafe impl Send for GuestRegion {}
// SAFETY: as for Send.
unsafe impl Sync for GuestRegion {}

impl std::fmt::Debug for GuestRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestRegion")
            .field("guest_addr", &format_args!("{:#x}", self.guest_addr))
            .field("user_addr", &format_args!("{:#x}", self.user_addr))
            .field("size", &format_args!("{:#x}", self.size))
            .field("mmap_offset", &format_args!("{:#x}", self.mmap_offset))
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl GuestRegion {
    /// Maps `size` bytes of `fd` from `mmap_offset` on. The descriptor is closed in any case; the mapping does not need it.
    ///
    /// # Errors
    /// A [`GuestMemoryError`] if the numbers are impossible, the file is shorter than they say, or the kernel refuses.
    pub fn map(
        guest_addr: u64,
        user_addr: u64,
        size: u64,
        mmap_offset: u64,
        fd: OwnedFd,
    ) -> Result<Self, GuestMemoryError> {
        if size == 0 {
            return Err(GuestMemoryError::Empty { guest_addr });
        }
        let end = |what, start: u64| {
            start.checked_add(size).ok_or(GuestMemoryError::Overflow {
                guest_addr,
                what,
                start,
                size,
            })
        };
        end("guest address", guest_addr)?;
        end("front-end address", user_addr)?;
        let file_end = end("file offset", mmap_offset)?;
        let page = checked_file(guest_addr, &fd, file_end)?;

        // The kernel wants the offset aligned to the page, and munmap of huge pages the length too. `file_end` is no more
        // than the file's length, so rounding it up is far from overflow.
        let file_start = mmap_offset - mmap_offset % page;
        let overflow = || GuestMemoryError::Overflow {
            guest_addr,
            what: "file offset",
            start: mmap_offset,
            size,
        };
        let len = (file_end - file_start)
            .checked_next_multiple_of(page)
            .and_then(|len| usize::try_from(len).ok())
            .ok_or_else(overflow)?;
        let inside = usize::try_from(mmap_offset - file_start).map_err(|_| overflow())?;
        let mut mapping = map_shared(guest_addr, &fd, file_start, len)?;
        mapping.guard = Some(
            Guard::new(mapping.start.as_ptr(), len)
                .ok_or(GuestMemoryError::NoGuard { guest_addr })?,
        );
        // SAFETY: inside < page <= len, so the result is in the mapping.
        let host = unsafe { mapping.start.add(inside) };
        Ok(Self {
            guest_addr,
            user_addr,
            size,
            mmap_offset,
            host,
            mapping,
        })
    }

    /// Address of the region's first byte in this process.
    #[must_use]
    pub fn host(&self) -> NonNull<u8> {
        self.host
    }

    /// Whether the peer took the memory away (truncated the file) and something touched it since. It then reads as zeroes,
    /// writes go nowhere, and its queues should be stopped.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.mapping.guard.as_ref().is_some_and(Guard::is_poisoned)
    }

    fn view(&self) -> RegionView {
        RegionView {
            start: self.guest_addr,
            end: self.guest_addr + self.size,
            host: self.host.as_ptr(),
        }
    }

    fn is(&self, guest_addr: u64, user_addr: u64, size: u64) -> bool {
        (self.guest_addr, self.user_addr, self.size) == (guest_addr, user_addr, size)
    }
}

/// Checks that the descriptor is a file of at least `needed` bytes, and returns the page size that it is mapped with.
fn checked_file(guest_addr: u64, fd: &OwnedFd, needed: u64) -> Result<u64, GuestMemoryError> {
    let system = |call| {
        move |source| GuestMemoryError::System {
            guest_addr,
            call,
            source,
        }
    };
    let stat = fstat(fd).map_err(system("fstat"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(GuestMemoryError::NotAFile { guest_addr });
    }
    let file_size = u64::try_from(stat.st_size).unwrap_or(0);
    if needed > file_size {
        return Err(GuestMemoryError::FileTooShort {
            guest_addr,
            needed,
            file_size,
        });
    }
    let statfs = fstatfs(fd).map_err(system("fstatfs"))?;
    // SAFETY: sysconf reads a constant of the system.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    match u64::try_from(statfs.f_bsize) {
        Ok(huge) if statfs.f_type == HUGETLBFS_MAGIC && huge > page => Ok(huge),
        _ => Ok(page),
    }
}

fn map_shared(
    guest_addr: u64,
    fd: &OwnedFd,
    offset: u64,
    len: usize,
) -> Result<Mapping, GuestMemoryError> {
    let failed = |source| GuestMemoryError::System {
        guest_addr,
        call: "mmap",
        source,
    };
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let start = unsafe {
        mmap(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE,
            fd.as_fd(),
            offset,
        )
    }
    .map_err(failed)?;
    let start = NonNull::new(start.cast()).ok_or_else(|| failed(rustix::io::Errno::NOMEM))?;
    Ok(Mapping {
        start,
        len,
        guard: None,
    })
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
    /// The regions again, side by side, for the search on the data path.
    views: Box<[RegionView]>,
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

    /// The region that holds the guest-physical address `gpa`. A range that crosses into an adjacent region is walked with
    /// this, piece by piece.
    #[inline]
    #[must_use]
    pub fn region_of(&self, gpa: u64) -> Option<RegionView> {
        let behind = self.views.partition_point(|view| view.start <= gpa);
        let view = self.views.get(behind.checked_sub(1)?)?;
        (gpa < view.end).then_some(*view)
    }

    /// Address in this process of `len` bytes at the guest-physical address `gpa`. `None` unless all of them are in one
    /// region; with `len` 0 the address itself must still be inside one.
    #[inline]
    #[must_use]
    pub fn translate(&self, gpa: u64, len: u64) -> Option<NonNull<u8>> {
        self.region_of(gpa)?.translate(gpa, len)
    }

    /// As [`GuestMemory::translate`], for an address of the front end's own address space (rings are given so).
    #[must_use]
    pub fn translate_user(&self, uva: u64, len: u64) -> Option<NonNull<u8>> {
        self.regions.iter().find_map(|region| {
            RegionView {
                start: region.user_addr,
                end: region.user_addr + region.size,
                host: region.host.as_ptr(),
            }
            .translate(uva, len)
        })
    }

    /// Whether any region was lost (see [`GuestRegion::is_poisoned`]). While no peer of this process ever lost one, this is
    /// one load.
    #[inline]
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        sigbus::poisoned_count() != 0 && self.regions.iter().any(|region| region.is_poisoned())
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
