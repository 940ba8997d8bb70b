//! An honest device that uses chains in any order, by hand: our driver half follows it through the ring.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vring_peer::packed::{EVENTS_AT, EVENTS_OFF, Place};
use vring_peer::{INDIRECT, NEXT, WRITE};

use super::*;
use crate::tests::features;
use crate::{DriverRing, Piece};

/// Pushes as many of the chains as fit, those of length 0 as a buffer to be written; tokens with the lengths of what was pushed.
fn push(driver: &mut PackedDriver, lens: &[usize], token: &mut u32) -> Vec<(u32, usize)> {
    let mut pushed = Vec::new();
    for &count in lens {
        *token += 1;
        let pieces: Vec<Piece> = (0..count.max(1))
            .map(|i| Piece {
                addr: BASE + u64::from(*token) * 64 + i as u64,
                len: *token,
            })
            .collect();
        if count == 0 && driver.free_descs() > 0 {
            driver.push(*token, pieces[0], true);
        } else if count == 0 || !driver.push_chain(*token, &pieces) {
            continue;
        }
        pushed.push((*token, count));
    }
    pushed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every chain comes back once with its token and length, in the order in which the device gave them, whatever that was; what the device
    /// finds is what was pushed; whoever asked to be told is told.
    #[test]
    fn our_driver_follows(
        size in proptest::sample::select(Packed::SIZES),
        indirect: bool,
        batches in proptest::collection::vec(proptest::collection::vec((0usize..6, any::<u16>()), 1..12), 1..24),
    ) {
        let bed = Bed::new(size);
        let mut driver = bed.driver(features(true, indirect));
        let raw = raw(&bed);
        let (mut avail, mut used, mut token) = (Place::START, Place::START, 0);
        prop_assert_eq!(raw.driver_event().1, EVENTS_OFF);
        for batch in &batches {
            raw.set_device_event(avail.word(), EVENTS_AT);
            let lens: Vec<usize> = batch.iter().map(|&(len, _)| len).collect();
            let pushed = push(&mut driver, &lens, &mut token);
            prop_assert!(raw.take(&mut avail.clone()).is_none(), "seen before it was published");
            driver.publish();
            prop_assert_eq!(driver.needs_kick(), !pushed.is_empty());
            prop_assert!(!driver.want_calls(true));
            prop_assert_eq!(raw.driver_event(), (used.word(), EVENTS_AT));

            let mut chains = Vec::new();
            for &(token, count) in &pushed {
                let chain = raw.take(&mut avail).unwrap();
                let table = indirect && count > 1;
                prop_assert_eq!(chain.len(), if table { 1 } else { count.max(1) });
                let skip = u16::try_from(chain.len()).unwrap();
                for (i, desc) in chain.iter().enumerate() {
                    let next = if i + 1 < chain.len() { NEXT } else { 0 };
                    let kind = if table { INDIRECT } else if count == 0 { WRITE } else { next };
                    prop_assert_eq!(desc.flags & (NEXT | WRITE | INDIRECT), kind);
                    if !table {
                        let addr = BASE + u64::from(token) * 64 + i as u64;
                        prop_assert_eq!((desc.addr, desc.len), (addr, token));
                    }
                }
                chains.push((token, chain.last().unwrap().id, skip));
            }
            prop_assert!(raw.take(&mut avail.clone()).is_none());

            // In the order of the random keys.
            let keys: BTreeMap<(u16, usize), _> =
                chains.iter().enumerate().map(|(i, chain)| ((batch[i].1, i), *chain)).collect();
            for (i, &(token, id, skip)) in keys.values().enumerate() {
                prop_assert_eq!(driver.used_ready(usize::MAX).unwrap(), i);
                raw.give(&mut used, id, token + 7, skip);
            }
            driver.want_calls(false);
            prop_assert_eq!(raw.driver_event().1, EVENTS_OFF);
            prop_assert_eq!(driver.used_ready(usize::MAX).unwrap(), pushed.len());
            for &(token, ..) in keys.values() {
                let back = driver.pop_used().unwrap();
                prop_assert_eq!((back.token, back.len), (token, token + 7));
            }
            prop_assert_eq!(driver.free_descs(), usize::from(size));
            prop_assert_eq!(avail, used);
        }
    }
}
