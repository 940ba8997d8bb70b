//! Packet sockets: frames of a device that the kernel keeps using itself.

use std::ffi::c_int;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::sys;
use crate::{Namespace, NetdevError, Netlink};

/// How the kernel spreads frames over the sockets of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fanout {
    /// By flow.
    Hash,
    /// One after the other.
    RoundRobin,
}

/// A raw packet socket, bound to one device. It never blocks.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    index: u32,
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl PacketSocket {
    /// Opens a socket that receives nothing yet: options come first, then [`PacketSocket::bind`].
    ///
    /// # Errors
    /// [`NetdevError::NotPermitted`] without `CAP_NET_RAW`, [`NetdevError::NoSuchDevice`].
    pub fn open(namespace: &Namespace, name: &str) -> Result<Self, NetdevError> {
        let index = Netlink::open(namespace)?.link(name)?.index;
        // Protocol 0: a socket for all protocols would hold frames of all devices until it is bound.
        let socket = namespace
            .run(|| {
                rustix::net::socket_with(
                    AddressFamily::PACKET,
                    SocketType::RAW,
                    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                    None,
                )
            })?
            .map_err(|errno| {
                NetdevError::of(
                    format!("opening a packet socket for {name}"),
                    errno,
                    "CAP_NET_RAW",
                )
            })?;
        Ok(Self { socket, index })
    }

    /// Receives from now on.
    ///
    /// # Errors
    /// [`NetdevError::System`]; `ENODEV` when the device went away meanwhile.
    pub fn bind(&self) -> Result<(), NetdevError> {
        self.bind_for(true)
    }

    pub(crate) fn bind_for(&self, receives: bool) -> Result<(), NetdevError> {
        let bound = sys::bind_packet(&self.socket, self.index, receives);
        bound.map_err(|errno| self.failed("binding", errno))
    }

    /// The number of its device.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Sends past the device's queueing discipline: a full device refuses instead of queueing.
    ///
    /// # Errors
    /// [`NetdevError::System`].
    pub fn bypass_qdisc(&self) -> Result<(), NetdevError> {
        self.set(libc::PACKET_QDISC_BYPASS, 1)
    }

    /// Does not receive what this machine sends through the device.
    ///
    /// # Errors
    /// [`NetdevError::System`]; kernels before 4.20 have no such option.
    pub fn ignore_outgoing(&self) -> Result<(), NetdevError> {
        const PACKET_IGNORE_OUTGOING: c_int = 23;
        self.set(PACKET_IGNORE_OUTGOING, 1)
    }

    /// Shares the frames of the device with the other sockets of the group, by that rule. After [`PacketSocket::bind`].
    ///
    /// # Errors
    /// [`NetdevError::System`].
    pub fn join(&self, group: u16, fanout: Fanout) -> Result<(), NetdevError> {
        let kind = match fanout {
            Fanout::Hash => libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_DEFRAG,
            Fanout::RoundRobin => libc::PACKET_FANOUT_LB,
        };
        #[expect(
            clippy::cast_possible_wrap,
            reason = "the kernel takes it apart as bits"
        )]
        let value = (u32::from(group) | kind << 16) as c_int;
        self.set(libc::PACKET_FANOUT, value)
    }

    /// Frames that the kernel dropped since the last call, for want of room.
    ///
    /// # Errors
    /// [`NetdevError::System`].
    pub fn take_drops(&self) -> Result<u32, NetdevError> {
        take_drops(self.as_fd())
    }

    /// Gives the descriptor away.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Sets an option that is a number.
    ///
    /// # Errors
    /// [`NetdevError::System`].
    pub fn set(&self, option: c_int, value: c_int) -> Result<(), NetdevError> {
        sys::set_packet_option(self.as_fd(), option, value)
            .map_err(|errno| self.failed("setting an option", errno))
    }

    pub(crate) fn failed(&self, what: &str, errno: Errno) -> NetdevError {
        NetdevError::of(
            format!("packet socket of device {}: {what}", self.index),
            errno,
            "CAP_NET_RAW",
        )
    }
}

/// Frames that the kernel dropped at a packet socket since the last call, for want of room.
///
/// # Errors
/// [`NetdevError::System`].
pub fn take_drops(fd: BorrowedFd<'_>) -> Result<u32, NetdevError> {
    let [_, drops, _] = sys::packet_statistics(fd).map_err(|errno| {
        NetdevError::of(
            "reading the counters of a packet socket",
            errno,
            "CAP_NET_RAW",
        )
    })?;
    Ok(drops)
}

/// Has a packet socket put a virtio-net header of that many bytes before each frame, and expect one (`PACKET_VNET_HDR_SZ`). False when this
/// kernel knows no header of that length, before Linux 6.6 only one of 10 bytes: there are none then.
///
/// # Errors
/// [`NetdevError::System`].
pub fn set_packet_header(fd: BorrowedFd<'_>, size: u8) -> Result<bool, NetdevError> {
    const PACKET_VNET_HDR_SZ: c_int = 24;
    let failed = |errno| {
        NetdevError::of(
            "setting the header of a packet socket",
            errno,
            "CAP_NET_RAW",
        )
    };
    match sys::set_packet_option(fd, PACKET_VNET_HDR_SZ, c_int::from(size)) {
        Ok(()) => Ok(true),
        Err(Errno::NOPROTOOPT | Errno::INVAL) => {
            sys::set_packet_option(fd, libc::PACKET_VNET_HDR, c_int::from(size == 10))
                .map(|()| size == 10)
                .map_err(failed)
        }
        Err(errno) => Err(failed(errno)),
    }
}
