//! The channel by which the back end asks the driver.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use zerocopy::IntoBytes;

use super::Frontend;
use crate::error::VhostError;
use crate::message::{
    FLAG_NEED_REPLY, FLAG_REPLY, Header, IotlbMessage, Request, VERSION, VERSION_MASK, backend,
    iotlb,
};
use crate::wire::{self, Wait};

/// How long the back end may take to complete a request that it began, or to read an acknowledgement.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What a back end asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendRequest {
    /// The device configuration space changed: it is worth reading again.
    ConfigChanged,
    /// A translation is missing: to be told, and then to be answered by [`BackendRequests::answer`].
    IotlbMiss(IotlbMiss),
}

/// What translation a back end misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IotlbMiss {
    /// The I/O virtual address.
    pub iova: u64,
    /// What for: bit 0 to read, bit 1 to write.
    pub access: u8,
    /// The back end wants to know when it was told.
    acknowledge: bool,
}

/// Our end of the channel. To be polled; then [`BackendRequests::take`].
#[derive(Debug)]
pub struct BackendRequests {
    socket: OwnedFd,
}

impl AsFd for BackendRequests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Frontend {
    /// Opens a channel for requests of the back end (protocol feature `BACKEND_REQ`). One that was open before is not served any more.
    pub fn open_backend_channel(&mut self) -> Result<BackendRequests, VhostError> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|source| VhostError::System {
            call: "socketpair",
            source,
        })?;
        self.tell(Request::SET_BACKEND_REQ_FD, &[], &[theirs.as_fd()])?;
        Ok(BackendRequests { socket: ours })
    }
}

impl BackendRequests {
    /// The next request, if one has come. It was acknowledged where the back end wanted that, but for misses; one that we do not know was
    /// refused, and is passed over.
    ///
    /// # Errors
    /// [`VhostError::Disconnected`] when the back end closed the channel; after any other error it is not used again either.
    pub fn take(&self) -> Result<Option<BackendRequest>, VhostError> {
        while wire::is_readable(self.socket.as_fd()) {
            let wait = Wait::at_most(TIMEOUT, "a request of the back end", None);
            let message = wire::receive(self.socket.as_fd(), wait, TIMEOUT)?;
            let Header { request, flags, .. } = message.header;
            if flags & (VERSION_MASK | FLAG_REPLY) != VERSION {
                return Err(VhostError::BadHeader {
                    expected: "request of the back end",
                    request,
                    flags,
                });
            }
            if !message.fds.is_empty() {
                return Err(VhostError::BackendFds {
                    request,
                    got: message.fds.len(),
                });
            }
            let mut known = parse(request, &message.payload)?;
            let acknowledge = flags & FLAG_NEED_REPLY != 0;
            if let Some(BackendRequest::IotlbMiss(miss)) = &mut known {
                miss.acknowledge = acknowledge;
            } else if acknowledge {
                self.acknowledge(request, u64::from(known.is_none()))?;
            }
            if known.is_some() {
                return Ok(known);
            }
        }
        Ok(None)
    }

    /// Answers a miss: its translation was told, or there is none.
    ///
    /// # Errors
    /// As [`BackendRequests::take`].
    pub fn answer(&self, miss: IotlbMiss, told: bool) -> Result<(), VhostError> {
        if miss.acknowledge {
            self.acknowledge(backend::IOTLB_MSG, u64::from(!told))?;
        }
        Ok(())
    }

    fn acknowledge(&self, request: u32, answer: u64) -> Result<(), VhostError> {
        let header = Header {
            request,
            flags: VERSION | FLAG_REPLY,
            size: 8,
        };
        let wait = Wait::at_most(TIMEOUT, "reading our acknowledgement", None);
        wire::send(self.socket.as_fd(), &header, answer.as_bytes(), &[], &wait)
    }
}

fn parse(request: u32, payload: &[u8]) -> Result<Option<BackendRequest>, VhostError> {
    let name = format_args!("back end's request {request}");
    match request {
        backend::CONFIG_CHANGE_MSG => {
            wire::parse::<()>(name, payload)?;
            Ok(Some(BackendRequest::ConfigChanged))
        }
        backend::IOTLB_MSG => {
            let message: IotlbMessage = wire::parse(name, payload)?;
            // Told of an access that was not allowed, there is nothing to be done here.
            Ok(
                (message.kind == iotlb::MISS).then_some(BackendRequest::IotlbMiss(IotlbMiss {
                    iova: message.iova,
                    access: message.access,
                    acknowledge: false,
                })),
            )
        }
        _ => Ok(None),
    }
}
