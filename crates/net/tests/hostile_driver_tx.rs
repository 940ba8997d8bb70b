//! Our device half transmits to a driver that breaks the rules: the fault is named, what was not sent stays in the burst.

mod common;

use common::device::{BORDER, BUFFERS, END, Guest};
use common::{HEADER, MERGEABLE, PLAIN, all_free, burst_of, drops, pattern, put};
use vring_mem::Burst;
use vring_peer::{RawDesc, WRITE};
use vring_ring::RingFault;

fn to_write(addr: u64, len: u32) -> RawDesc {
    RawDesc::new(addr, len).flags(WRITE)
}

fn fault(lens: &[usize], attack: impl Fn(&Guest)) -> RingFault {
    let plain = Guest::new(8, PLAIN).tx_faults(lens, &attack);
    let mergeable = Guest::new(8, MERGEABLE).tx_faults(lens, &attack);
    assert_eq!(plain, mergeable);
    plain
}

/// CVE-2018-1059: nothing is written beyond the memory, whatever a posted buffer says.
#[test]
fn cve_2018_1059_address_without_length() {
    for (addr, len) in [
        (END - 59, 2000),
        (END, 2000),
        (0, 2000),
        (u64::MAX - 10, 2000),
    ] {
        let found = fault(&[60], |g| g.chain(0, &[to_write(addr, len)]));
        assert_eq!(found, RingFault::Address { addr, len });
    }
    // Across adjacent regions it is one buffer.
    let guest = Guest::new(8, PLAIN);
    let mut tx = guest.tx();
    guest.chain(0, &[to_write(BORDER - 20, 2000)]);
    let mut burst = burst_of(&guest.pool, &[60]);
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 1);
    let bytes = [guest.ram.read(BORDER - 20, 20), guest.ram.read(BORDER, 52)].concat();
    assert_eq!(bytes[12..], pattern(0, 60));
    assert_eq!(guest.raw.used_elem(0), (0, 72));
    all_free(&guest.pool);
}

/// CVE-2020-10725: an address is checked at length zero too.
#[test]
fn cve_2020_10725_zero_length_at_a_bad_address() {
    let bad = RingFault::Address { addr: END, len: 0 };
    assert_eq!(fault(&[60], |g| g.chain(0, &[to_write(END, 0)])), bad);
}

/// A buffer to be read where one to be written belongs.
#[test]
fn wrong_direction() {
    let expected = RingFault::Direction { expected: "writes" };
    let read = RawDesc::new(BUFFERS, 2000);
    assert_eq!(fault(&[60], |g| g.chain(0, &[read])), expected);
    assert_eq!(
        fault(&[60], |g| g.chain(0, &[to_write(BUFFERS, 12), read])),
        expected
    );
}

/// CVE-2022-2132: a first buffer that does not take the header is a fault.
#[test]
fn cve_2022_2132_tiny_buffers() {
    for len in [0u32, 1, 11] {
        let found = fault(&[60], |g| g.chain(0, &[to_write(BUFFERS, len)]));
        let expected = RingFault::ShortBuffer {
            len: len.into(),
            min: HEADER,
        };
        assert_eq!(found, expected);
    }
}

/// CVE-2022-2132: header and data over descriptors of any size.
#[test]
fn header_over_many_descriptors() {
    let guest = Guest::new(32, PLAIN);
    let mut tx = guest.tx();
    let mut pieces = vec![to_write(BUFFERS, 1); 11];
    for (i, piece) in pieces.iter_mut().enumerate() {
        piece.addr += i as u64;
    }
    pieces.push(to_write(BUFFERS + 11, 2000));
    guest.chain(0, &pieces);
    let mut burst = burst_of(&guest.pool, &[60]);
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 1);
    assert_eq!(guest.ram.read(BUFFERS, 72)[12..], pattern(0, 60));
    assert_eq!(guest.raw.used_elem(0), (0, 72));
}

/// Chains in a circle.
#[test]
fn descriptor_loops() {
    let looped = fault(&[60], |g| {
        g.raw.set_desc(0, to_write(BUFFERS, 5).next(1));
        g.raw.set_desc(1, to_write(BUFFERS, 5).next(0));
        g.raw.offer(0);
    });
    assert_eq!(looped, RingFault::ChainTooLong { max: 8 });
}

/// Heads beyond the ring and an index that runs away.
#[test]
fn cve_2020_10723_index_truncation() {
    let head = RingFault::DescIndex { index: 8, size: 8 };
    assert_eq!(fault(&[60], |g| g.raw.offer(8)), head);
    let index = RingFault::Index {
        ring: "avail",
        ahead: 0xffff,
        size: 8,
    };
    assert_eq!(fault(&[60], |g| g.raw.set_avail_idx(0xffff)), index);
}

/// Packets before the fault are sent, and it comes with the next call.
#[test]
fn good_buffers_before_a_bad_one() {
    let guest = Guest::new(8, MERGEABLE);
    let mut tx = guest.tx();
    guest.chain(0, &[to_write(BUFFERS, 2000)]);
    guest.chain(1, &[RawDesc::new(BUFFERS, 2000)]);
    let mut burst = burst_of(&guest.pool, &[60, 61]);
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 1);
    assert_eq!(burst.len(), 1);
    let expected = RingFault::Direction { expected: "writes" };
    assert_eq!(guest.send(&mut tx, &mut burst), Err(expected));
    guest.pool.free_burst(&mut burst);
    all_free(&guest.pool);
}

/// A packet waits while the driver has posted too little for it, and is dropped under a name if no chain ever takes it.
#[test]
fn too_little_posted() {
    let guest = Guest::new(8, MERGEABLE);
    let mut tx = guest.tx();
    let mut burst = burst_of(&guest.pool, &[1000]);
    for at in 0..4 {
        assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 0);
        guest.chain(at, &[to_write(BUFFERS + u64::from(at) * 0x1000, 300)]);
    }
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 1);
    let seen: Vec<_> = (0..4).map(|i| guest.raw.used_elem(i)).collect();
    assert_eq!(seen, [(0, 300), (1, 300), (2, 300), (3, 112)]);
    assert_eq!(guest.ram.read(BUFFERS + 10, 2), [4, 0], "num_buffers");

    let guest = Guest::new(8, PLAIN);
    let mut tx = guest.tx();
    guest.chain(0, &[to_write(BUFFERS, 300)]);
    let mut burst = burst_of(&guest.pool, &[1000]);
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().refused, 1);
    assert_eq!(drops(&guest.counters), [("tx_too_big", 1)]);
    all_free(&guest.pool);
}

/// CVE-2016-7422, 2019-3900: a driver that posts the same endless nothing everywhere costs a bounded amount of memory and time: a
/// packet is not spread over more pieces than any packet needs.
#[test]
fn cve_2019_3900_chains_of_nothing() {
    let size = 4096;
    let guest = Guest::new(size, MERGEABLE);
    let mut tx = guest.tx();
    for at in 0..size - 1 {
        guest.raw.set_desc(at, to_write(BUFFERS, 0).next(at + 1));
    }
    guest.raw.set_desc(size - 1, to_write(BUFFERS, 12));
    // The whole table as one chain that takes a header, then nothing for ever.
    guest.raw.set_avail_idx(0);
    (0..size).for_each(|_| guest.raw.offer(0));
    let mut burst = Burst::new(32);
    assert!(put(&guest.pool, &mut burst, &pattern(0, 9000), usize::MAX));
    let fault = guest.send(&mut tx, &mut burst).unwrap_err();
    assert!(matches!(fault, RingFault::ChainTooLong { .. }), "{fault}");
    guest.pool.free_burst(&mut burst);
    drop(tx);
    all_free(&guest.pool);
}
