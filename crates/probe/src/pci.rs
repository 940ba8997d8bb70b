//! What a driver of a PCI device in user space needs.

use std::ffi::{c_int, c_ulong};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Found, Verdict};

const VFIO: &str = "/dev/vfio/vfio";
/// Requests of `/dev/vfio/…`, all without a size in their number (`_IO(';', 100 + N)`).
const GET_API_VERSION: c_ulong = 0x3b64;
const CHECK_EXTENSION: c_ulong = 0x3b65;
const GROUP_GET_STATUS: c_ulong = 0x3b67;
/// The extensions that say which kinds of IOMMU there are: 1 and 3 are type 1, 8 is none.
const EXTENSIONS: std::ops::RangeInclusive<c_ulong> = 1..=8;
/// A port that no device has: the BIOS writes its progress there.
const UNUSED_PORT: c_ulong = 0x80;

/// The kernel's `struct vfio_group_status`.
#[repr(C)]
struct GroupStatus {
    size: u32,
    flags: u32,
}

pub(crate) fn open(path: &str) -> Found {
    match open_file(path) {
        Ok(_) => Found::works(format!("open {path}"), 0),
        Err(found) => found,
    }
}

fn open_file(path: &str) -> Result<OwnedFd, Found> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Found::refused(format!("open {path}"), errno))
}

pub(crate) fn port_io() -> Found {
    let step = "ioperm(0x80, 1, 1)";
    // What is granted is granted to a thread: one of its own, which ends.
    let asked = thread::spawn(|| {
        // SAFETY: nothing is read from or written to the port.
        unsafe { libc::ioperm(UNUSED_PORT, 1, 1) }
            .eq(&0)
            .then_some(())
            .ok_or_else(last_error)
    });
    match asked.join() {
        Ok(Ok(())) => Found::works(step, 0),
        Ok(Err(errno)) => Found::refused(step, errno),
        Err(_) => Found::refused(step, Errno::AGAIN),
    }
}

pub(crate) fn vfio() -> Found {
    let container = match open_file(VFIO) {
        Ok(file) => file,
        Err(found) => return found,
    };
    match number(&container, GET_API_VERSION, 0) {
        Ok(0) => {}
        Ok(version) => {
            return Found {
                verdict: Verdict::Failed,
                step: format!("VFIO_GET_API_VERSION on {VFIO} gives {version}, expected 0"),
                errno: None,
                value: 0,
            };
        }
        Err(errno) => return Found::refused(format!("VFIO_GET_API_VERSION on {VFIO}"), errno),
    }
    let has = |extension| number(&container, CHECK_EXTENSION, extension).is_ok_and(|yes| yes > 0);
    let kinds = EXTENSIONS
        .filter(|&extension| has(extension))
        .fold(0, |bits, extension| bits | 1 << extension);
    Found::works(format!("open {VFIO}"), kinds)
}

pub(crate) fn vfio_group(path: &str) -> Found {
    let group = match open_file(path) {
        Ok(file) => file,
        Err(found) => return found,
    };
    let mut status = GroupStatus { size: 8, flags: 0 };
    // SAFETY: the kernel reads and writes one such structure.
    let result = unsafe { libc::ioctl(group.as_raw_fd(), GROUP_GET_STATUS, &raw mut status) };
    if result < 0 {
        return Found::refused(format!("VFIO_GROUP_GET_STATUS on {path}"), last_error());
    }
    Found::works(format!("open {path}"), status.flags.into())
}

/// A request that takes a number and gives one.
fn number(file: &OwnedFd, request: c_ulong, argument: c_ulong) -> Result<c_int, Errno> {
    // SAFETY: only for the requests above that follow no pointer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    if result < 0 {
        return Err(last_error());
    }
    Ok(result)
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
