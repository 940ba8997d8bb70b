//! Captures made by hand or by the `pcap-file` crate's writers, and ports on them.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapReader, PcapWriter, RawPcapPacket};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use vring_mem::burst::flags;
use vring_mem::mempool::{NO_SEG, Segment};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, PortError, PortEvent, open};

/// A directory of its own, gone at the end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("vring-pcap-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}

pub fn pool(count: usize) -> Arc<Mempool> {
    let config = MempoolConfig {
        count,
        pages: Pages::Base,
        ..Default::default()
    };
    Mempool::new(&config).unwrap()
}

/// Opens a port under a name that no other test has.
pub fn try_port(
    pool: &Arc<Mempool>,
    args: &[(&str, &str)],
    queues: (u16, u16),
) -> Result<Port, PortError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("net_pcap{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let args = args.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
    let config = PortConfig {
        pool: pool.clone(),
        rx_queues: queues.0,
        tx_queues: queues.1,
        rx_desc: 0,
        tx_desc: 0,
        mtu: 1500,
        offloads: Offloads::NONE,
    };
    open(&Device::new(&name, args.collect()).unwrap(), &config)
}

/// One queue for each file.
pub fn port(pool: &Arc<Mempool>, args: &[(&str, &str)]) -> Port {
    let count = |key| u16::try_from(args.iter().filter(|a| a.0 == key).count()).unwrap();
    try_port(pool, args, (count("rx_pcap"), count("tx_pcap"))).unwrap()
}

/// A packet whose bytes follow from its number.
pub fn packet(number: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from((i * 7 + number * 31 + i / 251) % 256).unwrap())
        .collect()
}

pub fn packets(lens: &[usize]) -> Vec<Vec<u8>> {
    lens.iter()
        .enumerate()
        .map(|(i, &l)| packet(i, l))
        .collect()
}

/// Puts a packet into the burst, over as many buffers as it takes.
pub fn put(pool: &Arc<Mempool>, burst: &mut Burst, data: &[u8]) {
    let chunks: Vec<&[u8]> = data.chunks(pool.data_room() as usize).collect();
    let mut addrs = vec![0; chunks.len()];
    assert_eq!(pool.alloc_bulk(&mut addrs), addrs.len());
    for (i, (&addr, chunk)) in addrs.iter().zip(&chunks).enumerate() {
        // SAFETY: a fresh buffer has room for the chunk.
        unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), pool.ptr(addr), chunk.len()) };
        let len = u32::try_from(chunk.len()).unwrap();
        pool.link(
            Segment { addr, len },
            addrs.get(i + 1).copied().unwrap_or(NO_SEG),
        );
    }
    let multi = if chunks.len() > 1 { flags::MULTI } else { 0 };
    assert!(burst.push(addrs[0], u32::try_from(data.len()).unwrap(), multi));
}

/// The packets of a burst, which is freed.
pub fn take(pool: &Arc<Mempool>, burst: &mut Burst) -> Vec<Vec<u8>> {
    let (addrs, lens, flags) = burst.packets();
    let one = |i: usize| {
        let mut out = Vec::new();
        for segment in pool.segments(addrs[i], lens[i], flags[i]).unwrap() {
            let at = pool.ptr(segment.addr);
            // SAFETY: `segments` checked it, and nobody writes to it.
            out.extend_from_slice(unsafe { std::slice::from_raw_parts(at, segment.len as usize) });
        }
        out
    };
    let all = (0..addrs.len()).map(one).collect();
    pool.free_burst(burst);
    all
}

/// All that the first receive queue gives until it is finished.
pub fn receive(port: &Port) -> Vec<Vec<u8>> {
    let (owner, queue, mut burst) = (Owner::new(), &port.rx_queues()[0], Burst::new(7));
    let mut all = Vec::new();
    while !queue.finished(owner).unwrap() {
        assert!(queue.arm(owner).unwrap(), "told to sleep before the end");
        queue.burst(owner, &mut burst).unwrap();
        all.append(&mut take(port.pool(), &mut burst));
    }
    assert_eq!(queue.burst(owner, &mut burst).unwrap(), 0);
    assert!(!queue.arm(owner).unwrap(), "told to poll at the end");
    queue.release(owner);
    all
}

/// Sends packets on the first transmit queue, in bursts of 8.
pub fn send(port: &Port, packets: &[Vec<u8>]) {
    let (owner, mut burst) = (Owner::new(), Burst::new(8));
    for chunk in packets.chunks(8) {
        chunk
            .iter()
            .for_each(|data| put(port.pool(), &mut burst, data));
        assert_eq!(
            port.tx_queues()[0].burst(owner, &mut burst).unwrap(),
            chunk.len()
        );
        assert!(burst.is_empty());
    }
    port.tx_queues()[0].release(owner);
}

/// The errors that the port told, as text.
pub fn told(port: &Port) -> Vec<String> {
    let events = port.events().drain().into_iter();
    events
        .filter_map(|event| match event {
            PortEvent::Error(error) => Some(format!("{} {error}", error.code())),
            _ => None,
        })
        .collect()
}

pub fn pcap(order: Endianness, unit: TsResolution, packets: &[Vec<u8>]) -> Vec<u8> {
    let header = PcapHeader {
        endianness: order,
        ts_resolution: unit,
        ..Default::default()
    };
    pcap_with(header, packets, 0)
}

/// `cut` bytes more were on the wire than were captured.
pub fn pcap_with(header: PcapHeader, packets: &[Vec<u8>], cut: u32) -> Vec<u8> {
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for data in packets {
        let len = u32::try_from(data.len()).unwrap();
        let packet = RawPcapPacket {
            ts_sec: 1,
            ts_frac: 2,
            incl_len: len,
            orig_len: len + cut,
            data: Cow::Borrowed(data),
        };
        writer.write_raw_packet(&packet).unwrap();
    }
    writer.into_writer()
}

pub fn native(packets: &[Vec<u8>]) -> Vec<u8> {
    pcap(Endianness::native(), TsResolution::MicroSecond, packets)
}

pub fn pcapng(order: Endianness, links: &[DataLink], packets: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), order).unwrap();
    for &linktype in links {
        let interface = InterfaceDescriptionBlock {
            linktype,
            snaplen: 0,
            options: vec![],
        };
        writer.write_pcapng_block(interface).unwrap();
    }
    for (i, data) in packets.iter().enumerate() {
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(i % links.len()).unwrap(),
            timestamp: Duration::from_nanos(3),
            original_len: u32::try_from(data.len()).unwrap(),
            data: Cow::Borrowed(data),
            options: vec![],
        };
        writer.write_pcapng_block(block).unwrap();
    }
    writer.into_inner()
}

/// Reads what a port wrote, with the crate's own readers. Each with its time since 1970.
pub fn read(path: &str) -> Vec<(Duration, Vec<u8>)> {
    let file = std::fs::File::open(path).unwrap();
    let mut all = Vec::new();
    if path.ends_with(".pcapng") {
        let mut reader = PcapNgReader::new(file).unwrap();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap() {
                assert_eq!(packet.original_len as usize, packet.data.len());
                all.push((packet.timestamp, packet.data.into_owned()));
            }
        }
    } else {
        let mut reader = PcapReader::new(file).unwrap();
        assert_eq!(reader.header().datalink, DataLink::ETHERNET);
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            assert_eq!(packet.orig_len as usize, packet.data.len());
            all.push((packet.timestamp, packet.data.into_owned()));
        }
    }
    all
}

pub fn bytes(path: &str) -> Vec<Vec<u8>> {
    read(path).into_iter().map(|(_, data)| data).collect()
}
