//! Captures of queues, read by the `pcap-file` crate's readers.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use vring_mem::burst::flags;
use vring_mem::mempool::{NO_SEG, Segment};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{
    Capture, CaptureFormat, CaptureOptions, CaptureSource, CapturedQueue, Device, Filter, Offloads,
    Owner, Port, PortConfig, open,
};

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

/// A port whose packets come back to it, and a file for what is captured.
struct Rig {
    pool: Arc<Mempool>,
    port: Port,
    owner: Owner,
    file: File,
}

impl Rig {
    fn new(name: &str) -> Self {
        let config = MempoolConfig {
            count: 4096,
            pages: Pages::Base,
            ..Default::default()
        };
        let pool = Mempool::new(&config).unwrap();
        let port = port(&pool, &format!("net_ring_{name},size=1024"));
        let path =
            std::env::temp_dir().join(format!("vring-capture-{name}-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(path).unwrap();
        Self {
            pool,
            port,
            owner: Owner::new(),
            file,
        }
    }

    fn sources(&self) -> Vec<CaptureSource> {
        let source = |queue| CaptureSource {
            queue,
            interface: "net_ring".into(),
        };
        let (rx, tx) = (
            self.port.rx_queues()[0].clone(),
            self.port.tx_queues()[0].clone(),
        );
        vec![source(CapturedQueue::Rx(rx)), source(CapturedQueue::Tx(tx))]
    }

    fn start(&self, options: CaptureOptions) -> Capture {
        Capture::start(
            self.sources(),
            options,
            self.file.try_clone().unwrap().into(),
        )
        .unwrap()
    }

    /// Sends packets, as many as the queue takes; how many.
    fn send(&self, packets: &[Vec<u8>]) -> usize {
        let mut burst = Burst::new(packets.len());
        for packet in packets {
            let mut buffer = [0];
            assert_eq!(self.pool.alloc_bulk(&mut buffer), 1);
            // SAFETY: a fresh buffer of 2048 bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    packet.as_ptr(),
                    self.pool.ptr(buffer[0]),
                    packet.len(),
                );
            };
            burst.push(buffer[0], u32::try_from(packet.len()).unwrap(), 0);
        }
        let sent = self.port.tx_queues()[0]
            .burst(self.owner, &mut burst)
            .unwrap();
        self.pool.free_burst(&mut burst);
        sent
    }

    fn receive(&self) -> usize {
        let mut burst = Burst::new(512);
        let received = self.port.rx_queues()[0]
            .burst(self.owner, &mut burst)
            .unwrap();
        self.pool.free_burst(&mut burst);
        received
    }

    fn bytes(&self) -> Vec<u8> {
        let (mut file, mut bytes) = (&self.file, Vec::new());
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn read(&self) -> Seen {
        let bytes = self.bytes();
        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let mut seen = Seen::default();
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => {
                    for option in &interface.options {
                        match option {
                            InterfaceDescriptionOption::IfName(name) => {
                                seen.names.push(name.to_string());
                            }
                            InterfaceDescriptionOption::IfTsResol(resolution) => {
                                assert_eq!(*resolution, 9);
                            }
                            _ => {}
                        }
                    }
                }
                Block::EnhancedPacket(packet) => {
                    let mut direction = 0;
                    for option in &packet.options {
                        if let EnhancedPacketOption::Flags(flags) = option {
                            direction = *flags;
                        }
                    }
                    seen.packets
                        .push((direction, packet.original_len, packet.data.to_vec()));
                    seen.times.push(packet.timestamp);
                }
                Block::InterfaceStatistics(statistics) => {
                    for option in &statistics.options {
                        match option {
                            InterfaceStatisticsOption::IsbIfRecv(n) => seen.received = *n,
                            InterfaceStatisticsOption::IsbIfDrop(n) => seen.dropped = *n,
                            InterfaceStatisticsOption::IsbFilterAccept(n) => seen.accepted = *n,
                            _ => {}
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        seen
    }
}

/// What a reader finds in a capture.
#[derive(Default)]
struct Seen {
    names: Vec<String>,
    /// Direction, length, captured bytes.
    packets: Vec<(u32, u32, Vec<u8>)>,
    times: Vec<Duration>,
    received: u64,
    accepted: u64,
    dropped: u64,
}

fn packets(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| {
            (0..60 + n * 13 % 1400)
                .map(|i| (i * 3 + n).to_le_bytes()[0])
                .collect()
        })
        .collect()
}

const IN: u32 = 1;
const OUT: u32 = 2;

/// What was sent and what was received stand in the capture, byte for byte, with direction and time; the queues do as they did.
#[test]
fn both_directions_are_captured_as_they_were() {
    let rig = Rig::new("both");
    let before = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let capture = rig.start(CaptureOptions::default());
    let list = packets(300);
    assert_eq!((rig.send(&list), rig.receive()), (300, 300));
    capture.stop();
    assert_eq!(
        rig.send(&list[..10]),
        10,
        "and what comes after is not captured"
    );
    let seen = rig.read();
    assert_eq!(seen.names, ["net_ring"]);
    for direction in [OUT, IN] {
        let found: Vec<_> = seen
            .packets
            .iter()
            .filter(|packet| packet.0 == direction)
            .map(|packet| &packet.2)
            .collect();
        assert!(found.into_iter().eq(&list), "direction {direction}");
    }
    assert!(
        seen.times
            .iter()
            .all(|time| *time >= before && *time < before + Duration::from_secs(3600))
    );
    assert_eq!((seen.received, seen.accepted, seen.dropped), (600, 600, 0));
    assert_eq!(rig.receive(), 10);
    assert_eq!(rig.pool.free_count(), 4096);
}

/// Packets are cut to the snaplen, and only those that the filter wants are there; a packet of several buffers is one.
#[test]
fn snaplen_filter_and_segments() {
    let rig = Rig::new("some");
    // `greater 1000`
    let filter = Filter::parse("4 128 0 0 0 53 0 1 1000 6 0 0 262144 6 0 0 0").unwrap();
    let capture = rig.start(CaptureOptions {
        snaplen: 100,
        filter: Some(filter),
        ..Default::default()
    });
    let list = packets(200);
    assert_eq!(rig.send(&list), 200);

    let mut buffers = [0; 2];
    assert_eq!(rig.pool.alloc_bulk(&mut buffers), 2);
    for (i, &addr) in buffers.iter().enumerate() {
        // SAFETY: a fresh buffer.
        unsafe {
            rig.pool
                .ptr(addr)
                .write_bytes(u8::try_from(i).unwrap() + 1, 1000);
        };
        let len = if i == 0 { 60 } else { 1000 };
        rig.pool.link(
            Segment { addr, len },
            buffers.get(i + 1).copied().unwrap_or(NO_SEG),
        );
    }
    let mut burst = Burst::new(1);
    burst.push(buffers[0], 1060, flags::MULTI);
    assert_eq!(
        rig.port.tx_queues()[0]
            .burst(rig.owner, &mut burst)
            .unwrap(),
        1
    );

    let stats = capture.stats();
    capture.stop();
    let mut wanted: Vec<_> = list
        .iter()
        .filter(|packet| packet.len() >= 1000)
        .map(|packet| (packet.len(), packet[..100].to_vec()))
        .collect();
    wanted.push((1060, [vec![1; 60], vec![2; 40]].concat()));
    let found: Vec<_> = rig
        .read()
        .packets
        .into_iter()
        .map(|(_, len, bytes)| (len as usize, bytes))
        .collect();
    assert_eq!(found, wanted);
    assert_eq!(
        (stats[1].captured, stats[1].filtered),
        (wanted.len() as u64, 201 - wanted.len() as u64)
    );
}

/// Of a burst that the queue took in part, the rest is not in the capture: it was not sent.
#[test]
fn what_was_not_sent_is_not_captured() {
    let rig = Rig::new("part");
    let capture = rig.start(CaptureOptions::default());
    let (list, mut sent) = (packets(400), 0);
    for _ in 0..4 {
        sent += rig.send(&list);
    }
    assert!(sent < 1600, "the ring has 1024 places");
    capture.stop();
    let seen = rig.read();
    assert_eq!(seen.packets.len(), sent);
    assert!(
        seen.packets
            .iter()
            .zip(list.iter().cycle())
            .all(|(found, sent)| found.2 == *sent)
    );
}

/// A reader that does not read costs packets of the capture, by number, and nothing else.
#[test]
fn a_reader_that_does_not_read_costs_the_capture_packets_and_nobody_else() {
    let rig = Rig::new("slow");
    let (reader, writer) = std::io::pipe().unwrap();
    let options = CaptureOptions {
        buffer: 1 << 18,
        ..Default::default()
    };
    let capture = Capture::start(rig.sources(), options, OwnedFd::from(writer)).unwrap();
    let list = packets(500);
    for _ in 0..20 {
        assert_eq!((rig.send(&list), rig.receive()), (500, 500));
    }
    let stats = capture.stats();
    for one in &stats {
        assert_eq!(one.captured + one.dropped, 10_000);
        assert!(one.dropped > 0 && one.captured > 0, "{one:?}");
    }
    drop(reader);
    capture.stop();
    assert!(capture.has_ended());
    assert_eq!(rig.pool.free_count(), 4096);
}

/// It ends by itself: after its last packet, when nobody reads it any more, when its ports are closed.
#[test]
fn a_capture_ends_by_itself() {
    let ended = |capture: &Capture| {
        while !capture.has_ended() {
            std::thread::yield_now();
        }
    };
    let rig = Rig::new("limit");
    let limited = rig.start(CaptureOptions {
        limit: Some(7),
        format: CaptureFormat::Pcap,
        ..Default::default()
    });
    rig.send(&packets(20));
    ended(&limited);
    let bytes = rig.bytes();
    let mut reader = pcap_file::pcap::PcapReader::new(&bytes[..]).unwrap();
    let mut found = Vec::new();
    while let Some(packet) = reader.next_packet() {
        found.push(packet.unwrap().data.to_vec());
    }
    assert_eq!(found, packets(7));

    let (reader, writer) = std::io::pipe().unwrap();
    let unread = Capture::start(
        rig.sources(),
        CaptureOptions::default(),
        OwnedFd::from(writer),
    )
    .unwrap();
    drop(reader);
    ended(&unread);

    let rig = Rig::new("closed");
    let capture = rig.start(CaptureOptions::default());
    rig.port.close();
    ended(&capture);
}
