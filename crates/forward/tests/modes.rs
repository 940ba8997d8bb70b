//! What each engine makes of a packet, checked by a parser that no one here wrote.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use vring_forward::{
    Engine, EngineOptions, Lcore, Measure, Noise, PacketTemplate, Retry, Stream, StreamStats,
};
use vring_mem::burst::flags;
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_net::soft::{Layer4, Renew};
use vring_port::{Device, Offloads, Owner, Port, PortConfig, open};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Two rings with an engine between them.
struct Bed {
    pool: Arc<Mempool>,
    from: Port,
    to: Port,
    owner: Owner,
}

impl Bed {
    fn new(name: &str) -> Self {
        let pool = Mempool::new(&MempoolConfig {
            count: 1024,
            pages: Pages::Base,
            ..Default::default()
        })
        .unwrap();
        let port = |name: String| {
            let config = PortConfig {
                pool: pool.clone(),
                rx_queues: 1,
                tx_queues: 1,
                rx_desc: 0,
                tx_desc: 0,
                mtu: 1500,
                offloads: Offloads::NONE,
            };
            open(&Device::parse(&name).unwrap(), &config).unwrap()
        };
        Self {
            from: port(format!("net_ring_{name}_from,size=64")),
            to: port(format!("net_ring_{name}_to,size=64")),
            pool,
            owner: Owner::new(),
        }
    }

    fn stream(&self, renew: Renew) -> Stream {
        Stream {
            rx: Some(self.from.rx_queues()[0].clone()),
            tx: Some(self.to.tx_queues()[0].clone()),
            src: OWN,
            dst: PEER,
            renew,
        }
    }

    fn put(&self, packets: &[Vec<u8>]) {
        let mut burst = Burst::new(64);
        for packet in packets {
            let mut addr = [0; 1];
            assert_eq!(self.pool.alloc_bulk(&mut addr), 1);
            // SAFETY: a fresh buffer, larger than any packet here.
            unsafe {
                self.pool
                    .ptr(addr[0])
                    .copy_from_nonoverlapping(packet.as_ptr(), packet.len());
            }
            burst.push(addr[0], u32::try_from(packet.len()).unwrap(), 0);
        }
        let queue = &self.from.tx_queues()[0];
        assert_eq!(queue.burst(self.owner, &mut burst).unwrap(), packets.len());
    }

    /// What came out, as bytes; the flags that the engine set have been done by software.
    fn take(&self) -> Vec<Vec<u8>> {
        let mut burst = Burst::new(64);
        self.to.rx_queues()[0]
            .burst(self.owner, &mut burst)
            .unwrap();
        let (addrs, lens, all_flags) = burst.packets();
        let packets = addrs.iter().zip(lens).zip(all_flags);
        let bytes = packets.map(|((&addr, &len), &flags)| {
            assert_eq!(flags & flags::MULTI, 0);
            // SAFETY: a packet of one segment that is ours.
            unsafe { std::slice::from_raw_parts(self.pool.ptr(addr), len as usize) }.to_vec()
        });
        let bytes = bytes.collect();
        self.pool.free_burst(&mut burst);
        bytes
    }

    fn forward(
        &self,
        engine: Engine,
        renew: Renew,
        options: &EngineOptions,
        packets: &[Vec<u8>],
    ) -> (Vec<Vec<u8>>, StreamStats) {
        self.put(packets);
        let options = EngineOptions {
            limit: Some(packets.len() as u64),
            ..options.clone()
        };
        let lcore = Lcore::new("test", None).unwrap();
        lcore
            .start(engine, vec![self.stream(renew)], &options)
            .unwrap();
        lcore.wait();
        (self.take(), lcore.stats()[0])
    }

    fn run(&self, engine: Engine, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let options = EngineOptions::default();
        self.forward(engine, Renew::default(), &options, packets).0
    }
}

fn udp4(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ethernet2(HOST, OWN)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
        .udp(1000, 2000)
        .write(&mut packet, &vec![7; payload])
        .unwrap();
    packet
}

fn tcp6(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ethernet2(HOST, OWN)
        .single_vlan(5.try_into().unwrap())
        .ipv6([1; 16], [2; 16], 9)
        .tcp(1000, 2000, 77, 512)
        .write(&mut packet, &vec![3; payload])
        .unwrap();
    packet
}

/// Panics unless the checksums of the packet are right; its headers.
fn checked(packet: &[u8]) -> PacketHeaders<'_> {
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let payload = headers.payload.slice();
    match (&headers.net, &headers.transport) {
        (Some(NetHeaders::Ipv4(ip, _)), transport) => {
            assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
            match transport {
                Some(TransportHeader::Udp(udp)) if udp.checksum != 0 => {
                    assert_eq!(udp.calc_checksum_ipv4(ip, payload).unwrap(), udp.checksum);
                }
                Some(TransportHeader::Tcp(tcp)) => {
                    assert_eq!(tcp.calc_checksum_ipv4(ip, payload).unwrap(), tcp.checksum);
                }
                _ => {}
            }
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Tcp(tcp))) => {
            assert_eq!(tcp.calc_checksum_ipv6(ip, payload).unwrap(), tcp.checksum);
        }
        _ => {}
    }
    headers
}

/// mac writes the port's and the peer's address; nothing else changes.
#[test]
fn mac() {
    let bed = Bed::new("mac");
    let packet = udp4(30);
    let out = bed.run(Engine::Mac, std::slice::from_ref(&packet));
    assert_eq!(&out[0][..6], &PEER);
    assert_eq!(&out[0][6..12], &OWN);
    assert_eq!(out[0][12..], packet[12..]);
}

/// recycle_mbufs forwards as io does, and every buffer comes back.
#[test]
fn recycle_mbufs() {
    let bed = Bed::new("recycle");
    let packets: Vec<_> = (18..50).map(udp4).collect();
    assert_eq!(bed.run(Engine::RecycleMbufs, &packets), packets);
    assert_eq!(bed.pool.free_count(), 1024);
}

/// 5tswap swaps every layer that there is, over VLAN tags too, and the checksums stay right.
#[test]
fn five_tuple_swap() {
    let bed = Bed::new("swap");
    let arp = [&HOST[..], &OWN, &[8, 6], &[1; 46]].concat();
    let out = bed.run(Engine::FiveTupleSwap, &[udp4(30), tcp6(9), arp.clone()]);
    let udp = checked(&out[0]);
    assert_eq!(udp.link.unwrap().ethernet2().unwrap().source, OWN);
    let Some(NetHeaders::Ipv4(ip, _)) = udp.net else {
        panic!("no IPv4")
    };
    assert_eq!((ip.source, ip.destination), ([10, 0, 0, 2], [10, 0, 0, 1]));
    let ports = udp.transport.unwrap().udp().unwrap();
    assert_eq!((ports.source_port, ports.destination_port), (2000, 1000));
    let tcp = checked(&out[1]);
    let Some(NetHeaders::Ipv6(ip, _)) = tcp.net else {
        panic!("no IPv6")
    };
    assert_eq!((ip.source, ip.destination), ([2; 16], [1; 16]));
    assert_eq!(tcp.transport.unwrap().tcp().unwrap().source_port, 2000);
    assert_eq!(out[2][..12], [&OWN[..], &HOST].concat());
    assert_eq!(out[2][12..], arp[12..]);
}

/// icmpecho answers ARP and ping as a host would, and frees the rest.
#[test]
fn icmpecho() {
    let bed = Bed::new("echo");
    let mut ping = Vec::new();
    PacketBuilder::ethernet2(HOST, OWN)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
        .icmpv4_echo_request(3, 4)
        .write(&mut ping, b"payload")
        .unwrap();
    let mut group = ping.clone();
    group[30..34].copy_from_slice(&[224, 0, 0, 1]);
    let arp = [
        &[0xff; 6][..],
        &HOST,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &HOST,
        &[10, 0, 0, 1],
        &[0; 6],
        &[10, 0, 0, 2],
    ]
    .concat();
    let packets = [ping, udp4(20), arp, group, vec![1; 14]];
    let options = EngineOptions::default();
    let (out, stats) = bed.forward(Engine::IcmpEcho, Renew::default(), &options, &packets);
    assert_eq!((stats.rx, stats.tx, stats.dropped), (5, 3, 0));
    let answer = checked(&out[0]);
    let Some(NetHeaders::Ipv4(ip, _)) = answer.net else {
        panic!("no IPv4")
    };
    assert_eq!((ip.source, ip.destination), ([10, 0, 0, 2], [10, 0, 0, 1]));
    let icmp = answer.transport.unwrap().icmpv4().unwrap();
    let payload = answer.payload.slice();
    assert_eq!(icmp.icmp_type.calc_checksum(payload), icmp.checksum);
    assert!(matches!(
        icmp.icmp_type,
        etherparse::Icmpv4Type::EchoReply(echo) if (echo.id, echo.seq) == (3, 4)
    ));
    assert_eq!(&out[1][..12], [HOST, OWN].concat());
    assert_eq!(out[1][20..22], [0, 2]);
    assert_eq!(out[1][22..32], [&OWN[..], &[10, 0, 0, 2]].concat());
    assert_eq!(out[1][32..42], [&HOST[..], &[10, 0, 0, 1]].concat());
    let Some(NetHeaders::Ipv4(ip, _)) = checked(&out[2]).net else {
        panic!("no IPv4")
    };
    assert_eq!(ip.source, [10, 0, 0, 2]);
    assert_eq!(bed.pool.free_count(), 1024);
}

/// csum repairs what is wrong and counts it, by itself or by asking for it, and cuts what is too long.
#[test]
fn csum() {
    let bed = Bed::new("csum");
    let mut wrong = udp4(31);
    wrong[24] ^= 1;
    wrong[40] ^= 1;
    let mut without = udp4(20);
    without[40..42].fill(0);
    let later = Renew {
        udp: Layer4::Later,
        tcp: Layer4::Later,
        ..Renew::default()
    };
    for renew in [Renew::default(), later] {
        let packets = [wrong.clone(), tcp6(100), without.clone()];
        let options = EngineOptions::default();
        let (out, stats) = bed.forward(Engine::Csum, renew, &options, &packets);
        assert_eq!((stats.bad_ip, stats.tx), (1, 3));
        for packet in &out[..2] {
            checked(packet);
            assert_eq!(packet[..12], [PEER, OWN].concat());
        }
        assert_eq!(out[2][40..42], [0, 0], "no checksum stays none");
    }
    let cut = Renew {
        segment: 500,
        ..Renew::default()
    };
    // A ring takes packets that are to be cut as they are: what cuts them is tested where it is.
    bed.put(&[tcp6(1300), tcp6(500)]);
    let options = EngineOptions {
        limit: Some(2),
        ..EngineOptions::default()
    };
    let lcore = Lcore::new("test", None).unwrap();
    lcore
        .start(Engine::Csum, vec![bed.stream(cut)], &options)
        .unwrap();
    lcore.wait();
    let mut burst = Burst::new(8);
    bed.to.rx_queues()[0].burst(bed.owner, &mut burst).unwrap();
    let [long, short] = [0, 1].map(|i| burst.packet(i));
    let head = 14 + 4 + 40 + 20;
    assert_eq!(long.flags & flags::GSO, flags::GSO_TCP6);
    assert_eq!((long.gso, long.len), (500 | head << 16, 1300 + head));
    assert_eq!(short.flags & flags::META, 0);
    bed.pool.free_burst(&mut burst);
    assert_eq!(bed.pool.free_count(), 1024);
}

/// flowgen sends flow after flow to the addresses that testpmd uses, clones included, and goes back for what was not sent.
#[test]
fn flowgen() {
    let bed = Bed::new("flows");
    let run = |flowgen_clones, limit| {
        let options = EngineOptions {
            flowgen_flows: 5,
            flowgen_clones,
            limit: Some(limit),
            ..EngineOptions::default()
        };
        let lcore = Lcore::new("test", None).unwrap();
        let stream = bed.stream(Renew::default());
        lcore
            .start(Engine::FlowGen, vec![stream], &options)
            .unwrap();
        lcore.wait();
        let out = bed.take();
        let ip = |packet: &Vec<u8>| match checked(packet).net {
            Some(NetHeaders::Ipv4(ip, _)) => (ip.source, ip.destination),
            _ => panic!("no IPv4"),
        };
        assert_eq!(
            (out[0].len(), &out[0][..12]),
            (60, &[0, 1, 2, 3, 4, 1, 0, 1, 2, 3, 4, 0][..])
        );
        assert!(out.iter().all(|packet| ip(packet).0 == [10, 254, 0, 0]));
        out.iter().map(|packet| ip(packet).1[3]).collect::<Vec<_>>()
    };
    assert_eq!(run(0, 7), [0, 1, 2, 3, 4, 0, 1]);
    assert_eq!(run(2, 7), [0, 0, 0, 3, 3, 3, 1]);
}

/// txonly: addresses and ports as asked for, flows that differ in their source, random numbers of segments.
#[test]
fn txonly_options() {
    let bed = Bed::new("tx");
    let template = PacketTemplate {
        segments: vec![64, 20, 30],
        random_split: true,
        ip: (Ipv4Addr::new(1, 2, 3, 4), Ipv4Addr::new(5, 6, 0, 8)),
        udp: (11, 12),
        flows: 3,
    };
    let options = EngineOptions {
        template,
        limit: Some(60),
        ..EngineOptions::default()
    };
    let lcore = Lcore::new("test", None).unwrap();
    let stream = bed.stream(Renew::default());
    lcore.start(Engine::TxOnly, vec![stream], &options).unwrap();
    lcore.wait();
    let mut burst = Burst::new(64);
    bed.to.rx_queues()[0].burst(bed.owner, &mut burst).unwrap();
    let (addrs, lens, _) = burst.packets();
    let mut lengths = lens.to_vec();
    for (i, (&addr, &len)) in addrs.iter().zip(lens).enumerate() {
        // SAFETY: the first segment of a packet that is ours.
        let head = unsafe { std::slice::from_raw_parts(bed.pool.ptr(addr), 64) };
        let ip = etherparse::Ipv4Header::from_slice(&head[14..]).unwrap().0;
        assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
        assert_eq!(u32::from(ip.total_len), len - 14);
        assert_eq!(ip.source, [5, 6, u8::try_from(i % 3).unwrap(), 8]);
        assert_eq!(ip.destination, [5, 6, 0, 8]);
        assert_eq!(head[34..38], [0, 11, 0, 12]);
    }
    lengths.sort_unstable();
    lengths.dedup();
    assert_eq!(lengths, [64, 84, 114]);
    bed.pool.free_burst(&mut burst);
    assert_eq!(bed.pool.free_count(), 1024);
}

/// noisy keeps the order, holds back as many as its buffer holds, and gives back what still waits; with a flush time all go out.
#[test]
fn noisy() {
    let bed = Bed::new("noise");
    let packets: Vec<_> = (18..58).map(udp4).collect();
    let noise = Noise {
        buffer: 16,
        memory: 1,
        writes: 2,
        reads: 2,
        reads_writes: 1,
        ..Noise::default()
    };
    let options = EngineOptions {
        noise,
        measure: Measure {
            bursts: true,
            cycles: true,
            latency: true,
        },
        ..EngineOptions::default()
    };
    let (out, stats) = bed.forward(Engine::Noisy, Renew::default(), &options, &packets);
    assert_eq!(out, packets[..24]);
    assert_eq!((stats.rx, stats.tx, stats.dropped), (40, 24, 16));
    assert!(stats.cycles > 0);
    assert_eq!(bed.pool.free_count(), 1024);

    bed.put(&packets);
    let options = EngineOptions {
        noise: Noise {
            flush: Duration::from_millis(1),
            ..noise
        },
        ..options
    };
    let lcore = Lcore::new("test", None).unwrap();
    let stream = bed.stream(Renew::default());
    lcore.start(Engine::Noisy, vec![stream], &options).unwrap();
    while lcore.stats()[0].tx < 40 {
        std::thread::yield_now();
    }
    lcore.stop();
    assert_eq!(bed.take(), packets);
    let [latency] = &lcore.latency()[..] else {
        panic!("one stream")
    };
    assert_eq!(latency.histogram.len(), 40);
    // What waited for the flush waited for a millisecond at least.
    assert!(latency.histogram.max() >= 1_000_000);
    let spread = lcore.bursts()[0].clone().unwrap();
    assert_eq!(spread.rx.iter().find(|&&(n, _)| n == 32), Some(&(32, 1)));
    assert!(vring_forward::cycles_per_second() > 1_000_000);
}

/// With retry, a queue that is full for a while loses nothing; without, it does.
#[test]
fn retry() {
    let bed = Bed::new("retry");
    let packets: Vec<_> = (18..50).map(udp4).collect();
    let options = EngineOptions {
        retry: Some(Retry {
            delay: Duration::from_micros(10),
            times: u32::MAX,
        }),
        ..EngineOptions::default()
    };
    let lcore = Lcore::new("test", None).unwrap();
    let stream = bed.stream(Renew::default());
    lcore.start(Engine::Io, vec![stream], &options).unwrap();
    let mut out = Vec::new();
    // The ring holds 64: the third burst waits until some are taken.
    for _ in 0..3 {
        bed.put(&packets);
        while bed.from.rx_queues()[0].stats().packets == 0 {
            std::thread::yield_now();
        }
    }
    while out.len() < 96 {
        out.extend(bed.take());
    }
    lcore.stop();
    assert_eq!(out.len(), 96);
    assert_eq!((lcore.stats()[0].tx, lcore.stats()[0].dropped), (96, 0));
    assert_eq!(bed.pool.free_count(), 1024);

    // Told to stop while a queue stays full, it does.
    lcore
        .start(Engine::TxOnly, vec![bed.stream(Renew::default())], &options)
        .unwrap();
    while lcore.stats()[0].tx < 64 && bed.to.tx_queues()[0].stats().packets < 96 + 64 {
        std::thread::yield_now();
    }
    lcore.stop();
    assert!(!lcore.is_running());
}
