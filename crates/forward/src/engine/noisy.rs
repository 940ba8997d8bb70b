//! Sends on late: packets wait in a queue of their own, and each costs random accesses to memory, as in a network function beside others.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use vring_mem::burst::Packet;
use vring_port::PortError;

use super::lane::Lane;
use super::{EngineOptions, Mode, Noise, Stream};
use crate::ForwardError;

const MIB: usize = 1 << 20;
/// Most packets that wait, and most MiB that are looked up in.
const MAX_BUFFER: usize = 1 << 20;
const MAX_MEMORY: usize = 4096;

/// See the file's first line.
pub(super) struct Noisy {
    noise: Noise,
    memory: Vec<u8>,
    waiting: VecDeque<(Packet, Option<Instant>)>,
    /// When something was sent last.
    last: Instant,
    random: u64,
}

impl Mode for Noisy {
    fn new(_: &Stream, options: &EngineOptions) -> Result<Self, ForwardError> {
        let noise = options.noise;
        let range = |what, min, max, got| ForwardError::Range {
            what,
            min,
            max,
            got,
        };
        if noise.buffer > MAX_BUFFER {
            return Err(range(
                "packets that noisy holds",
                0,
                MAX_BUFFER,
                noise.buffer,
            ));
        }
        let looks_up = noise.writes + noise.reads + noise.reads_writes > 0;
        if noise.memory > MAX_MEMORY || (looks_up && noise.memory == 0) {
            let min = usize::from(looks_up);
            return Err(range(
                "MiB that noisy looks up in",
                min,
                MAX_MEMORY,
                noise.memory,
            ));
        }
        Ok(Self {
            noise,
            memory: vec![0; if looks_up { noise.memory * MIB } else { 0 }],
            waiting: VecDeque::with_capacity(noise.buffer),
            last: Instant::now(),
            random: 0x9e37_79b9_7f4a_7c15,
        })
    }

    fn turn(&mut self, lane: &mut Lane<'_>, _: usize) -> Result<usize, PortError> {
        let received = lane.receive()?;
        if received > 0 {
            self.look_up(received);
        }
        if self.noise.buffer == 0 {
            if received > 0 {
                lane.send()?;
            }
            return Ok(received);
        }
        for i in 0..received {
            self.waiting.push_back((lane.burst.packet(i), lane.came));
        }
        lane.burst.set_len(0);
        while self.waiting.len() > self.noise.buffer {
            let surplus = self.waiting.len() - self.noise.buffer;
            self.send(lane, surplus)?;
        }
        let flush = self.noise.flush;
        if received == 0 && !flush.is_zero() && self.last.elapsed() >= flush {
            while !self.waiting.is_empty() {
                self.send(lane, usize::MAX)?;
            }
        }
        Ok(received)
    }

    /// What still waits was received and will not be sent.
    fn end(&mut self, lane: &mut Lane<'_>) {
        while !self.waiting.is_empty() {
            self.fill(lane, usize::MAX);
            lane.drop_all();
        }
    }
}

impl Noisy {
    /// The oldest packets that wait, up to a burst of them, into the burst; when the first of them came.
    fn fill(&mut self, lane: &mut Lane<'_>, most: usize) {
        let count = most.min(lane.burst.capacity()).min(self.waiting.len());
        for (i, (packet, came)) in self.waiting.drain(..count).enumerate() {
            lane.burst.set_packet(i, &packet);
            // Those of a burst came about together: the last stands for all.
            lane.came = came;
        }
        lane.burst.set_len(count);
    }

    fn send(&mut self, lane: &mut Lane<'_>, most: usize) -> Result<usize, PortError> {
        self.fill(lane, most);
        self.last = Instant::now();
        lane.send()
    }

    fn look_up(&mut self, packets: usize) {
        for _ in 0..packets {
            (0..self.noise.writes).for_each(|_| self.write());
            (0..self.noise.reads).for_each(|_| self.read());
            for _ in 0..self.noise.reads_writes {
                self.read();
                self.write();
            }
        }
    }

    fn read(&mut self) {
        let at = self.place();
        black_box(self.memory[at]);
    }

    fn write(&mut self) {
        let at = self.place();
        self.memory[at] = self.memory[at].wrapping_add(1);
    }

    /// A random place in the memory (xorshift64).
    fn place(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
        let at = self.random as usize % self.memory.len();
        at
    }
}
