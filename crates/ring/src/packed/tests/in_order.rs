//! A device that uses chains in order, one used element for many of them: by hand, honest or not.

use vring_peer::packed::Place;

use super::*;
use crate::tests::{features, piece, take_back};
use crate::{DeviceRing, DriverRing, RingFault, Used};

type InOrderBed = tests::Bed<PackedInOrder>;

fn popped(driver: &mut impl DriverRing, wanted: usize) -> Vec<(u32, u32)> {
    let ready = driver.used_ready(wanted).unwrap();
    let (mut tokens, mut lens) = (vec![0; ready], vec![0; ready]);
    let count = driver.pop_many(&mut tokens, &mut lens).unwrap();
    tokens.into_iter().zip(lens).take(count).collect()
}

/// A batch of any length from any place gives back all chains up to the one that it names. Skipped buffers were written completely, the last
/// one as far as it is said.
#[test]
fn batches_of_buffers_that_are_written() {
    for size in [1u16, 2, 3, 5, 8] {
        for (start, count) in (0..2 * size).flat_map(|s| (1..=size).map(move |c| (s, c))) {
            let bed = InOrderBed::new(size);
            let mut driver = bed.driver(features(false, false));
            let (raw, mut used) = (raw(&bed), Place::START);
            for token in 0..u32::from(start) {
                driver.push(token, piece(10), true);
                driver.publish();
                raw.give(&mut used.clone(), used.slot, 5, 1);
                used = used.after(1, size);
                assert_eq!(popped(&mut driver, 1), [(token, 5)]);
            }
            let tokens: Vec<u32> = (0..u32::from(count)).collect();
            driver.push_many(&tokens, true, |nth| {
                piece(100 + u32::try_from(nth).unwrap())
            });
            driver.publish();
            let last = used.after(count - 1, size).slot;
            raw.give(&mut used, last, 7, count);
            let expected = (0..u32::from(count) - 1).map(|token| (token, 100 + token));
            let expected: Vec<_> = expected.chain([(u32::from(count) - 1, 7)]).collect();
            assert_eq!(popped(&mut driver, 1), expected);
            assert_eq!(driver.used_ready(1), Ok(0));
            assert_eq!(driver.free_descs(), usize::from(size));
        }
    }
}

/// Ids that no batch from here can end with are faults, met when they are the first: beyond the ring, not in flight, already given back, the
/// middle of a chain.
#[test]
fn ids_that_are_not_next() {
    for id in [8u16, 6, 0, 3, u16::MAX, 0x8000] {
        let bed = InOrderBed::new(8);
        let mut driver = bed.driver(features(false, false));
        driver.push(0, piece(60), false);
        driver.push(1, piece(60), false);
        assert!(driver.push_chain(2, &[piece(60); 3]));
        driver.push(5, piece(60), false);
        driver.publish();
        let (raw, mut used) = (raw(&bed), Place::START);
        raw.give(&mut used, 0, 0, 1);
        raw.give(&mut used, id, 0, 1);
        let fault = RingFault::UsedId {
            id: id.into(),
            size: 8,
        };
        for wanted in [2, 3, usize::MAX] {
            assert_eq!(driver.used_ready(wanted), Ok(2), "one and a lie");
        }
        let (mut tokens, mut lens) = ([9; 2], [9; 2]);
        assert_eq!(driver.pop_many(&mut tokens, &mut lens), Ok(1));
        assert_eq!((tokens[0], lens[0]), (0, 0));
        assert_eq!(driver.pop_used(), Err(fault));
        assert_eq!(driver.pop_many(&mut tokens, &mut lens), Err(fault));
        assert_eq!(driver.pop_many(&mut [], &mut []), Ok(0));
        take_back(driver, [1, 2, 5]);
    }
}

/// With the whole ring in flight, an id beyond the ring is not as far away as something that is.
#[test]
fn ids_beyond_a_full_ring() {
    for id in 8u16..16 {
        let bed = InOrderBed::new(8);
        let mut driver = bed.driver(features(false, false));
        driver.push_many(&[0, 1, 2, 3, 4, 5, 6, 7], true, |_| piece(60));
        driver.publish();
        let (raw, mut used) = (raw(&bed), Place::START);
        raw.give(&mut used, 1, 0, 2);
        raw.give(&mut used, id, 0, 1);
        assert_eq!(driver.used_ready(8), Ok(3), "two and a lie");
        assert_eq!(popped(&mut driver, 3), [(0, 60), (1, 0)]);
        let size = 8;
        assert_eq!(
            driver.pop_used(),
            Err(RingFault::UsedId {
                id: id.into(),
                size
            })
        );
        take_back(driver, 2..8);
    }
}

/// A batch over long chains, and one chain of it at a time.
#[test]
fn batches_over_long_chains() {
    let bed = InOrderBed::new(7);
    let mut driver = bed.driver(features(false, false));
    let (raw, mut used) = (raw(&bed), Place::START);
    for _ in 0..20 {
        assert!(driver.push_chain(1, &[piece(60); 3]));
        assert!(driver.push_chain(2, &[piece(60); 2]));
        driver.push(3, piece(60), false);
        driver.publish();
        let last = used.after(5, 7).slot;
        raw.give(&mut used, last, 0, 6);
        assert_eq!(driver.used_ready(1), Ok(3));
        for (token, chain) in [(1, true), (2, true), (3, false)] {
            assert_eq!(
                driver.pop_used(),
                Ok(Used {
                    token,
                    len: 0,
                    chain
                })
            );
        }
        assert_eq!(driver.free_descs(), 7);
    }
}

/// Our device gives a run of chains that it only read back by one used element, where the run began, and touches none of the others; a chain
/// with a length ends the run.
#[test]
fn one_element_for_a_run() {
    let bed = InOrderBed::new(5);
    let (mut driver, mut device) = (
        bed.driver(features(false, false)),
        bed.device(features(false, false)),
    );
    let (raw, mut used) = (raw(&bed), Place::START);
    for round in 0..10 {
        driver.push_many(&[10, 11, 12, 13], false, |_| piece(60));
        driver.push(14, piece(60), true);
        driver.publish();
        assert_eq!(device.ready(5), Ok(5));
        let ids: Vec<u16> = (0..5).map(|nth| device.peek(nth).unwrap().id).collect();
        let before: Vec<_> = (0..5)
            .map(|nth| raw.desc(used.after(nth, 5).slot))
            .collect();
        device.complete_read_many(2, |nth| ids[nth]);
        device.complete_read_many(2, |nth| ids[2 + nth]);
        device.complete(ids[4], 99);
        device.publish();
        for (nth, &before) in before.iter().enumerate() {
            let (nth, desc) = (
                u16::try_from(nth).unwrap(),
                raw.desc(used.after(u16::try_from(nth).unwrap(), 5).slot),
            );
            assert_eq!(
                desc == before,
                (1..4).contains(&nth),
                "round {round}, {nth}"
            );
        }
        assert_eq!(raw.desc(used.slot).id, ids[3]);
        used = used.after(5, 5);
        assert_eq!(
            popped(&mut driver, 5),
            [(10, 0), (11, 0), (12, 0), (13, 0), (14, 99)]
        );
    }
}
