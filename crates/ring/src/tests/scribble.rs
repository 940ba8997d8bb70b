//! Both halves on a ring that a third one scribbles over between any two of their steps: nobody panics, hangs, or loses or doubles a token.

use proptest::prelude::*;

use super::*;
use crate::RingFault;

#[derive(Debug, Clone)]
enum Op {
    Push(u16, bool),
    Chain(usize),
    Publish,
    Pop(usize, bool),
    Calls(bool),
    Device(usize, bool),
    Kicks(bool),
    /// Eight bytes, at a place in the ring.
    Scribble(prop::sample::Index, u64),
    /// Two bytes that are small, or flags.
    Nudge(prop::sample::Index, u16),
}

fn op() -> impl Strategy<Value = Op> {
    let near = prop_oneof![
        0u16..20,
        Just(0x80),
        Just(0x8000),
        Just(0x8080),
        Just(0x8081)
    ];
    prop_oneof![
        4 => (1u16..12, any::<bool>()).prop_map(|(n, write)| Op::Push(n, write)),
        2 => (1usize..20).prop_map(Op::Chain),
        4 => Just(Op::Publish),
        5 => (1usize..20, any::<bool>()).prop_map(|(n, many)| Op::Pop(n, many)),
        1 => any::<bool>().prop_map(Op::Calls),
        5 => (1usize..20, any::<bool>()).prop_map(|(n, read)| Op::Device(n, read)),
        1 => any::<bool>().prop_map(Op::Kicks),
        2 => (any::<prop::sample::Index>(), any::<u64>()).prop_map(|(at, v)| Op::Scribble(at, v)),
        4 => (any::<prop::sample::Index>(), near).prop_map(|(at, v)| Op::Nudge(at, v)),
    ]
}

struct Scene<F: Format> {
    bed: Bed<F>,
    driver: F::Driver,
    device: F::Device,
    out: BTreeSet<u32>,
    next: u32,
}

impl<F: Format> Scene<F> {
    fn new(size: u16, features: RingFeatures) -> Self {
        let bed = Bed::<F>::new(size);
        Self {
            driver: bed.driver(features),
            device: bed.device(features),
            bed,
            out: BTreeSet::new(),
            next: 0,
        }
    }

    /// Writes bytes into the ring; its parts and the first of its indirect tables.
    fn write(&self, at: prop::sample::Index, bytes: &[u8]) {
        let room = F::layout(self.bed.size)
            .1
            .min(64 * usize::from(self.bed.size) + 256);
        let at = self.bed.at(at.index(room / bytes.len()) * bytes.len());
        for (i, &byte) in bytes.iter().enumerate() {
            // SAFETY: inside the ring's memory; volatile, since both halves have it too.
            unsafe { at.add(i).write_volatile(byte) };
        }
    }

    fn token(&mut self) -> u32 {
        self.next += 1;
        self.out.insert(self.next);
        self.next
    }

    fn back(&mut self, token: u32) {
        assert!(self.out.remove(&token), "token {token} was not out");
    }

    fn pop(&mut self, most: usize, many: bool) -> Result<(), RingFault> {
        let ready = self.driver.used_ready(most)?;
        assert!(ready <= usize::from(self.bed.size) + 1);
        let most = most.min(ready);
        if many {
            let (mut tokens, mut lens) = (vec![0; most], vec![0; most]);
            let count = self.driver.pop_many(&mut tokens, &mut lens)?;
            tokens[..count].iter().for_each(|&token| self.back(token));
        } else if most > 0 {
            let used = self.driver.pop_used()?;
            self.back(used.token);
        }
        Ok(())
    }

    fn device(&mut self, most: usize, read: bool) -> Result<(), RingFault> {
        let count = self.device.ready(most)?.min(most);
        assert!(count <= usize::from(self.bed.size));
        let mut ids = Vec::new();
        for nth in 0..count {
            let head = self.device.peek(nth)?;
            let mut left = 40_000;
            let _any_fault = self.device.walk(head, &self.bed.memory, &mut |_| {
                left -= 1;
                assert!(left > 0, "a walk without an end");
                Ok(())
            });
            ids.push(head.id);
        }
        let looked = self.device.peek_many(count, |_, _| true)?;
        if read {
            self.device.complete_read_many(looked, |nth| ids[nth]);
        } else {
            self.device.complete_many(looked, |nth| (ids[nth], 7));
        }
        self.device.publish();
        self.device.needs_call();
        Ok(())
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Push(count, write) => {
                let count = usize::from(count).min(self.driver.free_descs());
                let tokens: Vec<u32> = (0..count).map(|_| self.token()).collect();
                self.driver.push_many(&tokens, write, |_| piece(60));
            }
            Op::Chain(count) => {
                let token = self.token();
                if !self.driver.push_chain(token, &vec![piece(60); count]) {
                    self.back(token);
                }
            }
            Op::Publish => {
                self.driver.publish();
                self.driver.needs_kick();
            }
            // A fault is an answer; a port would stop here, we go on.
            Op::Pop(most, many) => drop(self.pop(most, many)),
            Op::Device(most, read) => drop(self.device(most, read)),
            Op::Calls(on) => drop(self.driver.want_calls(on)),
            Op::Kicks(on) => drop(self.device.want_kicks(on)),
            Op::Scribble(at, value) => self.write(at, &value.to_le_bytes()),
            Op::Nudge(at, value) => self.write(at, &value.to_le_bytes()),
        }
    }
}

/// See the module.
fn nothing_is_lost<F: Format>() {
    proptest!(ProptestConfig::with_cases(256), |(
        size in proptest::sample::select(F::SIZES),
        kind in 0usize..4,
        ops in proptest::collection::vec(op(), 1..160),
    )| {
        // Small ones: scribbles shall hit.
        let mut scene = Scene::<F>::new(if size > 64 { 8 } else { size }, FEATURES[kind]);
        ops.iter().for_each(|op| scene.run(op));
        let Scene { driver, out, bed: _held, .. } = scene;
        take_back(driver, out);
    });
}

for_each_format!(nothing_is_lost);
