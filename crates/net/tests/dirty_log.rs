//! The log of a migration: the pages that the device half writes are those in the log, no more and no fewer.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::device::{APART, BORDER, END, FIRST, Guest, SECOND};
use common::{MERGEABLE, PLAIN, all_free, burst_of, layout, pattern};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vring_mem::Burst;
use vring_mem::guest::{DirtyLog, GuestMemory, LOG_PAGE, RingLog};
use vring_net::Features;
use vring_net::device::{DeviceRx, DeviceTx};
use vring_peer::{RawDesc, RawRing, WRITE};
use vring_ring::DeviceRing;

/// Bytes of a log for all of the guest's memory.
const LOG_BYTES: u64 = END / LOG_PAGE / 8 + 1;
/// Where buffers lie: over the border of two regions.
const BUFFERS: u64 = 0x2_0000;

/// A log whose file the test keeps.
struct Logged {
    file: std::os::fd::OwnedFd,
    memory: Arc<GuestMemory>,
}

impl Logged {
    fn new(guest: &Guest, bytes: u64) -> Self {
        let file = memfd_create("dirty-log", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, bytes).unwrap();
        let log = DirtyLog::map(file.try_clone().unwrap(), 0, bytes).unwrap();
        let memory = Arc::new(guest.ram.memory().with_log(Some(Arc::new(log))));
        Self { file, memory }
    }

    fn pages(&self) -> BTreeSet<u64> {
        let mut bytes = vec![0; usize::try_from(LOG_BYTES).unwrap()];
        let len = rustix::io::pread(&self.file, &mut bytes, 0).unwrap();
        (0..8 * len as u64)
            .filter(|page| bytes[usize::try_from(page / 8).unwrap()] & 1 << (page % 8) != 0)
            .collect()
    }
}

/// All bytes of the guest, by page.
fn snapshot(guest: &Guest) -> Vec<(u64, Vec<u8>)> {
    let page = usize::try_from(LOG_PAGE).unwrap();
    [FIRST, SECOND, APART]
        .into_iter()
        .flat_map(|(start, len)| (start / LOG_PAGE)..((start + len) / LOG_PAGE))
        .map(|number| (number, guest.ram.read(number * LOG_PAGE, page)))
        .collect()
}

fn ring_log(guest: &Guest) -> RingLog {
    let [desc, avail, used] = RawRing::areas(FIRST.0, guest.raw.size());
    RingLog { desc, avail, used }
}

/// What a device does in one run.
trait Work {
    fn run<R: DeviceRing>(&self, guest: &Guest, ring: R, memory: Arc<GuestMemory>);
}

/// One run of a device over memory whose bytes are all `fill` where it may write: the pages that changed, and those in the log.
fn run(
    size: u16,
    features: Features,
    in_order: bool,
    fill: u8,
    work: &impl Work,
    set_up: impl FnOnce(&Guest),
) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let guest = Guest::new(size, features);
    let logged = Logged::new(&guest, LOG_BYTES);
    for (start, end) in [(BUFFERS, BORDER), (BORDER, 0x6_0000)] {
        let len = usize::try_from(end - start).unwrap();
        guest.ram.write(start, &vec![fill; len]);
    }
    for index in 0..size {
        let word = u32::from_ne_bytes([fill; 4]);
        guest.raw.set_used_elem(index, word, word);
    }
    // Neither word is what a device writes there, not even one that wrote it twice.
    let half = u16::from_ne_bytes([fill; 2]);
    guest.raw.set_used_flags(half);
    guest.raw.set_avail_event(half);
    set_up(&guest);
    let before = snapshot(&guest);
    let memory = logged.memory.clone();
    if in_order {
        work.run(&guest, guest.ring_in_order(), memory);
    } else {
        work.run(&guest, guest.ring(), memory);
    }
    let after = snapshot(&guest);
    let changed = before.into_iter().zip(after);
    let changed = changed.filter(|(old, new)| old != new);
    let changed = changed.map(|((page, _), _)| page).collect();
    all_free(&guest.pool);
    (changed, logged.pages())
}

/// Twice, over different bytes: what is written changes one of the two.
fn check(size: u16, features: Features, in_order: bool, work: &impl Work, set_up: impl Fn(&Guest)) {
    let (changed, log) = run(size, features, in_order, 0xaa, work, &set_up);
    let (other, again) = run(size, features, in_order, 0x55, work, &set_up);
    assert_eq!(log, again);
    assert_eq!(log, &changed | &other);
}

/// Lays chains of these pieces out over the buffers, with a gap after each.
fn chains(guest: &Guest, chains: &[(Vec<u32>, u64)], flags: u16) {
    let (mut at, mut addr) = (0, BUFFERS);
    for (pieces, gap) in chains {
        let count = u16::try_from(pieces.len()).unwrap();
        let bytes: u64 = pieces.iter().map(|&len| u64::from(len)).sum();
        if at + count > guest.raw.size() || addr + bytes > 0x6_0000 {
            return;
        }
        let descs: Vec<RawDesc> = pieces
            .iter()
            .map(|&len| {
                let desc = RawDesc::new(addr, len).flags(flags);
                addr += u64::from(len);
                desc
            })
            .collect();
        guest.chain(at, &descs);
        at += count;
        addr += gap;
    }
}

fn sets() -> impl Strategy<Value = Features> {
    let event = Features::EVENT_IDX;
    prop::sample::select(vec![PLAIN, MERGEABLE, PLAIN | event, MERGEABLE | event])
}

/// Sends packets of these lengths.
struct Send {
    features: Features,
    lens: Vec<usize>,
    kicks: bool,
}

impl Work for Send {
    fn run<R: DeviceRing>(&self, guest: &Guest, ring: R, memory: Arc<GuestMemory>) {
        let (pool, layout) = (guest.pool.clone(), layout(self.features));
        let mut tx = DeviceTx::<_, false>::new(ring, memory, pool, layout)
            .with_ring_log(Some(ring_log(guest)));
        let mut burst = burst_of(&guest.pool, &self.lens);
        tx.tx(&mut burst, &guest.counters).unwrap();
        if self.kicks {
            tx.want_kicks(true);
        }
        guest.pool.free_burst(&mut burst);
    }
}

/// Receives, in bursts of at most so many packets.
struct Receive {
    features: Features,
    burst: usize,
    kicks: bool,
}

impl Work for Receive {
    fn run<R: DeviceRing>(&self, guest: &Guest, ring: R, memory: Arc<GuestMemory>) {
        let (pool, layout) = (guest.pool.clone(), layout(self.features));
        let mut rx = DeviceRx::<_, false>::new(ring, memory, pool, layout)
            .with_ring_log(Some(ring_log(guest)));
        let mut burst = Burst::new(self.burst);
        rx.rx(&mut burst, &guest.counters).unwrap();
        if self.kicks {
            rx.want_kicks(true);
        }
        guest.pool.free_burst(&mut burst);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Sending: header and data of each packet, in whatever chains the driver posted, and what was written to the ring.
    #[test]
    fn sending_logs_exactly_what_it_writes(
        power in 2u32..=9,
        features in sets(),
        posted in prop::collection::vec((prop::collection::vec(1u32..2500, 1..4), 0u64..9000), 1..60),
        lens in prop::collection::vec(14usize..1600, 1..40),
        in_order: bool,
        kicks: bool,
    ) {
        // A first buffer that does not take the header would be a fault.
        let posted: Vec<_> = posted
            .into_iter()
            .map(|(mut pieces, gap)| { pieces[0] += 12; (pieces, gap) })
            .collect();
        let send = Send { features, lens, kicks };
        check(1 << power, features, in_order, &send, |guest| chains(guest, &posted, WRITE));
    }

    /// Receiving: only the ring is written, also where chains have several descriptors.
    #[test]
    fn receiving_logs_the_ring(
        power in 2u32..=10,
        features in sets(),
        packets in prop::collection::vec((14u32..1600, prop::collection::vec(1u32..30, 0..4)), 1..400),
        burst in 1usize..512,
        in_order: bool,
        kicks: bool,
    ) {
        let receive = Receive { features, burst, kicks };
        check(1 << power, features, in_order, &receive, |guest| {
            let packets: Vec<_> = packets
                .iter()
                .map(|(first, more)| ([&[12 + first], &more[..]].concat(), 0))
                .collect();
            chains(guest, &packets, 0);
        });
    }
}

/// A front end that did not ask for the ring's own pages (`VHOST_VRING_F_LOG`) gets those of the packets alone.
#[test]
fn the_ring_is_logged_when_that_is_asked_for() {
    let guest = Guest::new(4, PLAIN);
    let logged = Logged::new(&guest, LOG_BYTES);
    guest.chain(0, &[RawDesc::new(BUFFERS + 100, 2000).flags(WRITE)]);
    let memory = logged.memory.clone();
    let mut tx = DeviceTx::<_, false>::new(guest.ring(), memory, guest.pool.clone(), layout(PLAIN));
    let mut burst = burst_of(&guest.pool, &[60]);
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 1);
    assert_eq!(logged.pages(), BTreeSet::from([BUFFERS / LOG_PAGE]));
}

/// A log that is shorter than the memory takes what it has bits for; one whose file the peer cuts stops the queue and not the process.
#[test]
fn short_and_lost_logs_do_no_harm() {
    let guest = Guest::new(4, PLAIN);
    let logged = Logged::new(&guest, 1);
    let pieces = [RawDesc::new(APART.0, 2000).flags(WRITE)];
    guest.chain(0, &pieces);
    let memory = logged.memory.clone();
    let mut tx = DeviceTx::<_, false>::new(guest.ring(), memory, guest.pool.clone(), layout(PLAIN))
        .with_ring_log(Some(RingLog {
            desc: u64::MAX,
            avail: u64::MAX,
            used: u64::MAX - 1,
        }));
    let mut burst = burst_of(&guest.pool, &[60, 60]);
    assert_eq!(guest.send(&mut tx, &mut burst).unwrap().packets, 1);
    assert_eq!(logged.pages(), BTreeSet::new());
    assert_eq!(guest.ram.read(APART.0 + 12, 60), pattern(0, 60));

    ftruncate(&logged.file, 0).unwrap();
    guest.chain(1, &pieces);
    let logged_low = logged.memory.log().unwrap();
    logged_low.mark(0, 1);
    assert!(logged_low.is_poisoned());
    let gone = guest.send(&mut tx, &mut burst).unwrap_err();
    assert_eq!(gone, vring_ring::RingFault::MemoryGone);
    guest.pool.free_burst(&mut burst);
}
