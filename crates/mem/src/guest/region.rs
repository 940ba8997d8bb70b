//! One region of a peer's memory.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use super::{GuestMemoryError, RegionView, SharedFile};

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
    file: SharedFile,
}

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
        let file = SharedFile::map(fd, mmap_offset, size)
            .map_err(|source| GuestMemoryError::Map { guest_addr, source })?;
        Ok(Self {
            guest_addr,
            user_addr,
            size,
            mmap_offset,
            file,
        })
    }

    /// Address of the region's first byte in this process.
    #[must_use]
    pub fn host(&self) -> NonNull<u8> {
        self.file.at()
    }

    /// Whether the peer took the memory away (truncated the file) and something touched it since. It then reads as zeroes,
    /// writes go nowhere, and its queues should be stopped.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.file.is_poisoned()
    }

    pub(super) fn view(&self) -> RegionView {
        RegionView {
            start: self.guest_addr,
            end: self.guest_addr + self.size,
            host: self.host().as_ptr(),
        }
    }

    pub(super) fn is(&self, guest_addr: u64, user_addr: u64, size: u64) -> bool {
        (self.guest_addr, self.user_addr, self.size) == (guest_addr, user_addr, size)
    }
}
