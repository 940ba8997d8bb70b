//! A hand-driven front end attacks a `net_vhost` port over a real socket, while a healthy pair of ports in the same process passes
//! packets. Each attack stops the queue that it is made on, is told once, and leaves nothing behind.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_peer::{INDIRECT, Ram, RawDesc, RawRing, WRITE};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, PortError, PortEvent, open};
use vring_ring::RingFault;
use vring_vhost::{Frontend, FrontendRegion, ProtocolFeatures, VringAddresses, socket};

const SIZE: u16 = 8;
/// The attacker's memory: two regions that do not touch. A ring at the start of the first for each direction.
const REGIONS: [(u64, u64); 2] = [(0x1_0000, 0x4_0000), (0x10_0000, 0x1_0000)];
const RINGS: [u64; 2] = [0x1_0000, 0x1_8000];
const BUFFERS: u64 = 0x2_0000;
const END: u64 = 0x11_0000;
/// Bytes of the header with the features below.
const HEADER: u32 = 12;
const FEATURES: u64 = 1 << 32 | 1 << 28 | 1 << 15 | 1 << 30;
/// The driver's receive ring, into which the port transmits.
const DOWN: usize = 0;
/// The driver's transmit ring, from which the port receives.
const UP: usize = 1;

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::yield_now();
    }
}

fn open_port(args: &str, pool: &Arc<Mempool>) -> Port {
    let config = PortConfig {
        pool: pool.clone(),
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        offloads: Offloads::NONE,
    };
    open(&Device::parse(args).unwrap(), &config).unwrap()
}

/// The front end: its memory and its two rings, all written by hand.
struct Attacker {
    frontend: Frontend,
    ram: Ram,
    rings: [RawRing; 2],
    _signals: Vec<OwnedFd>,
}

impl Attacker {
    fn connect(path: &Path) -> Self {
        let mut frontend = Frontend::new(socket::dial(path).unwrap());
        let ram = Ram::new(&REGIONS);
        let offered = frontend.get_features().unwrap();
        assert_eq!(offered & FEATURES, FEATURES);
        frontend.set_owner().unwrap();
        frontend.get_protocol_features().unwrap();
        frontend
            .set_protocol_features(ProtocolFeatures::REPLY_ACK)
            .unwrap();
        frontend.set_features(FEATURES).unwrap();
        let region = |i: usize| FrontendRegion {
            guest_addr: REGIONS[i].0,
            user_addr: REGIONS[i].0,
            size: REGIONS[i].1,
            mmap_offset: 0,
            fd: ram.file(i),
        };
        frontend.set_mem_table(&[region(0), region(1)]).unwrap();
        let mut attacker = Self {
            rings: RINGS.map(|addr| RawRing::guest(&ram, addr, SIZE)),
            frontend,
            ram,
            _signals: Vec::new(),
        };
        (0..2).for_each(|index| attacker.start(index));
        attacker
    }

    fn start(&mut self, index: u8) {
        let [desc, avail, used] = RawRing::areas(RINGS[usize::from(index)], SIZE);
        let signal = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let (kick, call) = (signal(), signal());
        let f = &mut self.frontend;
        f.set_vring_num(index.into(), SIZE.into()).unwrap();
        f.set_vring_base(index.into(), 0).unwrap();
        let at = VringAddresses {
            desc,
            avail,
            used,
            log: None,
        };
        f.set_vring_addr(index.into(), at).unwrap();
        f.set_vring_call(index, Some(call.as_fd())).unwrap();
        f.set_vring_kick(index, Some(kick.as_fd())).unwrap();
        f.set_vring_enable(index.into(), true).unwrap();
        self._signals.extend([kick, call]);
    }

    /// Offers one descriptor, flags and all.
    fn offer(&self, ring: usize, id: u16, desc: RawDesc) {
        self.rings[ring].set_desc(id, desc);
        self.rings[ring].offer(id);
    }

    /// Offers a good packet for the port to receive.
    fn good_packet(&self) {
        self.ram.write(BUFFERS, &[0; HEADER as usize + 60]);
        self.offer(UP, 7, RawDesc::new(BUFFERS, HEADER + 60));
    }

    /// Offers a good buffer for the port to transmit into.
    fn good_buffer(&self) {
        let buffer = RawDesc::new(BUFFERS + 0x1000, 2048).flags(WRITE);
        self.offer(DOWN, 7, buffer);
    }
}

/// A port under attack, and a pair that shares nothing with it but process and mempool.
struct Scene {
    pool: Arc<Mempool>,
    victim: Port,
    healthy: [Port; 2],
    socket: std::path::PathBuf,
    owner: Owner,
}

impl Scene {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("vring-hostile-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let pool = Mempool::new(&MempoolConfig {
            count: 2048,
            pages: Pages::Base,
            ..Default::default()
        })
        .unwrap();
        let socket = at("victim");
        let victim = open_port(&format!("net_vhost_victim,iface={socket}"), &pool);
        let vhost = open_port(&format!("net_vhost_good,iface={}", at("good")), &pool);
        let virtio = open_port(&format!("net_virtio_user_good,path={}", at("good")), &pool);
        let scene = Self {
            pool,
            victim,
            healthy: [vhost, virtio],
            socket: socket.into(),
            owner: Owner::new(),
        };
        until("the healthy pair", || {
            scene.healthy.iter().all(|p| p.link().up).then_some(())
        });
        scene
    }

    fn packets(&self, count: usize) -> Burst {
        let mut burst = Burst::new(32);
        let mut buffers = [0; 32];
        assert_eq!(self.pool.alloc_bulk(&mut buffers[..count]), count);
        for &addr in &buffers[..count] {
            assert!(burst.push(addr, 60, 0));
        }
        burst
    }

    /// Receives what there is; how many packets.
    fn receive(&self, port: &Port) -> usize {
        let mut burst = Burst::new(32);
        let got = port.rx_queues()[0].burst(self.owner, &mut burst).unwrap();
        self.pool.free_burst(&mut burst);
        got
    }

    /// Tries to send a packet; whether it went.
    fn send(&self, port: &Port) -> bool {
        let mut burst = self.packets(1);
        let sent = port.tx_queues()[0].burst(self.owner, &mut burst).unwrap();
        self.pool.free_burst(&mut burst);
        sent == 1
    }

    /// The healthy pair passes packets in both directions.
    fn healthy_passes(&self) {
        for (from, to) in [(0, 1), (1, 0)] {
            until("a healthy packet", || {
                self.send(&self.healthy[from]).then_some(())
            });
            until("a healthy packet", || {
                (self.receive(&self.healthy[to]) > 0).then_some(())
            });
        }
    }

    /// The faults that were told since the last look: queue and kind.
    fn faults(&self) -> Vec<(String, RingFault)> {
        let events = self.victim.events().drain();
        let faults = events.into_iter().filter_map(|event| match event {
            PortEvent::Error(PortError::Fault { queue, fault }) => Some((queue, fault)),
            PortEvent::Error(other) => panic!("expected only faults, got {other}"),
            _ => None,
        });
        faults.collect()
    }

    /// Uses both queues of the victim a while; the faults that came of it.
    fn use_victim(&self) -> Vec<(String, RingFault)> {
        let mut faults = Vec::new();
        for _ in 0..20 {
            self.receive(&self.victim);
            self.send(&self.victim);
            faults.extend(self.faults());
        }
        faults
    }

    fn connect(&self) -> Attacker {
        let attacker = Attacker::connect(&self.socket);
        until("link up", || self.victim.link().up.then_some(()));
        assert!(self.faults().is_empty());
        attacker
    }

    /// The attacker goes; nothing of it stays.
    fn disconnect(&self, attacker: Attacker) {
        drop(attacker);
        until("link down", || (!self.victim.link().up).then_some(()));
        assert!(self.faults().is_empty(), "told once");
    }

    /// One attack on one ring: only its queue stops, and both work again for the next who connects.
    fn attack(&self, ring: usize, attack: impl FnOnce(&Attacker), is: impl Fn(RingFault) -> bool) {
        let attacker = self.connect();
        attack(&attacker);
        let faults = self.use_victim();
        let queue = ["net_vhost_victim tx queue 0", "net_vhost_victim rx queue 0"][ring];
        assert!(
            matches!(&faults[..], [(q, fault)] if q == queue && is(*fault)),
            "expected one fault of {queue}, got {faults:?}"
        );
        if ring == UP {
            attacker.good_buffer();
            assert!(self.send(&self.victim), "the transmit queue lives on");
        } else {
            attacker.good_packet();
            assert_eq!(self.receive(&self.victim), 1, "the receive queue lives on");
        }
        self.healthy_passes();
        self.disconnect(attacker);
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What a hostile driver writes into its transmit ring.
fn attack_rx(scene: &Scene) {
    use RingFault as F;
    let at = |addr, len| RawDesc::new(addr, len);
    // CVE-2018-1059, CVE-2020-10725, CVE-2016-7422.
    for desc in [
        at(END - 59, 60),
        at(REGIONS[0].0 + REGIONS[0].1 - 1, 60),
        at(0, 0),
        at(BUFFERS, u32::MAX),
    ] {
        scene.attack(
            UP,
            |a| a.offer(UP, 0, desc),
            |f| matches!(f, F::Address { .. }),
        );
    }
    // CVE-2020-10723.
    scene.attack(
        UP,
        |a| a.rings[UP].offer(SIZE),
        |f| matches!(f, F::DescIndex { .. }),
    );
    scene.attack(
        UP,
        |a| a.rings[UP].set_avail_idx(0x8000),
        |f| matches!(f, F::Index { .. }),
    );
    // A circle; a table in a table; a packet to be written.
    scene.attack(
        UP,
        |a| a.offer(UP, 0, at(BUFFERS, 4).next(0)),
        |f| matches!(f, F::ChainTooLong { .. }),
    );
    let nested = |a: &Attacker| {
        a.ram
            .write(BUFFERS, &at(BUFFERS, 16).flags(INDIRECT).bytes());
        a.offer(UP, 0, at(BUFFERS, 16).flags(INDIRECT));
    };
    scene.attack(UP, nested, |f| matches!(f, F::Indirect { .. }));
    scene.attack(
        UP,
        |a| a.offer(UP, 0, at(BUFFERS, 80).flags(WRITE)),
        |f| matches!(f, F::Direction { .. }),
    );
}

/// What a hostile driver writes into its receive ring.
fn attack_tx(scene: &Scene) {
    use RingFault as F;
    let at = |addr, len| RawDesc::new(addr, len).flags(WRITE);
    scene.attack(
        DOWN,
        |a| a.offer(DOWN, 0, at(END - 10, 2048)),
        |f| matches!(f, F::Address { .. }),
    );
    scene.attack(
        DOWN,
        |a| a.offer(DOWN, 0, at(BUFFERS, 11)),
        |f| matches!(f, F::ShortBuffer { .. }),
    );
    scene.attack(
        DOWN,
        |a| a.offer(DOWN, 0, at(BUFFERS, 2048).flags(0)),
        |f| matches!(f, F::Direction { .. }),
    );
    scene.attack(
        DOWN,
        |a| a.offer(DOWN, 0, at(BUFFERS, 1).next(0)),
        |f| matches!(f, F::ChainTooLong { .. }),
    );
    scene.attack(
        DOWN,
        |a| a.rings[DOWN].set_avail_idx(0xffff),
        |f| matches!(f, F::Index { .. }),
    );
}

/// The peer takes its memory away: both queues say so, once each.
fn truncate(scene: &Scene) {
    let attacker = scene.connect();
    attacker.good_packet();
    attacker.ram.truncate();
    let mut faults = scene.use_victim();
    faults.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        faults,
        [
            (
                "net_vhost_victim rx queue 0".to_owned(),
                RingFault::MemoryGone
            ),
            (
                "net_vhost_victim tx queue 0".to_owned(),
                RingFault::MemoryGone
            ),
        ]
    );
    scene.healthy_passes();
    scene.disconnect(attacker);
}

/// Random words in both rings while bursts run: faults or not, the process lives and each queue faults at most once.
fn scribble(scene: &Scene) {
    for seed in 1..=20u64 {
        let attacker = scene.connect();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut faults = Vec::new();
        for _ in 0..100 {
            let ring = RINGS[usize::from(random() % 2 == 0)];
            let at = ring + random() % (RawRing::bytes(SIZE) / 2) * 2;
            attacker.ram.write(at, &random().to_le_bytes()[..2]);
            scene.receive(&scene.victim);
            scene.send(&scene.victim);
            faults.extend(scene.faults());
        }
        assert!(faults.len() <= 2, "{faults:?}");
        scene.healthy_passes();
        scene.disconnect(attacker);
    }
}

/// All attacks one after the other, on the same port: descriptors, buffers and packets of others are as before.
#[test]
fn attacks_leave_nothing_behind() {
    let scene = Scene::new();
    scene.healthy_passes();
    let before = open_files();
    // The link goes down before the port's thread has closed all that the peer gave it.
    let all_closed = || {
        until("descriptors are as before", || {
            (open_files() == before).then_some(())
        });
    };
    let attacker = scene.connect();
    scene.disconnect(attacker);
    all_closed();
    attack_rx(&scene);
    attack_tx(&scene);
    truncate(&scene);
    scribble(&scene);
    scene.healthy_passes();
    all_closed();
    scene.victim.close();
    scene.healthy.iter().for_each(Port::close);
    assert_eq!(scene.pool.free_count(), 2048, "buffers are missing");
}
