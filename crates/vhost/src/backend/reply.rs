//! What a message is answered with.

use std::os::fd::OwnedFd;

use zerocopy::IntoBytes;

use crate::message::{FLAG_REPLY, Header, InflightArea, VERSION, VringState};

/// An answer with its payload.
pub(super) enum Reply {
    Number(u64),
    Vring(VringState),
    Bytes(Vec<u8>),
    Inflight(InflightArea, OwnedFd),
}

/// A message that answers one. Its descriptors are closed once it was sent.
pub(super) struct Answer {
    pub header: Header,
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Reply {
    /// As an answer to the request of that number.
    pub fn to(self, request: u32) -> Answer {
        let (payload, fds) = match self {
            Self::Number(number) => (number.as_bytes().to_vec(), Vec::new()),
            Self::Vring(state) => (state.as_bytes().to_vec(), Vec::new()),
            Self::Bytes(bytes) => (bytes, Vec::new()),
            Self::Inflight(area, fd) => (area.as_bytes().to_vec(), vec![fd]),
        };
        let header = Header {
            request,
            flags: VERSION | FLAG_REPLY,
            size: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        Answer {
            header,
            payload,
            fds,
        }
    }
}
