//! Shared memory, locked memory, and where memory lies.

use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MlockFlags, ProtFlags, mlock_with, mmap_anonymous, munmap};
use vring_mem::{MemError, Pages, Region};

use crate::{Found, Verdict};

const PAGE: usize = 4096;
/// The bits of an entry of `pagemap` that are the page's number in the machine's memory.
const FRAME: u64 = (1 << 55) - 1;

pub(crate) fn shared(pages: Pages) -> Found {
    let step = format!("memfd of one {pages} page");
    match Region::create("vring-probe", pages.size(), pages) {
        Ok(region) => Found::works(step, region.len() as u64),
        Err(
            MemError::NoHugepages { source, .. }
            | MemError::Refused { source, .. }
            | MemError::System { source, .. },
        ) => Found::error(step, &source),
        Err(error) => Found {
            verdict: Verdict::Failed,
            step: error.to_string(),
            errno: None,
            value: 0,
        },
    }
}

pub(crate) fn lock(bytes: usize) -> Found {
    let step = "mlock2(MLOCK_ONFAULT)";
    let locked = map_of(bytes, |base| {
        // SAFETY: a mapping of that length, which stays until after the call.
        unsafe { mlock_with(base.cast(), bytes, MlockFlags::ONFAULT) }
    });
    match locked {
        Ok(()) => Found::works(step, bytes as u64),
        Err(errno) => Found::refused(step, errno),
    }
}

pub(crate) fn physical_address() -> Found {
    let step = "read a frame number from /proc/self/pagemap";
    let frame = map_of(PAGE, |page| {
        // SAFETY: the first byte of a writable page of ours.
        unsafe { page.write_volatile(1) };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open("/proc/self/pagemap", flags, Mode::empty())?;
        let mut entry = [0; 8];
        let at = page.addr() / PAGE * entry.len();
        if rustix::io::pread(&file, &mut entry, at as u64)? != entry.len() {
            return Err(Errno::IO);
        }
        Ok(u64::from_ne_bytes(entry) & FRAME)
    });
    match frame {
        // The page is there, and the kernel does not say where.
        Ok(0) => Found::refused(step, Errno::PERM),
        Ok(_) => Found::works(step, 0),
        Err(errno) => Found::refused(step, errno),
    }
}

/// Calls `with` on fresh private memory of `bytes`, none of which is present.
fn map_of<T>(bytes: usize, with: impl FnOnce(*mut u8) -> Result<T, Errno>) -> Result<T, Errno> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
        )
    }?;
    let result = with(base.cast());
    // SAFETY: the mapping made above, of which `with` kept nothing.
    unsafe { munmap(base, bytes) }?;
    result
}
