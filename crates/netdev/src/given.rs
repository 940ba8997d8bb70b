//! Descriptors from the caller: what they are is asked of the kernel, before anything is done with them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use crate::{NetdevError, sys, tap};

/// What a descriptor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A queue of a tap or macvtap.
    Tap {
        /// The device.
        name: String,
        /// Frames come behind virtio-net headers.
        header: bool,
    },
    /// A raw packet socket.
    Packet {
        /// The number of the device that it is bound to.
        index: u32,
    },
}

/// A copy of the caller's descriptor, with what it is. The caller's own stays the caller's.
///
/// # Errors
/// [`NetdevError::WrongDescriptor`].
pub fn take(fd: i32) -> Result<(OwnedFd, Given), NetdevError> {
    let copy = sys::duplicate(fd).map_err(|_| wrong(fd, "none that is open"))?;
    let given = kind(fd, copy.as_fd())?;
    Ok((copy, given))
}

/// Finds out what a descriptor is.
///
/// # Errors
/// [`NetdevError::WrongDescriptor`] when it is not a tap's, nor a raw packet socket that is bound to a device.
pub fn check(fd: BorrowedFd<'_>) -> Result<Given, NetdevError> {
    kind(fd.as_raw_fd(), fd)
}

fn wrong(fd: i32, got: &'static str) -> NetdevError {
    NetdevError::WrongDescriptor {
        fd,
        expected: "a tap, a macvtap, or a raw packet socket that is bound to a device",
        got,
    }
}

/// What `fd` is, which the caller knows by that number.
fn kind(number: i32, fd: BorrowedFd<'_>) -> Result<Given, NetdevError> {
    let wrong = |got| wrong(number, got);
    match tap::name_of(fd) {
        Some((name, true, header)) => return Ok(Given::Tap { name, header }),
        Some((_, false, _)) => return Err(wrong("a tun: it has no Ethernet header")),
        None => (),
    }
    let domain = socket_domain(fd).map_err(|_| wrong("neither a tap's nor a socket"))?;
    if domain != AddressFamily::PACKET {
        return Err(wrong("a socket of another family"));
    }
    if socket_type(fd) != Ok(SocketType::RAW) {
        return Err(wrong("a packet socket without link headers"));
    }
    match sys::bound_index(fd) {
        Ok(0) | Err(_) => Err(wrong("a packet socket that is bound to no device")),
        Ok(index) => Ok(Given::Packet { index }),
    }
}
