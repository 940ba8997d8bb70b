use std::sync::Arc;

use proptest::prelude::*;
use vring_mem::burst::{Packet, flags};
use vring_mem::{Burst, Mempool};
use vring_ring::RingFault;

use super::packets::{bytes, packet, pool};
use super::sample::{Sample, look, sample};
use crate::soft::{Lower, SoftTx};
use crate::{Counters, DropReason, Tally};

/// A path with room for some packets at a time, which keeps what it gets.
pub(super) struct Wire {
    pub(super) pool: Arc<Mempool>,
    pub(super) takes: u32,
    pub(super) room: usize,
    pub(super) sent: Vec<(Packet, Vec<u8>)>,
}

impl Wire {
    pub(super) fn new(pool: &Arc<Mempool>, takes: u32, room: usize) -> Self {
        Self {
            pool: pool.clone(),
            takes,
            room,
            sent: Vec::new(),
        }
    }
}

impl Lower for Wire {
    fn takes(&self) -> u32 {
        self.takes
    }

    fn tx(&mut self, burst: &mut Burst, _: &Counters) -> Result<Tally, RingFault> {
        let count = burst.len().min(self.room);
        self.room -= count;
        let mut tally = Tally::default();
        for at in 0..count {
            let packet = burst.packet(at);
            self.sent.push((packet, bytes(&self.pool, &packet)));
            self.pool.free_packet(packet.addr, packet.flags);
            tally.packets += 1;
            tally.bytes += u64::from(packet.len);
        }
        burst.remove_front(count);
        Ok(tally)
    }

    fn reclaim(&mut self) -> Result<(), RingFault> {
        Ok(())
    }
}

/// Sends until all is sent, with that much room each time.
fn send_all(pool: &Arc<Mempool>, packets: &[Packet], takes: u32, room: usize) -> Wire {
    let (mut soft, counters) = (SoftTx::new(pool.clone()), Counters::default());
    let mut wire = Wire::new(pool, takes, room);
    let mut burst = Burst::new(packets.len());
    packets.iter().for_each(|p| assert!(burst.push_packet(p)));
    let mut counted = 0;
    while !burst.is_empty() || !soft.is_empty() {
        wire.room = room;
        let tally = soft.tx(&mut wire, &mut burst, &counters).expect("no fault");
        assert_eq!(counters.dropped(DropReason::TxBadPacket), 0);
        assert!(tally.packets > 0, "it stands still");
        counted += tally.packets;
    }
    assert_eq!(counted, wire.sent.len());
    wire
}

fn partial(pool: &Arc<Mempool>, sample: &Sample, cuts: &[usize]) -> Packet {
    let mut packet = packet(pool, &sample.partial(), cuts);
    packet.flags |= flags::CSUM_PARTIAL;
    packet.csum = sample.csum();
    packet
}

const COUNT: usize = 1500;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A partial checksum is completed to the one that others compute, in whatever segments the packet lies; the others stay.
    #[test]
    fn checksums_are_completed(
        sample in sample(0..3000),
        cuts in proptest::collection::vec(1..200usize, 0..5),
        room in 1..4usize,
    ) {
        let pool = pool(64, 1024);
        let plain = packet(&pool, &sample.bytes(), &[]);
        let wire = send_all(&pool, &[plain, partial(&pool, &sample, &cuts), plain_of(&pool)], 0, room);
        prop_assert_eq!(wire.sent.len(), 3);
        for (packet, bytes) in &wire.sent[..2] {
            prop_assert_eq!(packet.flags & flags::META, 0);
            let found = look(bytes, None);
            prop_assert_eq!(&found.payload, &sample.payload);
        }
        prop_assert_eq!(&wire.sent[2].1, &[7; 60]);
        prop_assert_eq!(pool.free_count(), 64);
    }

    /// The pieces of a TCP packet are its payload in order, with right checksums, sequence numbers and flags; those of a UDP packet are datagrams.
    #[test]
    fn pieces_are_the_packet(
        sample in sample(1..20_000),
        cuts in proptest::collection::vec(1..300usize, 0..6),
        size in 100..3000usize,
        (takes_csum, tag) in (any::<bool>(), any::<bool>()),
        room in 1..100usize,
        buffer_size in 256..2500usize,
    ) {
        let pool = pool(COUNT, buffer_size);
        let mut packet = partial(&pool, &sample, &cuts);
        packet.flags |= sample.gso();
        packet.gso = u32::try_from(size).unwrap();
        if tag {
            packet.flags |= flags::VLAN;
            packet.tag = 0xa064;
        }
        let takes = if takes_csum { flags::CSUM_PARTIAL } else { 0 };
        let wire = send_all(&pool, &[plain_of(&pool), packet, plain_of(&pool)], takes, room);
        prop_assert_eq!(&wire.sent[0].1, &[7; 60]);
        let (last, pieces) = wire.sent[1..].split_last().unwrap();
        prop_assert_eq!(&last.1, &[7; 60], "the order changed");
        prop_assert_eq!(pieces.len(), sample.payload.len().div_ceil(size));
        let mut payload = Vec::new();
        for (nth, (piece, bytes)) in pieces.iter().enumerate() {
            let is_partial = (piece.flags & flags::CSUM_PARTIAL != 0).then_some(piece.csum);
            prop_assert_eq!(is_partial.is_some(), takes_csum);
            let found = look(bytes, is_partial);
            prop_assert_eq!(found.vlan, if tag { Some(0xa064) } else { sample.tagged.then_some(5) });
            if !sample.v6 {
                prop_assert_eq!(found.id, 0xfffeu16.wrapping_add(u16::try_from(nth).unwrap()));
            }
            let (first, last) = (nth == 0, nth + 1 == pieces.len());
            if let Some(tcp) = found.tcp {
                let at = u32::try_from(payload.len()).unwrap();
                prop_assert_eq!(tcp.sequence_number, sample.sequence.wrapping_add(at));
                let flag = |bit: u8| sample.tcp_flags & (1 << bit) != 0;
                prop_assert_eq!((tcp.fin, tcp.psh, tcp.cwr), (flag(0) && last, flag(3) && last, flag(7) && first));
                prop_assert_eq!((tcp.ack, tcp.urg, tcp.ece), (flag(4), flag(5), flag(6)));
            }
            prop_assert!(last || found.payload.len() == size);
            payload.extend(found.payload);
        }
        prop_assert_eq!(payload, sample.payload);
        prop_assert_eq!(pool.free_count(), COUNT);
    }

    /// The fragments of a UDP packet, put together by offset, are its datagram, whose checksum is right.
    #[test]
    fn fragments_are_the_datagram(
        sample in sample(1..20_000),
        cuts in proptest::collection::vec(1..300usize, 0..6),
        size in 100..3000usize,
        room in 1..100usize,
    ) {
        let sample = Sample { tcp: false, ..sample };
        let pool = pool(COUNT, 2176);
        let mut packet = partial(&pool, &sample, &cuts);
        packet.flags |= flags::GSO_UDP;
        packet.gso = u32::try_from(size).unwrap();
        let wire = send_all(&pool, &[packet], 0, room);
        let mut whole = sample.bytes();
        whole.truncate(sample.l4_at());
        for (nth, (_, bytes)) in wire.sent.iter().enumerate() {
            let (at, more) = fragment(&sample, bytes);
            prop_assert_eq!(at, whole.len() - sample.l4_at());
            prop_assert_eq!(more, nth + 1 < wire.sent.len());
            let header = if sample.v6 { 8 } else { 0 };
            whole.extend(&bytes[sample.l4_at() + header..]);
        }
        prop_assert_eq!(&look(&whole, None).payload, &sample.payload);
        prop_assert_eq!(pool.free_count(), COUNT);
    }
}

/// Offset in bytes of a fragment, and whether more follow. Its IP header is right.
fn fragment(sample: &Sample, bytes: &[u8]) -> (usize, bool) {
    use etherparse::{NetHeaders, PacketHeaders};
    let headers = PacketHeaders::from_ethernet_slice(bytes).expect("headers that can be read");
    match headers.net.expect("IP") {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(ip.identification, 0xfffe, "one id for all fragments");
            (
                usize::from(ip.fragment_offset.value()) * 8,
                ip.more_fragments,
            )
        }
        NetHeaders::Ipv6(ip, extensions) => {
            let l2 = sample.l4_at() - 40 - 8 * usize::from(sample.options);
            assert_eq!(usize::from(ip.payload_length), bytes.len() - l2 - 40);
            assert!(extensions.fragment.is_some());
            // By RFC 8200, 4.5: the judge takes the bits of the offset apart wrongly.
            let header = &bytes[sample.l4_at()..][..8];
            assert_eq!(header[4..], [0, 0, 0, 1]);
            let field = u16::from_be_bytes([header[2], header[3]]);
            (usize::from(field & !7), field & 1 != 0)
        }
        NetHeaders::Arp(_) => unreachable!("IP was built"),
    }
}

/// A packet that asks for nothing.
fn plain_of(pool: &Arc<Mempool>) -> Packet {
    packet(pool, &[7; 60], &[])
}

/// What a path takes is left to it, word for word.
#[test]
fn what_is_taken_stays() {
    let pool = pool(8, 2176);
    let mut packet = packet(&pool, &[7; 100], &[30]);
    packet.flags |= flags::META & !flags::GSO | flags::GSO_TCP6;
    (packet.csum, packet.gso, packet.tag, packet.hash) = (1, 2, 3, 4);
    let wire = send_all(&pool, &[packet], flags::META, 1);
    assert_eq!(wire.sent, [(packet, vec![7; 100])]);
}

/// Flags that only tell something need nothing.
#[test]
fn telling_is_not_asking() {
    let tells = flags::MULTI | flags::CSUM_GOOD | flags::CSUM_BAD | flags::HASH;
    assert!(!SoftTx::needs(tells, 0));
    assert!(SoftTx::needs(flags::VLAN, flags::CSUM_PARTIAL));
    assert!(!SoftTx::needs(flags::VLAN, flags::VLAN));
}

/// A tag goes into the headroom, or before a packet that has none, whatever its segments; a partial checksum moves with its packet.
#[test]
fn tags_are_inserted() {
    for (cuts, no_headroom) in [
        (&[][..], false),
        (&[5, 3], false),
        (&[], true),
        (&[40], true),
    ] {
        let pool = pool(8, 2176);
        let data: Vec<u8> = (0..80).collect();
        let mut packet = packet(&pool, &data, cuts);
        if no_headroom {
            remove_headroom(&pool, &mut packet);
        }
        packet.flags |= flags::VLAN | flags::CSUM_PARTIAL;
        (packet.tag, packet.csum) = (0xabcd_6005, 34 | 6 << 16);
        let wire = send_all(&pool, &[packet], flags::CSUM_PARTIAL, 1);
        let expected = [&data[..12], &[0x81, 0, 0x60, 5], &data[12..]].concat();
        let (sent, bytes) = &wire.sent[0];
        assert_eq!(*bytes, expected, "{cuts:?} {no_headroom}");
        assert_eq!(sent.flags & flags::META, flags::CSUM_PARTIAL);
        assert_eq!(sent.csum, 38 | 6 << 16);
        assert_eq!(pool.free_count(), 8);
    }
}

/// Moves the first segment's bytes to the beginning of its buffer.
fn remove_headroom(pool: &Arc<Mempool>, packet: &mut Packet) {
    let first = pool
        .segments(packet.addr, packet.len, packet.flags)
        .expect("a right packet")
        .next()
        .expect("a segment");
    let start = pool.buffer_of(first.addr) * pool.stride();
    let next = pool.meta()[pool.buffer_of(first.addr) as usize]
        .next
        .load(std::sync::atomic::Ordering::Relaxed);
    // SAFETY: both lie inside the buffer.
    unsafe {
        pool.ptr(start)
            .copy_from(pool.ptr(first.addr), first.len as usize);
    };
    let moved = vring_mem::mempool::Segment {
        addr: start,
        len: first.len,
    };
    pool.link(moved, next);
    packet.addr = start;
}

/// While the mempool is empty a packet waits, and nothing is lost: it goes on with the first free buffer.
#[test]
fn an_empty_mempool_is_waited_for() {
    let pool = pool(4, 2176);
    let sample = Sample {
        v6: false,
        tcp: true,
        tagged: false,
        options: 0,
        tcp_options: 0,
        tcp_flags: 0x18,
        sequence: 1,
        payload: vec![5; 3000],
    };
    let mut large = partial(&pool, &sample, &[]);
    large.flags |= flags::GSO_TCP4;
    large.gso = 1000;
    let mut others = [0; 2];
    assert_eq!(pool.alloc_bulk(&mut others), 2);
    let (mut soft, counters) = (SoftTx::new(pool.clone()), Counters::default());
    let mut wire = Wire::new(&pool, 0, 100);
    let mut burst = Burst::new(1);
    assert!(burst.push_packet(&large));
    let tally = soft.tx(&mut wire, &mut burst, &counters).expect("no fault");
    assert_eq!((tally.packets, burst.len(), soft.is_empty()), (0, 0, false));
    assert_eq!(counters.nombuf(), 1);
    pool.free_bulk(&others[..1]);
    while !soft.is_empty() {
        soft.flush(&mut wire, &counters).expect("no fault");
    }
    assert_eq!(wire.sent.len(), 3);
    pool.free_bulk(&others[1..]);
    assert_eq!(pool.free_count(), 4);
}

/// What waits for a path that is gone is freed and has a name.
#[test]
fn what_waits_is_counted_at_the_end() {
    let pool = pool(16, 2176);
    let sample = Sample {
        v6: true,
        tcp: true,
        tagged: true,
        options: 1,
        tcp_options: 3,
        tcp_flags: 0x10,
        sequence: 1,
        payload: vec![5; 5000],
    };
    let mut large = partial(&pool, &sample, &[]);
    large.flags |= flags::GSO_TCP6;
    large.gso = 1000;
    let (mut soft, counters) = (SoftTx::new(pool.clone()), Counters::default());
    let mut wire = Wire::new(&pool, 0, 2);
    let mut burst = Burst::new(1);
    assert!(burst.push_packet(&large));
    let tally = soft.tx(&mut wire, &mut burst, &counters).expect("no fault");
    assert_eq!((tally.packets, soft.is_empty()), (2, false));
    soft.abandon(&counters);
    assert!(soft.is_empty());
    assert_eq!(counters.dropped(DropReason::TxUnconfirmed), 3);
    assert_eq!(pool.free_count(), 16);
}
