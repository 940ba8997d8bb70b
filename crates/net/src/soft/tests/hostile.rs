use proptest::prelude::*;
use vring_mem::Burst;
use vring_mem::burst::{Packet, flags};
use vring_mem::mempool::Segment;

use super::packets::{packet, pool};
use super::sample::sample;
use super::tx::Wire;
use crate::soft::{Checksum, HashTypes, RssConfig, RxConfig, SoftRx, SoftTx};
use crate::{Counters, DropReason};

/// Bytes that begin like a packet, or do not.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 14..400);
    let ether_type = proptest::sample::select(vec![0x0800u16, 0x86dd, 0x8100, 0x88a8]);
    let ethernet = (noise.clone(), ether_type).prop_map(|(mut bytes, ether_type)| {
        bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
        bytes
    });
    let damaged = (
        sample(0..500),
        proptest::collection::vec((14..120usize, any::<u8>()), 0..4),
        14..700usize,
    )
        .prop_map(|(sample, damage, len)| {
            let mut bytes = sample.bytes();
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(len);
            bytes
        });
    prop_oneof![noise, ethernet, damaged]
}

/// Words that a script may write.
fn words() -> impl Strategy<Value = [u32; 5]> {
    let near = (0..200u32, 0..200u32).prop_map(|(low, high)| low | high << 16);
    let right = proptest::sample::select(vec![
        34 | 16 << 16,
        54 | 16 << 16,
        34 | 6 << 16,
        38 | 6 << 16,
    ]);
    let word = prop_oneof![any::<u32>(), near.clone()];
    let csum = prop_oneof![any::<u32>(), near, right];
    (any::<u32>(), csum, word.clone(), word.clone(), word)
        .prop_map(|(flags, csum, gso, tag, hash)| [flags, csum, gso, tag, hash])
}

fn with_words(mut packet: Packet, [all, csum, gso, tag, hash]: [u32; 5]) -> Packet {
    packet.flags |= all & flags::META;
    (packet.csum, packet.gso, packet.tag, packet.hash) = (csum, gso, tag, hash);
    packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever stands in packets and their metadata, each is sent, waits or is dropped under a name, and all buffers come back.
    #[test]
    fn any_metadata_is_survived_on_transmit(
        packets in proptest::collection::vec((bytes(), words(), proptest::collection::vec(1..100usize, 0..4)), 1..6),
        takes in any::<u32>(),
    ) {
        let pool = pool(128, 512);
        let counters = Counters::default();
        let mut burst = Burst::new(packets.len());
        for (bytes, words, cuts) in &packets {
            burst.push_packet(&with_words(packet(&pool, bytes, cuts), *words));
        }
        let mut wire = Wire::new(&pool, takes & flags::META, 0);
        let mut soft = SoftTx::new(pool.clone());
        let mut refused = 0;
        for round in 0.. {
            prop_assert!(round < 10_000, "it stands still");
            wire.room = 100;
            refused += soft.tx(&mut wire, &mut burst, &counters).unwrap().refused;
            if burst.is_empty() && soft.is_empty() {
                break;
            }
        }
        prop_assert_eq!(counters.dropped(DropReason::TxBadPacket), refused as u64);
        prop_assert!(refused + wire.sent.len() >= packets.len());
        prop_assert_eq!(pool.free_count(), 128);
    }

    /// The same for packets that come in, with everything switched on.
    #[test]
    fn any_metadata_is_survived_on_receive(
        packets in proptest::collection::vec((bytes(), words(), proptest::collection::vec(1..100usize, 0..4)), 1..6),
        (complete, filter) in (any::<bool>(), any::<bool>()),
    ) {
        let pool = pool(64, 512);
        let counters = Counters::default();
        let mut burst = Burst::new(packets.len());
        for (bytes, words, cuts) in &packets {
            burst.push_packet(&with_words(packet(&pool, bytes, cuts), *words));
        }
        let soft = SoftRx::new(pool.clone(), &RxConfig {
            promiscuous: !filter,
            vlan_filter: filter.then(|| Box::new([1, 5].into_iter().collect())),
            vlan_strip: true,
            checksum: if complete { Checksum::Complete } else { Checksum::Verify },
            hash: Some(RssConfig { types: HashTypes::all(), ..RssConfig::even(4) }),
            ..RxConfig::default()
        });
        let filtered = soft.run(&mut burst, 0, &counters);
        prop_assert_eq!(filtered.packets + burst.len(), packets.len());
        for at in 0..burst.len() {
            let packet = burst.packet(at);
            prop_assert!(pool.segments(packet.addr, packet.len, packet.flags).is_ok());
        }
        pool.free_burst(&mut burst);
        prop_assert_eq!(pool.free_count(), 64);
    }
}

/// What a script wrote into a burst that is no packet at all is dropped, or left to the path, and read nowhere.
#[test]
fn no_packets_at_all() {
    let pool = pool(4, 512);
    let counters = Counters::default();
    let mut burst = Burst::new(8);
    let all = flags::META & !flags::GSO;
    let mut circle = [0];
    assert_eq!(pool.alloc_bulk(&mut circle), 1);
    pool.link(
        Segment {
            addr: circle[0],
            len: 60,
        },
        u32::MAX - 1,
    );
    for (addr, len, flags) in [
        (u32::MAX, 60, all),
        (u32::MAX - 700, u32::MAX, all),
        (u32::MAX - 3, 8, all | flags::MULTI),
        (u32::MAX - 900, 60, all | flags::GSO_UDP),
        (circle[0], 60, all | flags::GSO_TCP4 | flags::MULTI),
    ] {
        burst.push_packet(&Packet {
            addr,
            len,
            flags,
            csum: u32::MAX,
            gso: u32::MAX,
            ..Packet::default()
        });
    }
    SoftRx::new(
        pool.clone(),
        &RxConfig {
            promiscuous: false,
            vlan_strip: true,
            ..RxConfig::default()
        },
    )
    .run(&mut burst, 3, &counters);
    let mut wire = Wire::new(&pool, 0, 10);
    let before = burst.len();
    let tally = SoftTx::new(pool.clone())
        .tx(&mut wire, &mut burst, &counters)
        .expect("no fault");
    assert_eq!((tally.packets, tally.refused), (0, before));
    assert_eq!(pool.free_count(), 4);
}
