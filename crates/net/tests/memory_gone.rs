//! A peer truncates the file behind its memory: the process lives, its queues say what happened, other peers' queues pass packets.

mod common;

use common::device::{BUFFERS, Guest};
use common::{MERGEABLE, PLAIN, all_free, burst_of, pattern};
use vring_peer::{RawDesc, WRITE};
use vring_ring::RingFault;

/// Offers two packets to receive.
fn offer(guest: &Guest) {
    for at in 0..2u16 {
        let addr = BUFFERS + u64::from(at) * 0x1000;
        let len = guest.packet(addr, &pattern(at.into(), 60));
        guest.raw.set_desc(at, RawDesc::new(addr, len));
        guest.raw.offer(at);
    }
}

/// Receiving: at the latest the second call tells, every call after tells again, and no buffer is lost.
#[test]
fn receiving_from_memory_that_is_gone() {
    for in_a_burst in [false, true] {
        let guest = Guest::new(8, PLAIN);
        let mut rx = guest.rx();
        if in_a_burst {
            offer(&guest);
        }
        guest.ram.truncate();
        let first = guest.receive(&mut rx);
        assert!(
            matches!(first, Ok(_) | Err(RingFault::MemoryGone)),
            "{first:?}"
        );
        for _ in 0..3 {
            assert_eq!(guest.receive(&mut rx), Err(RingFault::MemoryGone));
        }
        drop(rx);
        all_free(&guest.pool);
    }
}

/// Transmitting: the same, and what was not sent is still the burst's.
#[test]
fn transmitting_into_memory_that_is_gone() {
    let guest = Guest::new(8, MERGEABLE);
    let mut tx = guest.tx();
    guest
        .raw
        .set_desc(0, RawDesc::new(BUFFERS, 2000).flags(WRITE));
    guest.raw.offer(0);
    guest.ram.truncate();
    let mut burst = burst_of(&guest.pool, &[60, 60]);
    let first = guest.send(&mut tx, &mut burst);
    assert!(
        matches!(first, Ok(_) | Err(RingFault::MemoryGone)),
        "{first:?}"
    );
    for _ in 0..3 {
        assert_eq!(guest.send(&mut tx, &mut burst), Err(RingFault::MemoryGone));
    }
    assert_eq!(burst.len() + first.map_or(0, |tally| tally.packets), 2);
    guest.pool.free_burst(&mut burst);
    all_free(&guest.pool);
}

/// Another peer's queue does not notice.
#[test]
fn other_queues_go_on() {
    let (good, bad) = (Guest::new(8, PLAIN), Guest::new(8, PLAIN));
    let (mut good_rx, mut bad_rx) = (good.rx(), bad.rx());
    bad.ram.truncate();
    for _ in 0..20 {
        let _gone = bad.receive(&mut bad_rx);
        offer(&good);
        assert_eq!(
            good.receive(&mut good_rx),
            Ok(vec![pattern(0, 60), pattern(1, 60)])
        );
    }
    assert_eq!(bad.receive(&mut bad_rx), Err(RingFault::MemoryGone));
}
