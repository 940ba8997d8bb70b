//! As `io`. Before it receives, it takes back the buffers of what was sent: they are the last that were used, lie in this thread's cache of the
//! mempool, and are the next to be received into. DPDK's engine moves them from one ring to the other, past the mempool; here they pass the
//! mempool's cache, which is a stack, without touching what is shared.

use vring_port::PortError;

use super::lane::Lane;
use super::{EngineOptions, Mode, Stream};
use crate::ForwardError;

/// See the file's first line.
pub(super) struct RecycleMbufs;

impl Mode for RecycleMbufs {
    fn new(_: &Stream, _: &EngineOptions) -> Result<Self, ForwardError> {
        Ok(Self)
    }

    #[inline(always)]
    fn turn(&mut self, lane: &mut Lane<'_>, _: usize) -> Result<usize, PortError> {
        if let Some(tx) = &lane.stream.tx {
            tx.reclaim(lane.owner)?;
        }
        let received = lane.receive()?;
        if received > 0 {
            lane.send()?;
        }
        Ok(received)
    }
}
