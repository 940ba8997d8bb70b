//! Our driver half receives from a device that breaks the rules: the fault is named, packets before it arrive, no buffer is lost.

mod common;

use common::driver::Host;
use common::{HEADER, MERGEABLE, PLAIN, all_free, drops, pattern};
use vring_mem::mempool::HEADROOM;
use vring_net::driver::DriverRx;
use vring_peer::RawDesc;
use vring_ring::RingFault;
use vring_ring::split::SplitDriver;

const SIZE: u16 = 8;
/// The most that a posted buffer takes.
const MAX: u32 = 2048 + HEADER;

type Rx<const MRG: bool> = DriverRx<SplitDriver, MRG>;

fn host<const MRG: bool>() -> (Host, Rx<MRG>) {
    let host = Host::new(SIZE, if MRG { MERGEABLE } else { PLAIN }, 64);
    let rx = host.rx();
    assert_eq!(host.raw.avail_idx(), SIZE);
    (host, rx)
}

/// What `attack` leads to, alone and behind good packets: those arrive, the fault comes at the latest when asked again, and again.
fn fault<const MRG: bool>(attack: impl Fn(&Host)) -> RingFault {
    let faults = [0, 2].map(|good: u16| {
        let (host, mut rx) = host::<MRG>();
        for id in 0..good {
            host.deliver(7 - id, &pattern(id.into(), 60));
        }
        attack(&host);
        let mut arrived = 0;
        let mut receive = || {
            host.receive(&mut rx).inspect(|packets| {
                for packet in packets {
                    assert_eq!(*packet, pattern(arrived, 60));
                    arrived += 1;
                }
            })
        };
        let fault = match receive() {
            Err(fault) => fault,
            Ok(_) => receive().unwrap_err(),
        };
        assert_eq!(receive(), Err(fault), "a fault stays");
        rx.abandon(&host.counters);
        drop(rx);
        all_free(&host.pool);
        fault
    });
    assert_eq!(faults[0], faults[1]);
    faults[0]
}

fn both(attack: impl Fn(&Host)) -> RingFault {
    let plain = fault::<false>(&attack);
    assert_eq!(fault::<true>(&attack), plain);
    plain
}

/// The unchecked id of DPDK's driver (`uep->id`): beyond the ring, not in flight, or twice.
#[test]
fn used_id_out_of_range() {
    for id in [8u32, 0xffff, 0x1_0000, u32::MAX] {
        assert_eq!(
            both(|h| h.raw.give(id, 72)),
            RingFault::UsedId { id, size: SIZE }
        );
    }
}

/// The same buffer twice.
#[test]
fn used_id_twice() {
    let twice = both(|h| {
        h.deliver(0, &pattern(0, 5));
        h.deliver(0, &pattern(0, 5));
    });
    assert_eq!(twice, RingFault::UsedId { id: 0, size: SIZE });
}

/// A used index that runs away or backwards.
#[test]
fn used_index_runs_away() {
    for jump in [9u16, 0x8000, 0xffff] {
        let expected = RingFault::Index {
            ring: "used",
            ahead: jump,
            size: SIZE,
        };
        assert_eq!(both(|h| h.raw.set_used_idx(jump)), expected);
    }
}

/// The unchecked length: less than the header, or more than was posted.
#[test]
fn used_len_out_of_range() {
    for len in [0u32, 1, 11, MAX + 1, 0xffff, u32::MAX] {
        let found = both(|h| {
            h.fill(0, 1, &[]);
            h.raw.give(0, len);
        });
        let expected = RingFault::UsedLength {
            len,
            min: HEADER,
            max: MAX,
        };
        assert_eq!(found, expected);
    }
}

/// The largest and the smallest that fit are packets, or a counted drop.
#[test]
fn used_len_at_its_bounds() {
    let (host, mut rx) = host::<true>();
    let data = pattern(0, 2048);
    host.deliver(0, &data);
    host.deliver(1, &[]);
    host.deliver(2, &data[..13]);
    host.deliver(3, &data[..14]);
    assert_eq!(
        host.receive(&mut rx),
        Ok(vec![data.clone(), data[..14].to_vec()])
    );
    assert_eq!(drops(&host.counters), [("rx_runt", 2)]);
    drop(rx);
    all_free(&host.pool);
}

/// `num_buffers` of none, or of more than the ring has.
#[test]
fn num_buffers_out_of_range() {
    for count in [0u16, 9, 0x8000, 0xffff] {
        let found = fault::<true>(|h| {
            let len = h.fill(0, count, &pattern(0, 60));
            h.raw.give(0, len);
        });
        assert_eq!(found, RingFault::BufferCount { count, size: SIZE });
    }
}

/// `num_buffers` of more than there are: the packet waits for the rest, and nothing is taken before.
#[test]
fn num_buffers_beyond_what_is_used() {
    let (host, mut rx) = host::<true>();
    let data = pattern(0, 100);
    let len = host.fill(0, 3, &data);
    host.raw.give(0, len);
    for _ in 0..10 {
        assert_eq!(host.receive(&mut rx), Ok(vec![]));
    }
    // The rest begins without a header.
    for id in [1u16, 2] {
        let at = host.at(host.raw.desc(id));
        // SAFETY: a posted buffer is longer than a byte.
        unsafe { at.write_volatile(u8::try_from(id).unwrap()) };
        host.raw.give(id.into(), 1);
    }
    let whole = [&data[..], &[1], &[2]].concat();
    assert_eq!(host.receive(&mut rx), Ok(vec![whole]));
    drop(rx);
    all_free(&host.pool);
}

/// Later buffers of a packet that claim too much, that come twice, or that say nothing.
#[test]
fn later_buffers_that_lie() {
    let start = |h: &Host| {
        let len = h.fill(0, 3, &pattern(0, 60));
        h.raw.give(0, len);
        h.raw.give(1, 5);
    };
    let long = fault::<true>(|h| {
        start(h);
        h.raw.give(2, MAX + 1);
    });
    let expected = RingFault::UsedLength {
        len: MAX + 1,
        min: 0,
        max: MAX,
    };
    assert_eq!(long, expected);
    let twice = fault::<true>(|h| {
        start(h);
        h.raw.give(1, 5);
    });
    assert_eq!(twice, RingFault::UsedId { id: 1, size: SIZE });

    let (host, mut rx) = host::<true>();
    start(&host);
    host.raw.give(2, 0);
    let packets = host.receive(&mut rx).unwrap();
    assert_eq!(packets[0].len(), 65);
    drop(rx);
    all_free(&host.pool);
}

/// CVE-2024-11614's double fetch: a device that writes `num_buffers` all the time gets packets of one of its numbers, made of exactly as
/// many buffers, and never an inconsistent walk.
#[test]
fn header_changes_between_reads() {
    let (host, mut rx) = host::<true>();
    let counts: Vec<usize> = (0..host.pool.count())
        .map(|i| {
            host.pool
                .ptr(i * host.pool.stride() + HEADROOM - HEADER + 10) as usize
        })
        .collect();
    let mut count = 0u16;
    let write = |count: u16| {
        for &at in &counts {
            // SAFETY: where the header of each buffer of the pool has its number, which nobody holds a reference to.
            unsafe { (at as *mut u16).write_volatile(count) };
        }
    };
    write(1);
    let mut packets = 0;
    let flip = || {
        count = count % 3 + 1;
        write(count);
    };
    common::meanwhile(flip, || {
        for _ in 0..5_000 {
            let next = host.raw.used_idx();
            assert_ne!(next, host.raw.avail_idx(), "the ring is refilled");
            host.raw
                .give(host.raw.avail_entry(next).into(), HEADER + 60);
            // A header's worth less in the first buffer than in each that follows.
            for packet in host.receive(&mut rx).unwrap() {
                assert!([60, 132, 204].contains(&packet.len()), "{}", packet.len());
                packets += 1;
            }
        }
    });
    assert!(packets > 1_000);
    drop(rx);
    all_free(&host.pool);
}

/// A device that rewrites descriptors and the available ring fools nobody: what was posted is remembered elsewhere.
#[test]
fn device_rewrites_the_table() {
    let (host, mut rx) = host::<true>();
    let data = pattern(0, 60);
    host.deliver(3, &data);
    for id in 0..SIZE {
        host.raw
            .set_desc(id, RawDesc::new(0, u32::MAX).flags(0xffff));
        host.raw.set_avail_entry(id, 0xffff);
    }
    assert_eq!(host.receive(&mut rx), Ok(vec![data]));
    drop(rx);
    all_free(&host.pool);
}

/// CVE-2019-3900: however fast a device delivers, one call takes one burst.
#[test]
fn cve_2019_3900_work_is_bounded_by_the_burst() {
    let host = Host::new(256, MERGEABLE, 1024);
    let mut rx = host.rx::<true>();
    (0..256).for_each(|id| host.deliver(id, &pattern(0, 60)));
    for _ in 0..8 {
        assert_eq!(host.receive(&mut rx).unwrap().len(), 32);
    }
    drop(rx);
    all_free(&host.pool);
}
