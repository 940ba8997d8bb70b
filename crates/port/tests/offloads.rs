//! Offloads between a `net_virtio_user` port and a `net_vhost` port: what both agreed on is left to the other end, and nothing else is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vring_mem::burst::{Packet, flags};
use vring_mem::mempool::{NO_SEG, Segment};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, RxOffloads, TxOffloads, open};

const RX: Offloads = Offloads {
    rx: RxOffloads::CHECKSUM.union(RxOffloads::LRO),
    tx: TxOffloads::empty(),
};

/// A pair of ports on a socket of its own, and their mempool.
struct Pair {
    driver: Port,
    device: Port,
    pool: Arc<Mempool>,
}

impl Pair {
    fn open(name: &str, driver: Offloads, device: Offloads, args: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vring-offloads-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        let pool = Mempool::new(&MempoolConfig {
            count: 1024,
            pages: Pages::Base,
            ..Default::default()
        })
        .unwrap();
        let port = |device: String, offloads| {
            let config = PortConfig {
                pool: pool.clone(),
                rx_queues: 1,
                tx_queues: 1,
                rx_desc: 0,
                tx_desc: 0,
                mtu: 1500,
                offloads,
            };
            open(&Device::parse(&device).unwrap(), &config).unwrap()
        };
        let path = path.display();
        let pair = Self {
            device: port(format!("net_vhost_{name},iface={path}{args}"), device),
            driver: port(format!("net_virtio_user_{name},path={path}"), driver),
            pool,
        };
        until(|| pair.driver.link().up && pair.device.link().up);
        pair
    }

    fn close(self) {
        self.driver.close();
        self.device.close();
        self.pool.flush_thread_cache();
        assert_eq!(self.pool.free_count(), self.pool.count() as usize);
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "timed out");
        std::thread::yield_now();
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    words.fold(0, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    })
}

/// TCP over IPv4 with `payload` bytes, and in its checksum the sum of the pseudo header.
fn tcp(payload: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    let total = u16::try_from(40 + payload).unwrap();
    frame.extend(total.to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let ip = !u16::try_from(sum(&frame[14..34])).unwrap();
    frame[24..26].copy_from_slice(&ip.to_be_bytes());
    frame.extend([0x10, 0, 0x20, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x10, 1, 0]);
    let pseudo = sum(&frame[26..34]) + 6 + u32::from(total) - 20;
    let pseudo = u16::try_from((pseudo & 0xffff) + (pseudo >> 16)).unwrap();
    frame.extend(pseudo.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..payload).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]));
    frame
}

/// That the checksum of TCP is right.
fn checksum_is_right(frame: &[u8]) -> bool {
    let len = u32::try_from(frame.len() - 34).unwrap();
    let all = sum(&frame[34..]) + sum(&frame[26..34]) + 6 + len;
    (all & 0xffff) + (all >> 16) == 0xffff
}

/// Metadata that leaves the checksum out and, with a segment size, asks to be cut.
fn asking(segment: u32) -> Packet {
    let gso = if segment == 0 { 0 } else { flags::GSO_TCP4 };
    Packet {
        flags: flags::CSUM_PARTIAL | gso,
        csum: 34 | 16 << 16,
        gso: segment | 54 << 16,
        ..Packet::default()
    }
}

fn send(port: &Port, frame: &[u8], asks: Packet) {
    let pool = port.pool();
    let chunks: Vec<_> = frame.chunks(pool.data_room() as usize).collect();
    let mut buffers = vec![0; chunks.len()];
    assert_eq!(pool.alloc_bulk(&mut buffers), buffers.len());
    for (nth, (&addr, chunk)) in buffers.iter().zip(&chunks).enumerate() {
        // SAFETY: a fresh buffer has room for the chunk.
        unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), pool.ptr(addr), chunk.len()) };
        let len = u32::try_from(chunk.len()).unwrap();
        if chunks.len() > 1 {
            let next = buffers.get(nth + 1).copied().unwrap_or(NO_SEG);
            pool.link(Segment { addr, len }, next);
        }
    }
    let multi = if chunks.len() > 1 { flags::MULTI } else { 0 };
    let mut burst = Burst::new(32);
    let len = u32::try_from(frame.len()).unwrap();
    assert!(burst.push(buffers[0], len, 0));
    let packet = Packet {
        addr: buffers[0],
        len,
        flags: asks.flags | multi,
        ..asks
    };
    burst.set_packet(0, &packet);
    let owner = Owner::new();
    until(|| {
        port.tx_queues()[0].burst(owner, &mut burst).unwrap();
        burst.is_empty()
    });
    port.tx_queues()[0].release(owner);
}

/// The next `count` packets: metadata and bytes. They are free again.
fn receive(port: &Port, count: usize) -> Vec<(Packet, Vec<u8>)> {
    let (owner, pool) = (Owner::new(), port.pool());
    let mut burst = Burst::new(64);
    until(|| {
        port.rx_queues()[0].burst(owner, &mut burst).unwrap();
        burst.len() >= count
    });
    port.rx_queues()[0].release(owner);
    assert_eq!(burst.len(), count);
    let packets = (0..count).map(|at| {
        let packet = burst.packet(at);
        let mut bytes = Vec::new();
        for segment in pool
            .segments(packet.addr, packet.len, packet.flags)
            .unwrap()
        {
            // SAFETY: `segments` checked it.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(pool.ptr(segment.addr), segment.len as usize)
            });
        }
        (packet, bytes)
    });
    let packets = packets.collect();
    pool.free_burst(&mut burst);
    packets
}

/// What a path makes of a packet that leaves its checksum out: the flags, and whether the checksum is right on arrival.
fn checksum_after(from: &Port, to: &Port) -> (u32, bool) {
    let frame = tcp(1000);
    send(from, &frame, asking(0));
    let (packet, bytes) = receive(to, 1).remove(0);
    assert_eq!(bytes.len(), frame.len());
    let right = checksum_is_right(&bytes);
    assert!(right || bytes == frame);
    (packet.flags, right)
}

/// A large packet that arrives whole, with what it asks for.
fn arrives_whole(from: &Port, to: &Port) {
    let frame = tcp(65_000);
    send(from, &frame, asking(1448));
    let (packet, bytes) = receive(to, 1).remove(0);
    assert_eq!(packet.flags & flags::META, asking(1448).flags);
    assert_eq!((packet.csum, packet.gso), (34 | 16 << 16, 1448 | 54 << 16));
    assert!(bytes == frame);
}

/// A large packet that arrives in 45 pieces, as on a wire: all bytes there, checksums right or known to be left out.
fn arrives_cut(from: &Port, to: &Port) {
    let frame = tcp(65_000);
    send(from, &frame, asking(1448));
    let pieces = receive(to, 45);
    let mut payload = Vec::new();
    for (packet, bytes) in &pieces {
        assert!(bytes.len() <= 54 + 1448, "{}", bytes.len());
        assert_eq!(packet.flags & flags::GSO, 0);
        let partial = packet.flags & flags::CSUM_PARTIAL != 0;
        assert_ne!(checksum_is_right(bytes), partial);
        payload.extend_from_slice(&bytes[54..]);
    }
    assert!(payload == frame[54..]);
}

/// Nobody asked for anything: no offload is agreed on, the header says nothing, and software completes and cuts.
#[test]
fn nothing_asked_for() {
    let pair = Pair::open("plain", Offloads::NONE, Offloads::NONE, "");
    let features = pair.driver.info().features;
    assert!(!features.contains(&"CSUM") && !features.contains(&"GUEST_CSUM"));
    assert_eq!(pair.driver.offloads().device, Offloads::NONE);
    assert_eq!(pair.device.offloads().device, Offloads::NONE);
    for (from, to) in [(&pair.driver, &pair.device), (&pair.device, &pair.driver)] {
        assert_eq!(checksum_after(from, to), (0, true));
        arrives_cut(from, to);
    }
    pair.close();
}

/// All asked for at both ends: checksums are left out and large packets cross whole, both ways.
#[test]
fn all_asked_for() {
    let pair = Pair::open("all", Offloads::VIRTIO, RX, "");
    assert_eq!(pair.driver.offloads().device, Offloads::VIRTIO);
    assert_eq!(pair.device.offloads().device, Offloads::VIRTIO);
    for (from, to) in [(&pair.driver, &pair.device), (&pair.device, &pair.driver)] {
        assert_eq!(checksum_after(from, to), (flags::CSUM_PARTIAL, false));
        arrives_whole(from, to);
    }
    pair.close();
}

/// A driver leaves checksums out; a device whose application knows nothing of that sees them complete, and no large packets.
#[test]
fn device_completes_checksums() {
    let pair = Pair::open("completes", Offloads::VIRTIO, Offloads::NONE, "");
    let done = pair.driver.offloads().device;
    assert_eq!(
        done.names(),
        ["rx checksum", "rx lro", "tx checksum"],
        "the device takes no large packets that nobody asked for"
    );
    let (driver, device) = (&pair.driver, &pair.device);
    assert_eq!(checksum_after(driver, device), (flags::CSUM_GOOD, true));
    arrives_cut(driver, device);
    arrives_whole(device, driver);
    pair.close();
}

/// DPDK's arguments: `tso=1` takes large packets, `legacy-ol-flags=1` leaves what the guest left out.
#[test]
fn arguments_of_dpdk() {
    let pair = Pair::open("tso", Offloads::VIRTIO, Offloads::NONE, ",tso=1");
    arrives_whole(&pair.driver, &pair.device);
    assert_eq!(
        checksum_after(&pair.driver, &pair.device),
        (flags::CSUM_GOOD, true)
    );
    pair.close();
    let pair = Pair::open(
        "legacy",
        Offloads::VIRTIO,
        Offloads::NONE,
        ",legacy-ol-flags=1",
    );
    assert_eq!(
        checksum_after(&pair.driver, &pair.device),
        (flags::CSUM_PARTIAL, false)
    );
    pair.close();
}

/// Without buffers that merge a driver has no room for large packets, and agrees to none.
#[test]
fn no_large_packets_without_room() {
    let pair = Pair::open("small", Offloads::VIRTIO, RX, ",mrg_rxbuf=0");
    assert_eq!(
        pair.driver.offloads().device,
        Offloads::VIRTIO.difference(Offloads {
            rx: RxOffloads::LRO,
            ..Offloads::NONE
        })
    );
    arrives_whole(&pair.driver, &pair.device);
    arrives_cut(&pair.device, &pair.driver);
    pair.close();
}

/// Metadata that does not fit its packet is not told to the peer: the packet is dropped under a name.
#[test]
fn every_drop_has_a_name() {
    let pair = Pair::open("drops", Offloads::VIRTIO, RX, "");
    let lie = Packet {
        flags: flags::CSUM_PARTIAL,
        csum: 5000 | 16 << 16,
        ..Packet::default()
    };
    send(&pair.driver, &tcp(100), lie);
    let drops = pair.driver.tx_queues()[0].stats().drops;
    assert!(
        drops
            .iter()
            .any(|(name, count)| *name == "tx_bad_packet" && *count == 1),
        "{drops:?}"
    );
    pair.close();
}
