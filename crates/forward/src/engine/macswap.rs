//! Swaps source and destination of Ethernet.

use vring_port::PortError;

use super::lane::Lane;
use super::{EngineOptions, Mode, Stream, edit};
use crate::ForwardError;

/// See the file's first line.
pub(super) struct MacSwap;

impl Mode for MacSwap {
    fn new(_: &Stream, _: &EngineOptions) -> Result<Self, ForwardError> {
        Ok(Self)
    }

    #[inline(always)]
    fn turn(&mut self, lane: &mut Lane<'_>, _: usize) -> Result<usize, PortError> {
        let received = lane.receive()?;
        if received > 0 {
            edit::addresses(lane.pool(), lane.burst, |both| {
                // Bytes 0..6 destination, 6..12 source: as one 96-bit number, rotated by half.
                (both >> 48) | (both & 0xffff_ffff_ffff) << 48
            });
            lane.send()?;
        }
        Ok(received)
    }
}
