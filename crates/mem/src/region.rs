//! Memory that can be shared with a peer: a memfd, on hugepages where they can be had.

use std::fmt;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::MemError;

/// Which pages a region lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// Hugepages of 2 MiB if enough are free, else ordinary pages.
    #[default]
    Auto,
    /// Ordinary pages of 4 KiB.
    Base,
    /// Hugepages of 2 MiB, or an error.
    Huge2M,
    /// Hugepages of 1 GiB, or an error.
    Huge1G,
}

impl Pages {
    /// Bytes of such a page. `Auto` counts as ordinary.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Auto | Self::Base => 4 << 10,
            Self::Huge2M => 2 << 20,
            Self::Huge1G => 1 << 30,
        }
    }

    fn reserve_file(self) -> &'static str {
        match self {
            Self::Huge1G => "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
            _ => "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        }
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Base => "4K",
            Self::Huge2M => "2M",
            Self::Huge1G => "1G",
        })
    }
}

/// A shared mapping of a memfd of our own. Unmapped when the last owner lets go of it.
///
/// The memfd is sealed against shrinking and growing: a peer that got it can write to it, but cannot take the pages away from under
/// us.
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    pages: Pages,
    fd: OwnedFd,
}

// SAFETY: the region is plain memory behind a pointer that never changes; access to its bytes is by raw pointer and is synchronised
// by the rings and by buffer ownership, not by this type.
unsafe impl Send for Region {}
// SAFETY: as above; no method hands out a reference to the bytes.
unsafe impl Sync for Region {}

impl Region {
    /// Makes a region of at least `len` bytes (rounded up to whole pages), zeroed and with every page present.
    ///
    /// # Errors
    /// [`MemError::NoHugepages`] when hugepages were demanded and are not free, [`MemError::Exhausted`] or
    /// [`MemError::Refused`] when the machine or the process may not have that much memory, [`MemError::System`] else.
    pub fn create(name: &str, len: usize, pages: Pages) -> Result<Arc<Self>, MemError> {
        match pages {
            Pages::Auto if len >= Pages::Huge2M.size() => Self::on_pages(name, len, Pages::Huge2M)
                .or_else(|_| Self::on_pages(name, len, Pages::Base)),
            Pages::Auto | Pages::Base => Self::on_pages(name, len, Pages::Base),
            Pages::Huge2M | Pages::Huge1G => Self::on_pages(name, len, pages),
        }
        .map(Arc::new)
    }

    fn on_pages(name: &str, len: usize, pages: Pages) -> Result<Self, MemError> {
        let len = len.max(1).next_multiple_of(pages.size());
        if pages == Pages::Base {
            check_available(len)?;
        }
        let huge = match pages {
            Pages::Auto | Pages::Base => MemfdFlags::empty(),
            Pages::Huge2M => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
            Pages::Huge1G => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
        };
        let refused = |call, errno: Errno| match (pages, errno) {
            (Pages::Auto | Pages::Base, Errno::NOMEM | Errno::NOSPC) => MemError::Refused {
                len,
                source: errno.into(),
            },
            (Pages::Auto | Pages::Base, _) => MemError::system(call, errno),
            _ => MemError::NoHugepages {
                pages,
                len,
                reserve: pages.reserve_file(),
                source: errno.into(),
            },
        };
        let fd =
            rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | huge)
                .map_err(|e| refused("memfd_create", e))?;
        rustix::fs::ftruncate(&fd, len as u64).map_err(|e| refused("ftruncate", e))?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|e| MemError::system("fcntl(F_ADD_SEALS)", e))?;
        let base = map(&fd, len).map_err(|e| refused("mmap", e))?;
        Ok(Self {
            base,
            len,
            pages,
            fd,
        })
    }

    /// First byte of the mapping.
    #[must_use]
    #[inline]
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Bytes of the mapping.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// A region is never empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The pages that it really lies on, never [`Pages::Auto`].
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// The memfd, to be sent to a peer.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: base and len are what mmap gave, and nobody else unmaps them.
        if let Err(errno) = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) } {
            debug_assert!(false, "munmap of our own mapping: {errno}");
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.len)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

fn map(fd: &OwnedFd, len: usize) -> rustix::io::Result<NonNull<u8>> {
    // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases nothing in this process. POPULATE takes the page
    // faults now and not on a polling core.
    let ptr = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::POPULATE,
            fd,
            0,
        )
    }?;
    NonNull::new(ptr.cast()).ok_or(rustix::io::Errno::NOMEM)
}

/// A memfd on ordinary pages is overcommitted: without this look, asking for too much ends in the OOM killer and not in an error.
fn check_available(len: usize) -> Result<(), MemError> {
    let Ok(text) = fs::read_to_string("/proc/meminfo") else {
        return Ok(());
    };
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<usize>().ok());
    match kib.map(|kib| kib << 10) {
        Some(available) if len > available => Err(MemError::Exhausted { len, available }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A region is zeroed, writable, page-aligned, and its memfd cannot be shrunk by whoever gets it.
    #[test]
    fn region_is_zeroed_and_sealed() {
        let region = Region::create("vring-test", 10_000, Pages::Base).unwrap();
        assert_eq!(region.len(), 12288);
        // SAFETY: inside the region, which nobody else knows.
        unsafe {
            assert_eq!(region.base().add(9_999).read(), 0);
            region.base().write(7);
            assert_eq!(region.base().read(), 7);
        }
        assert!(rustix::fs::ftruncate(region.fd(), 0).is_err());
    }

    /// 1 GiB pages that the machine has not are a named error, and `auto` falls back to ordinary pages.
    #[test]
    fn hugepages_that_are_not_there() {
        let wanted = 1 << 50;
        let error = Region::create("vring-test", wanted, Pages::Huge1G).unwrap_err();
        assert_eq!(error.code(), "ERR_VRING_NO_HUGEPAGES");
        let error = Region::create("vring-test", wanted, Pages::Auto).unwrap_err();
        assert_eq!(error.code(), "ERR_VRING_NO_MEMORY");
    }
}
