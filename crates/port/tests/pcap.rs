//! `net_pcap` ports on real files: what is in a capture comes out, and what goes in is in a capture that others read.

#[path = "pcap/damage.rs"]
mod damage;
#[path = "pcap/refused.rs"]
mod refused;
#[path = "pcap/rig.rs"]
mod rig;
#[path = "pcap/tools.rs"]
mod tools;
#[path = "pcap/unwritable.rs"]
mod unwritable;

use std::time::{SystemTime, UNIX_EPOCH};

use pcap_file::pcap::PcapHeader;
use pcap_file::{DataLink, Endianness, TsResolution};
use rig::{Dir, bytes, native, packets, pcap, pcap_with, pcapng, pool, port, put, read};
use rig::{receive, send, take, told, try_port};
use vring_mem::Burst;
use vring_port::Owner;

/// Lengths at every edge: of a header, of padding, of a buffer (2048), of several, of a packet.
const LENS: [usize; 12] = [14, 60, 61, 62, 63, 64, 1514, 2048, 2049, 9000, 65534, 65535];

fn every_format(packets: &[Vec<u8>]) -> Vec<(&'static str, Vec<u8>)> {
    use Endianness::{Big, Little};
    use TsResolution::{MicroSecond, NanoSecond};
    vec![
        ("little.pcap", pcap(Little, MicroSecond, packets)),
        ("big.pcap", pcap(Big, MicroSecond, packets)),
        ("little-ns.pcap", pcap(Little, NanoSecond, packets)),
        ("big-ns.pcap", pcap(Big, NanoSecond, packets)),
        (
            "little.pcapng",
            pcapng(Little, &[DataLink::ETHERNET], packets),
        ),
        ("big.pcapng", pcapng(Big, &[DataLink::ETHERNET], packets)),
    ]
}

/// Every format is read, both are written, byte for byte, over several segments where a buffer is too small; times are those of sending;
/// no buffer is lost.
#[test]
fn round_trips() {
    let (dir, pool, all) = (Dir::new(), pool(256), packets(&LENS));
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for (name, content) in every_format(&all) {
        let input = dir.file(name, &content);
        for output in ["out.pcap", "out.pcapng"] {
            let output = dir.path(output);
            let port = port(&pool, &[("rx_pcap", &input), ("tx_pcap", &output)]);
            assert!(port.link().up);
            let got = receive(&port);
            assert!(got == all, "{name}");
            send(&port, &got);
            assert_eq!(port.info().details["rx eof"], "true");
            assert_eq!(port.info().details["tx_pcap"], output);
            assert_eq!(told(&port), [""; 0]);
            let (rx, tx) = (port.rx_queues()[0].stats(), port.tx_queues()[0].stats());
            assert_eq!((rx.packets, rx.bytes), (tx.packets, tx.bytes));
            assert!(rx.drops.is_empty() && tx.drops.is_empty());
            let written = read(&output);
            let ended = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            assert!(written.iter().map(|w| &w.1).eq(&all), "{name} to {output}");
            for (time, _) in written {
                assert!(time.as_micros() >= began.as_micros() && time <= ended);
            }
        }
    }
    assert_eq!(pool.free_count(), 256);
}

/// Many more bytes than are read at once, and more sent at once than are written at once.
#[test]
fn large_files() {
    let (dir, pool) = (Dir::new(), pool(1024));
    let all = packets(&[60, 65535, 1514, 333, 40000].repeat(20));
    for (name, content) in every_format(&all) {
        let input = dir.file(name, &content);
        let output = dir.path("out.pcapng");
        let port = port(&pool, &[("rx_pcap", &input), ("tx_pcap", &output)]);
        assert!(receive(&port) == all, "{name}");
        send(&port, &all);
        assert!(bytes(&output) == all, "{name}");
    }
    assert_eq!(pool.free_count(), 1024);
}

/// Each queue has its file. Captures of no packet are captures.
#[test]
fn several_queues() {
    let (dir, pool) = (Dir::new(), pool(64));
    let a = dir.file("a.pcap", &native(&packets(&[60])));
    let b = dir.file("b.pcap", &native(&[]));
    let (x, y) = (dir.path("x.pcap"), dir.path("y.pcap"));
    let args = [
        ("rx_pcap", &*a),
        ("rx_pcap", &*b),
        ("tx_pcap", &*x),
        ("tx_pcap", &*y),
    ];
    let port = port(&pool, &args);
    let (owner, mut burst) = (Owner::new(), Burst::new(4));
    assert_eq!(port.rx_queues()[1].burst(owner, &mut burst).unwrap(), 0);
    assert_eq!(port.info().details["rx eof"], "false");
    assert_eq!(port.rx_queues()[0].burst(owner, &mut burst).unwrap(), 1);
    assert_eq!(port.info().details["rx eof"], "true");
    assert_eq!(port.tx_queues()[1].burst(owner, &mut burst).unwrap(), 1);
    assert_eq!((bytes(&x).len(), bytes(&y)), (0, packets(&[60])));
}

/// The bytes that were captured are the packet, as in DPDK, also when there were more on the wire.
#[test]
fn cut_when_captured() {
    let (dir, pool) = (Dir::new(), pool(64));
    let header = PcapHeader {
        snaplen: 96,
        ..Default::default()
    };
    let input = dir.file("cut.pcap", &pcap_with(header, &packets(&[96, 60]), 1400));
    let port = port(&pool, &[("rx_pcap", &input)]);
    assert_eq!(receive(&port), packets(&[96, 60]));
    assert!(port.rx_queues()[0].stats().drops.is_empty());
}

/// What is shorter than an Ethernet header or longer than a packet is counted by name, and the others come.
#[test]
fn runts_and_giants() {
    let (dir, pool) = (Dir::new(), pool(64));
    let all = packets(&[0, 13, 14, 65536, 1_000_000, 60]);
    for (name, content) in every_format(&all) {
        let port = port(&pool, &[("rx_pcap", &dir.file(name, &content))]);
        assert_eq!(receive(&port), [all[2].clone(), all[5].clone()], "{name}");
        let drops = port.rx_queues()[0].stats().drops;
        assert_eq!((drops["rx_runt"], drops["rx_oversize"]), (2, 2));
    }
    // Two buffers never hold three.
    let small = rig::pool(2);
    let input = dir.file("three.pcap", &native(&packets(&[4097, 4096])));
    let port = port(&small, &[("rx_pcap", &input)]);
    assert_eq!(receive(&port)[0].len(), 4096);
    assert_eq!(port.rx_queues()[0].stats().drops["rx_oversize"], 1);
}

/// Without a free buffer packets wait in the file; none is lost.
#[test]
fn waits_for_buffers() {
    let (dir, pool) = (Dir::new(), pool(4));
    let all = packets(&[60, 60, 60, 4096, 60]);
    let port = port(&pool, &[("rx_pcap", &dir.file("in.pcap", &native(&all)))]);
    let (owner, queue) = (Owner::new(), &port.rx_queues()[0]);
    let mut burst = Burst::new(16);
    assert_eq!(queue.burst(owner, &mut burst).unwrap(), 3);
    assert_eq!(queue.burst(owner, &mut burst).unwrap(), 0);
    assert_eq!(queue.stats().nombuf, 2);
    assert!(queue.arm(owner).unwrap() && !queue.finished(owner).unwrap());
    let mut got = take(&pool, &mut burst);
    queue.release(owner);
    got.append(&mut receive(&port));
    assert_eq!(got, all);
    assert_eq!(pool.free_count(), 4);
}

/// With infinite_rx the capture begins again, in order, for ever. One that has no packet ends, and says why.
#[test]
fn infinite() {
    let (dir, pool, all) = (Dir::new(), pool(256), packets(&[60, 61, 3000]));
    for (name, content) in every_format(&all) {
        let input = dir.file(name, &content);
        let port = port(&pool, &[("rx_pcap", &input), ("infinite_rx", "1")]);
        let (owner, mut burst) = (Owner::new(), Burst::new(8));
        let mut got = Vec::new();
        for _ in 0..100 {
            assert_eq!(port.rx_queues()[0].burst(owner, &mut burst).unwrap(), 8);
            got.append(&mut take(&pool, &mut burst));
        }
        assert!(got.iter().eq(all.iter().cycle().take(800)), "{name}");
        assert!(!port.rx_queues()[0].finished(owner).unwrap());
    }
    let input = dir.file("none.pcap", &native(&packets(&[3])));
    let port = port(&pool, &[("rx_pcap", &input), ("infinite_rx", "1")]);
    assert!(receive(&port).is_empty());
    let told = told(&port);
    assert!(
        told[0].contains(&format!("{input}: expected a packet to repeat")),
        "{told:?}"
    );
    assert_eq!(pool.free_count(), 256);
}

/// Without files nothing is received, and what is sent is dropped under a name.
#[test]
fn without_files() {
    let pool = pool(64);
    let port = try_port(&pool, &[], (2, 2)).unwrap();
    let (owner, mut burst) = (Owner::new(), Burst::new(8));
    assert_eq!(port.rx_queues()[1].burst(owner, &mut burst).unwrap(), 0);
    assert!(!port.rx_queues()[1].arm(owner).unwrap());
    send(&port, &packets(&[60, 5000]));
    let stats = port.tx_queues()[0].stats();
    assert_eq!((stats.packets, stats.drops["tx_no_file"]), (0, 2));
    assert_eq!(pool.free_count(), 64);
}

/// A burst that does not fit the mempool or the format costs its bad packets only. An old file is replaced.
#[test]
fn bad_packets() {
    let (dir, pool) = (Dir::new(), pool(64));
    let output = dir.file("out.pcap", &native(&packets(&[1514; 9])));
    let port = port(&pool, &[("tx_pcap", &output)]);
    let mut burst = Burst::new(8);
    put(&pool, &mut burst, &rig::packet(0, 65536));
    put(&pool, &mut burst, &rig::packet(1, 13));
    put(&pool, &mut burst, &rig::packet(2, 60));
    put(&pool, &mut burst, &rig::packet(3, 60));
    burst.arrays_mut().1[3] = 4000;
    burst.push(u32::MAX, 60, 0);
    assert_eq!(
        port.tx_queues()[0].burst(Owner::new(), &mut burst).unwrap(),
        5
    );
    let stats = port.tx_queues()[0].stats();
    assert_eq!(
        (
            stats.packets,
            stats.drops["tx_bad_packet"],
            stats.drops["tx_too_big"]
        ),
        (1, 3, 1)
    );
    assert_eq!(bytes(&output), [rig::packet(2, 60)]);
    assert_eq!(pool.free_count(), 64);
}
