//! What a device receives for a port besides what it receives anyway. Other users of the device are not disturbed.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::{Namespace, NetdevError, sys};

/// Frames that a device is to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Membership {
    /// To all addresses.
    Promiscuous,
    /// To all groups.
    AllMulticast,
    /// To one more station.
    Station([u8; 6]),
    /// To a group.
    Group([u8; 6]),
}

/// Memberships of a packet socket (packet(7), `PACKET_ADD_MEMBERSHIP`): the kernel counts them for each device, and takes them back when the
/// socket is gone.
#[derive(Debug)]
pub struct Memberships {
    socket: OwnedFd,
    index: u32,
    held: BTreeSet<Membership>,
}

impl Memberships {
    /// None yet, by a socket of their own, which receives nothing.
    ///
    /// # Errors
    /// [`NetdevError::NotPermitted`] without `CAP_NET_RAW`, and those of [`Namespace::run`].
    pub fn open(namespace: &Namespace, index: u32) -> Result<Self, NetdevError> {
        let socket = namespace
            .run(|| {
                let flags = SocketFlags::CLOEXEC;
                // No protocol: it receives nothing.
                rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
            })?
            .map_err(|errno| NetdevError::of("opening a packet socket", errno, "CAP_NET_RAW"))?;
        Ok(Self::of(socket, index))
    }

    /// None yet, by a packet socket that is there.
    #[must_use]
    pub fn of(socket: OwnedFd, index: u32) -> Self {
        Self {
            socket,
            index,
            held: BTreeSet::new(),
        }
    }

    /// These and no others from now on. What was held and is wanted still is never let go in between.
    ///
    /// # Errors
    /// [`NetdevError::System`]: of an address that the device cannot have. What was held before is held then.
    pub fn set(&mut self, wanted: &BTreeSet<Membership>) -> Result<(), NetdevError> {
        let mut added = Vec::new();
        for &membership in wanted.difference(&self.held) {
            if let Err(error) = self.change(libc::PACKET_ADD_MEMBERSHIP, membership) {
                for membership in added {
                    self.change(libc::PACKET_DROP_MEMBERSHIP, membership)?;
                }
                return Err(error);
            }
            added.push(membership);
        }
        for &membership in self.held.difference(wanted) {
            self.change(libc::PACKET_DROP_MEMBERSHIP, membership)?;
        }
        self.held.clone_from(wanted);
        Ok(())
    }

    fn change(&self, option: i32, membership: Membership) -> Result<(), NetdevError> {
        let (kind, address) = match membership {
            Membership::Promiscuous => (libc::PACKET_MR_PROMISC, None),
            Membership::AllMulticast => (libc::PACKET_MR_ALLMULTI, None),
            Membership::Station(mac) => (libc::PACKET_MR_UNICAST, Some(mac)),
            Membership::Group(mac) => (libc::PACKET_MR_MULTICAST, Some(mac)),
        };
        let mut request = libc::packet_mreq {
            mr_ifindex: i32::try_from(self.index).unwrap_or(0),
            mr_type: u16::try_from(kind).unwrap_or(0),
            mr_alen: 0,
            mr_address: [0; 8],
        };
        if let Some(mac) = address {
            request.mr_alen = 6;
            request.mr_address[..6].copy_from_slice(&mac);
        }
        sys::set_packet_option(self.socket.as_fd(), option, request).map_err(|errno| {
            let what = format!("setting what device {} receives", self.index);
            NetdevError::of(what, errno, "CAP_NET_RAW")
        })
    }
}
