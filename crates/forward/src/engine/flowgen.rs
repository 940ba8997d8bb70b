//! Frees what comes, and sends packets of many flows, each to an address of its own.

use vring_port::PortError;

use super::lane::Lane;
use super::options::Template as Options;
use super::template::Template;
use super::{EngineOptions, Mode, Stream};
use crate::ForwardError;

/// As testpmd's: whoever looks for the packets of one finds those of the other.
const SRC: [u8; 6] = [0x00, 0x01, 0x02, 0x03, 0x04, 0x00];
const DST: [u8; 6] = [0x00, 0x01, 0x02, 0x03, 0x04, 0x01];
const SRC_IP: [u8; 4] = [10, 254, 0, 0];
const DST_IP: u32 = 10 << 24 | 253 << 16;
const UDP_PORTS: (u16, u16) = (1000, 1001);
/// The lengths that a user gives count the check sequence here, which the device makes.
const CHECK_SEQUENCE: u32 = 4;

/// See the file's first line.
pub(super) struct FlowGen {
    template: Template,
    next: u32,
    flows: u32,
    clones: u32,
}

impl Mode for FlowGen {
    fn new(stream: &Stream, options: &EngineOptions) -> Result<Self, ForwardError> {
        let range = |what, max, got: u32| ForwardError::Range {
            what,
            min: 1,
            max,
            got: got as usize,
        };
        if options.flowgen_flows == 0 || options.flowgen_flows > i32::MAX as u32 {
            let max = i32::MAX as usize;
            return Err(range("flows of flowgen", max, options.flowgen_flows));
        }
        let Some(tx) = &stream.tx else {
            return Err(ForwardError::Stream {
                engine: "flowgen",
                what: "a transmit queue",
            });
        };
        let total: u32 = options.template.segments.iter().sum();
        let packets = Options {
            segments: vec![total.saturating_sub(CHECK_SEQUENCE)],
            ip: (SRC_IP.into(), DST_IP.into()),
            udp: UDP_PORTS,
            ..Options::default()
        };
        Ok(Self {
            template: Template::new(&packets, tx.pool(), SRC, DST)?,
            next: 0,
            flows: options.flowgen_flows,
            clones: options.flowgen_clones,
        })
    }

    fn turn(&mut self, lane: &mut Lane<'_>, wanted: usize) -> Result<usize, PortError> {
        if lane.receive()? > 0 {
            lane.free_all();
        }
        let Some(tx) = &lane.stream.tx else {
            return Ok(0);
        };
        self.template.fill(tx.pool(), lane.burst, wanted);
        let (flows, made, before) = (self.flows, lane.burst.len(), self.next);
        let mut clones = 0;
        let mut to = before;
        for i in 0..made {
            // Clones are packets with the same bytes; there is one buffer to each all the same.
            if clones == 0 {
                (clones, to) = (self.clones, self.next);
            } else {
                clones -= 1;
            }
            self.template
                .set_dst(tx.pool(), lane.burst, i, DST_IP.wrapping_add(to));
            self.next = (self.next + 1) % flows;
        }
        let sent = lane.send_some()?;
        // What was not sent is made again.
        #[expect(clippy::cast_possible_truncation, reason = "at most a burst")]
        let back = (made - sent) as u32 % flows;
        self.next = (self.next + flows - back) % flows;
        Ok(sent)
    }
}
