//! The log of a migration over a packed ring: packets, used descriptors and the event word.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::device::{END, FIRST, Guest};
use common::{MERGEABLE, all_free, layout, pattern, put};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vring_mem::Burst;
use vring_mem::guest::{DirtyLog, LOG_PAGE, RingLog};
use vring_net::Features;
use vring_net::device::DeviceTx;
use vring_peer::WRITE;
use vring_peer::packed::{PackedDesc, Place, RawPacked};
use vring_ring::RingFeatures;
use vring_ring::packed::PackedDevice;

/// Three pages of descriptors.
const SIZE: u16 = 600;
const BUFFERS: u64 = 0x2_0000;
const BURST: u16 = 32;

fn pages(guest: &Guest) -> Vec<Vec<u8>> {
    let page = usize::try_from(LOG_PAGE).unwrap();
    let first = FIRST.0..FIRST.0 + FIRST.1;
    first
        .step_by(page)
        .map(|addr| guest.ram.read(addr, page))
        .collect()
}

/// Burst after burst, twice round the ring: the log has the pages that changed, and no other.
#[test]
fn sending_over_a_packed_ring_logs_exactly_what_it_writes() {
    // The guest's own split ring is not used.
    let guest = Guest::new(2, MERGEABLE);
    let raw = RawPacked::guest(&guest.ram, FIRST.0, SIZE);
    let areas = RawPacked::areas(FIRST.0, SIZE);
    let [desc, driver, device] = areas.map(|addr| guest.ram.theirs(addr, 1));
    let features = RingFeatures::default();
    // SAFETY: the areas lie in the memory, which the transmitting half below holds.
    let ring = unsafe { PackedDevice::new(desc, driver, device, SIZE, 0x8000_8000, features) };

    let len = END / LOG_PAGE / 8 + 1;
    let file = memfd_create("dirty-log", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, len).unwrap();
    let take = || -> BTreeSet<u64> {
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        rustix::io::pread(&file, &mut bytes, 0).unwrap();
        rustix::io::pwrite(&file, &vec![0; bytes.len()], 0).unwrap();
        let bit = |page: u64| bytes[usize::try_from(page / 8).unwrap()] & 1 << (page % 8) != 0;
        (0..8 * len).filter(|&page| bit(page)).collect()
    };
    let log = DirtyLog::map(file.try_clone().unwrap(), 0, len).unwrap();
    let memory = Arc::new(guest.ram.memory().with_log(Some(Arc::new(log))));
    let pool = guest.pool.clone();
    let mut tx =
        DeviceTx::<_, false>::new(ring.unwrap(), memory, pool, layout(Features::VERSION_1))
            .with_ring_log(Some(RingLog {
                desc: areas[0],
                avail: areas[1],
                used: areas[2],
            }));
    assert_eq!(take(), BTreeSet::from([areas[2] / LOG_PAGE]), "a new half");

    let mut at = Place::START;
    for round in 0..u32::from(2 * SIZE / BURST) + 2 {
        for nth in 0..BURST {
            let addr = BUFFERS + 2048 * u64::from(nth) + 0x1_0000 * u64::from(round % 2);
            let desc = PackedDesc::new(addr, 2048).flags(WRITE);
            raw.offer(&mut at, nth, &[desc]);
        }
        let before = pages(&guest);
        let mut burst = Burst::new(usize::from(BURST));
        for nth in 0..u32::from(BURST) {
            let data = pattern(round * 100 + nth + 1, 60 + nth as usize);
            assert!(put(&guest.pool, &mut burst, &data, usize::MAX));
        }
        let sent = tx.tx(&mut burst, &guest.counters).unwrap();
        assert_eq!(sent.packets, usize::from(BURST));
        let changed = before
            .into_iter()
            .zip(pages(&guest))
            .zip(FIRST.0 / LOG_PAGE..);
        let changed = changed.filter(|((old, new), _)| old != new);
        assert_eq!(
            take(),
            changed.map(|(_, page)| page).collect(),
            "round {round}"
        );
    }
    drop(tx);
    all_free(&guest.pool);
}
