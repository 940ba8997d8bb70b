//! Packets for tests, and the mempools that they lie in.

use std::sync::Arc;

use vring_mem::burst::{Packet, flags};
use vring_mem::mempool::{NO_SEG, Segment};
use vring_mem::{Mempool, MempoolConfig, Pages};

use crate::soft::View;

/// A mempool of small pages.
pub(crate) fn pool(count: usize, buffer_size: usize) -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count,
        buffer_size,
        cache_size: 0,
        pages: Pages::Base,
        ..MempoolConfig::default()
    })
    .expect("a mempool")
}

/// A packet with these bytes, in segments of the lengths of `cuts` and one more for the rest.
pub(crate) fn packet(pool: &Arc<Mempool>, bytes: &[u8], cuts: &[usize]) -> Packet {
    let room = pool.data_room() as usize;
    let mut pieces = Vec::new();
    let mut left = bytes;
    for &cut in cuts {
        let (piece, rest) = left.split_at(cut.min(left.len()).min(room));
        pieces.push(piece);
        left = rest;
    }
    pieces.extend(left.chunks(room));
    let mut addrs = vec![0; pieces.len()];
    assert_eq!(pool.alloc_bulk(&mut addrs), addrs.len(), "too small a pool");
    for (nth, (&addr, piece)) in addrs.iter().zip(&pieces).enumerate() {
        let len = u32::try_from(piece.len()).expect("small");
        let next = addrs.get(nth + 1).copied().unwrap_or(NO_SEG);
        pool.link(Segment { addr, len }, next);
    }
    let packet = Packet {
        addr: addrs[0],
        len: u32::try_from(bytes.len()).expect("small"),
        flags: if addrs.len() > 1 { flags::MULTI } else { 0 },
        ..Packet::default()
    };
    let mut at = 0;
    for (&addr, piece) in addrs.iter().zip(&pieces) {
        let one = Packet {
            addr,
            len: u32::try_from(piece.len()).expect("small"),
            ..Packet::default()
        };
        let view = View::new(pool, &one).expect("inside its buffer");
        assert!(view.write(0, piece));
        at += piece.len();
    }
    assert_eq!(at, bytes.len());
    packet
}

/// The bytes of a packet.
pub(crate) fn bytes(pool: &Mempool, packet: &Packet) -> Vec<u8> {
    let view = View::new(pool, packet).expect("a packet that fits its mempool");
    let mut bytes = vec![0; view.len()];
    assert!(view.read(0, &mut bytes));
    bytes
}
