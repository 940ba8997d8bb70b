//! A peer that breaks the rules of a packed ring: the other half says which rule, does not panic, does not hang, loses nothing.

use vring_peer::packed::{PackedDesc, Place};
use vring_peer::{INDIRECT, NEXT, Ram, RawPacked, WRITE};

use super::*;
use crate::tests::{features, piece, take_back};
use crate::{DescFlags, DeviceRing, DriverRing, RingFault};

/// A hostile driver's ring in its memory, and our device half on it.
struct Attack {
    ram: Ram,
    raw: RawPacked,
    device: PackedDevice,
    at: Place,
}

const RING: u64 = 0x1000;
const TABLE: u64 = 0x8000;
/// The first byte behind the only region.
const END: u64 = 0x1_0000;

fn try_attack(size: u16, base: u32, features: RingFeatures) -> Result<Attack, RingFault> {
    let ram = Ram::new(&[(RING, END - RING)]);
    let [desc, driver, device] = RawPacked::areas(RING, size).map(|addr| ram.theirs(addr, 1));
    // SAFETY: the areas lie in the memory, which the attack holds.
    let device = unsafe { PackedDevice::new(desc, driver, device, size, base, features)? };
    Ok(Attack {
        raw: RawPacked::guest(&ram, RING, size),
        ram,
        device,
        at: Place::START,
    })
}

impl Attack {
    fn new(features: RingFeatures) -> Self {
        try_attack(8, NEW, features).unwrap()
    }

    /// What a walk along the first chain comes to, and how many descriptors it saw.
    fn walk(&mut self) -> (Result<(), RingFault>, usize) {
        let mut seen = 0;
        let result = self.device.ready(1).and_then(|ready| {
            assert_eq!(ready, 1);
            let head = self.device.peek(0)?;
            self.device.walk(head, self.ram.memory(), &mut |_| {
                seen += 1;
                Ok(())
            })
        });
        (result, seen)
    }

    /// Offers a chain of these descriptors and walks it.
    fn offered(&mut self, chain: &[PackedDesc]) -> (Result<(), RingFault>, usize) {
        self.raw.offer(&mut self.at, 0, chain);
        self.walk()
    }

    /// Writes an indirect table, offers and walks it.
    fn table(&mut self, at: u64, len: u32, descs: &[PackedDesc]) -> (Result<(), RingFault>, usize) {
        for (i, desc) in descs.iter().enumerate() {
            self.ram.write(at + 16 * i as u64, &desc.bytes());
        }
        self.offered(&[PackedDesc::new(at, len).flags(INDIRECT)])
    }
}

const ONE: PackedDesc = PackedDesc {
    addr: TABLE,
    len: 60,
    id: 0,
    flags: 0,
};
const NESTED: RingFeatures = features(false, true);

/// A base that names a descriptor which the ring does not have is a fault; all others are taken.
#[test]
fn bases() {
    for base in [
        8u32,
        0x8008,
        0x7fff,
        0xffff,
        0x8_0000,
        0x8008_8000,
        0xffff_ffff,
    ] {
        let fault = try_attack(8, base, features(false, false)).err();
        assert_eq!(fault, Some(RingFault::Base { base, size: 8 }));
    }
    // Both halves alike; the upper one empty, from front ends that do not keep count; chains that another device left.
    for (base, goes_on) in [
        (0x8000_8000u32, 0x8000_8000u32),
        (0x0003_0003, 0x0003_0003),
        (0x8005, 0x8005_8005),
        (0x0003, 0x0003_0003),
        (0x8004_8006, 0x8004_8004),
        (0x8007_0001, 0x8007_8007),
    ] {
        let attack = try_attack(8, base, features(false, false)).unwrap();
        assert_eq!(attack.device.base(), goes_on);
    }
}

/// Everything is available, in this round and in the next ones: never more than the ring has.
#[test]
fn more_available_than_the_ring_has() {
    let mut attack = Attack::new(features(false, false));
    for round in 0..4 {
        (0..8).for_each(|_| attack.raw.offer(&mut attack.at, 0, &[ONE]));
        assert_eq!(attack.device.ready(512), Ok(8));
        // The next round's flags over what is not given back yet.
        let mut ahead = attack.at;
        (0..8).for_each(|_| attack.raw.offer(&mut ahead, 0, &[ONE]));
        assert_eq!(attack.device.ready(512), Ok(8), "round {round}");
        attack.device.complete_many(8, |_| (0, 0));
        attack.device.publish();
        assert_eq!(attack.device.ready(512), Ok(0), "used elements lie there");
    }
}

/// A chain of the whole ring is as long as it may be; one that does not end is a fault, again whenever it is looked at.
#[test]
fn chains_around_the_ring() {
    let mut attack = Attack::new(features(false, false));
    assert_eq!(attack.offered(&[ONE; 8]), (Ok(()), 8));
    let fault = Err(RingFault::ChainTooLong { max: 8 });
    let mut attack = Attack::new(features(false, false));
    (0..8).for_each(|_| attack.raw.offer(&mut attack.at, 0, &[ONE.flags(NEXT)]));
    for wanted in [1, 4, 512] {
        assert_eq!(attack.device.ready(wanted).map(|_| ()), fault);
    }
    // What comes before it is good, and it is met when it is the first.
    let mut attack = Attack::new(features(false, false));
    attack.raw.offer(&mut attack.at, 5, &[ONE]);
    attack.raw.offer(&mut attack.at, 6, &[ONE; 2]);
    (0..5).for_each(|_| attack.raw.offer(&mut attack.at, 0, &[ONE.flags(NEXT)]));
    for _ in 0..2 {
        assert_eq!(attack.device.ready(512), Ok(2));
    }
    assert_eq!(attack.device.peek(1).map(|head| head.id), Ok(6));
    let mut seen = Vec::new();
    let looked = attack.device.peek_many(2, |nth, head| {
        seen.push((nth, head.id));
        true
    });
    assert_eq!((looked, seen), (Ok(2), vec![(0, 5), (1, 6)]));
    attack.device.complete_many(2, |nth| ([5, 6][nth], 0));
    // The first three slots are used now and say nothing about NEXT: the chain has an end again.
    attack.device.publish();
    assert_eq!(attack.device.ready(512), Ok(1));
}

/// Flags that change after they were looked at: the walk ends, and the chain is given back as it was seen.
#[test]
fn the_end_of_a_chain_moves() {
    let mut attack = Attack::new(features(false, false));
    attack.raw.offer(&mut attack.at, 3, &[ONE; 3]);
    assert_eq!(attack.device.ready(8), Ok(1));
    (0..8).for_each(|slot| attack.raw.set_desc(slot, ONE.flags(NEXT)));
    assert_eq!(attack.walk(), (Err(RingFault::ChainTooLong { max: 8 }), 8));
    attack.device.complete(3, 0);
    assert_eq!(attack.device.base(), 0x8003_8003);
    let mut attack = Attack::new(features(false, false));
    attack.raw.offer(&mut attack.at, 3, &[ONE; 3]);
    assert_eq!(attack.device.ready(8), Ok(1));
    (0..8).for_each(|slot| attack.raw.set_desc(slot, ONE));
    assert_eq!(attack.walk(), (Ok(()), 1));
    attack.device.complete(3, 0);
    assert_eq!(attack.device.base(), 0x8003_8003);
}

/// Tables that are none: not negotiated, empty, not whole, too long, chained, nested.
#[test]
fn indirect_tables_that_are_none() {
    for len in [0u32, 1, 15, 17, 40, 16 * 1025, u32::MAX, u32::MAX - 15] {
        let found = Attack::new(NESTED).table(TABLE, len, &[ONE]);
        assert_eq!(found, (Err(RingFault::Indirect { len }), 0));
    }
    let fault = Err(RingFault::Indirect { len: 16 });
    let found = Attack::new(features(false, false)).table(TABLE, 16, &[ONE]);
    assert_eq!(found.0, fault);
    let chained = PackedDesc::new(TABLE, 16).flags(INDIRECT);
    assert_eq!(Attack::new(NESTED).offered(&[chained, ONE]).0, fault);
    let nested = [PackedDesc::new(TABLE, 16).flags(INDIRECT)];
    assert_eq!(Attack::new(NESTED).table(TABLE, 32, &nested), (fault, 0));
}

/// CVE-2018-1059: each descriptor of a table is looked up with its length, wherever the table lies.
#[test]
fn indirect_table_outside_memory() {
    for (at, addr, seen) in [
        (END - 16, END, 1),
        (END, END, 0),
        (0x500, 0x500, 0),
        (u64::MAX - 15, u64::MAX - 15, 0),
    ] {
        let table = PackedDesc::new(at, 32).flags(INDIRECT);
        let found = Attack::new(NESTED).offered(&[table]);
        assert_eq!(found, (Err(RingFault::Address { addr, len: 16 }), seen));
    }
    let table = PackedDesc::new(TABLE + 4, 32).flags(INDIRECT);
    let found = Attack::new(NESTED).offered(&[table]);
    assert!(matches!(found.0, Err(RingFault::Address { .. })));
}

/// A table is as long as it says, whatever its flags say about what follows, and may be longer than the ring.
#[test]
fn indirect_tables_have_a_length() {
    let found = Attack::new(NESTED).table(TABLE, 48, &[ONE, ONE.flags(NEXT), ONE.flags(NEXT)]);
    assert_eq!(found, (Ok(()), 3));
    let found = Attack::new(NESTED).table(TABLE, 1600, &[ONE.flags(WRITE); 100]);
    assert_eq!(found, (Ok(()), 100));
}

/// Ids are the driver's affair: any comes back as it came, from the last descriptor of a chain, and lengths with the flag that goes with them.
#[test]
fn ids_come_back_as_they_came() {
    let mut attack = Attack::new(features(false, false));
    attack.raw.offer(&mut attack.at, 0xffff, &[ONE]);
    attack.raw.offer(&mut attack.at, 0x1234, &[ONE; 3]);
    attack.raw.set_desc(
        1,
        PackedDesc {
            id: 9,
            ..attack.raw.desc(1)
        },
    );
    assert_eq!(attack.device.ready(8), Ok(2));
    let ids = [0, 1].map(|nth| attack.device.peek(nth).unwrap().id);
    assert_eq!(ids, [0xffff, 0x1234]);
    attack.device.complete(ids[0], 0);
    attack.device.complete(ids[1], 77);
    assert_ne!(
        attack.raw.desc(0).flags,
        Place::START.used(),
        "not published yet"
    );
    attack.device.publish();
    let [first, second] = [attack.raw.desc(0), attack.raw.desc(1)];
    assert_eq!(
        (first.id, first.len, first.flags),
        (0xffff, 0, Place::START.used())
    );
    let written = Place::START.used() | DescFlags::WRITE.bits();
    assert_eq!((second.id, second.len, second.flags), (0x1234, 77, written));
}

/// A hostile device on our driver half, with `count` chains in flight.
fn in_flight(size: u16, count: u32) -> (Bed, PackedDriver, RawPacked) {
    let bed = Bed::new(size);
    let mut driver = bed.driver(features(false, false));
    (0..count).for_each(|token| driver.push(token, piece(60), true));
    driver.publish();
    let raw = raw(&bed);
    (bed, driver, raw)
}

/// Ids beyond the ring, not in flight, or twice are faults.
#[test]
fn used_id_that_is_not_in_flight() {
    for id in [8u16, 5, 0x8000, u16::MAX] {
        let (_bed, mut driver, raw) = in_flight(8, 4);
        raw.give(&mut Place::START.clone(), id, 60, 1);
        assert_eq!(driver.used_ready(1), Ok(1));
        let id = id.into();
        assert_eq!(driver.pop_used(), Err(RingFault::UsedId { id, size: 8 }));
        let popped = driver.pop_many(&mut [0; 2], &mut [0; 2]);
        assert_eq!(popped, Err(RingFault::UsedId { id, size: 8 }));
        take_back(driver, 0..4);
    }
    let twice = || {
        let ((bed, mut driver, raw), mut at) = (in_flight(8, 4), Place::START);
        raw.give(&mut at, 2, 60, 1);
        raw.give(&mut at, 2, 60, 1);
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

/// With long chains in flight, where the next used element lies follows from an id: one that comes again and again leads nowhere.
#[test]
fn the_id_of_a_long_chain_again_and_again() {
    let bed = Bed::new(8);
    let mut driver = bed.driver(features(false, false));
    assert!(driver.push_chain(7, &[piece(60); 5]));
    driver.push(8, piece(60), false);
    driver.publish();
    for slot in 0..8 {
        let used = PackedDesc::new(0, 0).flags(Place::START.used());
        raw(&bed).set_desc(slot, used);
    }
    for _ in 0..3 {
        assert!(driver.used_ready(usize::MAX).unwrap() <= 8);
    }
    assert_eq!(driver.pop_used().map(|used| used.token), Ok(7));
    let fault = RingFault::UsedId { id: 0, size: 8 };
    assert_eq!(
        driver.used_ready(1).and_then(|_| driver.pop_used()),
        Err(fault)
    );
    take_back(driver, [8]);
}

/// The whole ring is marked used, in this round and the next: not more is looked at than is in flight.
#[test]
fn more_used_than_is_in_flight() {
    for wrap in [true, false] {
        let (bed, mut driver, _) = in_flight(8, 3);
        let place = Place { slot: 0, wrap };
        for slot in 0..8 {
            let id = slot;
            let used = PackedDesc { id, ..ONE }.flags(place.used());
            raw(&bed).set_desc(slot, used);
        }
        assert_eq!(driver.used_ready(usize::MAX), Ok(if wrap { 3 } else { 0 }));
        while driver.used_ready(1).unwrap() > 0 {
            driver.pop_used().unwrap();
        }
        assert!(
            !driver.want_calls(true),
            "nobody waits for what is not there"
        );
        take_back(driver, if wrap { 0..0 } else { 0..3 });
    }
}

/// A device that rewrites descriptors changes nothing of what the driver remembers.
#[test]
fn device_rewrites_the_ring() {
    let bed = Bed::new(8);
    let mut driver = bed.driver(features(false, false));
    assert!(driver.push_chain(1, &[piece(60); 3]));
    driver.push(2, piece(60), true);
    driver.publish();
    let (raw, mut at) = (raw(&bed), Place::START);
    for slot in 0..8 {
        let junk = PackedDesc {
            addr: u64::MAX,
            len: u32::MAX,
            id: u16::MAX,
            flags: NEXT,
        };
        raw.set_desc(slot, junk);
    }
    raw.give(&mut at, 0, 0, 3);
    raw.give(&mut at, 1, 0, 1);
    assert_eq!(driver.used_ready(2), Ok(2));
    assert_eq!(driver.pop_used().map(|used| used.token), Ok(1));
    assert_eq!(driver.pop_used().map(|used| used.token), Ok(2));
    take_back(driver, []);
}
