//! A peer that breaks the rules of the ring: the other half says which rule, does not panic, does not hang, loses nothing.

use vring_peer::{INDIRECT, NEXT, Ram, RawDesc, RawRing, WRITE};

use super::*;
use crate::RingFault;
use crate::tests::take_back;

/// A hostile driver's ring in its memory, and our device half on it.
struct Attack {
    ram: Ram,
    raw: RawRing,
    device: SplitDevice,
}

const RING: u64 = 0x1000;
const TABLE: u64 = 0x8000;
/// The first byte behind the only region.
const END: u64 = 0x1_0000;

impl Attack {
    fn new(size: u16, features: RingFeatures) -> Self {
        let ram = Ram::new(&[(RING, END - RING)]);
        let [desc, avail, used] = RawRing::areas(RING, size).map(|addr| ram.theirs(addr, 1));
        // SAFETY: the areas lie in the memory, which `self` holds.
        let device = unsafe { SplitDevice::new(desc, avail, used, size, features) };
        Self {
            raw: RawRing::guest(&ram, RING, size),
            ram,
            device,
        }
    }

    /// Offers the chain at `head`; what a walk along it comes to, and how many descriptors it saw.
    fn walk(&mut self, head: u16) -> (Result<(), RingFault>, usize) {
        self.raw.offer(head);
        assert_eq!(self.device.ready(1).unwrap(), 1);
        let mut seen = 0;
        let result = self.device.peek(0).and_then(|head| {
            self.device.walk(head, self.ram.memory(), &mut |_| {
                seen += 1;
                Ok(())
            })
        });
        (result, seen)
    }

    /// Writes an indirect table and points descriptor 0 to it.
    fn table(&self, at: u64, len: u32, descs: &[RawDesc]) {
        let room = usize::try_from((END - at) / 16).unwrap();
        for (i, desc) in descs.iter().take(room).enumerate() {
            self.ram.write(at + 16 * i as u64, &desc.bytes());
        }
        self.raw.set_desc(0, RawDesc::new(at, len).flags(INDIRECT));
    }
}

const INDIRECT_ON: RingFeatures = features(false, true);

/// CVE-2020-10723 and the like: an index that runs away or backwards is a fault, again whenever it is looked at.
#[test]
fn avail_index_runs_away() {
    for jump in [9u16, 100, 32_768, 65_535] {
        let mut attack = Attack::new(8, FEATURES[0]);
        attack.raw.set_avail_idx(jump);
        for wanted in [1, 4, 512] {
            let fault = RingFault::Index {
                ring: "avail",
                ahead: jump,
                size: 8,
            };
            assert_eq!(attack.device.ready(wanted), Err(fault));
        }
    }
    let mut attack = Attack::new(8, FEATURES[0]);
    attack.raw.set_avail_idx(8);
    assert_eq!(attack.device.ready(512), Ok(8), "a full ring is no fault");
}

/// A head that the table does not have is a fault and not an access.
#[test]
fn head_beyond_the_ring() {
    for index in [8u16, 9, 0x8000, 0xffff] {
        let mut attack = Attack::new(8, FEATURES[0]);
        let (result, seen) = attack.walk(index);
        assert_eq!(result, Err(RingFault::DescIndex { index, size: 8 }));
        assert_eq!(seen, 0);
    }
}

/// A chain that runs in a circle, of one, two or all descriptors, ends after as many as the ring has.
#[test]
fn direct_loop() {
    for circle in [1u16, 2, 8] {
        let mut attack = Attack::new(8, FEATURES[0]);
        for i in 0..8 {
            let next = if i + 1 == circle { 0 } else { (i + 1) % 8 };
            attack.raw.set_desc(i, RawDesc::new(TABLE, 60).next(next));
        }
        let (result, seen) = attack.walk(0);
        assert_eq!(result, Err(RingFault::ChainTooLong { max: 8 }));
        assert_eq!(seen, 8);
    }
}

/// A chain that uses every descriptor once is as long as it may be.
#[test]
fn chain_as_long_as_the_ring() {
    let mut attack = Attack::new(8, FEATURES[0]);
    for i in 0..7 {
        attack.raw.set_desc(i, RawDesc::new(TABLE, 60).next(i + 1));
    }
    attack.raw.set_desc(7, RawDesc::new(TABLE, 60));
    assert_eq!(attack.walk(0), (Ok(()), 8));
}

/// `next` beyond the ring is a fault.
#[test]
fn next_beyond_the_ring() {
    let mut attack = Attack::new(8, FEATURES[0]);
    attack.raw.set_desc(0, RawDesc::new(TABLE, 60).next(8));
    let (result, _) = attack.walk(0);
    assert_eq!(result, Err(RingFault::DescIndex { index: 8, size: 8 }));
}

/// Tables that are none: not negotiated, empty, not whole, too long, chained, nested.
#[test]
fn indirect_tables_that_are_none() {
    let one = [RawDesc::new(TABLE, 60)];
    for len in [0u32, 1, 15, 17, 40, 16 * 1025, u32::MAX, u32::MAX - 15] {
        let mut attack = Attack::new(8, INDIRECT_ON);
        attack.table(TABLE, len, &one);
        assert_eq!(attack.walk(0), (Err(RingFault::Indirect { len }), 0));
    }
    let mut attack = Attack::new(8, FEATURES[0]);
    attack.table(TABLE, 16, &one);
    assert_eq!(attack.walk(0).0, Err(RingFault::Indirect { len: 16 }));

    let mut attack = Attack::new(8, INDIRECT_ON);
    attack.table(TABLE, 16, &one);
    let chained = RawDesc::new(TABLE, 16).flags(INDIRECT | NEXT);
    attack.raw.set_desc(0, chained);
    assert_eq!(attack.walk(0).0, Err(RingFault::Indirect { len: 16 }));

    let mut attack = Attack::new(8, INDIRECT_ON);
    attack.table(TABLE, 32, &[RawDesc::new(TABLE, 16).flags(INDIRECT)]);
    assert_eq!(attack.walk(0), (Err(RingFault::Indirect { len: 16 }), 0));
}

/// CVE-2018-1059: each descriptor of a table is looked up with its length, wherever the table lies.
#[test]
fn indirect_table_outside_memory() {
    let next = RawDesc::new(TABLE, 60).next(1);
    // Over the end of the region; wholly outside; round the end of the address space.
    for (at, addr) in [
        (END - 16, END),
        (END, END),
        (0x500, 0x500),
        (u64::MAX - 15, u64::MAX - 15),
    ] {
        let mut attack = Attack::new(8, INDIRECT_ON);
        if at == END - 16 {
            attack.ram.write(at, &next.bytes());
        }
        attack.raw.set_desc(0, RawDesc::new(at, 32).flags(INDIRECT));
        let (result, _) = attack.walk(0);
        assert_eq!(result, Err(RingFault::Address { addr, len: 16 }));
    }
    // Not aligned: no whole words could be read there.
    let mut attack = Attack::new(8, INDIRECT_ON);
    attack
        .raw
        .set_desc(0, RawDesc::new(TABLE + 4, 32).flags(INDIRECT));
    assert!(matches!(attack.walk(0).0, Err(RingFault::Address { .. })));
}

/// A table that runs in a circle ends after as many descriptors as it has; `next` stays inside it.
#[test]
fn indirect_loop() {
    let mut attack = Attack::new(8, INDIRECT_ON);
    let next = |to| RawDesc::new(TABLE, 60).next(to);
    attack.table(TABLE, 48, &[next(1), next(2), next(0)]);
    assert_eq!(attack.walk(0), (Err(RingFault::ChainTooLong { max: 3 }), 3));
    let mut attack = Attack::new(8, INDIRECT_ON);
    attack.table(TABLE, 48, &[next(3)]);
    let fault = RingFault::DescIndex { index: 3, size: 3 };
    assert_eq!(attack.walk(0).0, Err(fault));
}

/// A table longer than the ring is taken (drivers with small rings make such), up to a bound.
#[test]
fn indirect_table_longer_than_the_ring() {
    let mut attack = Attack::new(8, INDIRECT_ON);
    let mut descs: Vec<RawDesc> = (1..=100).map(|i| RawDesc::new(TABLE, 60).next(i)).collect();
    descs[99] = RawDesc::new(TABLE, 60).flags(WRITE);
    attack.table(TABLE, 1600, &descs);
    assert_eq!(attack.walk(0), (Ok(()), 100));
}

/// A hostile device on our driver half, with `count` chains in flight.
fn in_flight(size: u16, count: u32) -> (Bed, SplitDriver, RawRing) {
    let bed = Bed::new(size);
    let mut driver = bed.driver(FEATURES[0]);
    for token in 0..count {
        driver.push(token, piece(60), true);
    }
    driver.publish();
    let raw = raw(&bed);
    (bed, driver, raw)
}

/// A used index that runs away or backwards is a fault, again whenever it is looked at.
#[test]
fn used_index_runs_away() {
    for jump in [9u16, 300, 32_768, 65_535] {
        let (_bed, mut driver, raw) = in_flight(8, 8);
        raw.set_used_idx(jump);
        for wanted in [1, 4, usize::MAX] {
            let fault = RingFault::Index {
                ring: "used",
                ahead: jump,
                size: 8,
            };
            assert_eq!(driver.used_ready(wanted), Err(fault));
        }
        take_back(driver, 0..8);
    }
}

/// The unchecked id of DPDK's driver: beyond the ring, not in flight, or twice is a fault.
#[test]
fn used_id_that_is_not_in_flight() {
    for id in [8u32, 5, 0x8000_0000, 0x1_0000, u32::MAX] {
        let (_bed, mut driver, raw) = in_flight(8, 4);
        raw.give(id, 60);
        let fault = RingFault::UsedId { id, size: 8 };
        assert_eq!(driver.used_ready(1), Ok(1));
        assert_eq!(driver.pop_used(), Err(fault));
        take_back(driver, 0..4);
    }
    let twice = || {
        let (bed, mut driver, raw) = in_flight(8, 4);
        raw.give(2, 60);
        raw.give(2, 60);
        assert_eq!(driver.used_ready(2), Ok(2));
        (bed, driver)
    };
    let fault = RingFault::UsedId { id: 2, size: 8 };
    let (_bed, mut driver) = twice();
    assert_eq!(driver.pop_used().map(|used| used.token), Ok(2));
    assert_eq!(driver.pop_used(), Err(fault));
    take_back(driver, [0, 1, 3]);
    // Several at once: what comes before the lie is good, and the lie is met when it is the first.
    let (_bed, mut driver) = twice();
    let (mut tokens, mut lens) = ([0; 2], [0; 2]);
    assert_eq!(driver.pop_many(&mut tokens, &mut lens), Ok(1));
    assert_eq!((tokens[0], lens[0]), (2, 60));
    assert_eq!(driver.pop_many(&mut tokens, &mut lens), Err(fault));
    take_back(driver, [0, 1, 3]);
}

/// Several heads at once: those before one that does not exist are good, and that one is a fault when it is the first.
#[test]
fn heads_before_a_bad_one() {
    let mut attack = Attack::new(8, FEATURES[0]);
    for head in [0, 1, 8, 2] {
        attack.raw.offer(head);
    }
    assert_eq!(attack.device.ready(4), Ok(4));
    let mut seen = Vec::new();
    let mut look = |device: &SplitDevice| {
        device.peek_many(4, |_, head| {
            seen.push(head.id);
            true
        })
    };
    assert_eq!(look(&attack.device), Ok(2));
    attack.device.complete_many(2, |nth| ([0, 1][nth], 0));
    let fault = RingFault::DescIndex { index: 8, size: 8 };
    assert_eq!(look(&attack.device), Err(fault));
    assert_eq!(seen, [0, 1]);
}

/// The middle of a chain is not its head: its id is not in flight.
#[test]
fn used_id_inside_a_chain() {
    let bed = Bed::new(8);
    let mut driver = bed.driver(FEATURES[0]);
    assert!(driver.push_chain(7, &[piece(60); 3]));
    driver.publish();
    raw(&bed).give(1, 0);
    assert_eq!(driver.used_ready(1), Ok(1));
    assert_eq!(driver.pop_used(), Err(RingFault::UsedId { id: 1, size: 8 }));
    take_back(driver, [7]);
}

/// A device that rewrites descriptors and entries changes nothing of what the driver remembers: chains are freed by our own
/// memory of them.
#[test]
fn device_rewrites_the_table() {
    let bed = Bed::new(8);
    let mut driver = bed.driver(FEATURES[0]);
    assert!(driver.push_chain(1, &[piece(60); 3]));
    driver.push(2, piece(60), true);
    driver.publish();
    let raw = raw(&bed);
    for i in 0..8 {
        raw.set_desc(i, RawDesc::new(u64::MAX, u32::MAX).flags(0xffff).next(i));
        raw.set_avail_entry(i, 0xffff);
    }
    raw.give(0, 0);
    raw.give(3, 0);
    assert_eq!(driver.used_ready(2), Ok(2));
    assert_eq!(driver.pop_used().map(|used| used.token), Ok(1));
    assert_eq!(driver.pop_used().map(|used| used.token), Ok(2));
    take_back(driver, []);
}
