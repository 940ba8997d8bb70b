//! Descriptors from the caller: what they are is asked of the kernel, before anything is done with them.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use crate::{NetdevError, sys, tap};

/// What a descriptor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A queue of a tap or macvtap.
    Tap {
        /// The device; a macvtap does not tell.
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

/// Finds out what a descriptor is.
///
/// # Errors
/// [`NetdevError::WrongDescriptor`] when it is not a tap's, nor a raw packet socket that is bound to a device.
pub fn check(fd: BorrowedFd<'_>) -> Result<Given, NetdevError> {
    let wrong = |got| NetdevError::WrongDescriptor {
        fd: fd.as_raw_fd(),
        expected: "a tap, a macvtap, or a raw packet socket that is bound to a device",
        got,
    };
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
