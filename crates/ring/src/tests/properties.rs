//! Any sequence of calls on both halves, against a model that is two queues.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::layout::INDIRECT_DESCS;
use crate::{Desc, DescFlags, Used};

#[derive(Debug, Clone)]
enum Op {
    /// Pushes that many single buffers, written by the device or read.
    Push(u16, bool),
    /// Pushes a chain of that many pieces.
    Chain(usize),
    /// Shows the device what was pushed.
    Publish,
    /// The device takes up to that many.
    Device(usize),
    /// The driver takes up to that many back.
    Pop(usize),
    /// The device looks a last time and falls asleep.
    DeviceSleeps,
    /// The driver looks a last time and falls asleep.
    DriverSleeps,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1u16..40, any::<bool>()).prop_map(|(n, write)| Op::Push(n, write)),
        3 => (1usize..24).prop_map(Op::Chain),
        3 => Just(Op::Publish),
        3 => (1usize..40).prop_map(Op::Device),
        3 => (1usize..40).prop_map(Op::Pop),
        1 => Just(Op::DeviceSleeps),
        1 => Just(Op::DriverSleeps),
    ]
}

/// A chain on its way.
#[derive(Debug, Clone)]
struct Chain {
    token: u32,
    pieces: Vec<Piece>,
    write: bool,
    /// Pushed as a chain.
    chain: bool,
    /// Descriptors that it takes up.
    descs: usize,
}

struct Model<F: Format> {
    bed: Bed<F>,
    driver: F::Driver,
    device: F::Device,
    features: RingFeatures,
    pushed: VecDeque<Chain>,
    published: VecDeque<Chain>,
    used: VecDeque<(Chain, u32)>,
    tokens: BTreeSet<u32>,
    next_token: u32,
    device_sleeps: bool,
    driver_sleeps: bool,
}

impl<F: Format> Model<F> {
    fn new(size: u16, features: RingFeatures, start: u16) -> Self {
        let bed = Bed::new(size);
        let (mut driver, mut device) = (bed.driver(features), bed.device(features));
        run_to(&mut driver, &mut device, start);
        Self {
            driver,
            device,
            features,
            bed,
            pushed: VecDeque::new(),
            published: VecDeque::new(),
            used: VecDeque::new(),
            tokens: BTreeSet::new(),
            next_token: 0,
            device_sleeps: false,
            driver_sleeps: false,
        }
    }

    fn in_flight(&self) -> usize {
        let waiting = self.pushed.iter().chain(&self.published);
        waiting
            .chain(self.used.iter().map(|(c, _)| c))
            .map(|c| c.descs)
            .sum()
    }

    fn check_free(&self) {
        let size = usize::from(self.bed.size);
        assert_eq!(self.driver.free_descs(), size - self.in_flight());
    }

    fn pieces(&mut self, count: usize) -> (u32, Vec<Piece>) {
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(token);
        let pieces = (0..count).map(|i| Piece {
            addr: BASE + u64::from(token) * 256 + i as u64,
            len: token % 1000 + 60,
        });
        (token, pieces.collect())
    }

    /// Single buffers as far as there is room: an even number in one call, an odd one by one.
    fn push(&mut self, count: u16, write: bool) {
        let count = usize::from(count).min(self.driver.free_descs());
        let news: Vec<(u32, Vec<Piece>)> = (0..count).map(|_| self.pieces(1)).collect();
        if count.is_multiple_of(2) {
            let tokens: Vec<u32> = news.iter().map(|&(token, _)| token).collect();
            self.driver.push_many(&tokens, write, |nth| news[nth].1[0]);
        } else {
            for (token, pieces) in &news {
                self.driver.push(*token, pieces[0], write);
            }
        }
        self.pushed
            .extend(news.into_iter().map(|(token, pieces)| Chain {
                token,
                pieces,
                write,
                chain: false,
                descs: 1,
            }));
    }

    fn push_chain(&mut self, count: usize) {
        let (token, pieces) = self.pieces(count);
        let table = self.features.indirect && (2..=INDIRECT_DESCS).contains(&count);
        let descs = if table { 1 } else { count };
        let fits = descs <= self.driver.free_descs();
        assert_eq!(self.driver.push_chain(token, &pieces), fits);
        if fits {
            self.pushed.push_back(Chain {
                token,
                pieces,
                write: false,
                chain: true,
                descs,
            });
        } else {
            self.tokens.remove(&token);
        }
    }

    fn publish(&mut self) {
        let news = !self.pushed.is_empty();
        self.published.append(&mut self.pushed);
        self.driver.publish();
        let kick = self.driver.needs_kick();
        assert!(
            kick || !(news && self.device_sleeps),
            "a sleeping device is told of news"
        );
        if kick {
            self.device_sleeps = self.device.want_kicks(false);
        }
    }

    fn device(&mut self, most: usize) {
        let ready = self.device.ready(most).unwrap();
        assert!(ready <= self.published.len());
        assert!(ready >= most.min(self.published.len()));
        let count = ready.min(most);
        let mut heads = Vec::new();
        let looked = self.device.peek_many(count, |nth, head| {
            assert_eq!(nth, heads.len());
            heads.push(head);
            true
        });
        assert_eq!(looked, Ok(count));
        let mut done = Vec::new();
        for (nth, &head) in heads.iter().enumerate() {
            assert_eq!(self.device.peek(nth), Ok(head));
            let chain = self.published.pop_front().unwrap();
            let mut seen: Vec<Desc> = Vec::new();
            self.device
                .walk(head, &self.bed.memory, &mut |desc| {
                    seen.push(desc);
                    Ok(())
                })
                .unwrap();
            let write = |desc: &Desc| desc.flags.contains(DescFlags::WRITE);
            assert!(seen.iter().all(|desc| write(desc) == chain.write));
            let pieces = seen.iter().map(|desc| Piece {
                addr: desc.addr,
                len: desc.len,
            });
            assert_eq!(pieces.collect::<Vec<_>>(), chain.pieces);
            // In order, the device gives what it only reads back in batches, and lengths of that are nothing.
            let batched = F::IN_ORDER && !chain.write;
            let len = chain.token.wrapping_mul(31) + u32::try_from(nth).unwrap();
            let len = if batched { 0 } else { len };
            done.push((head.id, len, batched));
            self.used.push_back((chain, len));
        }
        if F::IN_ORDER {
            for run in done.chunk_by(|a, b| a.2 == b.2) {
                if run[0].2 {
                    self.device.complete_read_many(run.len(), |nth| run[nth].0);
                } else {
                    self.device
                        .complete_many(run.len(), |nth| (run[nth].0, run[nth].1));
                }
            }
        } else if count.is_multiple_of(2) {
            self.device
                .complete_many(count, |nth| (done[nth].0, done[nth].1));
        } else {
            for &(id, len, _) in &done {
                self.device.complete(id, len);
            }
        }
        self.device.publish();
        let call = self.device.needs_call();
        assert!(
            call || !(ready > 0 && self.driver_sleeps),
            "a sleeping driver is told of news"
        );
        if call {
            self.driver_sleeps = self.driver.want_calls(false);
        }
    }

    fn pop(&mut self, most: usize) {
        let ready = self.driver.used_ready(most).unwrap();
        assert!(ready <= self.used.len() && ready >= most.min(self.used.len()));
        let mut left = ready.min(most);
        if left.is_multiple_of(2) {
            let (mut tokens, mut lens) = (vec![0; left], vec![0; left]);
            let count = self.driver.pop_many(&mut tokens, &mut lens).unwrap();
            let single = self.used.iter().take(left).take_while(|(c, _)| !c.chain);
            assert_eq!(count, single.count(), "up to the first chain");
            for (&token, &len) in tokens[..count].iter().zip(&lens) {
                self.came_back(Used {
                    token,
                    len,
                    chain: false,
                });
            }
            left -= count;
        }
        for _ in 0..left {
            let used = self.driver.pop_used().unwrap();
            self.came_back(used);
        }
    }

    fn came_back(&mut self, used: Used) {
        let (chain, len) = self.used.pop_front().unwrap();
        assert_eq!(
            (used.token, used.len, used.chain),
            (chain.token, len, chain.chain)
        );
        assert!(self.tokens.remove(&used.token), "a token came back twice");
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Push(count, write) => self.push(count, write),
            Op::Chain(count) => self.push_chain(count),
            Op::Publish => self.publish(),
            Op::Device(most) => self.device(most),
            Op::Pop(most) => self.pop(most),
            Op::DeviceSleeps => {
                let pending = self.device.want_kicks(true);
                assert_eq!(pending, !self.published.is_empty());
                self.device_sleeps = !pending;
            }
            Op::DriverSleeps => {
                let pending = self.driver.want_calls(true);
                assert_eq!(pending, !self.used.is_empty());
                self.driver_sleeps = !pending;
            }
        }
        self.check_free();
    }

    /// Lets everything come back: by the device, or, when it is gone, by taking it.
    fn finish(mut self, device_dies: bool) {
        if device_dies {
            let mut lost = BTreeSet::new();
            while let Some(used) = self.driver.take_outstanding() {
                assert!(lost.insert(used.token));
            }
            assert_eq!(lost, self.tokens);
        } else {
            self.publish();
            self.device(usize::MAX);
            self.pop(usize::MAX);
            assert!(self.tokens.is_empty());
        }
        assert_eq!(self.driver.free_descs(), usize::from(self.bed.size));
        assert!(self.driver.take_outstanding().is_none());
    }
}

fn start() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), 65_400u16..=65_535]
}

/// Every chain comes back exactly once with its token, its pieces were what was pushed, no descriptor is lost, and a half that fell asleep
/// after a last look is told of the next news, at every size, across the wrap of the indexes.
fn chains_come_back_once<F: Format>() {
    proptest!(ProptestConfig::with_cases(64), |(
        size in proptest::sample::select(F::SIZES),
        kind in 0usize..4,
        start in start(),
        ops in proptest::collection::vec(op(), 1..120),
        device_dies: bool,
    )| {
        let mut model = Model::<F>::new(size, FEATURES[kind], start);
        for op in &ops {
            model.run(op);
        }
        model.finish(device_dies);
    });
}

/// The same at every size of the list, twice round the ring and across the wrap.
fn every_size_twice_round<F: Format>() {
    for &size in F::SIZES {
        for features in [FEATURES[0], FEATURES[3]] {
            let mut model = Model::<F>::new(size, features, 65_535u16 - size / 2);
            for _ in 0..2 {
                for op in [Op::Push(size, true), Op::Publish, Op::DriverSleeps] {
                    model.run(&op);
                }
                model.device(usize::from(size / 2));
                model.device(usize::MAX);
                model.pop(usize::MAX);
                assert!(model.tokens.is_empty());
                model.check_free();
            }
            model.push_chain(usize::from(size.min(32_767)));
            model.finish(false);
        }
    }
}

/// Bursts of every length from every place of a small ring, in single buffers and in chains: nothing depends on where the end of the ring is.
fn every_place_of_a_ring<F: Format>() {
    for &size in F::SIZES.iter().filter(|&&size| size <= 8) {
        for (start, count) in (0..4 * size).flat_map(|s| (1..=size).map(move |c| (s, c))) {
            let mut model = Model::<F>::new(size, FEATURES[0], start);
            model.run(&Op::Push(count, true));
            model.run(&Op::Publish);
            model.run(&Op::Device(usize::MAX));
            model.run(&Op::Pop(usize::MAX));
            model.run(&Op::Chain(usize::from(count)));
            model.run(&Op::Push(size, false));
            model.run(&Op::Publish);
            model.run(&Op::Device(1));
            model.run(&Op::Pop(1));
            model.run(&Op::Chain(usize::from(count)));
            model.finish(false);
        }
    }
}

/// A chain of 32768 pieces, which no count of ours can hold, is refused and not half remembered.
fn a_chain_of_all_of_the_largest_ring_is_refused<F: Format>() {
    let bed = Bed::<F>::new(32768);
    let mut driver = bed.driver(FEATURES[0]);
    assert!(!driver.push_chain(1, &vec![piece(60); 32768]));
    assert_eq!(driver.free_descs(), 32768);
    assert!(driver.take_outstanding().is_none());
}

/// Taking back a whole large ring is linear: the device died with all of it.
fn the_largest_ring_is_taken_back<F: Format>() {
    let bed = Bed::<F>::new(32768);
    let mut driver = bed.driver(FEATURES[0]);
    for token in 0..32768 {
        driver.push(token, piece(60), true);
    }
    for token in 0..32768 {
        let back = driver.take_outstanding();
        assert_eq!(back.map(|used| used.token), Some(token));
    }
    assert!(driver.take_outstanding().is_none());
    assert_eq!(driver.free_descs(), 32768);
}

for_each_format!(
    chains_come_back_once,
    every_size_twice_round,
    every_place_of_a_ring,
    a_chain_of_all_of_the_largest_ring_is_refused,
    the_largest_ring_is_taken_back,
);
