//! The engines over rings in memory: what testpmd's modes of the same names do.

use std::sync::Arc;

use vring_forward::{Engine, EngineOptions, Lcore, PacketTemplate, Stream, StreamStats};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, open};

fn pool() -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count: 2048,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap()
}

fn port(pool: &Arc<Mempool>, device: &str) -> Port {
    let config = PortConfig {
        pool: pool.clone(),
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        offloads: Offloads::NONE,
    };
    open(&Device::parse(device).unwrap(), &config).unwrap()
}

fn stream(rx: &Port, tx: &Port) -> Stream {
    Stream {
        rx: Some(rx.rx_queues()[0].clone()),
        tx: Some(tx.tx_queues()[0].clone()),
        src: tx.mac(),
        dst: [2, 0, 0, 0, 0, 0],
        ..Stream::default()
    }
}

fn packets(segments: &[u32]) -> PacketTemplate {
    PacketTemplate {
        segments: segments.to_vec(),
        ..PacketTemplate::default()
    }
}

fn run(engine: Engine, streams: Vec<Stream>, options: &EngineOptions) -> Vec<StreamStats> {
    let lcore = Lcore::new("test", None).unwrap();
    lcore.start(engine, streams, options).unwrap();
    lcore.wait();
    assert!(!lcore.is_running());
    lcore.stats()
}

fn limited(limit: u64) -> EngineOptions {
    EngineOptions {
        limit: Some(limit),
        ..Default::default()
    }
}

/// txonly sends exactly as many packets as it was told to, with right headers; rxonly counts them and gives every buffer back.
#[test]
fn txonly_then_rxonly() {
    let pool = pool();
    let ring = port(&pool, "net_ring_tx,size=1024");
    let stats = run(Engine::TxOnly, vec![stream(&ring, &ring)], &limited(1000));
    assert_eq!(
        stats,
        [StreamStats {
            rx: 0,
            tx: 1000,
            dropped: 0,
            ..Default::default()
        }]
    );

    let mut burst = Burst::new(1);
    let owner = Owner::new();
    assert_eq!(ring.rx_queues()[0].burst(owner, &mut burst).unwrap(), 1);
    let (addr, len, _) = burst.packets();
    // SAFETY: a packet of 64 bytes that is ours.
    let bytes = unsafe { std::slice::from_raw_parts(pool.ptr(addr[0]), len[0] as usize) };
    assert_eq!(
        (bytes.len(), &bytes[..6], &bytes[6..12]),
        (64, &[2, 0, 0, 0, 0, 0][..], &ring.mac()[..])
    );
    assert_eq!(&bytes[12..24], [8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17]);
    let sum: u32 = bytes[14..34]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    assert_eq!(
        (sum & 0xffff) + (sum >> 16),
        0xffff,
        "the IPv4 checksum is wrong"
    );
    assert_eq!(
        &bytes[26..42],
        [198, 18, 0, 1, 198, 18, 0, 2, 0, 9, 0, 9, 0, 30, 0, 0]
    );
    pool.free_burst(&mut burst);
    ring.rx_queues()[0].release(owner);

    let stats = run(Engine::RxOnly, vec![stream(&ring, &ring)], &limited(999));
    assert_eq!(
        stats,
        [StreamStats {
            rx: 999,
            tx: 0,
            dropped: 0,
            ..Default::default()
        }]
    );
    assert_eq!(pool.free_count(), 2048);
}

/// macswap swaps, io leaves alone; both send everything on.
#[test]
fn macswap_and_io() {
    let pool = pool();
    for (engine, swapped) in [(Engine::MacSwap, true), (Engine::Io, false)] {
        let a = port(&pool, "net_ring_a");
        let b = port(&pool, "net_ring_b");
        let mut burst = Burst::new(8);
        let owner = Owner::new();
        for i in 0..5u8 {
            let mut addr = [0; 1];
            assert_eq!(pool.alloc_bulk(&mut addr), 1);
            for at in 0..14u8 {
                // SAFETY: 14 bytes of a fresh buffer.
                unsafe { pool.ptr(addr[0]).add(at.into()).write(at + 40 * i) };
            }
            burst.push(addr[0], 14, 0);
        }
        assert_eq!(a.tx_queues()[0].burst(owner, &mut burst).unwrap(), 5);
        let stats = run(engine, vec![stream(&a, &b)], &limited(5));
        assert_eq!(
            stats,
            [StreamStats {
                rx: 5,
                tx: 5,
                dropped: 0,
                ..Default::default()
            }]
        );
        assert_eq!(b.rx_queues()[0].burst(owner, &mut burst).unwrap(), 5);
        let order: Vec<u8> = if swapped {
            (6..12).chain(0..6).chain(12..14).collect()
        } else {
            (0..14).collect()
        };
        for (i, &addr) in (0u8..).zip(burst.packets().0) {
            // SAFETY: a packet of 14 bytes that is ours.
            let bytes = unsafe { std::slice::from_raw_parts(pool.ptr(addr), 14) };
            assert_eq!(
                bytes,
                order.iter().map(|at| at + 40 * i).collect::<Vec<_>>()
            );
        }
        pool.free_burst(&mut burst);
        a.close();
        b.close();
    }
    assert_eq!(pool.free_count(), 2048);
}

/// What a full queue does not take is freed and counted, and the sum is right.
#[test]
fn full_queues_drop_by_name() {
    let pool = pool();
    let (from, to) = (
        port(&pool, "net_null_src"),
        port(&pool, "net_ring_dst,size=64"),
    );
    let stats = run(Engine::Io, vec![stream(&from, &to)], &limited(640));
    assert_eq!(
        stats,
        [StreamStats {
            rx: 640,
            tx: 64,
            dropped: 576,
            ..Default::default()
        }]
    );
    to.close();
    assert_eq!(to.rx_queues()[0].stats().drops.get("rx_unread"), Some(&64));
    assert_eq!(pool.free_count(), 2048);
}

/// `first_bursts` are sent on every stream before the engine begins.
#[test]
fn tx_first() {
    let pool = pool();
    let ring = port(&pool, "net_ring_first");
    let options = EngineOptions {
        limit: Some(64),
        first_bursts: 2,
        template: packets(&[64, 100]),
        ..Default::default()
    };
    let stats = run(Engine::RxOnly, vec![stream(&ring, &ring)], &options);
    assert_eq!(
        stats,
        [StreamStats {
            rx: 64,
            tx: 64,
            dropped: 0,
            ..Default::default()
        }]
    );
    assert_eq!(ring.tx_queues()[0].stats().bytes, 64 * 164);
    assert_eq!(pool.free_count(), 2048);
}

/// Wrong options, wrong streams and taken queues are named, and no queue stays claimed.
#[test]
fn refuses() {
    let pool = pool();
    let ring = port(&pool, "net_ring_bad");
    let lcore = Lcore::new("test", None).unwrap();
    let start = |engine, stream, options: &EngineOptions| {
        lcore
            .start(engine, vec![stream], options)
            .unwrap_err()
            .to_string()
    };
    let options = EngineOptions {
        burst: 0,
        ..Default::default()
    };
    assert_eq!(
        start(Engine::Io, stream(&ring, &ring), &options),
        "expected burst from 1 to 512, got 0"
    );
    let no_tx = Stream {
        tx: None,
        ..stream(&ring, &ring)
    };
    assert!(
        start(Engine::Io, no_tx, &EngineOptions::default())
            .contains("a stream with a transmit queue")
    );
    let options = EngineOptions {
        template: packets(&[20]),
        ..Default::default()
    };
    assert!(
        start(Engine::TxOnly, stream(&ring, &ring), &options).contains("from 42 to 2048, got 20")
    );
    let owner = Owner::new();
    ring.tx_queues()[0].claim(owner).unwrap();
    assert!(
        start(Engine::Io, stream(&ring, &ring), &EngineOptions::default())
            .contains("in use by another thread")
    );
    ring.rx_queues()[0].claim(owner).unwrap();
    assert!(Lcore::new("test", Some(100_000)).is_err());
}
