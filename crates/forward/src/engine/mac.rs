//! Sends on with the address of the port that it leaves by, to that port's peer.

use vring_port::PortError;

use super::lane::Lane;
use super::{EngineOptions, Mode, Stream, edit};
use crate::ForwardError;

/// See the file's first line.
pub(super) struct Mac {
    /// Both addresses as they stand in a packet.
    addresses: u128,
}

impl Mode for Mac {
    fn new(stream: &Stream, _: &EngineOptions) -> Result<Self, ForwardError> {
        Ok(Self {
            addresses: edit::both(stream.dst, stream.src),
        })
    }

    #[inline(always)]
    fn turn(&mut self, lane: &mut Lane<'_>, _: usize) -> Result<usize, PortError> {
        let received = lane.receive()?;
        if received > 0 {
            edit::addresses(lane.pool(), lane.burst, |_| self.addresses);
            lane.send()?;
        }
        Ok(received)
    }
}
