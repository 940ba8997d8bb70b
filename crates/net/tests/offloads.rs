//! Headers that say something: what one half puts in, the other takes out, and nothing that was not negotiated or is not true.

mod common;

use common::link::Link;
use common::{all_free, drops, pattern, pool, put};
use proptest::prelude::*;
use vring_mem::Burst;
use vring_mem::burst::{Packet, flags};
use vring_mem::mempool::HEADROOM;
use vring_net::{Features, HeaderLayout};
use vring_peer::RawDesc;

const UP: Features = Features::VERSION_1
    .union(Features::INDIRECT_DESC)
    .union(Features::CSUM)
    .union(Features::HOST_TSO4)
    .union(Features::HOST_TSO6)
    .union(Features::HOST_ECN)
    .union(Features::HOST_UFO)
    .union(Features::HOST_USO);
const DOWN: Features = Features::VERSION_1
    .union(Features::MRG_RXBUF)
    .union(Features::GUEST_CSUM)
    .union(Features::GUEST_TSO4)
    .union(Features::GUEST_TSO6)
    .union(Features::GUEST_ECN)
    .union(Features::GUEST_UFO)
    .union(Features::GUEST_USO4)
    .union(Features::GUEST_USO6);

/// A packet of `len` bytes in pieces of `most`, to be cut as `kind` says; TCP with a header of 32 bytes.
fn large(link: &Link, down: bool, kind: u32, len: usize, most: usize) -> (Packet, Vec<u8>) {
    let pool = if down {
        &link.device_pool
    } else {
        &link.driver_pool
    };
    let mut data = pattern(kind, len);
    data[46] = 0x80;
    let mut burst = Burst::new(1);
    assert!(put(pool, &mut burst, &data, most));
    let tcp = kind & (flags::GSO_TCP4 | flags::GSO_TCP6) != 0;
    let (offset, header) = if tcp { (16, 32) } else { (6, 8) };
    let mut packet = burst.packet(0);
    packet.flags |= kind | flags::CSUM_PARTIAL;
    packet.csum = 34 | offset << 16;
    packet.gso = 1448 | (34 + header) << 16;
    (packet, data)
}

const KINDS: [u32; 5] = [
    flags::GSO_TCP4,
    flags::GSO_TCP6,
    flags::GSO_TCP4 | flags::GSO_ECN,
    flags::GSO_UDP,
    flags::GSO_UDP_L4,
];

/// The metadata of a packet without where it lies.
fn said(packet: &Packet) -> (u32, u32, u32, u32) {
    (
        packet.len,
        packet.flags & flags::META,
        packet.csum,
        packet.gso,
    )
}

/// Every kind arrives as it was sent, in one buffer, in many, and without headroom; plain packets between them stay plain.
#[test]
fn driver_to_device() {
    let link = Link::new(256, UP, [pool(256), pool(256)]);
    let (mut tx, mut rx) = link.up_with::<true>();
    assert_eq!(tx.takes(), rx.gives());
    for (len, most) in [(1000, usize::MAX), (60_000, usize::MAX), (60_000, 1000)] {
        for kind in KINDS {
            let (packet, data) = large(&link, false, kind, len, most);
            let (mut out, mut back) = (Burst::new(8), Burst::new(8));
            put(&link.driver_pool, &mut out, &data[..60], usize::MAX);
            out.push_packet(&packet);
            put(&link.driver_pool, &mut out, &data[..61], usize::MAX);
            assert_eq!(tx.tx(&mut out, &link.counters).unwrap().packets, 3);
            assert_eq!(rx.rx(&mut back, &link.counters).unwrap().packets, 3);
            assert_eq!(said(&back.packet(1)), said(&packet));
            assert_eq!((back.packet(0).flags, back.packet(2).flags), (0, 0));
            assert_eq!(common::take_all(&link.device_pool, &mut back)[1], data);
            tx.reclaim().unwrap();
        }
    }
    assert_eq!(drops(&link.counters), []);
    drop((tx, rx));
    all_free(&link.driver_pool);
    all_free(&link.device_pool);
}

/// A packet without headroom gets a header of its own, and all its buffers come back.
#[test]
fn no_headroom() {
    let link = Link::new(16, UP, [pool(16), pool(16)]);
    let (mut tx, mut rx) = link.up_with::<true>();
    for most in [usize::MAX, 300] {
        let (mut packet, _) = large(&link, false, flags::GSO_UDP_L4, 500, most);
        packet.addr -= HEADROOM;
        if packet.flags & flags::MULTI != 0 {
            let pool = &link.driver_pool;
            let next = pool.meta()[pool.buffer_of(packet.addr) as usize]
                .next
                .load(std::sync::atomic::Ordering::Relaxed);
            pool.link(
                vring_mem::mempool::Segment {
                    addr: packet.addr,
                    len: 300,
                },
                next,
            );
        }
        let (mut out, mut back) = (Burst::new(1), Burst::new(1));
        out.push_packet(&packet);
        assert_eq!(tx.tx(&mut out, &link.counters).unwrap().packets, 1);
        assert_eq!(rx.rx(&mut back, &link.counters).unwrap().packets, 1);
        assert_eq!(said(&back.packet(0)), said(&packet));
        link.device_pool.free_burst(&mut back);
    }
    drop((tx, rx));
    all_free(&link.driver_pool);
    all_free(&link.device_pool);
}

/// The other way, over several buffers of the driver's, up to 64 KiB and more; with hashes where they were negotiated.
#[test]
fn device_to_driver() {
    for features in [DOWN, DOWN | Features::HASH_REPORT] {
        let link = Link::new(256, features, [pool(1024), pool(256)]);
        let (mut tx, mut rx) = link.down_with::<true, true>();
        let hashes = features.contains(Features::HASH_REPORT);
        for len in [1000, 66_000] {
            for kind in KINDS {
                let (mut packet, data) = large(&link, true, kind, len, usize::MAX);
                packet.flags |= flags::HASH;
                (packet.hash, packet.tag) = (0x1234_5678, 5 << 16);
                let (mut out, mut back) = (Burst::new(8), Burst::new(8));
                put(&link.device_pool, &mut out, &data[..60], usize::MAX);
                out.push_packet(&packet);
                let mut good = put(&link.device_pool, &mut out, &data[..61], usize::MAX);
                out.arrays_mut().2[2] = flags::CSUM_GOOD | flags::CSUM_BAD;
                good &= tx.tx(&mut out, &link.counters).unwrap().packets == 3;
                assert!(good);
                // As many buffers as the burst has room for are looked at a time.
                for _ in 0..3 {
                    rx.rx(&mut back, &link.counters).unwrap();
                }
                assert_eq!(back.len(), 3);
                let got = back.packet(1);
                assert_eq!(got.flags & flags::HASH != 0, hashes);
                if hashes {
                    assert_eq!((got.hash, got.tag), (packet.hash, packet.tag));
                }
                let without = |p: &Packet| {
                    said(&Packet {
                        flags: p.flags & !flags::HASH,
                        ..*p
                    })
                };
                assert_eq!(without(&got), without(&packet));
                assert_eq!(
                    (back.packet(0).flags, back.packet(2).flags),
                    (0, flags::CSUM_GOOD)
                );
                assert_eq!(common::take_all(&link.driver_pool, &mut back)[1], data);
            }
        }
        drop((tx, rx));
        all_free(&link.driver_pool);
        all_free(&link.device_pool);
    }
}

/// What was not negotiated does not go into the header: that is the software's.
#[test]
fn only_what_was_negotiated() {
    let features = Features::VERSION_1 | Features::CSUM | Features::HOST_TSO6;
    let link = Link::new(16, features, [pool(16), pool(16)]);
    let (mut tx, mut rx) = link.up_with::<true>();
    assert_eq!(tx.takes(), flags::CSUM_PARTIAL | flags::GSO_TCP6);
    let (packet, _) = large(&link, false, flags::GSO_TCP4, 1000, usize::MAX);
    let (mut out, mut back) = (Burst::new(1), Burst::new(1));
    out.push_packet(&packet);
    assert_eq!(tx.tx(&mut out, &link.counters).unwrap().packets, 1);
    assert_eq!(rx.rx(&mut back, &link.counters).unwrap().packets, 1);
    assert_eq!(back.packet(0).flags, flags::CSUM_PARTIAL);
    link.device_pool.free_burst(&mut back);
    let segments_alone = Features::VERSION_1 | Features::HOST_TSO4 | Features::GUEST_TSO4;
    let layout = HeaderLayout::of(segments_alone);
    assert_eq!((layout.to_device.takes, layout.to_driver.gives), (0, 0));
}

/// A script's metadata that cannot be true of its packet is not told to the peer: the packet is dropped, on either side.
#[test]
fn scripts_lies_stay_here() {
    let wrong = |packet: &mut Packet, nth: usize| match nth {
        0 => packet.csum = 5 | 16 << 16,
        1 => packet.csum = 34 | 999 << 16,
        2 => packet.gso = 34 << 16 | 100,
        3 => packet.gso = 66 << 16,
        4 => packet.gso = 1001 << 16 | 100,
        5 => packet.flags |= flags::GSO_UDP,
        _ => packet.flags &= !flags::CSUM_PARTIAL,
    };
    let up = Link::new(16, UP, [pool(16), pool(16)]);
    let down = Link::new(16, DOWN, [pool(64), pool(16)]);
    let (mut up_tx, _up_rx) = up.up_with::<true>();
    let (mut down_tx, down_rx) = down.down_with::<true, true>();
    for nth in 0..7 {
        for most in [usize::MAX, 500] {
            let mut out = Burst::new(2);
            let (mut packet, _) = large(&up, false, flags::GSO_TCP4, 1000, most);
            wrong(&mut packet, nth);
            out.push_packet(&packet);
            let tally = up_tx.tx(&mut out, &up.counters).unwrap();
            assert_eq!((tally.packets, tally.refused), (0, 1), "{nth}");
            let (mut packet, _) = large(&down, true, flags::GSO_TCP4, 1000, most);
            wrong(&mut packet, nth);
            out.push_packet(&packet);
            let tally = down_tx.tx(&mut out, &down.counters).unwrap();
            assert_eq!((tally.packets, tally.refused), (0, 1), "{nth}");
        }
    }
    assert_eq!(drops(&up.counters), [("tx_bad_packet", 14)]);
    assert_eq!(drops(&down.counters), [("tx_bad_packet", 14)]);
    drop((down_tx, down_rx));
    all_free(&up.driver_pool);
    all_free(&down.device_pool);
}

/// Headers that lie, by a name for each: gso type, hdr_len, gso_size, csum_start, csum_offset; the packet has 100 bytes.
const LIES: [[u8; 10]; 9] = [
    [1, 0, 0, 0, 0, 0, 99, 0, 0, 0],
    [1, 0, 0, 0, 0, 0, 34, 0, 65, 0],
    [1, 0, 0, 0, 0, 0, 13, 0, 16, 0],
    [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    [0, 1, 66, 0, 100, 0, 34, 0, 16, 0],
    [1, 1, 66, 0, 0, 0, 34, 0, 16, 0],
    [1, 2, 66, 0, 100, 0, 34, 0, 16, 0],
    [1, 0x85, 42, 0, 100, 0, 34, 0, 6, 0],
    [1, 5, 42, 0, 100, 0, 94, 0, 6, 0],
];

/// A header that lies is a dropped packet with a name and no fault, and the next packet is received.
#[test]
fn lies_are_dropped() {
    let host = common::driver::Host::new(16, DOWN, 64);
    let mut rx = host.rx_with_offloads();
    let mut burst = Burst::new(32);
    let mut id = 0;
    for (nth, lie) in LIES.iter().enumerate() {
        for header in [lie, &[0; 10]] {
            let mut data = pattern(1, 100);
            data[46] = 0x80;
            let len = host.fill(id, 1, &data);
            let at = host.at(host.raw.desc(id));
            for (i, &byte) in header.iter().enumerate() {
                // SAFETY: the header's room in a posted buffer.
                unsafe { at.add(i).write_volatile(byte) };
            }
            host.raw.give(id.into(), len);
            id = (id + 1) % 16;
        }
        let tally = rx.rx(&mut burst, &host.counters).unwrap();
        assert_eq!(tally.packets, 1, "lie {nth}");
        assert_eq!(burst.packets().2, [0]);
        host.pool.free_burst(&mut burst);
    }
    assert_eq!(drops(&host.counters), [("rx_bad_offload", 9)]);
    drop(rx);
    all_free(&host.pool);
}

/// The same from a driver, with the header in the packet's descriptor and in one of its own.
#[test]
fn drivers_lies_are_dropped() {
    let guest = common::device::Guest::new(16, UP);
    let mut rx = guest.rx_with_offloads();
    let mut burst = Burst::new(32);
    for lie in LIES {
        let mut data = pattern(1, 100);
        data[46] = 0x80;
        for split in [false, true] {
            for (nth, header) in (0u16..).zip([lie, [0; 10]]) {
                let addr = common::device::BUFFERS + 0x1000 * u64::from(nth);
                let len = guest.packet(addr, &data);
                guest.ram.write(addr, &header);
                let pieces: &[RawDesc] = if split {
                    &[RawDesc::new(addr, 12), RawDesc::new(addr + 12, len - 12)]
                } else {
                    &[RawDesc::new(addr, len)]
                };
                guest.chain(2 * nth, pieces);
            }
            let tally = rx.rx(&mut burst, &guest.counters).unwrap();
            assert_eq!(tally.packets, 1, "{lie:?}");
            assert_eq!(burst.packets().2, [0]);
            guest.pool.free_burst(&mut burst);
        }
    }
    assert_eq!(drops(&guest.counters), [("rx_bad_offload", 18)]);
    drop(rx);
    all_free(&guest.pool);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever a device writes into the header, what comes out of it fits the packet.
    #[test]
    fn any_header(header in any::<[u8; 10]>(), near in any::<bool>(), len in 14..200usize) {
        let host = common::driver::Host::new(16, DOWN, 32);
        let mut rx = host.rx_with_offloads();
        let mut header = header;
        if near {
            (header[0], header[1], header[7], header[9]) = (header[0] & 3, header[1] & 0x87, 0, 0);
            (header[6], header[8]) = (header[6] % 64, [6, 16][usize::from(header[8] & 1)]);
        }
        let size = host.fill(0, 1, &pattern(7, len));
        let at = host.at(host.raw.desc(0));
        for (i, &byte) in header.iter().enumerate() {
            // SAFETY: the header's room in a posted buffer.
            unsafe { at.add(i).write_volatile(byte) };
        }
        host.raw.give(0, size);
        let mut burst = Burst::new(4);
        let got = rx.rx(&mut burst, &host.counters).unwrap().packets;
        prop_assert_eq!(got as u64 + drops(&host.counters).iter().map(|d| d.1).sum::<u64>(), 1);
        for at in 0..got {
            let packet = burst.packet(at);
            let (start, end) = (packet.csum & 0xffff, (packet.csum & 0xffff) + (packet.csum >> 16) + 2);
            if packet.flags & flags::CSUM_PARTIAL != 0 {
                prop_assert!(start >= 14 && end <= packet.len);
            }
            if packet.flags & flags::GSO != 0 {
                prop_assert!(packet.flags & flags::CSUM_PARTIAL != 0 && packet.gso & 0xffff != 0);
                prop_assert!(packet.gso >> 16 > start && packet.gso >> 16 <= packet.len);
            }
        }
        host.pool.free_burst(&mut burst);
        drop(rx);
        all_free(&host.pool);
    }
}
