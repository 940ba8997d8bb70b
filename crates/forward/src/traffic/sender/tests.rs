//! When packets leave, and in which order.

use super::*;
use vring_mem::Mempool;

use crate::traffic::{Protocol, Rate, Size, Vary};

fn sender_on(options: TrafficOptions, device: &str) -> (vring_port::Port, Sender) {
    use std::net::IpAddr;
    let pool = Mempool::new(&vring_mem::MempoolConfig {
        count: 4096,
        pages: vring_mem::Pages::Base,
        ..Default::default()
    });
    let config = vring_port::PortConfig {
        pool: pool.unwrap(),
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        offloads: vring_port::Offloads::NONE,
    };
    let port = vring_port::open(&vring_port::Device::parse(device).unwrap(), &config).unwrap();
    let spec = FrameSpec {
        src_mac: [2; 6],
        dst_mac: [4; 6],
        vlan: None,
        src: IpAddr::from([198, 18, 0, 1]),
        dst: IpAddr::from([198, 18, 0, 2]),
        protocol: Protocol::Udp,
        src_port: 9,
        dst_port: 9,
        vary: Vary::SrcPort,
    };
    let sender = Sender::new(&options, &spec, port.tx_queues()[0].clone(), 0).unwrap();
    (port, sender)
}

#[test]
fn packets_leave_when_they_are_due() {
    let size = Size {
        bytes: 101,
        weight: 1,
    };
    // 125 bytes on the wire: at 1 Gbit/s a packet is due each microsecond.
    for rate in [Rate::Packets(1e6), Rate::Bits(1e9)] {
        let options = TrafficOptions {
            sizes: vec![size],
            rate: Some(rate),
            limit: Some(150),
            ..Default::default()
        };
        let (_port, mut sender) = sender_on(
            options,
            &format!("net_null_due{}", u8::from(rate == Rate::Bits(1e9))),
        );
        let owner = Owner::new();
        let mut at = |now| sender.turn(owner, now).unwrap();
        assert_eq!([at(0), at(1), at(999), at(1001), at(1002)], [1, 0, 0, 1, 0]);
        assert_eq!([at(10_500), at(10_501)], [9, 0]);
        // A burst at most at a time, and what was missed within ten milliseconds is caught up with.
        assert_eq!([at(100_500), at(100_501), at(100_502)], [32, 32, 26]);
        assert_eq!([at(1_000_000), at(1_000_001), at(1_000_002)], [32, 17, 0]);
        assert!(sender.is_done(1_000_003));
        assert_eq!(
            (sender.sent.packets, sender.sent.bytes, sender.sent.late),
            (150, 150 * 101, 0)
        );
    }
}

#[test]
fn what_could_not_be_sent_in_time_is_late_and_not_sent_in_one_go() {
    let rate = Some(Rate::Packets(1e6));
    let (_port, mut sender) = sender_on(
        TrafficOptions {
            rate,
            ..Default::default()
        },
        "net_null_late",
    );
    let owner = Owner::new();
    assert_eq!(
        [5, 20_000_005].map(|now| sender.turn(owner, now).unwrap()),
        [1, 32]
    );
    assert_eq!(sender.sent.late, 9_999);
    let rest: usize = (0..400)
        .map(|_| sender.turn(owner, 20_000_005).unwrap())
        .sum();
    assert_eq!(rest + 33, 10_002);

    let limited = TrafficOptions {
        rate,
        limit: Some(1),
        ..Default::default()
    };
    let (_port, mut sender) = sender_on(limited, "net_null_ended");
    assert_eq!(
        [0, 20_000_000].map(|now| sender.turn(owner, now).unwrap()),
        [1, 0]
    );
    assert_eq!(sender.sent.late, 0, "nothing is due after the last packet");
}

#[test]
fn a_full_queue_keeps_what_it_did_not_take_for_later_in_order() {
    let (port, mut sender) = sender_on(
        TrafficOptions {
            limit: Some(100),
            ..Default::default()
        },
        "net_ring_full,size=64",
    );
    let (owner, mut burst) = (Owner::new(), Burst::new(64));
    let mut moved = 0;
    for _ in 0..10 {
        sender.turn(owner, 0).unwrap();
        sender.turn(owner, 0).unwrap();
        sender.turn(owner, 0).unwrap();
        moved += port.rx_queues()[0].burst(owner, &mut burst).unwrap();
        port.rx_queues()[0].pool().free_burst(&mut burst);
    }
    assert_eq!(
        (moved, sender.sent.packets, sender.is_done(0)),
        (100, 100, true)
    );
}

/// A classic capture with nanoseconds: packets of 60 bytes at these times.
fn recording(name: &str, times: &[u32]) -> Arc<vring_port::Recording> {
    let mut bytes: Vec<u8> = [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 65535, 1]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    for &time in times {
        bytes.extend([7, time, 60, 60].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend([0; 60]);
    }
    let path = std::env::temp_dir().join(format!("vring-{name}-{}.pcap", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let loaded = vring_port::Recording::load(path.to_str().unwrap());
    std::fs::remove_file(&path).unwrap();
    Arc::new(loaded.unwrap())
}

#[test]
fn a_recording_is_played_at_its_own_pace_and_again() {
    let options = |speed| TrafficOptions {
        recording: Some(recording("pace", &[100, 200, 200, 400])),
        rate: Some(Rate::Recorded(speed)),
        limit: Some(6),
        ..Default::default()
    };
    let owner = Owner::new();
    let (_port, mut sender) = sender_on(options(1.0), "net_null_own");
    let mut at = |now| sender.turn(owner, now).unwrap();
    // 100 nanoseconds lie between two of them in the mean: so many after the last it begins again.
    assert_eq!(
        [
            at(0),
            at(99),
            at(100),
            at(299),
            at(300),
            at(399),
            at(400),
            at(500),
            at(900)
        ],
        [1, 0, 2, 0, 1, 0, 1, 1, 0]
    );
    assert!(sender.is_done(901));

    let (_port, mut sender) = sender_on(options(2.0), "net_null_own2");
    let mut at = |now| sender.turn(owner, now).unwrap();
    assert_eq!([at(0), at(49), at(50), at(1000)], [1, 0, 2, 3]);
}

#[test]
fn a_flow_was_sent_its_share_of_the_packets() {
    let sent = Sent {
        packets: 11,
        first_flow: 100,
        flows: 4,
        ..Sent::default()
    };
    assert_eq!(
        [99, 100, 101, 102, 103, 104].map(|flow| sent.of_flow(flow)),
        [0, 3, 3, 3, 2, 0]
    );
}
