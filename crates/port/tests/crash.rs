//! The process behind a `net_vhost` port is killed in the middle of its work, again and again, and each time another one comes in its place. The
//! `net_virtio_user` port at the other end keeps its rings: the new process takes them up by the in-flight record.
//!
//! Packets have numbers and come back in their order, so each that is lost or comes twice is known by name. `VRING_SEED` repeats a run.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, PortEvent, open};

const BURST: usize = 32;
const RING: u16 = 256;
const BUFFERS: usize = 2048;
/// How the process that is to be killed is told what to be.
const DEVICE: &str = "VRING_CRASH_DEVICE";
const LIMIT: Duration = Duration::from_secs(60);

fn config(pool: &Arc<Mempool>) -> PortConfig {
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

fn pool() -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count: BUFFERS,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap()
}

/// Not a test of its own: the process that the tests below start and kill. It sends back what it receives.
#[test]
fn device_process() {
    let Ok(device) = std::env::var(DEVICE) else {
        return;
    };
    // Whoever started it holds the other end: when that is gone, nobody is left to end it.
    std::thread::spawn(|| {
        let _end = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let pool = pool();
    let port = open(&Device::parse(&device).unwrap(), &config(&pool)).unwrap();
    let (owner, mut burst) = (Owner::new(), Burst::new(BURST));
    loop {
        if burst.is_empty() {
            port.rx_queues()[0].burst(owner, &mut burst).unwrap();
        }
        port.tx_queues()[0].burst(owner, &mut burst).unwrap();
    }
}

fn start(device: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "device_process"])
        .env(DEVICE, device)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Numbers in a row, as `3-7, 9`.
fn ranges(numbers: &[u32]) -> String {
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
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The driver's end: numbers the packets that it sends, and looks at what comes back.
struct Driver {
    pool: Arc<Mempool>,
    port: Port,
    owner: Owner,
    out: Burst,
    /// The next number to be sent, and the one that comes back next if none is missing.
    next: u32,
    due: u32,
    back: u64,
    lost: Vec<u32>,
    twice: Vec<u32>,
}

impl Driver {
    /// Sends as much as the ring takes, up to the number `last`.
    fn send(&mut self, last: u32) {
        while !self.out.is_full() && self.next < last {
            let mut buffer = [0];
            if self.pool.alloc_bulk(&mut buffer) == 0 {
                break;
            }
            // SAFETY: a fresh buffer has more than 64 bytes.
            unsafe {
                let at = self.pool.ptr(buffer[0]);
                at.write_bytes(0, 64);
                at.add(14).cast::<u32>().write_unaligned(self.next);
            }
            assert!(self.out.push(buffer[0], 64, 0));
            self.next += 1;
        }
        let tx = &self.port.tx_queues()[0];
        tx.burst(self.owner, &mut self.out).unwrap();
        tx.reclaim(self.owner).unwrap();
    }

    fn receive(&mut self) {
        let mut burst = Burst::new(BURST);
        let rx = &self.port.rx_queues()[0];
        self.back += rx.burst(self.owner, &mut burst).unwrap() as u64;
        for (&addr, &len) in burst.packets().0.iter().zip(burst.packets().1) {
            assert_eq!(len, 64);
            // SAFETY: inside the packet.
            let number = unsafe { self.pool.ptr(addr).add(14).cast::<u32>().read_unaligned() };
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
    fn run_until(&mut self, what: &str, last: u32, mut done: impl FnMut(&Self) -> bool) {
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
    fn settle(&mut self) {
        let mark = self.next;
        self.run_until("a packet after the crash", u32::MAX, |driver| {
            driver.due > mark
        });
    }
}

fn crashes(name: &str, args: &str, kills: usize) {
    let seed = std::env::var("VRING_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9 + 1);
    eprintln!("{name}: VRING_SEED={seed}");
    let mut random = Random(seed);
    let path = std::env::temp_dir().join(format!("vring-crash-{name}-{}", std::process::id()));
    let pool = pool();
    let virtio = format!(
        "net_virtio_user_{name},path={},server=1,packed_vq=1",
        path.display()
    );
    let vhost = format!("net_vhost_{name},iface={},client=1{args}", path.display());
    let mut driver = Driver {
        port: open(&Device::parse(&virtio).unwrap(), &config(&pool)).unwrap(),
        pool: pool.clone(),
        owner: Owner::new(),
        out: Burst::new(BURST),
        next: 0,
        due: 0,
        back: 0,
        lost: Vec::new(),
        twice: Vec::new(),
    };
    let mut child = start(&vhost);
    driver.settle();
    let (mut since_settled, mut lost_before) = (0, 0);
    for kill in 0..kills {
        // Most die at their work, some while they take it up.
        if random.below(4) > 0 {
            driver.settle();
            let lost = driver.lost.len() - lost_before;
            assert!(
                lost <= since_settled * BURST,
                "VRING_SEED={seed}: {lost} packets lost by {since_settled} crashes before {kill}: {}",
                ranges(&driver.lost[lost_before..])
            );
            (since_settled, lost_before) = (0, driver.lost.len());
            let back = driver.back + random.below(3000);
            driver.run_until("traffic", u32::MAX, |driver| driver.back >= back);
        } else {
            let until = Instant::now() + Duration::from_micros(random.below(20_000));
            driver.run_until("a start", u32::MAX, |_| Instant::now() >= until);
        }
        for _ in 0..random.below(2000) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        since_settled += 1;
        child = start(&vhost);
    }
    driver.settle();
    // Nothing more is sent: all that was comes back, and every descriptor that it was sent with.
    let last = driver.next;
    driver.run_until("the last packet", last, |driver| driver.due == last);
    let tx = driver.port.tx_queues()[0].clone();
    driver.run_until("transmit descriptors", last, |_| {
        tx.used_count().unwrap() == 0
    });
    // So does every descriptor that was posted: they are filled when nobody takes packets out.
    let end = Instant::now() + LIMIT;
    let rx = driver.port.rx_queues()[0].clone();
    while rx.used_count().unwrap() < RING.into() {
        assert!(
            Instant::now() < end,
            "{:?} receive descriptors",
            rx.used_count()
        );
        driver.send(last + 2 * u32::from(RING));
    }
    let last = driver.next;
    driver.run_until("packets of the full ring", last, |driver| {
        driver.due == last
    });

    eprintln!(
        "{name}: {kills} crashes, {} packets back, lost {}, twice {}",
        driver.back,
        ranges(&driver.lost),
        ranges(&driver.twice)
    );
    assert_eq!(driver.twice, [], "VRING_SEED={seed}");
    assert_eq!(
        driver.lost.iter().collect::<BTreeSet<_>>().len(),
        driver.lost.len()
    );
    assert_eq!(driver.back + driver.lost.len() as u64, u64::from(last));
    for drops in [tx.stats().drops, rx.stats().drops] {
        assert!(drops.is_empty(), "{drops:?}");
    }
    for event in driver.port.events().drain() {
        assert!(!matches!(event, PortEvent::Error(_)), "{event:?}");
    }
    driver.pool.free_burst(&mut driver.out);
    driver.port.close();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(pool.free_count(), BUFFERS, "buffers are missing");
}

/// What the used index of a split ring does not cover was never taken.
#[test]
fn a_split_ring_outlives_its_device() {
    crashes("split", ",packed_vq=0,in_order=0", 200);
}

/// The same with used elements that stand for several chains.
#[test]
fn a_split_ring_in_order_outlives_its_device() {
    crashes("split_in_order", ",packed_vq=0", 50);
}

/// Descriptors that used elements were written over come back from the record.
#[test]
fn a_packed_ring_outlives_its_device() {
    crashes("packed", ",in_order=0", 200);
}

/// The same with used elements that stand for several chains.
#[test]
fn a_packed_ring_in_order_outlives_its_device() {
    crashes("packed_in_order", "", 50);
}
