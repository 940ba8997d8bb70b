//! Our device half behind an IOMMU: what is not translated yet waits in the ring, and is not lost; what may not be done is a fault.

mod common;

use std::sync::Arc;

use common::device::{BUFFERS, Guest, TABLES};
use common::{HEADER, MERGEABLE, PLAIN, all_free, burst_of, pattern, take_all};
use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use vring_mem::Burst;
use vring_mem::guest::{Access, GuestMemory, Iotlb, Misses};
use vring_net::Features;
use vring_peer::{INDIRECT, RawDesc, WRITE};
use vring_ring::RingFault;

/// Where I/O virtual addresses begin: they are the guest's with this added.
const IOVA: u64 = 1 << 40;
const PAGE: u64 = 4096;
const RW: Access = Access::all();

/// What a front end does for a guest.
struct Iommu {
    iotlb: Iotlb,
    misses: Arc<Misses>,
    asked: Vec<(u64, Access)>,
}

impl Iommu {
    fn new() -> Self {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        Self {
            iotlb: Iotlb::default(),
            misses: Arc::new(Misses::new(Arc::new(wake))),
            asked: Vec::new(),
        }
    }

    fn memory(&self, guest: &Guest) -> Arc<GuestMemory> {
        let misses = self.misses.clone();
        Arc::new(self.iotlb.translated(guest.ram.memory(), misses))
    }

    fn allow(&mut self, guest: &Guest, iova: u64, size: u64, access: Access) {
        let map = guest.ram.memory();
        let told = self
            .iotlb
            .update((iova, size), iova - IOVA, access, map, |_, _| false);
        told.unwrap();
        self.misses.told(iova, size, access);
    }

    /// Tells the pages that were asked for; how many.
    fn serve(&mut self, guest: &Guest) -> usize {
        let mut asked = Vec::new();
        self.misses.ask(|page, access, _| {
            asked.push((page, access));
            true
        });
        for &(page, access) in &asked {
            self.allow(guest, page, PAGE, access);
        }
        self.asked.extend(&asked);
        asked.len()
    }

    /// Says that there is nothing where it was asked for.
    fn refuse(&self) {
        let mut asked = Vec::new();
        self.misses.ask(|_, _, number| {
            asked.push(number);
            true
        });
        for number in asked {
            self.misses.answered(number, true);
        }
    }
}

/// Packets wait until their pages are told, arrive whole and in order, and each page is asked for once, to be read.
#[test]
fn received_packets_wait_for_their_pages() {
    let (guest, mut iommu) = (Guest::new(16, PLAIN), Iommu::new());
    let mut rx = guest.rx();
    rx.set_memory(&iommu.memory(&guest));
    let mut sent = Vec::new();
    for n in 0..16u16 {
        // Every third over the border of two pages.
        let at = BUFFERS + u64::from(n) * PAGE + if n % 3 == 0 { PAGE - 40 } else { 1000 };
        let data = pattern(n.into(), 60 + usize::from(n));
        let len = guest.packet(at, &data);
        guest.chain(n, &[RawDesc::new(IOVA + at, len)]);
        sent.push(data);
    }
    let mut received = Vec::new();
    for _ in 0..100 {
        received.extend(guest.receive(&mut rx).unwrap());
        if received.len() == 16 {
            break;
        }
        assert_eq!(
            guest.receive(&mut rx),
            Ok(vec![]),
            "nothing comes by itself"
        );
        assert!(iommu.serve(&guest) > 0);
        rx.set_memory(&iommu.memory(&guest));
    }
    assert_eq!(received, sent);
    assert_eq!(guest.counters.iotlb_misses(), iommu.asked.len() as u64);
    let mut pages: Vec<_> = iommu
        .asked
        .iter()
        .map(|&(page, access)| (page, access.bits()))
        .collect();
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages.len(), iommu.asked.len(), "once each");
    assert!(
        iommu
            .asked
            .iter()
            .all(|&(_, access)| access == Access::READ)
    );
    drop(rx);
    all_free(&guest.pool);
}

/// The pages of all chains in sight are asked for at once: a guest that maps each buffer by itself costs one round, not one for each.
#[test]
fn misses_are_looked_for_ahead() {
    let (guest, mut iommu) = (Guest::new(32, PLAIN), Iommu::new());
    let mut rx = guest.rx();
    rx.set_memory(&iommu.memory(&guest));
    for n in 0..16u16 {
        let at = BUFFERS + u64::from(n) * PAGE;
        let len = guest.packet(at, &pattern(n.into(), 60));
        guest.chain(n, &[RawDesc::new(IOVA + at, len)]);
    }
    assert_eq!(guest.receive(&mut rx), Ok(vec![]));
    assert_eq!(iommu.serve(&guest), 16);
    rx.set_memory(&iommu.memory(&guest));
    assert_eq!(guest.receive(&mut rx).unwrap().len(), 16);
    drop(rx);
    all_free(&guest.pool);
}

/// Tables are read, whatever is in them; a table and a chain in pieces wait for the last of their pages.
#[test]
fn tables_and_chains_wait_too() {
    let (guest, mut iommu) = (Guest::new(8, Features::INDIRECT_DESC | PLAIN), Iommu::new());
    let mut rx = guest.rx();
    rx.set_memory(&iommu.memory(&guest));
    let data = pattern(3, 100);
    let bytes = [vec![0; HEADER as usize], data.clone()].concat();
    guest.ram.write(BUFFERS, &bytes[..50]);
    guest.ram.write(BUFFERS + PAGE, &bytes[50..]);
    let piece = |at: u64, len| RawDesc::new(IOVA + at, len);
    let rest = u32::try_from(bytes.len()).unwrap() - 50;
    let first = piece(BUFFERS, 50).next(1);
    guest.ram.write(TABLES, &first.bytes());
    guest
        .ram
        .write(TABLES + 16, &piece(BUFFERS + PAGE, rest).bytes());
    guest.raw.set_desc(0, piece(TABLES, 32).flags(INDIRECT));
    guest.raw.offer(0);
    guest.chain(2, &[piece(BUFFERS, 50), piece(BUFFERS + PAGE, rest)]);
    let mut received = Vec::new();
    for _ in 0..10 {
        received.extend(guest.receive(&mut rx).unwrap());
        iommu.serve(&guest);
        rx.set_memory(&iommu.memory(&guest));
    }
    assert_eq!(received, [data.clone(), data]);
    assert_eq!(iommu.asked.len(), 3);
    drop(rx);
    all_free(&guest.pool);
}

/// What is sent waits in the burst while the driver's buffers are not translated, and what was sent before stays sent.
#[test]
fn sent_packets_stay_in_the_burst() {
    for features in [PLAIN, MERGEABLE] {
        let (guest, mut iommu) = (Guest::new(8, features), Iommu::new());
        let mut tx = guest.tx();
        iommu.allow(&guest, IOVA + BUFFERS, PAGE, RW);
        // It may be read: that is no help.
        iommu.allow(&guest, IOVA + BUFFERS + PAGE, PAGE, Access::READ);
        tx.set_memory(&iommu.memory(&guest));
        for n in 0..3u16 {
            let at = IOVA + BUFFERS + u64::from(n) * PAGE;
            guest.chain(n, &[RawDesc::new(at, 2000).flags(WRITE)]);
        }
        let mut burst = burst_of(&guest.pool, &[60, 100, 1400]);
        assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 1);
        assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 0);
        assert_eq!((burst.len(), guest.raw.used_idx()), (2, 1));
        assert_eq!(guest.counters.iotlb_misses(), 2);
        assert_eq!(iommu.serve(&guest), 2);
        assert!(
            iommu
                .asked
                .iter()
                .all(|&(_, access)| access == Access::WRITE)
        );
        tx.set_memory(&iommu.memory(&guest));
        assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 2);
        assert_eq!((burst.len(), guest.raw.used_idx()), (0, 3));
        drop(tx);
        all_free(&guest.pool);
    }
}

/// A packet over several buffers goes when all of them are translated; none of it goes before.
#[test]
fn a_packet_over_several_buffers_goes_as_a_whole() {
    let (guest, mut iommu) = (Guest::new(8, MERGEABLE), Iommu::new());
    let mut tx = guest.tx();
    iommu.allow(&guest, IOVA + BUFFERS, PAGE, RW);
    tx.set_memory(&iommu.memory(&guest));
    for n in 0..3u16 {
        let at = IOVA + BUFFERS + u64::from(n) * PAGE;
        guest.chain(n, &[RawDesc::new(at, 600).flags(WRITE)]);
    }
    let mut burst = burst_of(&guest.pool, &[1500]);
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 0);
    assert_eq!(guest.raw.used_idx(), 0);
    iommu.serve(&guest);
    tx.set_memory(&iommu.memory(&guest));
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 1);
    assert_eq!(guest.raw.used_idx(), 3);
    drop(tx);
    all_free(&guest.pool);
}

/// A driver that points where its IOMMU has nothing broke the rules: the fault comes when the front end has said so, after the packets before.
#[test]
fn what_is_refused_is_a_fault() {
    for bad in [IOVA + BUFFERS + PAGE, 0, 1 << 50, u64::MAX - 100] {
        let (guest, mut iommu) = (Guest::new(8, PLAIN), Iommu::new());
        let mut rx = guest.rx();
        iommu.allow(&guest, IOVA + BUFFERS, PAGE, RW);
        rx.set_memory(&iommu.memory(&guest));
        let good = pattern(1, 60);
        let len = guest.packet(BUFFERS, &good);
        guest.chain(0, &[RawDesc::new(IOVA + BUFFERS, len)]);
        guest.chain(1, &[RawDesc::new(bad, len)]);
        assert_eq!(guest.receive(&mut rx), Ok(vec![good]));
        assert_eq!(guest.receive(&mut rx), Ok(vec![]));
        assert_eq!(guest.receive(&mut rx), Ok(vec![]));
        iommu.refuse();
        let fault = Err(RingFault::Address { addr: bad, len });
        assert_eq!(guest.receive(&mut rx), fault);
        assert_eq!(guest.receive(&mut rx), fault);
        drop(rx);
        all_free(&guest.pool);
    }
    // What no update can ever tell is a fault at once.
    let (guest, iommu) = (Guest::new(8, PLAIN), Iommu::new());
    let mut rx = guest.rx();
    rx.set_memory(&iommu.memory(&guest));
    guest.chain(0, &[RawDesc::new(u64::MAX - 10, 72)]);
    let fault = RingFault::Address {
        addr: u64::MAX - 10,
        len: 72,
    };
    assert_eq!(guest.receive(&mut rx), Err(fault));
}

/// A storm of addresses that nobody knows costs a bounded number of questions, and no buffer.
#[test]
fn a_storm_of_misses() {
    let (guest, mut iommu) = (Guest::new(256, PLAIN), Iommu::new());
    let mut rx = guest.rx();
    rx.set_memory(&iommu.memory(&guest));
    for n in 0..256u16 {
        let at = IOVA + (u64::from(n) << 32);
        guest.chain(n, &[RawDesc::new(at, 1 << 20)]);
    }
    for _ in 0..1000 {
        assert_eq!(guest.receive(&mut rx), Ok(vec![]));
    }
    let mut asked = 0;
    iommu.misses.ask(|_, _, _| {
        asked += 1;
        true
    });
    assert!((1..=256).contains(&asked), "{asked}");
    assert_eq!(guest.counters.iotlb_misses(), asked);
    assert_eq!(
        iommu.serve(&guest),
        0,
        "and no more while they are not answered"
    );
    drop(rx);
    all_free(&guest.pool);
}

proptest! {
    /// Pages come and go at any time: what arrives is what was sent, in order, whatever was known when.
    #[test]
    fn translations_come_and_go(steps in proptest::collection::vec((0u64..12, any::<bool>()), 20..60)) {
        let (guest, mut iommu) = (Guest::new(16, PLAIN), Iommu::new());
        let mut rx = guest.rx();
        let mut sent = Vec::new();
        let mut received = Vec::new();
        let mut burst = Burst::new(32);
        let mut steps = steps.into_iter();
        let mut rounds = 0;
        while received.len() < 64 {
            rounds += 1;
            prop_assert!(rounds < 2000);
            while sent.len() < 64 && sent.len() - received.len() < 8 {
                let n = sent.len();
                let at = BUFFERS + (n as u64 % 8) * 1700;
                let data = pattern(u32::try_from(n).unwrap(), 60 + 20 * (n % 60));
                let len = guest.packet(at, &data);
                guest.chain(u16::try_from(n % 16).unwrap(), &[RawDesc::new(IOVA + at, len)]);
                sent.push(data);
            }
            if let Some((page, all)) = steps.next() {
                let size = if all { 4 * PAGE } else { PAGE };
                iommu.iotlb.invalidate(IOVA + BUFFERS + page * PAGE, size);
            }
            iommu.serve(&guest);
            rx.set_memory(&iommu.memory(&guest));
            rx.rx(&mut burst, &guest.counters).unwrap();
            received.extend(take_all(&guest.pool, &mut burst));
        }
        prop_assert_eq!(received, sent);
        drop(rx);
        all_free(&guest.pool);
    }
}
