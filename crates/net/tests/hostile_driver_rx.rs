//! Our device half receives from a driver that breaks the rules: the fault is named, packets before it arrive, no buffer is lost.

mod common;

use common::device::{APART, BORDER, BUFFERS, END, Guest, TABLES};
use common::{HEADER, PLAIN, all_free, drops, pattern};
use vring_net::Features;
use vring_peer::{INDIRECT, RawDesc, WRITE};
use vring_ring::RingFault;

fn fault(attack: impl FnOnce(&Guest)) -> RingFault {
    Guest::new(8, PLAIN).rx_faults(attack)
}

fn address(addr: u64, len: u32) -> RingFault {
    RingFault::Address { addr, len }
}

/// CVE-2018-1059: an address is worth nothing without its length. Ranges that leave the memory are faults, whatever they begin in.
#[test]
fn cve_2018_1059_address_without_length() {
    for (addr, len) in [
        (END - 59, 60),
        (END, 60),
        (0, 60),
        (u64::MAX, 60),
        (u64::MAX - 59, 60),
        (APART.0 - 1, 60),
        // Begins in the second of two adjacent regions and ends in the gap behind it.
        (common::device::SECOND.0 + common::device::SECOND.1 - 20, 60),
    ] {
        assert_eq!(
            fault(|g| g.chain(0, &[RawDesc::new(addr, len)])),
            address(addr, len)
        );
        let behind = |g: &Guest| g.chain(0, &[RawDesc::new(BUFFERS, 20), RawDesc::new(addr, len)]);
        assert_eq!(fault(behind), address(addr, len));
    }
}

/// CVE-2018-1059, the other half: a range across adjacent regions is one range, and every byte of it arrives.
#[test]
fn ranges_across_adjacent_regions() {
    for before in [1, 11, 12, 13, 30] {
        let guest = Guest::new(8, PLAIN);
        let mut rx = guest.rx();
        let data = pattern(1, 60);
        let bytes: Vec<u8> = [vec![0; HEADER as usize], data.clone()].concat();
        let start = BORDER - before;
        guest
            .ram
            .write(start, &bytes[..usize::try_from(before).unwrap()]);
        guest
            .ram
            .write(BORDER, &bytes[usize::try_from(before).unwrap()..]);
        guest.chain(0, &[RawDesc::new(start, HEADER + 60)]);
        assert_eq!(guest.receive(&mut rx), Ok(vec![data]));
        drop(rx);
        all_free(&guest.pool);
    }
}

/// CVE-2020-10723: numbers are checked before they are narrowed: heads and indexes beyond the ring.
#[test]
fn cve_2020_10723_index_truncation() {
    for index in [8u16, 0x100, 0xffff] {
        let expected = RingFault::DescIndex { index, size: 8 };
        assert_eq!(fault(|g| g.raw.offer(index)), expected);
        let next = |g: &Guest| g.raw.set_desc(0, RawDesc::new(BUFFERS, 60).next(index));
        let chained = fault(|g| {
            next(g);
            g.raw.offer(0);
        });
        assert_eq!(chained, expected);
    }
}

/// An available index that runs away or backwards.
#[test]
fn avail_index_runs_away() {
    for jump in [9u16, 500, 0x8000, 0xffff] {
        let expected = RingFault::Index {
            ring: "avail",
            ahead: jump,
            size: 8,
        };
        assert_eq!(fault(|g| g.raw.set_avail_idx(jump)), expected);
    }
}

/// CVE-2020-10725: an address is checked at length zero too.
#[test]
fn cve_2020_10725_zero_length_at_a_bad_address() {
    for addr in [0, END, u64::MAX] {
        let bad = RawDesc::new(addr, 0);
        assert_eq!(fault(|g| g.chain(0, &[bad])), address(addr, 0));
        assert_eq!(
            fault(|g| g.chain(0, &[RawDesc::new(BUFFERS, 80), bad])),
            address(addr, 0)
        );
    }
}

/// Zero lengths at good addresses are harmless, between pieces too.
#[test]
fn zero_lengths_are_harmless() {
    let guest = Guest::new(8, PLAIN);
    let mut rx = guest.rx();
    let data = pattern(1, 60);
    guest.packet(BUFFERS, &data);
    let none = RawDesc::new(BUFFERS, 0);
    let (header, rest) = (RawDesc::new(BUFFERS, 12), RawDesc::new(BUFFERS + 12, 60));
    guest.chain(0, &[none, header, none, rest, none]);
    guest.chain(5, &[none]);
    assert_eq!(guest.receive(&mut rx), Ok(vec![data]));
    assert_eq!(drops(&guest.counters), [("rx_runt", 1)]);
    assert_eq!(guest.raw.used_idx(), 2);
    drop(rx);
    all_free(&guest.pool);
}

/// CVE-2022-2132: the header may lie in any number of descriptors.
#[test]
fn cve_2022_2132_header_over_many_descriptors() {
    for cuts in [
        vec![12],
        vec![4, 4, 4],
        vec![1; 12],
        vec![11, 2],
        vec![13],
        vec![10, 1, 1, 1, 20],
    ] {
        let guest = Guest::new(32, PLAIN);
        let mut rx = guest.rx();
        let data = pattern(2, 100);
        let total = guest.packet(BUFFERS, &data);
        let (mut pieces, mut at) = (Vec::new(), 0);
        for cut in cuts {
            pieces.push(RawDesc::new(BUFFERS + u64::from(at), cut));
            at += cut;
        }
        pieces.push(RawDesc::new(BUFFERS + u64::from(at), total - at));
        guest.chain(0, &pieces);
        assert_eq!(guest.receive(&mut rx), Ok(vec![data]));
        drop(rx);
        all_free(&guest.pool);
    }
}

/// CVE-2022-2132: a chain shorter than header and Ethernet header is a counted drop, given back, and the queue lives on.
#[test]
fn cve_2022_2132_tiny_chains() {
    let guest = Guest::new(32, PLAIN);
    let mut rx = guest.rx();
    for (at, len) in [0u32, 1, 11, 12, 13, 25].into_iter().enumerate() {
        guest.chain(u16::try_from(at).unwrap(), &[RawDesc::new(BUFFERS, len)]);
    }
    let data = pattern(3, 14);
    let len = guest.packet(BUFFERS + 0x1000, &data);
    guest.chain(6, &[RawDesc::new(BUFFERS + 0x1000, len)]);
    assert_eq!(guest.receive(&mut rx), Ok(vec![data]));
    assert_eq!(drops(&guest.counters), [("rx_runt", 6)]);
    assert_eq!(guest.raw.used_idx(), 7);
    drop(rx);
    all_free(&guest.pool);
}

/// CVE-2024-11614: offsets of a checksum beyond the packet are not followed: nothing was negotiated, so the header is not read.
#[test]
fn cve_2024_11614_header_full_of_nonsense() {
    let guest = Guest::new(8, PLAIN);
    let mut rx = guest.rx();
    let data = pattern(4, 64);
    let len = guest.packet(BUFFERS, &data);
    guest.ram.write(BUFFERS, &[0xff; HEADER as usize]);
    guest.chain(0, &[RawDesc::new(BUFFERS, len)]);
    assert_eq!(guest.receive(&mut rx), Ok(vec![data]));
}

/// Chains in a circle, direct and in tables; nested tables; tables of a size that is none; tables over the end of the memory.
#[test]
fn descriptor_loops() {
    let direct = fault(|g| {
        g.raw.set_desc(0, RawDesc::new(BUFFERS, 10).next(1));
        g.raw.set_desc(1, RawDesc::new(BUFFERS, 10).next(0));
        g.raw.offer(0);
    });
    assert_eq!(direct, RingFault::ChainTooLong { max: 8 });
    let looped = [
        RawDesc::new(BUFFERS, 10).next(1),
        RawDesc::new(BUFFERS, 10).next(0),
    ];
    assert_eq!(
        fault(|g| g.table(0, 32, &looped)),
        RingFault::ChainTooLong { max: 2 }
    );
    let nested = [RawDesc::new(TABLES, 32).flags(INDIRECT)];
    assert_eq!(
        fault(|g| g.table(0, 16, &nested)),
        RingFault::Indirect { len: 32 }
    );
    for len in [0, 8, 24, u32::MAX] {
        assert_eq!(
            fault(|g| g.table(0, len, &nested)),
            RingFault::Indirect { len }
        );
    }
    let over = fault(|g| {
        let next = RawDesc::new(BUFFERS, 20).next(1);
        g.ram.write(END - 16, &next.bytes());
        g.raw
            .set_desc(0, RawDesc::new(END - 16, 32).flags(INDIRECT));
        g.raw.offer(0);
    });
    assert_eq!(over, address(END, 16));
}

/// A table where none was negotiated.
#[test]
fn indirect_without_the_feature() {
    let guest = Guest::new(8, Features::VERSION_1);
    let desc = [RawDesc::new(BUFFERS, 80)];
    assert_eq!(
        guest.rx_faults(|g| g.table(0, 16, &desc)),
        RingFault::Indirect { len: 16 }
    );
}

/// A buffer for the device to write has no place in a transmitted packet, at any position.
#[test]
fn wrong_direction() {
    let write = RawDesc::new(BUFFERS, 80).flags(WRITE);
    let expected = RingFault::Direction { expected: "reads" };
    assert_eq!(fault(|g| g.chain(0, &[write])), expected);
    assert_eq!(
        fault(|g| g.chain(0, &[RawDesc::new(BUFFERS, 80), write])),
        expected
    );
    assert_eq!(fault(|g| g.table(0, 16, &[write])), expected);
}

/// CVE-2016-7422: a length beyond all packets is a fault; one that is in the memory but too much for a packet is a counted drop.
#[test]
fn cve_2016_7422_huge_lengths() {
    assert_eq!(
        fault(|g| g.chain(0, &[RawDesc::new(BUFFERS, u32::MAX)])),
        address(BUFFERS, u32::MAX)
    );
    // The sum, though each is in the memory: 64 KiB, 1024 times.
    let big = |next| RawDesc::new(APART.0, 0x1_0000).next(next);
    let table: Vec<RawDesc> = (1..=1024).map(big).collect();
    assert_eq!(
        fault(|g| g.table(0, 16 * 1024, &table)),
        address(APART.0, 0x1_0000)
    );

    let guest = Guest::new(8, PLAIN);
    let mut rx = guest.rx();
    let mut table: Vec<RawDesc> = (1..=16).map(big).collect();
    table[15].flags = 0;
    guest.table(0, 16 * 16, &table);
    assert_eq!(guest.receive(&mut rx), Ok(vec![]));
    assert_eq!(drops(&guest.counters), [("rx_oversize", 1)]);
    drop(rx);
    all_free(&guest.pool);
}

/// CVE-2019-3900: however much a driver offers, one call does one burst; runts count as work too.
#[test]
fn cve_2019_3900_work_is_bounded_by_the_burst() {
    for len in [HEADER + 60, 0] {
        let guest = Guest::new(256, PLAIN);
        let mut rx = guest.rx();
        for at in 0..256 {
            guest.raw.set_desc(at, RawDesc::new(BUFFERS, len));
            guest.raw.offer(at);
        }
        for call in 1..=8u16 {
            guest.receive(&mut rx).unwrap();
            assert_eq!(guest.raw.used_idx(), 32 * call);
            // What was given back is offered again at once: it waits for its turn.
            (0..32).for_each(|at| guest.raw.offer(at));
        }
        drop(rx);
        all_free(&guest.pool);
    }
}

/// With no buffer free, packets wait in the ring; none is lost.
#[test]
fn no_buffers() {
    let guest = Guest::new(8, PLAIN);
    let mut rx = guest.rx();
    let mut all = vec![0; 1024];
    assert_eq!(guest.pool.alloc_bulk(&mut all), 1024);
    let (small, large) = (pattern(1, 60), pattern(2, 9000));
    let len = guest.packet(BUFFERS, &small);
    guest.chain(0, &[RawDesc::new(BUFFERS, len)]);
    let len = guest.packet(BUFFERS + 0x1000, &large);
    guest.chain(1, &[RawDesc::new(BUFFERS + 0x1000, len)]);
    assert_eq!(guest.receive(&mut rx), Ok(vec![]));
    guest.pool.free_bulk(&all[..2]);
    assert_eq!(guest.receive(&mut rx), Ok(vec![small]));
    assert_eq!(guest.counters.nombuf(), 2);
    guest.pool.free_bulk(&all[2..]);
    assert_eq!(guest.receive(&mut rx), Ok(vec![large]));
}
