//! What takes several used buffers at a time does what the one-by-one reference does, whatever the device writes.

use proptest::prelude::*;

use super::{SplitInOrder, raw};
use crate::split::SplitDriverInOrder;
use crate::tests::{self, FEATURES, piece, take_back};
use crate::{DriverRing, RingFault};

type InOrderBed = tests::Bed<SplitInOrder>;

/// What a device does to one element, besides what it should.
#[derive(Debug, Clone, Copy)]
enum Lie {
    None,
    /// Another id.
    Id(u32),
    /// It stands for a batch that ends so many chains later.
    Batch(u16),
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        12 => Just(Lie::None),
        1 => any::<u32>().prop_map(Lie::Id),
        1 => (0u16..6).prop_map(Lie::Batch),
    ]
}

#[derive(Debug, Clone)]
struct Step {
    /// Buffers that are pushed; with a chain behind them.
    push: usize,
    chain: bool,
    /// Chains that the device uses, as far as there are so many, with lies and lengths.
    used: Vec<(Lie, u32)>,
    /// The most that is taken at once.
    take: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let used = proptest::collection::vec((lie(), any::<u32>()), 0..40);
    (0usize..40, any::<bool>(), used, 1usize..40).prop_map(|(push, chain, used, take)| Step {
        push,
        chain,
        used,
        take,
    })
}

/// All that a driver says of a run of steps, until the device is caught.
fn run(
    size: u16,
    steps: &[Step],
    change: impl Fn(SplitDriverInOrder) -> SplitDriverInOrder,
) -> Vec<String> {
    let bed = InOrderBed::new(size);
    let mut driver = change(bed.driver(FEATURES[0]));
    let raw = raw(&bed);
    let (mut said, mut token, mut used_idx) = (Vec::new(), 0, 0u16);
    // First descriptor and descriptors of each chain in flight, in order.
    let (mut flight, mut next) = (std::collections::VecDeque::new(), 0u16);
    let mut taken = 0;
    'all: for step in steps {
        let count = step.push.min(driver.free_descs());
        let tokens: Vec<u32> = (token..).take(count).collect();
        driver.push_many(&tokens, true, |_| piece(2048));
        token += u32::try_from(count).unwrap();
        for _ in 0..count {
            flight.push_back(next);
            next = (next + 1) % size;
        }
        if step.chain && driver.push_chain(token, &[piece(60), piece(60)]) {
            token += 1;
            flight.push_back(next);
            next = (next + 2) % size;
        }
        driver.publish();
        for &(lie, len) in &step.used {
            let Some(id) = flight.pop_front() else { break };
            let id = match lie {
                Lie::None => id.into(),
                Lie::Id(id) => id,
                Lie::Batch(ahead) => flight.get(usize::from(ahead)).copied().unwrap_or(id).into(),
            };
            raw.set_used_elem(used_idx % size, id, len);
            used_idx = used_idx.wrapping_add(1);
        }
        raw.set_used_idx(used_idx);
        loop {
            let ready = driver.used_ready(step.take);
            let count = ready.as_ref().map_or(0, |&ready| ready.min(step.take));
            said.push(format!("{ready:?}"));
            if count == 0 {
                break;
            }
            let (mut tokens, mut lens) = (vec![0; count], vec![0; count]);
            let got: Result<usize, RingFault> = driver.pop_many(&mut tokens, &mut lens);
            let got = got.inspect(|&got| {
                tokens.truncate(got);
                lens.truncate(got);
            });
            said.push(format!("{got:?} {tokens:?} {lens:?}"));
            match got {
                Ok(0) => {
                    // A chain of several descriptors is taken by itself.
                    let used = driver.pop_used();
                    said.push(format!("{used:?}"));
                    if used.is_err() {
                        break 'all;
                    }
                }
                Ok(_) => {}
                Err(_) => break 'all,
            }
            taken += got.unwrap_or(0).max(1);
        }
    }
    let taken = u32::try_from(taken).unwrap();
    // Whatever was said, what is left comes back once.
    if said.last().is_none_or(|last| !last.starts_with("Err")) {
        take_back(driver, taken..token);
    }
    said
}

proptest! {
    #[test]
    fn vectors_do_what_the_reference_does(
        size in prop_oneof![Just(2u16), Just(4), Just(8), Just(64)],
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let reference = run(size, &steps, SplitDriverInOrder::scalar);
        prop_assert_eq!(run(size, &steps, |driver| driver), reference);
    }
}

/// On a processor that has them they are used, and the reference does without.
#[test]
fn vectors_are_used_where_they_are() {
    let bed = InOrderBed::new(8);
    let driver = bed.driver(FEATURES[0]);
    let has = std::arch::is_x86_feature_detected!("avx2");
    assert_eq!(driver.vectors(), has.then_some("AVX2"));
    assert_eq!(driver.scalar().vectors(), None);
}
