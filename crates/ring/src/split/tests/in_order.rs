//! A device that uses chains in order, one used element for many of them: by hand, honest or not.

use super::*;
use crate::tests::take_back;
use crate::{RingFault, Used};

type InOrderBed = tests::Bed<SplitInOrder>;

/// A batch of any length from any place gives back all chains up to the one that it names. Skipped buffers were written completely, the last
/// one as far as it is said.
#[test]
fn batches_of_buffers_that_are_written() {
    for size in [2u16, 4, 8] {
        for (start, count) in (0..2 * size).flat_map(|s| (1..=size).map(move |c| (s, c))) {
            let bed = InOrderBed::new(size);
            let (mut driver, mut device) = (bed.driver(FEATURES[0]), bed.device(FEATURES[0]));
            run_to(&mut driver, &mut device, start);
            let tokens: Vec<u32> = (0..u32::from(count)).collect();
            driver.push_many(&tokens, true, |nth| {
                piece(100 + u32::try_from(nth).unwrap())
            });
            driver.publish();
            let raw = raw(&bed);
            raw.set_used_elem(start, ((start + count - 1) % size).into(), 7);
            raw.set_used_idx(start + count);
            assert_eq!(driver.used_ready(1), Ok(usize::from(count)));
            for token in 0..u32::from(count) {
                let len = if token + 1 == u32::from(count) {
                    7
                } else {
                    100 + token
                };
                assert_eq!(
                    driver.pop_used(),
                    Ok(Used {
                        token,
                        len,
                        chain: false
                    })
                );
            }
            assert_eq!(driver.free_descs(), usize::from(size));
        }
    }
}

/// Where the device only reads, the used index says all: what stands in the elements is not looked at.
#[test]
fn elements_do_not_matter_where_nothing_is_written() {
    let bed = InOrderBed::new(8);
    let mut driver = bed.driver(FEATURES[0]);
    assert!(driver.push_chain(1, &[piece(60); 3]));
    driver.push(2, piece(60), false);
    driver.publish();
    let raw = raw(&bed);
    (0..8).for_each(|index| raw.set_used_elem(index, u32::MAX, u32::MAX));
    raw.set_used_idx(2);
    assert_eq!(driver.used_ready(1), Ok(2));
    assert_eq!(
        driver.pop_used(),
        Ok(Used {
            token: 1,
            len: 0,
            chain: true
        })
    );
    assert_eq!(
        driver.pop_used(),
        Ok(Used {
            token: 2,
            len: 0,
            chain: false
        })
    );
    take_back(driver, []);
}

/// An index that reaches over what is in flight, or goes back, is a fault, again whenever it is looked at.
#[test]
fn used_index_runs_away() {
    for jump in [5u16, 8, 300, 32_768, 65_535] {
        for write in [false, true] {
            let bed = InOrderBed::new(8);
            let mut driver = bed.driver(FEATURES[0]);
            driver.push_many(&[0, 1, 2, 3], write, |_| piece(60));
            driver.publish();
            let raw = raw(&bed);
            raw.set_used_idx(jump);
            let fault = RingFault::Index {
                ring: "used",
                ahead: jump,
                size: 4,
            };
            for wanted in [1, 4, usize::MAX] {
                assert_eq!(driver.used_ready(wanted), Err(fault));
            }
            take_back(driver, 0..4);
        }
    }
    let bed = InOrderBed::new(8);
    let mut driver = bed.driver(FEATURES[0]);
    driver.push_many(&[0, 1, 2, 3], true, |_| piece(60));
    driver.publish();
    let raw = raw(&bed);
    (0..3).for_each(|id| raw.give(id, 60));
    assert_eq!(driver.used_ready(1), Ok(3));
    raw.set_used_idx(2);
    assert!(matches!(driver.used_ready(4), Err(RingFault::Index { .. })));
    take_back(driver, 0..4);
}

/// Ids that no batch from here can end with are faults, met when they are the first: beyond the ring, not in flight, beyond the used index,
/// already given back.
#[test]
fn ids_that_are_not_next() {
    for id in [8u32, 5, 3, 0, u32::MAX, 0x1_0001] {
        let bed = InOrderBed::new(8);
        let mut driver = bed.driver(FEATURES[0]);
        driver.push_many(&[0, 1, 2, 3], true, |_| piece(60));
        driver.publish();
        let raw = raw(&bed);
        raw.give(0, 60);
        raw.give(id, 60);
        let fault = RingFault::UsedId { id, size: 8 };
        for wanted in [2, 3, usize::MAX] {
            assert_eq!(driver.used_ready(wanted), Ok(2), "one and a lie");
        }
        let (mut tokens, mut lens) = ([9; 2], [9; 2]);
        assert_eq!(driver.pop_many(&mut tokens, &mut lens), Ok(1));
        assert_eq!((tokens[0], lens[0]), (0, 60));
        assert_eq!(driver.pop_used(), Err(fault));
        assert_eq!(driver.pop_many(&mut tokens, &mut lens), Err(fault));
        assert_eq!(driver.pop_many(&mut [], &mut []), Ok(0));
        take_back(driver, 1..4);
    }
}

/// Lengths begin to matter when the first buffer is pushed that is to be written: chains before it have none.
#[test]
fn from_reading_to_writing() {
    let bed = InOrderBed::new(8);
    let (mut driver, raw) = (bed.driver(FEATURES[0]), raw(&bed));
    assert!(driver.push_chain(1, &[piece(60); 2]));
    driver.push(2, piece(60), false);
    driver.publish();
    raw.give(0, 0);
    assert_eq!(driver.used_ready(1), Ok(1));
    driver.push(3, piece(60), true);
    driver.push(4, piece(61), true);
    driver.publish();
    raw.give(2, 0);
    raw.set_used_elem(2, 4, 50);
    raw.set_used_idx(4);
    assert_eq!(driver.used_ready(4), Ok(4));
    let back: Vec<_> = (0..4).map(|_| driver.pop_used().unwrap()).collect();
    let back: Vec<_> = back.iter().map(|used| (used.token, used.len)).collect();
    assert_eq!(back, [(1, 0), (2, 0), (3, 60), (4, 50)]);
}

/// Our device gives a run of chains that it only read back by one used element, where the run began; a chain with a length ends the run.
#[test]
fn one_element_for_a_run() {
    let bed = InOrderBed::new(8);
    let (mut driver, mut device, raw) =
        (bed.driver(FEATURES[0]), bed.device(FEATURES[0]), raw(&bed));
    driver.push_many(&[10, 11, 12, 13], false, |_| piece(60));
    driver.push(14, piece(60), true);
    driver.publish();
    assert_eq!(device.ready(5), Ok(5));
    (0..8).for_each(|index| raw.set_used_elem(index, 77, 77));
    device.complete_read_many(2, |nth| [0, 1][nth]);
    device.complete_read_many(2, |nth| [2, 3][nth]);
    device.complete(4, 99);
    device.publish();
    let elems: Vec<_> = (0..5).map(|index| raw.used_elem(index)).collect();
    assert_eq!(elems, [(3, 0), (77, 77), (77, 77), (77, 77), (4, 99)]);
    assert_eq!(raw.used_idx(), 5);
    assert_eq!(driver.used_ready(5), Ok(5));
    let back: Vec<_> = (0..5).map(|_| driver.pop_used().unwrap()).collect();
    let back: Vec<_> = back.iter().map(|used| (used.token, used.len)).collect();
    assert_eq!(back, [(10, 0), (11, 0), (12, 0), (13, 0), (14, 99)]);
}
