//! Receives nothing and sends packets of its own, as fast as the queue takes them.

use vring_port::PortError;

use super::lane::Lane;
use super::template::Template;
use super::{EngineOptions, Mode, Stream};
use crate::ForwardError;

/// See the file's first line.
pub(super) struct TxOnly {
    template: Template,
}

impl Mode for TxOnly {
    fn new(stream: &Stream, options: &EngineOptions) -> Result<Self, ForwardError> {
        let tx = stream.tx.as_ref().ok_or(ForwardError::Stream {
            engine: "txonly",
            what: "a transmit queue",
        })?;
        let template = Template::new(&options.template, tx.pool(), stream.src, stream.dst)?;
        Ok(Self { template })
    }

    #[inline(always)]
    fn turn(&mut self, lane: &mut Lane<'_>, wanted: usize) -> Result<usize, PortError> {
        if let Some(tx) = &lane.stream.tx {
            self.template.fill(tx.pool(), lane.burst, wanted);
        }
        lane.send_some()
    }
}
