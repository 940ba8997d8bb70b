//! Our driver half transmits to a device that breaks the rules, or that is slow: no buffer is lost, nothing stalls.

mod common;

use common::driver::Host;
use common::{MERGEABLE, PLAIN, all_free, burst_of, drops, pattern, put};
use vring_mem::Burst;
use vring_net::Features;
use vring_net::driver::DriverTx;
use vring_ring::RingFault;
use vring_ring::split::SplitDriver;

/// Sends eight packets into a ring of eight, lets the device do its worst, and expects the fault from whoever looks: again and
/// again. What the device had comes back when it is given up, counted.
fn fault(attack: impl FnOnce(&Host)) -> (RingFault, u64) {
    let host = Host::new(8, MERGEABLE, 64);
    let mut tx = host.tx();
    let mut burst = burst_of(&host.pool, &[60; 9]);
    assert_eq!(tx.tx(&mut burst, &host.counters).unwrap().packets, 8);
    attack(&host);
    let fault = tx.tx(&mut burst, &host.counters).unwrap_err();
    assert_eq!(tx.reclaim(), Err(fault), "a fault stays");
    assert_eq!(burst.len(), 1, "what was not sent is still ours");
    tx.abandon(&host.counters);
    drop(tx);
    host.pool.free_burst(&mut burst);
    all_free(&host.pool);
    let lost = drops(&host.counters).first().map_or(0, |&(name, n)| {
        assert_eq!(name, "tx_unconfirmed");
        n
    });
    (fault, lost)
}

/// The unchecked id of DPDK's driver: beyond the ring, or not in flight.
#[test]
fn used_id_out_of_range() {
    for id in [8u32, 0x1_0000, u32::MAX] {
        let expected = RingFault::UsedId { id, size: 8 };
        assert_eq!(fault(|h| h.raw.give(id, 0)), (expected, 8));
    }
}

/// Good ones before it are through, those behind it are not.
#[test]
fn used_id_twice() {
    let (found, lost) = fault(|h| {
        h.raw.give(3, 0);
        h.raw.give(5, 0);
        h.raw.give(3, 0);
        h.raw.give(1, 0);
    });
    assert_eq!((found, lost), (RingFault::UsedId { id: 3, size: 8 }, 6));
}

/// An index that runs away says nothing about any packet: all are unconfirmed.
#[test]
fn used_index_runs_away() {
    for jump in [9u16, 100, 0x8000, 0xffff] {
        let expected = RingFault::Index {
            ring: "used",
            ahead: jump,
            size: 8,
        };
        assert_eq!(fault(|h| h.raw.set_used_idx(jump)), (expected, 8));
    }
}

/// A length in the used ring means nothing here and is not looked at (2.7.8.2: it may be anything).
#[test]
fn used_len_is_ignored() {
    let host = Host::new(8, MERGEABLE, 64);
    let mut tx = host.tx();
    let mut burst = burst_of(&host.pool, &[60; 8]);
    tx.tx(&mut burst, &host.counters).unwrap();
    (0..8).for_each(|id| host.raw.give(id, u32::MAX));
    tx.reclaim().unwrap();
    all_free(&host.pool);
}

/// Packets of several segments in flight come back whole when the device dies.
#[test]
fn chains_come_back() {
    for features in [PLAIN, Features::VERSION_1] {
        let host = Host::new(64, features, 64);
        let mut tx = host.tx();
        let mut burst = Burst::new(8);
        for number in 0..4 {
            assert!(put(
                &host.pool,
                &mut burst,
                &pattern(number, 9000),
                usize::MAX
            ));
        }
        assert_eq!(tx.tx(&mut burst, &host.counters).unwrap().packets, 4);
        host.raw.give(host.raw.avail_entry(1).into(), 0);
        tx.abandon(&host.counters);
        assert_eq!(drops(&host.counters), [("tx_unconfirmed", 3)]);
        all_free(&host.pool);
    }
}

/// The device reads everything that waits.
fn device_reads(host: &Host, done: &mut u16) {
    while *done != host.raw.avail_idx() {
        host.raw.give(host.raw.avail_entry(*done).into(), 0);
        *done = done.wrapping_add(1);
    }
}

/// Sends `count` packets of `segments` segments, one at a time, to a device that reads each at once: every one goes out.
fn one_by_one(host: &Host, tx: &mut DriverTx<SplitDriver>, segments: usize, count: u32) {
    let mut done = host.raw.used_idx();
    for number in 0..count {
        let mut burst = Burst::new(1);
        assert!(put(
            &host.pool,
            &mut burst,
            &pattern(number, segments * 20),
            20
        ));
        let mut calls = 0;
        while !burst.is_empty() {
            calls += 1;
            assert!(
                calls < 10,
                "packet {number} stalls though the ring is empty"
            );
            let tally = tx.tx(&mut burst, &host.counters).unwrap();
            assert_eq!(tally.refused, 0, "packet {number}");
            device_reads(host, &mut done);
        }
    }
}

/// A chain that does not fit now is sent when the device has read what was before it: the ring is looked at again for its sake, even
/// if it is not full.
#[test]
fn chains_never_stall() {
    for size in [16, 64, 256] {
        let host = Host::new(size, Features::VERSION_1, 1024);
        let mut tx = host.tx();
        one_by_one(&host, &mut tx, 10, 1000);
        tx.reclaim().unwrap();
        all_free(&host.pool);
    }
}

/// A packet of more segments than the ring has descriptors goes out in a table; while the ring is full it waits.
#[test]
fn tables_in_small_rings_wait() {
    let host = Host::new(2, PLAIN, 64);
    let mut tx = host.tx();
    let mut burst = Burst::new(8);
    for number in 0..5 {
        assert!(put(&host.pool, &mut burst, &pattern(number, 100), 20));
    }
    let (mut done, mut sent) = (0, 0);
    for _ in 0..10 {
        let tally = tx.tx(&mut burst, &host.counters).unwrap();
        sent += tally.packets;
        assert_eq!(tally.refused, 0);
        device_reads(&host, &mut done);
    }
    assert_eq!(sent, 5);
    tx.reclaim().unwrap();
    all_free(&host.pool);
}

/// A packet that fits no ring of this size is dropped under a name, and does not stand in the way.
#[test]
fn too_many_segments() {
    for features in [PLAIN, Features::VERSION_1] {
        let host = Host::new(8, features, 64);
        let mut tx = host.tx();
        let mut burst = Burst::new(8);
        assert!(put(&host.pool, &mut burst, &pattern(0, 600), 20));
        assert!(put(&host.pool, &mut burst, &pattern(1, 60), 100));
        let tally = tx.tx(&mut burst, &host.counters).unwrap();
        assert_eq!((tally.packets, tally.refused), (1, 1));
        assert_eq!(drops(&host.counters), [("tx_too_big", 1)]);
        drop(tx);
        all_free(&host.pool);
    }
}
