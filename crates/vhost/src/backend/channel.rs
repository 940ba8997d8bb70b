//! The channel for requests of the back end (`SET_BACKEND_REQ_FD`).
//!
//! Nothing here waits for the front end: it may itself be waiting for us. Acknowledgements are taken when they come.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vring_mem::guest::{Access, Misses};
use zerocopy::IntoBytes;

use super::session::{Session, expect_fds};
use crate::error::VhostError;
use crate::message::{
    FLAG_NEED_REPLY, FLAG_REPLY, Header, IotlbMessage, ProtocolFeatures, Request, VERSION,
    VERSION_MASK, backend, iotlb,
};
use crate::wire::{self, Wait};

/// The most requests that wait for an acknowledgement. A front end that gives none is asked no more.
const MAX_WAITING: usize = 64;

/// How long a front end may take to complete an acknowledgement that it began.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// A request without an answer yet.
struct Waiting {
    request: u32,
    /// The number of the question, if it asks for a translation.
    miss: Option<u64>,
}

/// One open channel.
pub(super) struct Channel {
    socket: OwnedFd,
    /// Requests that the front end was asked to acknowledge, oldest first.
    waiting: VecDeque<Waiting>,
    acknowledged: bool,
}

impl Channel {
    /// Sends a request, if the front end reads what it gets. False if it was not sent.
    fn tell(&mut self, request: u32, payload: &[u8], miss: Option<u64>) -> bool {
        if self.waiting.len() == MAX_WAITING {
            return false;
        }
        let need = if self.acknowledged {
            FLAG_NEED_REPLY
        } else {
            0
        };
        let header = Header {
            request,
            flags: VERSION | need,
            size: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        // No time at all: a message is far shorter than a socket's buffer, so it goes whole or, when that is full, not at all.
        let wait = Wait::at_most(Duration::ZERO, "reading a request of ours", None);
        match wire::send(self.socket.as_fd(), &header, payload, &[], &wait) {
            Ok(()) => {
                if self.acknowledged {
                    self.waiting.push_back(Waiting { request, miss });
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "a request to the front end was not sent");
                false
            }
        }
    }

    /// Asks for the translation of a page. False if that was not possible now.
    fn ask(&mut self, page: u64, access: Access, number: u64) -> bool {
        let message = IotlbMessage {
            iova: page,
            size: 0,
            user_addr: 0,
            access: access.bits(),
            kind: iotlb::MISS,
            padding: [0; 6],
        };
        self.tell(backend::IOTLB_MSG, message.as_bytes(), Some(number))
    }

    /// Takes one acknowledgement. One of a miss that refuses it says that there is nothing; else it was told before.
    fn take_ack(&mut self, misses: &Misses) -> Result<(), VhostError> {
        let wait = Wait::at_most(ACK_TIMEOUT, "an acknowledgement", None);
        let message = wire::receive(self.socket.as_fd(), wait, ACK_TIMEOUT)?;
        let Header { request, flags, .. } = message.header;
        let due = self.waiting.pop_front();
        let Some(due) = due.filter(|due| {
            flags & (VERSION_MASK | FLAG_REPLY) == VERSION | FLAG_REPLY && due.request == request
        }) else {
            return Err(VhostError::BadHeader {
                expected: "acknowledgement of our request",
                request,
                flags,
            });
        };
        let answer: u64 = wire::parse(
            format_args!("back end's request {request}"),
            &message.payload,
        )?;
        if answer != 0 {
            tracing::debug!(request, answer, "the front end refused a request of ours");
        }
        if let Some(number) = due.miss {
            misses.answered(number, answer != 0);
        }
        Ok(())
    }
}

impl Session<'_> {
    pub(super) fn set_backend_req_fd(
        &mut self,
        payload: &[u8],
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), VhostError> {
        let request = Request::SET_BACKEND_REQ_FD;
        wire::parse::<()>(request, payload)?;
        expect_fds(request, &fds, 1)?;
        self.channel = Some(Channel {
            socket: fds.swap_remove(0),
            waiting: VecDeque::new(),
            acknowledged: self.protocol.contains(ProtocolFeatures::REPLY_ACK),
        });
        Ok(())
    }

    /// Waits until there is a message, something to tell, an acknowledgement, or the stop.
    pub(super) fn wait(
        &self,
        socket: BorrowedFd<'_>,
        stop: BorrowedFd<'_>,
    ) -> Result<(), VhostError> {
        let channel = self
            .channel
            .as_ref()
            .map_or(socket, |channel| channel.socket.as_fd());
        loop {
            let mut fds = [stop, socket, self.notifier.fd(), channel]
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Err(source) => {
                    return Err(VhostError::System {
                        call: "poll",
                        source,
                    });
                }
                Ok(_) if !fds[0].revents().is_empty() => return Err(VhostError::Stopped),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Tells the front end what there is to tell, and takes its acknowledgements. A channel that breaks is closed; the session goes on.
    pub(super) fn serve_channel(&mut self) {
        let config = self.notifier.take() && self.protocol.contains(ProtocolFeatures::CONFIG);
        let Some(channel) = self.channel.as_mut() else {
            return;
        };
        if config {
            channel.tell(backend::CONFIG_CHANGE_MSG, &[], None);
        }
        if wire::is_readable(channel.socket.as_fd())
            && let Err(error) = channel.take_ack(&self.iommu.misses)
        {
            tracing::debug!(%error, "the channel for our requests is closed");
            self.channel = None;
            return;
        }
        self.iommu
            .misses
            .ask(|page, access, number| channel.ask(page, access, number));
    }
}
