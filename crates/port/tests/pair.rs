//! A `net_virtio_user` port and a `net_vhost` port over a real socket and real shared memory: what goes in at one end comes out at the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, PortError, open};

fn pool(count: usize) -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap()
}

fn config(pool: &Arc<Mempool>, queues: u16, desc: u16) -> PortConfig {
    PortConfig {
        pool: pool.clone(),
        rx_queues: queues,
        tx_queues: queues,
        rx_desc: desc,
        tx_desc: desc,
        mtu: 1500,
        offloads: Offloads::NONE,
    }
}

fn socket(name: &str) -> String {
    let dir = std::env::temp_dir().join(format!("vring-pair-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(name).to_str().unwrap().to_owned()
}

fn until(what: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "timed out: {}", what());
        std::thread::yield_now();
    }
}

fn until_up(ports: &[&Port]) {
    until(
        || "link up".into(),
        || ports.iter().all(|port| port.link().up),
    );
}

/// A packet whose bytes follow from its number.
fn pattern(number: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(number) << 17 | len as u64 | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[5]
        })
        .collect()
}

/// Puts a packet of any length into the burst, over as many buffers as it takes.
fn put(pool: &Arc<Mempool>, burst: &mut Burst, data: &[u8]) -> bool {
    use vring_mem::burst::flags;
    use vring_mem::mempool::{NO_SEG, Segment};
    let room = pool.data_room() as usize;
    let chunks: Vec<&[u8]> = data.chunks(room).collect();
    let mut buffers = vec![0; chunks.len()];
    if burst.is_full() {
        return false;
    }
    let got = pool.alloc_bulk(&mut buffers);
    if got < buffers.len() {
        pool.free_bulk(&buffers[..got]);
        return false;
    }
    for (i, (&addr, chunk)) in buffers.iter().zip(&chunks).enumerate() {
        // SAFETY: a fresh buffer has room for the chunk.
        unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), pool.ptr(addr), chunk.len()) };
        if chunks.len() > 1 {
            let next = buffers.get(i + 1).copied().unwrap_or(NO_SEG);
            pool.link(
                Segment {
                    addr,
                    len: u32::try_from(chunk.len()).unwrap(),
                },
                next,
            );
        }
    }
    burst.push(
        buffers[0],
        u32::try_from(data.len()).unwrap(),
        if chunks.len() > 1 { flags::MULTI } else { 0 },
    )
}

fn bytes(pool: &Mempool, addr: u32, len: u32, flags: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for segment in pool.segments(addr, len, flags).unwrap() {
        // SAFETY: `segments` checked it.
        out.extend_from_slice(unsafe {
            std::slice::from_raw_parts(pool.ptr(segment.addr), segment.len as usize)
        });
    }
    out
}

/// Sends `count` packets of these lengths from one port to the other and compares every byte.
fn transfer(from: &Port, to: &Port, count: u32, lens: &[usize]) {
    let owner = Owner::new();
    let (tx, rx) = (&from.tx_queues()[0], &to.rx_queues()[0]);
    let (mut out, mut inn) = (Burst::new(32), Burst::new(32));
    let (mut sent, mut made, mut received) = (0u32, 0u32, 0u32);
    let len_of = |number: u32| lens[number as usize % lens.len()];
    let progress = std::cell::Cell::new((0, 0));
    let state = || {
        format!(
            "{count} packets from {}, sent and received {:?}, {} buffers free, tx {:?}, rx {:?}",
            from.name(),
            progress.get(),
            tx.pool().free_count(),
            tx.stats(),
            rx.stats()
        )
    };
    until(state, || {
        while made < count && put(tx.pool(), &mut out, &pattern(made, len_of(made))) {
            made += 1;
        }
        sent += u32::try_from(tx.burst(owner, &mut out).unwrap()).unwrap();
        rx.burst(owner, &mut inn).unwrap();
        let (addrs, lens, flags) = inn.packets();
        for i in 0..addrs.len() {
            let got = bytes(rx.pool(), addrs[i], lens[i], flags[i]);
            assert!(
                got == pattern(received, len_of(received)),
                "packet {received} of {} bytes differs",
                got.len()
            );
            received += 1;
        }
        rx.pool().free_burst(&mut inn);
        progress.set((sent, received));
        received == count
    });
    assert_eq!(sent, count);
    tx.reclaim(owner).unwrap();
    tx.release(owner);
    rx.release(owner);
}

struct Pair {
    pool: Arc<Mempool>,
    vhost: Port,
    virtio: Port,
}

fn pair(name: &str, vhost_args: &str, virtio_args: &str, desc: u16, vhost_listens: bool) -> Pair {
    let (pool, path) = (pool(4096 + 2 * usize::from(desc)), socket(name));
    let (client, server) = if vhost_listens { (0, 0) } else { (1, 1) };
    let vhost = Device::parse(&format!(
        "net_vhost_{name},iface={path},client={client}{vhost_args}"
    ))
    .unwrap();
    let virtio = Device::parse(&format!(
        "net_virtio_user_{name},path={path},server={server}{virtio_args}"
    ))
    .unwrap();
    let vhost = open(&vhost, &config(&pool, 1, 0)).unwrap();
    let virtio = open(&virtio, &config(&pool, 1, desc)).unwrap();
    until_up(&[&vhost, &virtio]);
    Pair {
        pool,
        vhost,
        virtio,
    }
}

impl Pair {
    fn check(self, count: u32, lens: &[usize]) {
        transfer(&self.virtio, &self.vhost, count, lens);
        transfer(&self.vhost, &self.virtio, count, lens);
        for port in [&self.virtio, &self.vhost] {
            for stats in [port.rx_queues()[0].stats(), port.tx_queues()[0].stats()] {
                assert_eq!(
                    (stats.packets, stats.drops.len()),
                    (count.into(), 0),
                    "{stats:?}"
                );
            }
        }
        self.virtio.close();
        self.vhost.close();
        assert_eq!(
            self.pool.free_count(),
            self.pool.count() as usize,
            "buffers are missing"
        );
    }
}

/// Every byte arrives in both directions, at both socket roles.
#[test]
fn both_roles() {
    pair("roles-a", "", "", 256, true).check(5_000, &[60, 64, 128, 1514]);
    pair("roles-b", "", "", 256, false).check(5_000, &[60, 64, 128, 1514]);
}

/// Packets of several segments: with and without indirect tables, with mergeable buffers.
#[test]
fn jumbo_frames() {
    pair("jumbo-a", "", "", 256, true).check(2_000, &[60, 9000, 2048, 2049, 4096, 1514, 65000]);
    pair("jumbo-b", ",indirect=0,event_idx=0", "", 256, true)
        .check(2_000, &[60, 9000, 2048, 2049, 4096, 1514]);
}

/// Without mergeable buffers a packet must fit one.
#[test]
fn not_mergeable() {
    pair("plain", ",mrg_rxbuf=0", "", 256, true).check(3_000, &[60, 1514, 2048]);
}

/// Behind an IOMMU the device asks for what it does not know, and loses nothing while it waits.
#[test]
fn behind_an_iommu() {
    for packed in ["", ",packed_vq=1"] {
        let virtio = format!(",iommu_platform=1{packed}");
        let pair = pair("iommu", ",iommu-support=1", &virtio, 64, true);
        let (sends, receives) = (
            pair.vhost.tx_queues()[0].clone(),
            pair.vhost.rx_queues()[0].clone(),
        );
        pair.check(3000, &[60, 1514, 9000]);
        let asked = sends.stats().iotlb_misses + receives.stats().iotlb_misses;
        assert!((1..100).contains(&asked), "{asked} pages of one region");
    }
    // Who does not offer it gets addresses as they are, and is not asked.
    pair("iommu_no", "", ",iommu_platform=1", 64, true).check(500, &[60]);
    pair("iommu_off", ",iommu-support=1", "", 64, true).check(500, &[60]);
}

/// Every size of ring, with indexes that go round their 16 bits.
#[test]
fn every_size() {
    for power in 1..=15u32 {
        let size = 1u16 << power;
        for args in ["", ",event_idx=0", ",indirect=0,mrg_rxbuf=0"] {
            let count = if power % 5 == 3 { 140_000 } else { 3_000 };
            eprintln!("size {size}{args}");
            pair(&format!("size{size}"), args, "", size, true).check(count, &[60]);
        }
    }
}

/// A receive queue that is stopped is disabled at the back end, which sends no more into it; started again, all goes on.
#[test]
fn a_stopped_receive_queue_is_disabled_at_the_back_end() {
    let pair = pair("disable", "", "", 256, true);
    pair.virtio.set_rx_queue(0, false).unwrap();
    until(|| "disabled".into(), || !pair.vhost.link().up);
    // Transmit rings stay enabled: what stands in them is not thrown away.
    transfer(&pair.virtio, &pair.vhost, 500, &[60, 1514]);
    pair.virtio.set_rx_queue(0, true).unwrap();
    until(|| "enabled".into(), || pair.vhost.link().up);
    transfer(&pair.vhost, &pair.virtio, 500, &[60, 1514]);
}

/// A script's nonsense is dropped under a name, and what is sound goes through.
#[test]
fn nonsense_in_a_burst_is_named() {
    let pair = pair("nonsense", "", "", 256, true);
    let owner = Owner::new();
    for (port, addr, len) in [
        (&pair.virtio, 5, 60),
        (&pair.vhost, u32::MAX, 60),
        (&pair.virtio, 128, 4000),
        (&pair.vhost, 128, 3),
    ] {
        let mut burst = Burst::new(4);
        burst.push(addr, len, 0);
        let before = pair.pool.free_count();
        if addr == 128 {
            // A buffer of ours, with a length that it cannot have.
            burst.set_len(0);
            let mut buffer = [0; 1];
            assert_eq!(pair.pool.alloc_bulk(&mut buffer), 1);
            burst.push(buffer[0], len, 0);
        }
        if addr == 5 {
            // Inside the first buffer's headroom: too little room for a header is no nonsense, so it is not tried here.
            burst.set_len(0);
            burst.push(u32::MAX - 1, len, 1);
        }
        assert_eq!(port.tx_queues()[0].burst(owner, &mut burst).unwrap(), 1);
        assert!(burst.is_empty());
        assert_eq!(pair.pool.free_count(), before);
    }
    for port in [&pair.virtio, &pair.vhost] {
        assert_eq!(
            port.tx_queues()[0].stats().drops.get("tx_bad_packet"),
            Some(&2)
        );
        port.tx_queues()[0].release(owner);
    }
    pair.check_after_drops();
}

impl Pair {
    fn check_after_drops(self) {
        transfer(&self.virtio, &self.vhost, 1000, &[60, 9000]);
        self.virtio.close();
        self.vhost.close();
        assert_eq!(self.pool.free_count(), self.pool.count() as usize);
    }
}

/// Either side leaves and comes back: the same port object carries on.
#[test]
fn comes_back() {
    let (pool, path) = (pool(4096), socket("back"));
    let vhost_device = Device::parse(&format!("net_vhost_back,iface={path}")).unwrap();
    let virtio_device = Device::parse(&format!("net_virtio_user_back,path={path}")).unwrap();
    let vhost = open(&vhost_device, &config(&pool, 1, 0)).unwrap();
    for _ in 0..3 {
        let virtio = open(&virtio_device, &config(&pool, 1, 64)).unwrap();
        until_up(&[&vhost, &virtio]);
        transfer(&virtio, &vhost, 500, &[60, 3000]);
        transfer(&vhost, &virtio, 500, &[60, 3000]);
        virtio.close();
        until(|| "link down".into(), || !vhost.link().up);
    }
    vhost.close();
    let virtio = open(&virtio_device, &config(&pool, 1, 64)).unwrap();
    for _ in 0..3 {
        let vhost = open(&vhost_device, &config(&pool, 1, 0)).unwrap();
        until_up(&[&vhost, &virtio]);
        transfer(&virtio, &vhost, 500, &[60, 3000]);
        transfer(&vhost, &virtio, 500, &[60, 3000]);
        vhost.close();
        until(|| "link down".into(), || !virtio.link().up);
    }
    virtio.close();
    assert_eq!(pool.free_count(), 4096);
}

/// Packets that a peer never took are counted when it goes away.
#[test]
fn unconfirmed_packets_are_counted() {
    let pair = pair("gone", "", "", 256, true);
    let owner = Owner::new();
    let mut burst = Burst::new(32);
    for i in 0..10 {
        assert!(put(&pair.pool, &mut burst, &pattern(i, 60)));
    }
    assert_eq!(
        pair.virtio.tx_queues()[0].burst(owner, &mut burst).unwrap(),
        10
    );
    for i in 0..7 {
        assert!(put(&pair.pool, &mut burst, &pattern(i, 60)));
    }
    assert_eq!(
        pair.vhost.tx_queues()[0].burst(owner, &mut burst).unwrap(),
        7
    );
    pair.vhost.close();
    until(|| "link down".into(), || !pair.virtio.link().up);
    pair.virtio.close();
    assert_eq!(
        pair.virtio.tx_queues()[0]
            .stats()
            .drops
            .get("tx_unconfirmed"),
        Some(&10)
    );
    assert_eq!(
        pair.virtio.rx_queues()[0].stats().drops.get("rx_unread"),
        Some(&7)
    );
    assert_eq!(pair.pool.free_count(), pair.pool.count() as usize);
}

/// A queue has one user at a time, a name one port, a closed port says so.
#[test]
fn ownership() {
    let pair = pair("own", "", "", 256, true);
    let (one, two) = (Owner::new(), Owner::new());
    let queue = &pair.virtio.rx_queues()[0];
    let mut burst = Burst::new(4);
    assert_eq!(queue.burst(one, &mut burst).unwrap(), 0);
    assert!(matches!(
        queue.burst(two, &mut burst),
        Err(PortError::QueueBusy { .. })
    ));
    queue.release(one);
    assert_eq!(queue.burst(two, &mut burst).unwrap(), 0);
    let again = Device::parse("net_virtio_user_own,path=/tmp/none").unwrap();
    assert!(matches!(
        open(&again, &config(&pair.pool, 1, 0)),
        Err(PortError::NameInUse { .. })
    ));
    pair.virtio.close();
    assert!(matches!(
        queue.burst(two, &mut burst),
        Err(PortError::Closed { .. })
    ));
}

/// Sizes that no split ring has are refused with a clear error.
#[test]
fn queue_sizes() {
    let pool = pool(64);
    let device = Device::parse(&format!(
        "net_virtio_user_qs,path={},queue_size=100",
        socket("qs")
    ))
    .unwrap();
    let error = open(&device, &config(&pool, 1, 0)).unwrap_err();
    assert_eq!(error.code(), "ERR_VRING_QUEUE_SIZE");
    assert!(
        error
            .to_string()
            .ends_with("expected a queue size that is a power of two from 2 to 32768, got 100")
    );
}

/// The control thread keeps no buffers for itself: with all that the rings do not hold, somebody else can send.
#[test]
fn control_threads_hoard_no_buffers() {
    let (pool, path) = (pool(512), socket("hoard"));
    let vhost = Device::parse(&format!("net_vhost_hoard,iface={path}")).unwrap();
    let virtio = Device::parse(&format!("net_virtio_user_hoard,path={path}")).unwrap();
    let vhost = open(&vhost, &config(&pool, 1, 0)).unwrap();
    let virtio = open(&virtio, &config(&pool, 1, 128)).unwrap();
    until_up(&[&vhost, &virtio]);
    let mut out = vec![0; 512];
    assert_eq!(pool.alloc_bulk(&mut out), 512 - 128);
    pool.free_bulk(&out[..512 - 128]);
    pool.flush_thread_cache();
    virtio.close();
    vhost.close();
    assert_eq!(pool.alloc_bulk(&mut out), 512);
    pool.free_bulk(&out);
}
