//! What a driver does not do is done in software, the same for each driver, and counted.

use std::sync::Arc;

use vring_mem::burst::{Packet, flags};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_net::soft::{Checksum, HashTypes, RssConfig, RxConfig};
use vring_port::{AppliedBy, Device, Offloads, Owner, Port, PortConfig, PortError, open};

const OTHER: [u8; 6] = [0x02, 9, 9, 9, 9, 9];

fn pool() -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count: 512,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap()
}

fn opened(pool: &Arc<Mempool>, device: &str) -> Port {
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

/// UDP over IPv4 with `payload` bytes, whose checksum holds the sum of the pseudo header.
fn udp(to: [u8; 6], payload: u16) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
    frame.extend((28 + payload).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0, 7, 0, 9]);
    frame.extend((8 + payload).to_be_bytes());
    let words = [0x0a00, 1, 0x0a00, 2, 17, 8 + payload];
    let sum = words.iter().map(|&word| u32::from(word)).sum::<u32>();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame.extend(folded.to_be_bytes());
    frame.resize(frame.len() + usize::from(payload), 0xab);
    frame
}

/// Sends packets with metadata; how many were taken.
fn send(port: &Port, who: Owner, packets: &[(Vec<u8>, Packet)]) -> usize {
    let mut burst = Burst::new(32);
    for (at, (bytes, packet)) in packets.iter().enumerate() {
        let mut addr = [0];
        assert_eq!(port.pool().alloc_bulk(&mut addr), 1);
        // SAFETY: a fresh buffer has room for the bytes, and is ours.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), port.pool().ptr(addr[0]), bytes.len());
        }
        let len = u32::try_from(bytes.len()).unwrap();
        assert!(burst.push(addr[0], len, packet.flags));
        let packet = Packet {
            addr: addr[0],
            len,
            ..*packet
        };
        burst.set_packet(at, &packet);
    }
    let sent = port.tx_queues()[0].burst(who, &mut burst).unwrap();
    port.pool().free_burst(&mut burst);
    sent
}

fn plain(bytes: Vec<u8>) -> (Vec<u8>, Packet) {
    (bytes, Packet::default())
}

fn receive(port: &Port, who: Owner) -> Vec<Packet> {
    let mut burst = Burst::new(32);
    let got = port.rx_queues()[0].burst(who, &mut burst).unwrap();
    assert_eq!(got, burst.len());
    let packets = (0..got).map(|at| burst.packet(at)).collect();
    port.pool().free_burst(&mut burst);
    packets
}

/// Packets to others are dropped under a name, and are no packets of the port's: sent equals received plus the drops.
#[test]
fn packets_to_others_are_filtered() {
    let pool = pool();
    let port = opened(&pool, "net_ring_filter");
    let who = Owner::new();
    let frames =
        || [[0xff; 6], OTHER, port.mac(), [1, 0, 0x5e, 0, 0, 1]].map(|to| plain(udp(to, 20)));
    assert_eq!(send(&port, who, &frames()), 4);
    assert_eq!(receive(&port, who).len(), 4);
    port.set_rx_mode(RxConfig {
        promiscuous: false,
        ..port.rx_mode()
    })
    .unwrap();
    assert_eq!(port.applied()["addresses"], AppliedBy::Software);
    port.rx_queues()[0].reset_stats();
    assert_eq!(send(&port, who, &frames()), 4);
    assert_eq!(receive(&port, who).len(), 2);
    let stats = port.rx_queues()[0].stats();
    assert_eq!((stats.packets, stats.bytes), (2, 2 * 62));
    assert_eq!(stats.drops["rx_filtered"], 2);
    port.set_rx_mode(RxConfig {
        macs: vec![OTHER],
        all_multicast: true,
        ..port.rx_mode()
    })
    .unwrap();
    assert_eq!(send(&port, who, &frames()), 4);
    assert_eq!(receive(&port, who).len(), 4);
    port.set_mac(OTHER).unwrap();
    assert_eq!(port.rx_mode().macs, Vec::<[u8; 6]>::new());
    port.close();
    assert_eq!(pool.free_count(), 512);
}

/// A packet with half a checksum is whole when it is received, unless the application knows about them.
#[test]
fn partial_checksums_are_completed_on_receive() {
    let pool = pool();
    let port = opened(&pool, "net_ring_csum");
    let who = Owner::new();
    let partial = Packet {
        flags: flags::CSUM_PARTIAL,
        csum: 34 | 6 << 16,
        ..Packet::default()
    };
    assert_eq!(send(&port, who, &[(udp(OTHER, 8), partial)]), 1);
    assert_eq!(receive(&port, who)[0].flags, flags::CSUM_GOOD);
    port.set_rx_mode(RxConfig {
        checksum: Checksum::Off,
        ..port.rx_mode()
    })
    .unwrap();
    assert_eq!(send(&port, who, &[(udp(OTHER, 8), partial)]), 1);
    assert_eq!(receive(&port, who)[0].flags, flags::CSUM_PARTIAL);
}

/// The hash comes with the packet; a table is refused where nobody spreads packets by it.
#[test]
fn hashes_are_computed_and_tables_not_pretended() {
    let pool = pool();
    let port = opened(&pool, "net_ring_hash");
    let who = Owner::new();
    let mut rss = RssConfig::even(1);
    let with = |rss: &RssConfig| RxConfig {
        hash: Some(rss.clone()),
        ..port.rx_mode()
    };
    port.set_rx_mode(with(&rss)).unwrap();
    assert_eq!(send(&port, who, &[plain(udp(OTHER, 8))]), 1);
    let got = receive(&port, who)[0];
    assert_eq!(got.flags & flags::HASH, flags::HASH);
    assert_eq!(got.tag >> 16, 3, "UDP over IPv4");
    assert!(!port.steers());
    rss.table[5] = 1;
    let error = port.set_rx_mode(with(&rss)).unwrap_err();
    assert!(matches!(error, PortError::NotSupported { .. }), "{error}");
    rss.table[5] = 0;
    rss.types = HashTypes::IPV6_EX;
    assert!(port.set_rx_mode(with(&rss)).is_err());
    assert_eq!(port.rx_mode().hash, Some(RssConfig::even(1)));
}

/// A packet to be cut is cut before a driver that cannot: one is taken, its pieces are counted, and all buffers come back.
#[test]
fn packets_are_cut_before_a_driver_that_cannot() {
    let pool = pool();
    let path = std::env::temp_dir().join(format!("vring-cut-{}.pcap", std::process::id()));
    let port = opened(
        &pool,
        &format!("net_pcap_cut,tx_pcap={}", path.to_str().unwrap()),
    );
    let who = Owner::new();
    let large = Packet {
        flags: flags::CSUM_PARTIAL | flags::GSO_UDP_L4,
        csum: 34 | 6 << 16,
        gso: 400 | 42 << 16,
        ..Packet::default()
    };
    let sent = send(
        &port,
        who,
        &[plain(udp(OTHER, 8)), (udp(OTHER, 1000), large)],
    );
    assert_eq!(sent, 2);
    assert_eq!(port.tx_queues()[0].stats().packets, 4);
    port.close();
    assert_eq!(pool.free_count(), 512);
    let bytes = std::fs::metadata(&path).unwrap().len();
    std::fs::remove_file(&path).unwrap();
    let packets = [50, 442, 442, 242];
    assert_eq!(bytes, 24 + packets.iter().map(|len| 16 + len).sum::<u64>());
}

/// Addresses that cannot be used are refused, and nothing changes.
#[test]
fn addresses_are_checked() {
    let pool = pool();
    let port = opened(&pool, "net_ring_mac");
    let before = port.rx_mode();
    for bad in [[0; 6], [1, 2, 3, 4, 5, 6], [0xff; 6]] {
        assert!(matches!(port.set_mac(bad), Err(PortError::Address { .. })));
        assert!(
            port.set_rx_mode(RxConfig {
                macs: vec![bad],
                ..before.clone()
            })
            .is_err()
        );
    }
    let many = |count: u8| RxConfig {
        macs: (0..count).map(|n| [2, 0, 0, 0, 0, n]).collect(),
        ..before.clone()
    };
    port.set_rx_mode(many(63)).unwrap();
    assert!(port.set_rx_mode(many(64)).is_err());
    assert_eq!(port.rx_mode(), many(63));
}
