//! Peers that write anything anywhere, between bursts and during them: whatever happens is a named fault or a packet, and in the end no
//! buffer is missing. A queue that faulted is started again, as a peer that comes back would.

mod common;

use common::device::{BUFFERS, END, FIRST, Guest};
use common::driver::Host;
use common::{HEADER, MERGEABLE, PLAIN, all_free, meanwhile, pattern, put, take_all};
use proptest::prelude::*;
use vring_mem::Burst;
use vring_net::Features;
use vring_net::device::{DeviceRx, DeviceTx};
use vring_peer::{INDIRECT, NEXT, RawDesc, RawRing, WRITE};
use vring_ring::RingFault;
use vring_ring::split::SplitDevice;

/// Numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    fn word(&mut self) -> u16 {
        let word = self.next().to_le_bytes();
        u16::from_le_bytes([word[2], word[3]])
    }

    /// A descriptor with a grain of sense in it.
    fn desc(&mut self) -> RawDesc {
        let addr = match self.below(8) {
            0 => self.next(),
            1 => END - self.below(4096),
            2 => FIRST.0 + self.below(0x2_0000),
            _ => BUFFERS + self.below(0x1_0000) / 16 * 16,
        };
        let len = match self.below(8) {
            0 => u32::MAX - u32::from(self.word()),
            1 => u32::try_from(self.below(40)).unwrap(),
            2 => 16 * u32::try_from(self.below(40)).unwrap(),
            _ => 60 + u32::try_from(self.below(2100)).unwrap(),
        };
        let flags = match self.below(4) {
            0 => self.word() & (NEXT | WRITE | INDIRECT),
            1 => WRITE,
            2 => 0,
            _ => NEXT,
        };
        RawDesc {
            addr,
            len,
            flags,
            next: self.word() % 32,
        }
    }

    /// Does something to a ring, as its driver.
    fn drive(&mut self, raw: &RawRing) {
        let id = self.word() % raw.size();
        match self.below(16) {
            0 => raw.set_avail_idx(self.word()),
            1 => raw.offer(self.word()),
            2 => raw.set_avail_flags(self.word()),
            3 => raw.set_used_event(self.word()),
            4 => raw.set_used_idx(self.word()),
            5 | 6 => raw.set_avail_idx(raw.used_idx()),
            _ => {
                raw.set_desc(id, self.desc());
                raw.offer(id);
            }
        }
    }

    /// Does something to a ring, as its device.
    fn serve(&mut self, raw: &RawRing) {
        let len = u32::try_from(self.below(2100)).unwrap();
        match self.below(16) {
            0 => raw.set_used_idx(self.word()),
            1 => raw.give(u32::from(self.word()) << 8, len),
            2 => raw.give((self.word() % raw.size()).into(), u32::MAX - len),
            3 => raw.set_desc(self.word(), self.desc()),
            4 => raw.set_avail_entry(self.word(), self.word()),
            5 => raw.set_avail_event(self.word()),
            6 => raw.set_used_flags(self.word()),
            _ => raw.give(raw.avail_entry(raw.used_idx()).into(), len),
        }
    }
}

/// One call in each direction on the device half, which is started again after a fault. How many packets and faults there were.
fn use_device(
    guest: &Guest,
    rx: &mut DeviceRx<SplitDevice>,
    tx: &mut DeviceTx<SplitDevice>,
    receives: bool,
) -> Result<usize, RingFault> {
    if receives {
        let packets = guest.receive(rx).inspect_err(|_| *rx = guest.rx())?;
        assert!(packets.iter().all(|packet| packet.len() >= 14));
        return Ok(packets.len());
    }
    let mut burst = Burst::new(8);
    while put(&guest.pool, &mut burst, &pattern(1, 1500), 700) {}
    let sent = guest.send(tx, &mut burst);
    guest.pool.free_burst(&mut burst);
    Ok(sent.inspect_err(|_| *tx = guest.tx())?.packets)
}

fn device_survives(seed: u64, features: Features, receives: bool, steps: u32) {
    let guest = Guest::new(32, features);
    let (mut rx, mut tx) = (guest.rx(), guest.tx());
    let mut random = Random(seed | 1);
    for _ in 0..steps {
        for _ in 0..random.below(6) {
            random.drive(&guest.raw);
        }
        let _any = use_device(&guest, &mut rx, &mut tx, receives);
    }
    drop((rx, tx));
    all_free(&guest.pool);
}

fn driver_survives<const MRG: bool>(seed: u64, steps: u32) {
    let features = if MRG { MERGEABLE } else { PLAIN };
    let (rx_host, tx_host) = (Host::new(16, features, 256), Host::new(16, features, 256));
    let (mut rx, mut tx) = (rx_host.rx::<MRG>(), tx_host.tx());
    let mut random = Random(seed | 1);
    for _ in 0..steps {
        for _ in 0..random.below(4) {
            let count = random.word() % 6;
            rx_host.fill_any(random.word(), count);
            random.serve(&rx_host.raw);
            random.serve(&tx_host.raw);
        }
        if rx_host.receive(&mut rx).is_err() {
            rx.abandon(&rx_host.counters);
            drop(rx);
            rx = rx_host.rx();
        }
        let mut burst = Burst::new(4);
        while put(&tx_host.pool, &mut burst, &pattern(1, 300), 100) {}
        if tx.tx(&mut burst, &tx_host.counters).is_err() {
            tx.abandon(&tx_host.counters);
            drop(tx);
            tx = tx_host.tx();
        }
        tx_host.pool.free_burst(&mut burst);
    }
    drop((rx, tx));
    all_free(&rx_host.pool);
    all_free(&tx_host.pool);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The device half lives through any driver.
    #[test]
    fn device_half_survives_any_driver(seed: u64, mergeable: bool, receives: bool) {
        device_survives(seed, if mergeable { MERGEABLE } else { PLAIN }, receives, 300);
    }

    /// The driver half lives through any device.
    #[test]
    fn driver_half_survives_any_device(seed: u64, mergeable: bool) {
        if mergeable {
            driver_survives::<true>(seed, 300);
        } else {
            driver_survives::<false>(seed, 300);
        }
    }
}

/// The same with a driver that writes while the bursts run: whatever is read twice could be two things (CVE-2024-11614 and its like).
#[test]
fn device_half_survives_a_driver_that_writes_meanwhile() {
    for (seed, receives) in [(1, true), (2, false)] {
        let guest = Guest::new(32, MERGEABLE);
        let (mut rx, mut tx) = (guest.rx(), guest.tx());
        let (mut packets, mut faults) = (0, 0);
        let (raw, mut random) = (guest.raw, Random(seed));
        meanwhile(
            || random.drive(&raw),
            || {
                // The other thread may begin late.
                let mut rounds = 0;
                while rounds < 5_000 || packets + faults == 0 {
                    rounds += 1;
                    assert!(rounds < 500_000, "nothing happened");
                    match use_device(&guest, &mut rx, &mut tx, receives) {
                        Ok(count) => packets += count,
                        Err(_) => faults += 1,
                    }
                }
            },
        );
        drop((rx, tx));
        all_free(&guest.pool);
    }
}

/// What a driver flips between a small length and one beyond the memory is taken as one of the two, never as a mixture.
#[test]
fn a_length_that_flips_is_read_once() {
    let guest = Guest::new(2, PLAIN);
    let mut rx = guest.rx();
    let data = pattern(5, 100);
    let len = guest.packet(BUFFERS, &data);
    let (raw, flips) = (guest.raw, [len, u32::MAX, HEADER + 14]);
    raw.set_desc(0, RawDesc::new(BUFFERS, len));
    let flip = || {
        for len in flips {
            raw.set_desc(0, RawDesc::new(BUFFERS, len));
        }
    };
    let mut read = || {
        guest.raw.set_avail_idx(guest.raw.used_idx());
        guest.raw.offer(0);
        match guest.receive(&mut rx) {
            Ok(packets) => {
                let whole = |p: &Vec<u8>| *p == data || *p == data[..14];
                assert!(packets.iter().all(whole));
            }
            Err(fault) => {
                let (addr, len) = (BUFFERS, u32::MAX);
                assert_eq!(fault, RingFault::Address { addr, len });
                rx = guest.rx();
            }
        }
    };
    meanwhile(flip, || (0..5_000).for_each(|_| read()));
    drop(rx);
    all_free(&guest.pool);
}

/// [`take_all`] is what all of the above read packets with: it finds what was put.
#[test]
fn the_reader_reads() {
    let pool = common::pool(8);
    let mut burst = Burst::new(4);
    assert!(put(&pool, &mut burst, &pattern(1, 300), 100));
    assert_eq!(take_all(&pool, &mut burst), [pattern(1, 300)]);
    all_free(&pool);
}
