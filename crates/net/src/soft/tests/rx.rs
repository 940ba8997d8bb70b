use proptest::prelude::*;
use vring_mem::Burst;
use vring_mem::burst::{Packet, flags};

use super::packets::{bytes, packet, pool};
use super::sample::{Sample, look, sample};
use crate::soft::{Checksum, HashReport, HashTypes, RssConfig, RxConfig, SoftRx, Toeplitz};
use crate::{Counters, DropReason};

fn verify() -> RxConfig {
    RxConfig {
        checksum: Checksum::Verify,
        ..RxConfig::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A right checksum is found good, and bad as soon as one bit that it covers has changed.
    #[test]
    fn checksums_are_verified(
        sample in sample(0..2000),
        cuts in proptest::collection::vec(1..200usize, 0..5),
        bit in any::<proptest::sample::Index>(),
        padding in 0..20usize,
    ) {
        let pool = pool(64, 1024);
        let counters = Counters::default();
        let mut all = sample.bytes();
        let mut damaged = all.clone();
        let at = sample.l4_at() * 8 + bit.index((all.len() - sample.l4_at()) * 8);
        damaged[at / 8] ^= 1 << (at % 8);
        // What follows the IP packet does not count.
        all.extend(vec![0xff; padding]);
        damaged.extend(vec![0xff; padding]);
        let mut burst = Burst::new(4);
        burst.push_packet(&packet(&pool, &all, &cuts));
        burst.push_packet(&packet(&pool, &damaged, &cuts));
        SoftRx::new(pool.clone(), &verify()).run(&mut burst, 0, &counters);
        prop_assert_eq!(burst.packet(0).flags & flags::META, flags::CSUM_GOOD);
        // A checksum of 0 says of UDP over IPv4 that there is none.
        let none = !sample.tcp && !sample.v6 && damaged[sample.l4_at() + 6..][..2] == [0, 0];
        prop_assert_eq!(burst.packet(1).flags & flags::META, if none { 0 } else { flags::CSUM_BAD });
        pool.free_burst(&mut burst);
    }

    /// Who knows nothing of offloads gets what would have been on the wire.
    #[test]
    fn partial_checksums_are_completed(
        sample in sample(0..2000),
        cuts in proptest::collection::vec(1..200usize, 0..5),
    ) {
        let pool = pool(64, 1024);
        let mut burst = Burst::new(4);
        let mut one = packet(&pool, &sample.partial(), &cuts);
        one.flags |= flags::CSUM_PARTIAL;
        one.csum = sample.csum();
        burst.push_packet(&one);
        burst.push_packet(&Packet { flags: one.flags | sample.gso(), ..packet(&pool, &sample.partial(), &cuts) });
        SoftRx::new(pool.clone(), &RxConfig::default()).run(&mut burst, 0, &Counters::default());
        let one = burst.packet(0);
        prop_assert_eq!(one.flags & flags::META, flags::CSUM_GOOD);
        prop_assert_eq!(look(&bytes(&pool, &one), None).payload, sample.payload);
        prop_assert_ne!(burst.packet(1).flags & flags::CSUM_PARTIAL, 0, "one to be cut keeps what it needs");
        burst.set_len(1);
        pool.free_burst(&mut burst);
    }

    /// The hash is that of the addresses and ports that another parser finds.
    #[test]
    fn hashes_are_of_addresses_and_ports(
        sample in sample(0..100),
        types in 0..64u32,
        cuts in proptest::collection::vec(1..60usize, 0..3),
    ) {
        let pool = pool(64, 1024);
        let rss = RssConfig { types: HashTypes::from_bits_retain(types), ..RssConfig::even(4) };
        let mut burst = Burst::new(1);
        burst.push_packet(&packet(&pool, &sample.bytes(), &cuts));
        let config = RxConfig { hash: Some(rss), checksum: Checksum::Off, ..RxConfig::default() };
        SoftRx::new(pool.clone(), &config).run(&mut burst, 0, &Counters::default());
        let got = burst.packet(0);
        let mut input = if sample.v6 { [[0x20u8; 16], [0xfe; 16]].concat() } else { vec![10, 0, 0, 1, 10, 9, 8, 7] };
        let (of_ports, of_addresses, reports) = match (sample.v6, sample.tcp) {
            (false, true) => (HashTypes::TCP4, HashTypes::IPV4, (HashReport::Tcp4, HashReport::Ipv4)),
            (false, false) => (HashTypes::UDP4, HashTypes::IPV4, (HashReport::Udp4, HashReport::Ipv4)),
            (true, true) => (HashTypes::TCP6, HashTypes::IPV6, (HashReport::Tcp6, HashReport::Ipv6)),
            (true, false) => (HashTypes::UDP6, HashTypes::IPV6, (HashReport::Udp6, HashReport::Ipv6)),
        };
        let types = HashTypes::from_bits_retain(types);
        let expected = if types.contains(of_ports) {
            input.extend([1111u16.to_be_bytes(), 2222u16.to_be_bytes()].concat());
            Some(reports.0)
        } else {
            types.contains(of_addresses).then_some(reports.1)
        };
        match expected {
            None => prop_assert_eq!(got.flags & flags::META, 0),
            Some(report) => {
                prop_assert_eq!(got.flags & flags::META, flags::HASH);
                prop_assert_eq!(got.hash, Toeplitz::new(&RssConfig::KEY).hash(&input));
                prop_assert_eq!(got.tag >> 16, report as u32);
            }
        }
        pool.free_burst(&mut burst);
    }

    /// A tag that was taken out stands in the tag word; put in again, the packet is what it was.
    #[test]
    fn tags_are_stripped(
        sample in sample(0..500),
        first in 17..60usize,
    ) {
        let pool = pool(64, 1024);
        let sample = Sample { tagged: true, ..sample };
        let whole = sample.bytes();
        let mut burst = Burst::new(1);
        burst.push_packet(&packet(&pool, &whole, &[first]));
        let config = RxConfig { vlan_strip: true, ..verify() };
        SoftRx::new(pool.clone(), &config).run(&mut burst, 0, &Counters::default());
        let got = burst.packet(0);
        prop_assert_eq!(got.flags & flags::META, flags::VLAN | flags::CSUM_GOOD);
        prop_assert_eq!(got.tag, 5);
        let expected = [&whole[..12], &whole[16..]].concat();
        prop_assert_eq!(bytes(&pool, &got), expected);
        pool.free_burst(&mut burst);
        prop_assert_eq!(pool.free_count(), 64);
    }
}

/// What is not wanted is freed and counted, the rest closes up, and packets that were in the burst before are not looked at.
#[test]
fn filters() {
    let pool = pool(16, 2176);
    let counters = Counters::default();
    let mut burst = Burst::new(16);
    let frame = |destination: [u8; 6], vlan: Option<u16>, len: usize| {
        let mut frame = destination.to_vec();
        frame.extend([2, 0, 0, 0, 0, 9]);
        if let Some(id) = vlan {
            frame.extend([0x81, 0]);
            frame.extend((0xe000 | id).to_be_bytes());
        }
        frame.extend([8, 0]);
        frame.resize(len, 0);
        frame
    };
    let (own, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    burst.push_packet(&packet(&pool, &frame(other, None, 60), &[]));
    for (destination, vlan, len, outside) in [
        (own, None, 61, None),
        (other, None, 62, None),
        (own, Some(7), 63, None),
        (own, Some(8), 64, None),
        ([0xff; 6], Some(0), 65, None),
        (own, None, 66, Some(8)),
        (own, Some(8), 67, Some(7)),
        ([0x33, 0x33, 0, 0, 0, 1], None, 68, None),
    ] {
        let mut one = packet(&pool, &frame(destination, vlan, len), &[]);
        if let Some(tci) = outside {
            one.flags |= flags::VLAN;
            one.tag = tci;
        }
        burst.push_packet(&one);
    }
    let config = RxConfig {
        promiscuous: false,
        mac: own,
        vlan_filter: Some(Box::new([7].into_iter().collect())),
        ..RxConfig::default()
    };
    let filtered = SoftRx::new(pool.clone(), &config).run(&mut burst, 1, &counters);
    assert_eq!(burst.packets().1, [60, 61, 63, 65, 67]);
    assert_eq!((filtered.packets, filtered.bytes), (4, 62 + 64 + 66 + 68));
    assert_eq!(counters.dropped(DropReason::RxFiltered), 4);
    pool.free_burst(&mut burst);
    assert_eq!(pool.free_count(), 16);
}

/// With nothing to do, nothing is looked at.
#[test]
fn idle() {
    let pool = pool(1, 256);
    let idle = |config: &RxConfig, gives| SoftRx::new(pool.clone(), config).is_idle(gives);
    assert!(idle(&RxConfig::default(), flags::HASH));
    assert!(!idle(&RxConfig::default(), flags::CSUM_PARTIAL));
    let off = RxConfig {
        checksum: Checksum::Off,
        ..RxConfig::default()
    };
    assert!(idle(&off, flags::META));
    assert!(!idle(&verify(), 0));
    assert!(!idle(
        &RxConfig {
            vlan_strip: true,
            ..off
        },
        0
    ));
}
