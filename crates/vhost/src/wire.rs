//! Messages on a connected Unix stream socket: header, payload and file descriptors, complete or not at all.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::error::VhostError;
use crate::message::{Header, MAX_FDS, MAX_PAYLOAD};

/// A received message. Its descriptors are closed with it unless they are taken.
#[derive(Default)]
pub(crate) struct Message {
    pub header: Header,
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// Until when to wait, and what ends the wait early.
#[derive(Clone, Copy)]
pub(crate) struct Wait<'a> {
    pub deadline: Option<Instant>,
    pub stop: Option<BorrowedFd<'a>>,
    /// Named in the error when the deadline passes.
    pub what: &'a str,
    /// The time that the deadline was made from, for the error.
    pub limit: Duration,
}

impl<'a> Wait<'a> {
    /// Waits until `stop` becomes readable.
    pub fn forever(stop: Option<BorrowedFd<'a>>) -> Self {
        Self {
            deadline: None,
            stop,
            what: "a request",
            limit: Duration::ZERO,
        }
    }

    /// Waits `limit` from now on for `what`.
    pub fn at_most(limit: Duration, what: &'a str, stop: Option<BorrowedFd<'a>>) -> Self {
        Self {
            deadline: Instant::now().checked_add(limit),
            stop,
            what,
            limit,
        }
    }

    /// Blocks until `fd` is ready for `events` (or broken: the next system call on it then says how).
    pub fn until_ready(&self, fd: BorrowedFd<'_>, events: PollFlags) -> Result<(), VhostError> {
        loop {
            let left = self
                .deadline
                .map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec::try_from(left).unwrap_or_default());
            let mut fds = [
                PollFd::from_borrowed_fd(fd, events),
                PollFd::from_borrowed_fd(self.stop.unwrap_or(fd), PollFlags::IN),
            ];
            let watched = if self.stop.is_some() { 2 } else { 1 };
            match poll(&mut fds[..watched], left.as_ref()) {
                Err(Errno::INTR) => {}
                Err(source) => {
                    return Err(VhostError::System {
                        call: "poll",
                        source,
                    });
                }
                Ok(0) => {
                    return Err(VhostError::Timeout {
                        what: self.what.to_owned(),
                        limit: self.limit,
                    });
                }
                // A peer that never stops sending must not keep us from stopping, so the stop is looked at first.
                Ok(_) if watched == 2 && !fds[1].revents().is_empty() => {
                    return Err(VhostError::Stopped);
                }
                Ok(_) => return Ok(()),
            }
        }
    }
}

/// Whether there is something to read, or the peer hung up.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Receives one whole message. `first` governs the wait for its first byte, `rest` how long it may then take.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    first: Wait<'_>,
    rest: Duration,
) -> Result<Message, VhostError> {
    first.until_ready(socket, PollFlags::IN)?;
    let rest = Wait::at_most(rest, first.what, first.stop);
    let mut header = Header::new_zeroed();
    let mut fds = Vec::new();
    read_exact(socket, header.as_mut_bytes(), &mut fds, &rest)?;
    let size = header.size as usize;
    if size > MAX_PAYLOAD {
        return Err(VhostError::PayloadSize {
            request: format!("request number {}", header.request),
            expected: MAX_PAYLOAD,
            got: size,
        });
    }
    let mut payload = vec![0; size];
    read_exact(socket, &mut payload, &mut fds, &rest)?;
    Ok(Message {
        header,
        payload,
        fds,
    })
}

/// Fills `buffer`. Descriptors that come with any of the bytes are added to `fds`.
fn read_exact(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    wait: &Wait<'_>,
) -> Result<(), VhostError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(socket, &mut buffer[filled..], fds) {
            Ok(0) => return Err(VhostError::Disconnected),
            Ok(count) => filled += count,
            Err(VhostError::System {
                source: Errno::AGAIN,
                ..
            }) => wait.until_ready(socket, PollFlags::IN)?,
            Err(VhostError::System {
                source: Errno::INTR,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_some(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<usize, VhostError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    // Whatever stays in this buffer is closed when it is dropped.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(from_errno("recvmsg"))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
        return Err(VhostError::TooManyFds);
    }
    Ok(received.bytes)
}

/// Sends one whole message. The descriptors travel with its first byte.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    header: &Header,
    payload: &[u8],
    fds: &[BorrowedFd<'_>],
    wait: &Wait<'_>,
) -> Result<(), VhostError> {
    if fds.len() > MAX_FDS {
        return Err(VhostError::TooManyFds);
    }
    let mut message = Vec::with_capacity(size_of::<Header>() + payload.len());
    message.extend_from_slice(header.as_bytes());
    message.extend_from_slice(payload);
    let mut sent = 0;
    while sent < message.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if sent == 0 && !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        match sendmsg(
            socket,
            &[IoSlice::new(&message[sent..])],
            &mut control,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Ok(count) => sent += count,
            Err(Errno::AGAIN) => wait.until_ready(socket, PollFlags::OUT)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(from_errno("sendmsg")(error)),
        }
    }
    Ok(())
}

/// Looks at the connection without taking anything from it: an error if the peer closed it or sent something unasked.
pub(crate) fn check_idle(socket: BorrowedFd<'_>) -> Result<(), VhostError> {
    let mut byte = [0u8; 1];
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    match rustix::net::recv(socket, &mut byte[..], flags) {
        Ok((0, _)) => Err(VhostError::Disconnected),
        Ok(_) => Err(VhostError::BadHeader {
            expected: "silence between requests",
            request: 0,
            flags: 0,
        }),
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(from_errno("recv")(error)),
    }
}

fn from_errno(call: &'static str) -> impl Fn(Errno) -> VhostError {
    move |source| match source {
        Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN => VhostError::Disconnected,
        source => VhostError::System { call, source },
    }
}

/// The payload as a `T`, if it has exactly its length.
pub(crate) fn parse<T: FromBytes>(
    request: impl std::fmt::Display,
    payload: &[u8],
) -> Result<T, VhostError> {
    T::read_from_bytes(payload).map_err(|_| VhostError::PayloadSize {
        request: request.to_string(),
        expected: size_of::<T>(),
        got: payload.len(),
    })
}
