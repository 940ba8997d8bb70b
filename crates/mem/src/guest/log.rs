//! The log of pages that a device dirtied, for live migration: shared memory in which a front end finds, page by page, what to copy again.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{MapError, SharedFile};

/// Bytes of guest memory that one bit of the log stands for.
pub const LOG_PAGE: u64 = 4096;

/// A bit for each page of guest-physical memory: page `n` is bit `n % 8` of byte `n / 8` (vhost-user specification, Migration).
///
/// The front end takes bits away while they are set here, each by an atomic exchange.
#[derive(Debug)]
pub struct DirtyLog {
    file: Arc<SharedFile>,
    call: Option<Arc<OwnedFd>>,
}

/// Where a ring's areas are for the log, as guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLog {
    /// Descriptor area: what the device writes of a packed ring.
    pub desc: u64,
    /// Driver area: where a device puts back what another had in flight.
    pub avail: u64,
    /// Device area.
    pub used: u64,
}

impl DirtyLog {
    /// Maps a log of `size` bytes, which begins at `offset` in the file. The descriptor is closed in any case.
    ///
    /// # Errors
    /// If the file does not have these bytes (CVE-2020-10722), is none, or cannot be mapped.
    pub fn map(fd: OwnedFd, offset: u64, size: u64) -> Result<Self, MapError> {
        SharedFile::map(fd, offset, size).map(|file| Self {
            file: Arc::new(file),
            call: None,
        })
    }

    /// The same log with a descriptor, an eventfd that never blocks, by which the front end wants to be told that there are new marks.
    #[must_use]
    pub fn with_call(&self, call: Option<Arc<OwnedFd>>) -> Self {
        Self {
            file: self.file.clone(),
            call,
        }
    }

    /// Tells the front end of new marks, if it wants to be told.
    pub fn tell(&self) {
        if let Some(call) = &self.call {
            // A counter that is full is readable, and that is what counts.
            let _full_is_readable = rustix::io::write(&**call, &1u64.to_ne_bytes());
        }
    }

    /// Marks the pages of `len` bytes at `guest_addr`, after these were written. Pages that the log has no bit for are passed over: a front
    /// end that shared more memory than log does not migrate it.
    pub fn mark(&self, guest_addr: u64, len: u64) {
        let Some(more) = len.checked_sub(1) else {
            return;
        };
        let pages = 8 * self.file.len() as u64;
        let first = guest_addr / LOG_PAGE;
        let last = (guest_addr.saturating_add(more) / LOG_PAGE).min(pages - 1);
        for page in first..=last {
            // SAFETY: page < pages, so the byte is inside the mapping, which self keeps; the peer writes it too, so it is atomic.
            let byte =
                unsafe { AtomicU8::from_ptr(self.file.at().as_ptr().add((page / 8) as usize)) };
            // Release, against the front end's exchange: who takes the bit sees what was written to the page. The bit is not looked at
            // before: to find it set, just before the front end takes it, would lose a write that has not left this processor yet.
            byte.fetch_or(1 << (page % 8), Ordering::Release);
        }
    }

    /// Whether the peer truncated the log. Marks go nowhere then.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.file.is_poisoned()
    }
}
