//! Both halves with each other: every byte arrives in order, with every set of features, at small and large rings, in bursts of any size.

mod common;

use common::link::Link;
use common::{all_free, pattern, pool, put, take_all};
use proptest::prelude::*;
use vring_mem::Burst;
use vring_net::Features;

const SETS: [Features; 5] = [
    Features::empty(),
    Features::VERSION_1,
    Features::VERSION_1.union(Features::INDIRECT_DESC),
    Features::VERSION_1
        .union(Features::MRG_RXBUF)
        .union(Features::EVENT_IDX),
    Features::VERSION_1
        .union(Features::MRG_RXBUF)
        .union(Features::INDIRECT_DESC)
        .union(Features::HASH_REPORT),
];

/// What a transfer needs of either direction.
trait Ends {
    fn send(&mut self, burst: &mut Burst) -> usize;
    fn receive(&mut self, burst: &mut Burst) -> usize;
}

/// Built from closures, since the four halves have no common trait.
struct By<S, R>(S, R);

impl<S: FnMut(&mut Burst) -> usize, R: FnMut(&mut Burst) -> usize> Ends for By<S, R> {
    fn send(&mut self, burst: &mut Burst) -> usize {
        self.0(burst)
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        self.1(burst)
    }
}

/// Sends packets of these lengths in segments of at most `most` bytes, and compares every byte.
fn transfer(
    mut ends: impl Ends,
    pools: [&std::sync::Arc<vring_mem::Mempool>; 2],
    lens: &[usize],
    most: usize,
    size: usize,
) {
    let (mut out, mut back) = (Burst::new(size), Burst::new(size));
    let (mut made, mut arrived, mut idle) = (0, 0, 0);
    while arrived < lens.len() {
        let number = |n: usize| u32::try_from(n).unwrap();
        while made < lens.len() && put(pools[0], &mut out, &pattern(number(made), lens[made]), most)
        {
            made += 1;
        }
        let moved = ends.send(&mut out) + ends.receive(&mut back);
        idle = if moved == 0 { idle + 1 } else { 0 };
        assert!(idle < 4, "stalled after {arrived} of {made} packets");
        for packet in take_all(pools[1], &mut back) {
            assert!(
                packet == pattern(number(arrived), lens[arrived]),
                "packet {arrived}"
            );
            arrived += 1;
        }
    }
}

fn check(power: u32, set: usize, lens: &[usize], most: usize, size: usize) {
    let pools = [pool(1024), pool(1024)];
    let features = SETS[set];
    let link = Link::new(1 << power, features, pools.clone());
    let c = &link.counters;
    let (mut tx, mut rx) = link.up();
    let send = |b: &mut Burst| tx.tx(b, c).unwrap().packets;
    let ends = By(send, |b: &mut Burst| rx.rx(b, c).unwrap().packets);
    transfer(ends, [&pools[0], &pools[1]], lens, most, size);
    tx.reclaim().unwrap();
    drop((tx, rx));

    let ends = [&pools[1], &pools[0]];
    if features.contains(Features::MRG_RXBUF) {
        let (mut tx, mut rx) = link.down::<true>();
        let send = |b: &mut Burst| tx.tx(b, c).unwrap().packets;
        transfer(
            By(send, |b: &mut Burst| rx.rx(b, c).unwrap().packets),
            ends,
            lens,
            most,
            size,
        );
    } else {
        let lens: Vec<usize> = lens.iter().map(|&len| len.min(2048)).collect();
        let (mut tx, mut rx) = link.down::<false>();
        let send = |b: &mut Burst| tx.tx(b, c).unwrap().packets;
        transfer(
            By(send, |b: &mut Burst| rx.rx(b, c).unwrap().packets),
            ends,
            &lens,
            most,
            size,
        );
    }
    assert_eq!(common::drops(c), []);
    pools.iter().for_each(|pool| all_free(pool));
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 14usize..1600, 1 => 2030usize..2070, 1 => 4000usize..8000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any packets over any ring that can hold them.
    #[test]
    fn every_byte_arrives(
        power in 4u32..=9,
        set in 0usize..SETS.len(),
        lens in proptest::collection::vec(len(), 1..120),
        size in 1usize..80,
        most in prop_oneof![Just(2048usize), 900usize..2048],
    ) {
        check(power, set, &lens, most, size);
    }
}

/// The smallest ring, where each packet waits for the one before it.
#[test]
fn the_smallest_ring() {
    for set in 0..SETS.len() {
        check(1, set, &[60; 300], 2048, 32);
    }
}
