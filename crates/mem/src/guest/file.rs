//! A stretch of a file that a peer passed, mapped shared and writable, guarded against a peer that truncates it.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{FileType, fstat, fstatfs};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use thiserror::Error;

use crate::sigbus::Guard;

/// `f_type` of a hugetlbfs file system (linux/magic.h), where mappings are aligned to the huge page.
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// Why a stretch of a file could not be mapped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MapError {
    /// Not a byte of it.
    #[error("expected at least one byte, got size 0")]
    Empty,
    /// Offset plus size passes the end of what a file can have.
    #[error("file offset {offset:#x} + size {size:#x} overflows")]
    Overflow {
        /// Where it begins in the file.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// The descriptor is not a regular file (memfd, shm, hugetlbfs), so its length cannot be known.
    #[error("expected a regular file (memfd, hugetlbfs, shm), got another kind of descriptor")]
    NotAFile,
    /// The file ends too early.
    #[error("needs {needed:#x} bytes of its file, which has {file_size:#x}")]
    FileTooShort {
        /// Offset plus size.
        needed: u64,
        /// Length of the file.
        file_size: u64,
    },
    /// The process guards as many mappings as it can.
    #[error("too many mappings of peers' memory in this process")]
    NoGuard,
    /// A system call failed.
    #[error("{call} failed: {source}")]
    System {
        /// Name of the system call.
        call: &'static str,
        /// What the kernel said.
        source: rustix::io::Errno,
    },
}

impl MapError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "ERR_VRING_MEMORY_EMPTY",
            Self::Overflow { .. } => "ERR_VRING_MEMORY_OVERFLOW",
            Self::NotAFile => "ERR_VRING_MEMORY_NOT_A_FILE",
            Self::FileTooShort { .. } => "ERR_VRING_MEMORY_SHORT_FILE",
            Self::NoGuard => "ERR_VRING_MEMORY_SLOTS",
            Self::System { .. } => "ERR_VRING_MEMORY_MAP",
        }
    }
}

/// An owned mmap. Unmaps on drop, after the guard in it is gone.
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
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

/// See the module. The peer writes it too: access is by raw pointer, volatile or atomic, for as long as this object lives.
pub struct SharedFile {
    at: NonNull<u8>,
    len: usize,
    mapping: Mapping,
}

// SAFETY: it owns its mapping; `at` is an address and not a borrow, and all access to the memory is by raw pointer under the rules of
// whoever makes it. No method here writes to anything that is not atomic.
unsafe impl Send for SharedFile {}
// SAFETY: as for Send.
unsafe impl Sync for SharedFile {}

impl std::fmt::Debug for SharedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedFile")
            .field("len", &format_args!("{:#x}", self.len))
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl SharedFile {
    /// Maps `size` bytes of `fd` from `offset` on, which need not be aligned. The descriptor is closed in any case; the mapping does not
    /// need it.
    ///
    /// # Errors
    /// A [`MapError`] if the numbers are impossible, the file is shorter than they say, or the kernel refuses.
    pub fn map(fd: OwnedFd, offset: u64, size: u64) -> Result<Self, MapError> {
        if size == 0 {
            return Err(MapError::Empty);
        }
        let overflow = || MapError::Overflow { offset, size };
        let file_end = offset.checked_add(size).ok_or_else(overflow)?;
        let page = checked_file(&fd, file_end)?;

        // The kernel wants the offset aligned to the page, and munmap of huge pages the length too. `file_end` is no more
        // than the file's length, so rounding it up is far from overflow.
        let file_start = offset - offset % page;
        let whole = (file_end - file_start)
            .checked_next_multiple_of(page)
            .and_then(|len| usize::try_from(len).ok())
            .ok_or_else(overflow)?;
        let inside = usize::try_from(offset - file_start).map_err(|_| overflow())?;
        let len = usize::try_from(size).map_err(|_| overflow())?;
        let mut mapping = map_shared(&fd, file_start, whole)?;
        mapping.guard = Some(Guard::new(mapping.start.as_ptr(), whole).ok_or(MapError::NoGuard)?);
        // SAFETY: inside < page <= whole, so the result is in the mapping.
        let at = unsafe { mapping.start.add(inside) };
        Ok(Self { at, len, mapping })
    }

    /// Maps `len` bytes of a device's own memory from `offset` on, both of whole pages: registers, or what a driver of the kernel's shows. When the
    /// device is unplugged, that is as if a peer had truncated the file.
    ///
    /// # Errors
    /// [`MapError::System`], [`MapError::NoGuard`].
    pub fn map_device(fd: &OwnedFd, offset: u64, len: usize) -> Result<Self, MapError> {
        let mut mapping = map_shared(fd, offset, len)?;
        mapping.guard = Some(Guard::new(mapping.start.as_ptr(), len).ok_or(MapError::NoGuard)?);
        Ok(Self {
            at: mapping.start,
            len,
            mapping,
        })
    }

    /// Address of the first byte in this process.
    #[must_use]
    pub fn at(&self) -> NonNull<u8> {
        self.at
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: there is no mapping of nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the peer took the memory away (truncated the file) and something touched it since. It then reads as zeroes, and writes go
    /// nowhere.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.mapping.guard.as_ref().is_some_and(Guard::is_poisoned)
    }
}

/// Checks that the descriptor is a file of at least `needed` bytes, and returns the page size that it is mapped with.
fn checked_file(fd: &OwnedFd, needed: u64) -> Result<u64, MapError> {
    let system = |call| move |source| MapError::System { call, source };
    let stat = fstat(fd).map_err(system("fstat"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(MapError::NotAFile);
    }
    let file_size = u64::try_from(stat.st_size).unwrap_or(0);
    if needed > file_size {
        return Err(MapError::FileTooShort { needed, file_size });
    }
    let statfs = fstatfs(fd).map_err(system("fstatfs"))?;
    // SAFETY: sysconf reads a constant of the system.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    match u64::try_from(statfs.f_bsize) {
        Ok(huge) if statfs.f_type == HUGETLBFS_MAGIC && huge > page => Ok(huge),
        _ => Ok(page),
    }
}

pub(super) fn map_shared(fd: &OwnedFd, offset: u64, len: usize) -> Result<Mapping, MapError> {
    let failed = |source| MapError::System {
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
