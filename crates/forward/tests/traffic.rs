//! The traffic generator over rings in memory, with `etherparse` as the judge of its packets, and a middleman who loses, doubles, swaps and
//! damages them on purpose.

use std::net::IpAddr;
use std::sync::Arc;

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use vring_forward::traffic::{
    FrameSpec, Protocol, Rate, Received, Sent, Size, TrafficOptions, Vary,
};
use vring_forward::{ForwardError, Lcore, Stream, Traffic};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, Recording, RxQueue, open};

fn pool() -> Arc<Mempool> {
    let config = MempoolConfig {
        count: 4096,
        pages: Pages::Base,
        ..Default::default()
    };
    Mempool::new(&config).unwrap()
}

fn port(pool: &Arc<Mempool>, device: &str) -> Port {
    let config = PortConfig {
        pool: pool.clone(),
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 9000,
        offloads: Offloads::NONE,
    };
    open(&Device::parse(device).unwrap(), &config).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn spec() -> FrameSpec {
    FrameSpec {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: [2, 0, 0, 0, 0, 2],
        vlan: None,
        src: ip("198.18.0.1"),
        dst: ip("198.18.0.2"),
        protocol: Protocol::Udp,
        src_port: 1024,
        dst_port: 9,
        vary: Vary::SrcPort,
    }
}

fn sizes(list: &[(usize, usize)]) -> Vec<Size> {
    list.iter()
        .map(|&(bytes, weight)| Size { bytes, weight })
        .collect()
}

fn sends(port: &Port) -> Stream {
    Stream {
        tx: Some(port.tx_queues()[0].clone()),
        ..Default::default()
    }
}

fn checks(port: &Port) -> Stream {
    Stream {
        rx: Some(port.rx_queues()[0].clone()),
        ..Default::default()
    }
}

/// Sends all packets of a run into a port.
fn send(traffic: &Arc<Traffic>, port: &Port, spec: FrameSpec) -> Sent {
    let lcore = Lcore::new("send", None).unwrap();
    lcore
        .start_traffic(traffic, vec![(sends(port), Some(spec))])
        .unwrap();
    lcore.wait();
    *traffic.sent().last().unwrap()
}

/// Looks at all packets that are in a port.
fn check(traffic: &Arc<Traffic>, port: &Port, packets: u64) -> Received {
    let lcore = Lcore::new("check", None).unwrap();
    lcore
        .start_traffic(traffic, vec![(checks(port), None)])
        .unwrap();
    while lcore.stats()[0].rx < packets {
        std::thread::yield_now();
    }
    lcore.stop();
    traffic.received().unwrap()
}

fn bytes_of(pool: &Mempool, addr: u32, len: u32, flags: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for segment in pool.segments(addr, len, flags).unwrap() {
        // SAFETY: a segment of a packet of ours, which nobody writes to.
        bytes.extend(unsafe {
            std::slice::from_raw_parts(pool.ptr(segment.addr), segment.len as usize)
        });
    }
    bytes
}

fn drain(queue: &RxQueue, pool: &Arc<Mempool>) -> Vec<Vec<u8>> {
    let (mut burst, owner, mut all) = (Burst::new(512), Owner::new(), Vec::new());
    while queue.burst(owner, &mut burst).unwrap() > 0 {
        let (addrs, lens, flags) = burst.packets();
        all.extend((0..addrs.len()).map(|i| bytes_of(pool, addrs[i], lens[i], flags[i])));
        pool.free_burst(&mut burst);
    }
    queue.release(owner);
    all
}

/// The ports of a packet, or an echo's identifier and number; all checksums are right.
fn judge(bytes: &[u8]) -> (u16, u16) {
    let headers = PacketHeaders::from_ethernet_slice(bytes).unwrap();
    let payload = headers.payload.slice();
    match (
        headers.net.as_ref().unwrap(),
        headers.transport.as_ref().unwrap(),
    ) {
        (NetHeaders::Ipv4(ip, _), transport) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            match transport {
                TransportHeader::Udp(udp) => {
                    let right = udp.calc_checksum_ipv4(ip, payload).unwrap();
                    assert_eq!(udp.checksum, right);
                    (udp.source_port, udp.destination_port)
                }
                TransportHeader::Tcp(tcp) => {
                    assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, payload).unwrap());
                    (tcp.source_port, tcp.destination_port)
                }
                TransportHeader::Icmpv4(icmp) => {
                    assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload));
                    let etherparse::Icmpv4Type::EchoRequest(echo) = icmp.icmp_type else {
                        panic!("{icmp:?}")
                    };
                    (echo.id, echo.seq)
                }
                other => panic!("{other:?}"),
            }
        }
        (NetHeaders::Ipv6(ip, _), transport) => match transport {
            TransportHeader::Udp(udp) => {
                assert_eq!(udp.checksum, udp.calc_checksum_ipv6(ip, payload).unwrap());
                (udp.source_port, udp.destination_port)
            }
            TransportHeader::Tcp(tcp) => {
                assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(ip, payload).unwrap());
                (tcp.source_port, tcp.destination_port)
            }
            TransportHeader::Icmpv6(icmp) => {
                let right = icmp
                    .icmp_type
                    .calc_checksum(ip.source, ip.destination, payload)
                    .unwrap();
                assert_eq!(icmp.checksum, right);
                let etherparse::Icmpv6Type::EchoRequest(echo) = icmp.icmp_type else {
                    panic!("{icmp:?}")
                };
                (echo.id, echo.seq)
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Every protocol over both versions of IP, with a tag and without, at odd and even lengths, whatever makes the flows differ.
#[test]
fn packets_are_what_was_asked_for_with_right_checksums() {
    let pool = pool();
    let ring = port(&pool, "net_ring_frames,size=1024");
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Icmp] {
        for (src, dst) in [
            ("198.18.0.255", "198.18.1.255"),
            ("2001:db8::1", "2001:db8::ffff"),
        ] {
            for vary in [Vary::SrcPort, Vary::DstPort, Vary::SrcIp, Vary::DstIp] {
                for vlan in [None, Some(4095)] {
                    let spec = FrameSpec {
                        src: ip(src),
                        dst: ip(dst),
                        protocol,
                        vary,
                        vlan,
                        ..spec()
                    };
                    let options = TrafficOptions {
                        sizes: sizes(&[(100, 1), (127, 1), (128, 1), (1515, 1)]),
                        flows: 3,
                        limit: Some(12),
                        ..Default::default()
                    };
                    send(&Traffic::new(options).unwrap(), &ring, spec);
                    let packets = drain(&ring.rx_queues()[0], &pool);
                    assert_eq!(packets.len(), 12);
                    for (i, packet) in packets.iter().enumerate() {
                        assert_eq!(packet.len(), [100, 127, 128, 1515][i % 4]);
                        assert_eq!(packet[12..14] == [0x81, 0], vlan.is_some());
                        let flow = u16::try_from(i % 3).unwrap();
                        let expected = match vary {
                            Vary::SrcPort => (1024 + flow, 9),
                            Vary::DstPort => (1024, 9 + flow),
                            Vary::SrcIp | Vary::DstIp => (1024, 9),
                        };
                        assert_eq!(
                            judge(packet),
                            expected,
                            "{protocol:?} {src} {vary:?} {vlan:?}"
                        );
                    }
                }
            }
        }
    }
    assert_eq!(pool.free_count(), 4096);
}

/// All sizes come back whole, those of several buffers too, and every one is known by name and age.
#[test]
fn what_comes_back_whole_is_without_fault() {
    let pool = pool();
    let ring = port(&pool, "net_ring_whole,size=2048");
    let list: Vec<_> = [60, 64, 127, 128, 129, 1514, 2048, 2049, 9000, 9728]
        .map(|bytes| (bytes, 1))
        .into();
    let options = TrafficOptions {
        sizes: sizes(&list),
        flows: 7,
        limit: Some(500),
        ..Default::default()
    };
    let traffic = Traffic::new(options).unwrap();
    let sent = send(&traffic, &ring, spec());
    let received = check(&traffic, &ring, 500);
    assert_eq!(
        (sent.packets, sent.bytes),
        (
            500,
            50 * list.iter().map(|&(bytes, _)| bytes as u64).sum::<u64>()
        )
    );
    assert_eq!(
        (received.packets, received.bytes, received.unique),
        (500, sent.bytes, 500)
    );
    let trouble = [
        received.reordered,
        received.duplicated,
        received.stale,
        received.damaged,
        received.foreign,
    ];
    assert_eq!(trouble, [0; 5]);
    assert_eq!(received.latency.len(), 500);
    assert_eq!(
        received.missing((0..7).map(|flow| (flow, sent.of_flow(flow)))),
        []
    );
    assert_eq!(pool.free_count(), 4096);
}

/// A middleman loses, doubles, swaps, cuts and changes packets: each is found, and named.
#[test]
fn every_lost_doubled_reordered_or_damaged_packet_is_named() {
    let pool = pool();
    let (near, far) = (
        port(&pool, "net_ring_near,size=1024"),
        port(&pool, "net_ring_far,size=1024"),
    );
    let options = TrafficOptions {
        sizes: sizes(&[(60, 1), (1514, 1)]),
        flows: 2,
        limit: Some(200),
        ..Default::default()
    };
    let traffic = Traffic::new(options).unwrap();
    let sent = send(&traffic, &near, spec());

    let mut packets = drain(&near.rx_queues()[0], &pool);
    let last_byte = packets[151].len() - 1;
    packets[151][last_byte] ^= 1; // flow 1, packet 75: its last byte
    packets[130].pop(); // flow 0, packet 65: cut
    packets.swap(100, 102); // flow 0: packet 51 before packet 50
    let doubled = packets[81].clone();
    packets.push(doubled); // flow 1, packet 40 again
    packets.push(vec![0xff; 60]); // somebody else's
    let lost = [20, 22, 24, 199]; // flow 0: 10, 11, 12; flow 1: 99
    let (mut burst, owner) = (Burst::new(1), Owner::new());
    for (_, bytes) in packets
        .iter()
        .enumerate()
        .filter(|(i, _)| !lost.contains(i))
    {
        let mut buffer = [0];
        assert_eq!(pool.alloc_bulk(&mut buffer), 1);
        // SAFETY: a fresh buffer of 2048 bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pool.ptr(buffer[0]), bytes.len()) };
        burst.push(buffer[0], u32::try_from(bytes.len()).unwrap(), 0);
        assert_eq!(far.tx_queues()[0].burst(owner, &mut burst).unwrap(), 1);
    }

    let received = check(&traffic, &far, 198);
    assert_eq!((received.packets, received.unique), (198, 194));
    assert_eq!(
        (received.reordered, &received.late[..]),
        (1, &[(0, 50)][..])
    );
    assert_eq!(
        (received.duplicated, &received.duplicates[..]),
        (1, &[(1, 40)][..])
    );
    assert_eq!(
        (received.damaged, received.foreign, received.stale),
        (2, 1, 0)
    );
    let missing = received.missing((0..2).map(|flow| (flow, sent.of_flow(flow))));
    assert_eq!(
        missing,
        [(0, 10, 13), (0, 65, 66), (1, 75, 76), (1, 99, 100)]
    );
    assert_eq!(pool.free_count(), 4096);
}

/// Lcores of one run do not use a flow's number twice, and a run has no more flows than a signature can tell.
#[test]
fn flows_of_all_senders_differ() {
    let pool = pool();
    let ring = port(&pool, "net_ring_flows,size=64");
    let options = TrafficOptions {
        flows: 30_000,
        limit: Some(1),
        ..Default::default()
    };
    let traffic = Traffic::new(options).unwrap();
    assert_eq!(
        [send(&traffic, &ring, spec()), send(&traffic, &ring, spec())].map(|sent| sent.first_flow),
        [0, 30_000]
    );
    let lcore = Lcore::new("third", None).unwrap();
    let refused = lcore
        .start_traffic(&traffic, vec![(sends(&ring), Some(spec()))])
        .unwrap_err();
    assert!(
        matches!(refused, ForwardError::Range { got: 90_000, .. }),
        "{refused}"
    );
    drain(&ring.rx_queues()[0], &pool);
}

/// What cannot be made is refused with the range, before anything is sent.
#[test]
fn what_cannot_be_sent_is_refused() {
    let pool = pool();
    let ring = port(&pool, "net_ring_refused,size=64");
    let refuse = |options: TrafficOptions, spec: FrameSpec| {
        let lcore = Lcore::new("refused", None).unwrap();
        let started = Traffic::new(options)
            .and_then(|run| lcore.start_traffic(&run, vec![(sends(&ring), Some(spec))]));
        started.unwrap_err().to_string()
    };
    let size = |bytes| TrafficOptions {
        sizes: sizes(&[(bytes, 1)]),
        ..Default::default()
    };
    let tcp = FrameSpec {
        protocol: Protocol::Tcp,
        ..spec()
    };
    assert_eq!(
        refuse(size(71), tcp),
        "expected bytes of a packet from 72 to 9746, got 71"
    );
    assert_eq!(
        refuse(size(59), spec()),
        "expected bytes of a packet from 60 to 9746, got 59"
    );
    let mixed = FrameSpec {
        dst: ip("::1"),
        ..spec()
    };
    assert_eq!(
        refuse(size(100), mixed),
        "expected two addresses of one version of IP, got 198.18.0.1 and ::1"
    );
    let vlan = FrameSpec {
        vlan: Some(4096),
        ..spec()
    };
    assert_eq!(
        refuse(size(100), vlan),
        "expected vlan from 0 to 4095, got 4096"
    );
    assert_eq!(
        refuse(
            TrafficOptions {
                sizes: vec![],
                ..Default::default()
            },
            spec()
        ),
        "expected the sum of the weights of sizes from 1 to 4096, got 0"
    );
}

/// A recording goes out byte for byte, as often as the limit says, at any rate; nobody takes its packets for generated ones.
#[test]
fn a_recording_is_sent_as_it_was_captured() {
    let pool = pool();
    let path = std::env::temp_dir().join(format!("vring-replay-{}.pcap", std::process::id()));
    let name = path.to_str().unwrap();
    let writer = port(&pool, &format!("net_pcap_out,tx_pcap={name}"));
    let options = TrafficOptions {
        sizes: sizes(&[(60, 1), (1514, 1), (5000, 1)]),
        limit: Some(3),
        ..Default::default()
    };
    send(&Traffic::new(options).unwrap(), &writer, spec());
    drop(writer);
    let recording = Arc::new(Recording::load(name).unwrap());
    std::fs::remove_file(&path).unwrap();
    assert_eq!((recording.len(), recording.longest()), (3, 5000));

    let ring = port(&pool, "net_ring_replay,size=1024");
    let options = TrafficOptions {
        recording: Some(recording.clone()),
        limit: Some(7),
        ..Default::default()
    };
    send(&Traffic::new(options.clone()).unwrap(), &ring, spec());
    let packets = drain(&ring.rx_queues()[0], &pool);
    assert_eq!(packets.len(), 7);
    for (i, packet) in packets.iter().enumerate() {
        assert_eq!(packet, recording.packet(i % 3), "packet {i}");
    }

    let no_recording = TrafficOptions {
        rate: Some(Rate::Recorded(1.0)),
        ..Default::default()
    };
    assert!(matches!(
        Traffic::new(no_recording),
        Err(ForwardError::Recording)
    ));
    assert_eq!(pool.free_count(), 4096);
}
