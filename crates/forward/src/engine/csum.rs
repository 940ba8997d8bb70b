//! Makes the checksums of IPv4, TCP and UDP anew, or has them made, and sends on as `mac` does.

use vring_mem::burst::flags;
use vring_net::soft::renew;
use vring_port::PortError;

use super::lane::Lane;
use super::{EngineOptions, Mode, Stream, edit};
use crate::ForwardError;
use crate::stats::add;

/// See the file's first line.
pub(super) struct Csum {
    addresses: u128,
}

impl Mode for Csum {
    fn new(stream: &Stream, _: &EngineOptions) -> Result<Self, ForwardError> {
        Ok(Self {
            addresses: edit::both(stream.dst, stream.src),
        })
    }

    fn turn(&mut self, lane: &mut Lane<'_>, _: usize) -> Result<usize, PortError> {
        let received = lane.receive()?;
        if received == 0 {
            return Ok(0);
        }
        let pool = lane.pool().clone();
        edit::addresses(&pool, lane.burst, |_| self.addresses);
        let (mut bad_ip, mut bad_l4) = (0, 0);
        for i in 0..received {
            let mut packet = lane.burst.packet(i);
            bad_l4 += usize::from(packet.flags & flags::CSUM_BAD != 0);
            bad_ip += usize::from(!renew(&pool, &mut packet, &lane.stream.renew));
            lane.burst.set_packet(i, &packet);
        }
        add(&lane.counters.bad_ip, bad_ip);
        add(&lane.counters.bad_l4, bad_l4);
        lane.send()?;
        Ok(received)
    }
}
