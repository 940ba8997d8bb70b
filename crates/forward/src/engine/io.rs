//! Sends on what comes, without looking at it.

use vring_port::PortError;

use super::lane::Lane;
use super::{EngineOptions, Mode, Stream};
use crate::ForwardError;

/// See the file's first line.
pub(super) struct Io;

impl Mode for Io {
    fn new(_: &Stream, _: &EngineOptions) -> Result<Self, ForwardError> {
        Ok(Self)
    }

    #[inline(always)]
    fn turn(&mut self, lane: &mut Lane<'_>, _: usize) -> Result<usize, PortError> {
        let received = lane.receive()?;
        if received > 0 {
            lane.send()?;
        }
        Ok(received)
    }
}
