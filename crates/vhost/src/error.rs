//! Everything that can go wrong with a vhost-user peer or its socket.

use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;
use vring_mem::guest::{GuestMemoryError, MapError};

use crate::message::{MAX_FDS, ProtocolFeatures, Request};

/// An error of the vhost-user protocol or of its socket.
#[derive(Debug, Error)]
pub enum VhostError {
    /// The peer closed the connection: the normal end of one.
    #[error("the vhost-user peer closed the connection")]
    Disconnected,
    /// Our own stop descriptor became readable.
    #[error("stopped while waiting for the vhost-user peer")]
    Stopped,
    /// The peer did not read, or did not send what it had begun to send, in time.
    #[error(
        "the vhost-user peer did not complete {what} within {limit:?}; is it stopped or stuck?"
    )]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// A system call failed.
    #[error("{call} failed: {source}")]
    System {
        /// Name of the system call.
        call: &'static str,
        /// What the kernel said.
        source: Errno,
    },
    /// The header is of another version, or is a reply where a request was due (or the other way round).
    #[error(
        "expected a vhost-user {expected} (version 1), got request number {request} with flags {flags:#x}"
    )]
    BadHeader {
        /// What was due.
        expected: &'static str,
        /// The number in the header.
        request: u32,
        /// The flags in the header.
        flags: u32,
    },
    /// The payload has the wrong length for its request.
    #[error("{request}: expected a payload of {expected} bytes, got {got}")]
    PayloadSize {
        /// Name or number of the request.
        request: String,
        /// What was due.
        expected: usize,
        /// What the header said.
        got: usize,
    },
    /// The message carries the wrong number of file descriptors. They were closed.
    #[error("{request}: expected {expected} file descriptors, got {got}")]
    FdCount {
        /// The request.
        request: Request,
        /// What was due.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A request of the back end carries file descriptors; none that we know does. They were closed.
    #[error("back end's request {request}: expected no file descriptors, got {got}")]
    BackendFds {
        /// Its number.
        request: u32,
        /// What came.
        got: usize,
    },
    /// More file descriptors than any message carries. They were closed.
    #[error("expected at most {MAX_FDS} file descriptors with one message, got more")]
    TooManyFds,
    /// A request that this end does not know.
    #[error("got unknown vhost-user request number {0}, which this end never offered")]
    UnknownRequest(u32),
    /// A request whose protocol feature was not agreed on.
    #[error("{request} needs protocol feature {feature:?}, which was not negotiated")]
    NotNegotiated {
        /// The request.
        request: Request,
        /// The feature.
        feature: ProtocolFeatures,
    },
    /// A well-formed message with an impossible value.
    #[error("{request}: {reason}")]
    BadValue {
        /// The request.
        request: Request,
        /// What was expected and what came.
        reason: String,
    },
    /// A memory region could not be mapped.
    #[error("{request}: {source}")]
    Memory {
        /// The request.
        request: Request,
        /// Why.
        source: GuestMemoryError,
    },
    /// A file that came with a message could not be mapped.
    #[error("{request}: {source}")]
    Map {
        /// The request.
        request: Request,
        /// Why.
        source: MapError,
    },
    /// The other end answered that it could not do it.
    #[error("the vhost-user back end refused {request} (it answered {answer})")]
    Rejected {
        /// The request.
        request: Request,
        /// The non-zero value.
        answer: u64,
    },
    /// Somebody listens on that socket already.
    #[error("socket {} is in use: another process listens on it. Give another path or end that process", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The path names something that is no socket. It is left alone.
    #[error("{} exists and is no socket; it was left alone. Give another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The folder of the socket, or for a dial without retry the socket, does not exist.
    #[error("{} does not exist: expected an existing folder for the socket", path.display())]
    NoSuchPath {
        /// What is missing.
        path: PathBuf,
    },
    /// The kernel refuses the path.
    #[error("no permission for socket {}: expected write access to it and its folder", path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error("socket path of {length} bytes: expected 1 to {max} bytes, give a shorter one: {}", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
}

impl VhostError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Disconnected => "ERR_VRING_DISCONNECTED",
            Self::Stopped => "ERR_VRING_STOPPED",
            Self::Timeout { .. } => "ERR_VRING_PEER_TIMEOUT",
            Self::System { .. } => "ERR_VRING_SYSTEM",
            Self::BadHeader { .. } => "ERR_VRING_VHOST_HEADER",
            Self::PayloadSize { .. } => "ERR_VRING_VHOST_SIZE",
            Self::FdCount { .. } | Self::BackendFds { .. } | Self::TooManyFds => {
                "ERR_VRING_VHOST_FDS"
            }
            Self::UnknownRequest(_) => "ERR_VRING_VHOST_REQUEST",
            Self::NotNegotiated { .. } => "ERR_VRING_VHOST_NOT_NEGOTIATED",
            Self::BadValue { .. } => "ERR_VRING_VHOST_VALUE",
            Self::Memory { source, .. } => source.code(),
            Self::Map { source, .. } => source.code(),
            Self::Rejected { .. } => "ERR_VRING_VHOST_REJECTED",
            Self::SocketInUse { .. } => "ERR_VRING_SOCKET_IN_USE",
            Self::NotASocket { .. } => "ERR_VRING_NOT_A_SOCKET",
            Self::NoSuchPath { .. } => "ERR_VRING_NO_SUCH_PATH",
            Self::Permission { .. } => "ERR_VRING_PERMISSION",
            Self::PathTooLong { .. } => "ERR_VRING_PATH_TOO_LONG",
        }
    }

    /// Whether this is the ordinary end of a connection: the peer went away, or we were told to stop. Everything else is a
    /// fault that deserves a report.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Disconnected | Self::Stopped => true,
            Self::Timeout { .. }
            | Self::System { .. }
            | Self::BadHeader { .. }
            | Self::PayloadSize { .. }
            | Self::FdCount { .. }
            | Self::BackendFds { .. }
            | Self::TooManyFds
            | Self::UnknownRequest(_)
            | Self::NotNegotiated { .. }
            | Self::BadValue { .. }
            | Self::Memory { .. }
            | Self::Map { .. }
            | Self::Rejected { .. }
            | Self::SocketInUse { .. }
            | Self::NotASocket { .. }
            | Self::NoSuchPath { .. }
            | Self::Permission { .. }
            | Self::PathTooLong { .. } => false,
        }
    }

    /// Whether the message itself was well-formed and only its meaning was refused, so that the connection can go on after
    /// a negative answer.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::BadValue { .. }
            | Self::Memory { .. }
            | Self::Map { .. }
            | Self::NotNegotiated { .. }
            | Self::UnknownRequest(_) => true,
            Self::Disconnected
            | Self::Stopped
            | Self::Timeout { .. }
            | Self::System { .. }
            | Self::BadHeader { .. }
            | Self::PayloadSize { .. }
            | Self::FdCount { .. }
            | Self::BackendFds { .. }
            | Self::TooManyFds
            | Self::Rejected { .. }
            | Self::SocketInUse { .. }
            | Self::NotASocket { .. }
            | Self::NoSuchPath { .. }
            | Self::Permission { .. }
            | Self::PathTooLong { .. } => false,
        }
    }
}
