//! Changes of links, as they happen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::netlink::{ANSWER_SIZE, socket};
use crate::{Link, Namespace, NetdevError};

/// The group of messages about links (`RTMGRP_LINK`).
const LINK_GROUP: u32 = 1;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// A link was made, or something about it changed: this is what it is now.
    Now(Link),
    /// It is gone from this namespace.
    Gone {
        /// Its number.
        index: u32,
    },
    /// More happened than the socket could hold: ask for the state of whatever matters.
    Missed,
}

/// Tells all changes of the links of a namespace from its making on. Readable, as a descriptor, while there are some.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl LinkMonitor {
    /// Needs no capability.
    ///
    /// # Errors
    /// [`NetdevError::System`], and those of [`Namespace::run`].
    pub fn open(namespace: &Namespace) -> Result<Self, NetdevError> {
        Ok(Self {
            socket: socket(namespace, LINK_GROUP)?,
            buffer: vec![0; ANSWER_SIZE],
        })
    }

    /// What happened since the last call, without waiting.
    ///
    /// # Errors
    /// [`NetdevError::System`].
    pub fn take(&mut self) -> Result<Vec<LinkChange>, NetdevError> {
        let mut changes = Vec::new();
        loop {
            match rustix::net::recv(
                &self.socket,
                self.buffer.as_mut_slice(),
                RecvFlags::DONTWAIT,
            ) {
                Ok((len, _)) => parse(&self.buffer[..len], &mut changes),
                Err(Errno::AGAIN) => return Ok(changes),
                Err(Errno::INTR) => (),
                Err(Errno::NOBUFS) => changes.push(LinkChange::Missed),
                Err(errno) => return Err(NetdevError::admin("reading link changes", errno)),
            }
        }
    }
}

/// One datagram may hold several messages.
fn parse(mut bytes: &[u8], changes: &mut Vec<LinkChange>) {
    while !bytes.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
            // What this library cannot read may still matter.
            changes.push(LinkChange::Missed);
            return;
        };
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                changes.push(LinkChange::Now(link.into()));
            }
            // A port that leaves its bridge is a deletion too, in the bridge's family.
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
                if link.header.interface_family == netlink_packet_route::AddressFamily::Unspec =>
            {
                changes.push(LinkChange::Gone {
                    index: link.header.index,
                });
            }
            _ => (),
        }
        let len = (message.header.length as usize).next_multiple_of(4).max(16);
        bytes = bytes.get(len..).unwrap_or_default();
    }
}
