//! The driver's end of a link whose other end sends back what it gets: it numbers packets, and knows each that is lost or comes twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, open};

pub const BURST: usize = 32;
pub const RING: u16 = 256;
pub const BUFFERS: usize = 2048;
pub const LIMIT: Duration = Duration::from_secs(60);
const LEN: u32 = 64;

pub fn config(pool: &Arc<Mempool>) -> PortConfig {
    PortConfig {
        pool: pool.clone(),
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: RING,
        tx_desc: RING,
        mtu: 1500,
        offloads: Offloads::NONE,
    }
}

pub fn pool() -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count: BUFFERS,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap()
}

/// Numbers in a row, as `3-7, 9-9`.
pub fn ranges(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let texts = ranges.iter().map(|(first, last)| format!("{first}-{last}"));
    texts.collect::<Vec<_>>().join(", ")
}

/// As good as random, and the same for the same seed.
pub struct Random(u64);

impl Random {
    /// From `VRING_SEED`, or another each time; it is printed.
    pub fn new(test: &str) -> Self {
        let given = std::env::var("VRING_SEED").ok();
        let given = given.and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9 + 1);
        println!("{test}: VRING_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// See the module.
pub struct Driver {
    pub pool: Arc<Mempool>,
    pub port: Port,
    owner: Owner,
    pub out: Burst,
    /// Stands in each packet: those of others are not ours.
    life: u32,
    /// The next number to be sent, and the one that comes back next if none is missing.
    pub next: u32,
    pub due: u32,
    pub back: u64,
    pub lost: Vec<u32>,
    pub twice: Vec<u32>,
}

impl Driver {
    pub fn open(device: &str, life: u32) -> Self {
        let pool = pool();
        Self {
            port: open(&Device::parse(device).unwrap(), &config(&pool)).unwrap(),
            pool,
            owner: Owner::new(),
            out: Burst::new(BURST),
            life,
            next: 0,
            due: 0,
            back: 0,
            lost: Vec::new(),
            twice: Vec::new(),
        }
    }

    /// Sends as much as the ring takes, up to the number `last`.
    pub fn send(&mut self, last: u32) {
        while !self.out.is_full() && self.next < last {
            let mut buffer = [0];
            if self.pool.alloc_bulk(&mut buffer) == 0 {
                break;
            }
            // SAFETY: a fresh buffer has more bytes than a packet.
            unsafe {
                let at = self.pool.ptr(buffer[0]);
                at.write_bytes(0, LEN as usize);
                at.add(14).cast::<u32>().write_unaligned(self.next);
                at.add(18).cast::<u32>().write_unaligned(self.life);
            }
            assert!(self.out.push(buffer[0], LEN, 0));
            self.next += 1;
        }
        let tx = &self.port.tx_queues()[0];
        tx.burst(self.owner, &mut self.out).unwrap();
        tx.reclaim(self.owner).unwrap();
    }

    pub fn receive(&mut self) {
        let mut burst = Burst::new(BURST);
        let rx = &self.port.rx_queues()[0];
        self.back += rx.burst(self.owner, &mut burst).unwrap() as u64;
        for (&addr, &len) in burst.packets().0.iter().zip(burst.packets().1) {
            assert_eq!(len, LEN);
            // SAFETY: inside the packet.
            let [number, life] = unsafe {
                let at = self.pool.ptr(addr).add(14).cast::<u32>();
                [at.read_unaligned(), at.add(1).read_unaligned()]
            };
            assert_eq!(life, self.life, "packet {number} is another driver's");
            assert!(number < self.next, "{number} was never sent");
            if number < self.due {
                self.twice.push(number);
            } else {
                self.lost.extend(self.due..number);
                self.due = number + 1;
            }
        }
        self.pool.free_burst(&mut burst);
    }

    /// Sends and receives until something is so.
    pub fn run_until(&mut self, what: &str, last: u32, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(self) {
            assert!(
                Instant::now() < end,
                "{what}: sent {}, due {}, lost {}, tx {:?}, rx {:?}",
                self.next,
                self.due,
                ranges(&self.lost),
                self.port.tx_queues()[0].stats(),
                self.port.rx_queues()[0].stats(),
            );
            self.send(last);
            self.receive();
        }
    }

    /// All that was sent before has come back or is lost.
    pub fn settle(&mut self) {
        let mark = self.next;
        self.run_until("a packet after the crash", u32::MAX, |driver| {
            driver.due > mark
        });
    }
}
