//! Swaps source and destination of Ethernet, IP, and TCP or UDP. No checksum changes by that.

use vring_mem::Mempool;
use vring_mem::burst::Packet;
use vring_net::soft::{Ip, View, parse_headers};
use vring_port::PortError;

use super::lane::Lane;
use super::{EngineOptions, Mode, Stream};
use crate::ForwardError;

/// Enough for VLAN tags, and for options of IP: what lies further back stays as it is.
const HEAD: usize = 128;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// See the file's first line.
pub(super) struct FiveTupleSwap;

impl Mode for FiveTupleSwap {
    fn new(_: &Stream, _: &EngineOptions) -> Result<Self, ForwardError> {
        Ok(Self)
    }

    fn turn(&mut self, lane: &mut Lane<'_>, _: usize) -> Result<usize, PortError> {
        let received = lane.receive()?;
        for i in 0..received {
            swap(lane.pool(), &lane.burst.packet(i));
        }
        if received > 0 {
            lane.send()?;
        }
        Ok(received)
    }
}

fn swap(pool: &Mempool, packet: &Packet) {
    let Some(view) = View::new(pool, packet) else {
        return;
    };
    let mut bytes = [0; HEAD];
    let len = view.head(&mut bytes).len();
    swap_ranges(&mut bytes, 0, 6);
    let mut end = 12;
    if let Some(headers) = parse_headers(&bytes[..len], view.len()) {
        let (at, size) = match headers.ip {
            Ip::V4 => (headers.ip_at + 12, 4),
            Ip::V6 => (headers.ip_at + 8, 16),
        };
        swap_ranges(&mut bytes, at, size);
        end = at + 2 * size;
        let ports = headers.l4_at;
        if matches!(headers.protocol, TCP | UDP) && !headers.fragment && ports + 4 <= len {
            swap_ranges(&mut bytes, ports, 2);
            end = ports + 4;
        }
    }
    view.write(0, &bytes[..end]);
}

/// Swaps the `size` bytes at `at` with as many that follow.
fn swap_ranges(bytes: &mut [u8; HEAD], at: usize, size: usize) {
    for i in at..at + size {
        bytes.swap(i, i + size);
    }
}
