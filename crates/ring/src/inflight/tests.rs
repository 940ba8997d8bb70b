//! A device ends at any point of its work, and the one that comes after it gives every chain back exactly once. Records are made by our own
//! half, by hand as other devices make them, and by hostile front ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vring_mem::guest::SharedFile;

use super::{Areas, Record, Recordable, Recorded, record_bytes, resume};
use crate::packed::tests::Packed;
use crate::split::tests::Split;
use crate::tests::{BASE, Bed, FEATURES, Format, features, for_each_format, run_to};
use crate::{DeviceRing, DriverRing, Piece, RingFault, RingFeatures};

/// A format with all that another device needs to go on.
pub(crate) trait Kept: Format<Device: Recordable> {
    const PACKED: bool;
    fn areas(bed: &Bed<Self>) -> Areas;
    fn take_up(bed: &Bed<Self>, features: RingFeatures, base: u32) -> Self::Device;
}

/// A record in a file of its own, for rings of that size.
fn record(packed: bool, size: u16) -> Record {
    let bytes = record_bytes(packed, size);
    let fd = memfd_create("record", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, bytes).unwrap();
    let file = Arc::new(SharedFile::map(fd, 0, bytes).unwrap());
    assert!(Record::new(&file, 64, packed, size).is_none(), "too short");
    assert!(
        Record::new(&file, 4, packed, size - 1).is_none(),
        "not on words"
    );
    Record::new(&file, 0, packed, size).unwrap()
}

/// The entries of a record, word by word.
fn words_of(record: &Record) -> impl Iterator<Item = &AtomicU64> {
    let words = if record.is_packed() { 4 } else { 2 };
    (0..record.entries()).flat_map(move |entry| {
        let all = [record.links(entry), record.counter(entry)];
        let more = (words == 4).then(|| [record.word(entry), record.addr(entry)]);
        all.into_iter().chain(more.into_iter().flatten())
    })
}

/// Where a device ends.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// Chains are completed.
    Completed,
    /// The record has the new used index.
    Advanced,
    /// The driver has the chains, and the record does not say so yet.
    Published,
    /// Some marks are gone.
    Cleared,
    /// All of them are.
    AllCleared,
}

/// Both ends of a ring, with a device that can end.
struct Rig<F: Kept> {
    bed: Bed<F>,
    driver: F::Driver,
    device: Recorded<F::Device>,
    record: Record,
    features: RingFeatures,
    /// What the device is to find: token, first address, pieces.
    waiting: VecDeque<(u32, Vec<Piece>)>,
    /// What the driver is to get back.
    given: VecDeque<u32>,
    token: u32,
}

impl<F: Kept> Rig<F> {
    fn new(size: u16, features: RingFeatures, start: u16) -> Self {
        let bed = Bed::<F>::new(size);
        let features = RingFeatures {
            in_order: F::IN_ORDER,
            ..features
        };
        let mut driver = bed.driver(features);
        let record = record(F::PACKED, size);
        let mut device = Recorded::new(bed.device(features), record.clone());
        run_to(&mut driver, &mut device, start);
        Self {
            bed,
            driver,
            device,
            record,
            features,
            waiting: VecDeque::new(),
            given: VecDeque::new(),
            token: 0,
        }
    }

    /// The driver makes a chain of that many pieces available, if it fits.
    fn push(&mut self, pieces: usize) {
        let token = self.token;
        let pieces: Vec<Piece> = (0..pieces)
            .map(|nth| Piece {
                addr: BASE + u64::from(token) * 64 + nth as u64,
                len: token % 1000 + 1,
            })
            .collect();
        if self.driver.push_chain(token, &pieces) {
            self.waiting.push_back((token, pieces));
            self.token += 1;
        }
        self.driver.publish();
    }

    /// The device looks at the first chains, and completes `many` of them in the way of its bursts or one by one.
    fn complete(&mut self, many: usize, by_one: bool) -> usize {
        let ready = self.device.ready(many).unwrap().min(many);
        assert_eq!(ready, many.min(self.waiting.len()));
        let mut heads = Vec::new();
        for nth in 0..ready {
            let head = self.device.peek(nth).unwrap();
            let mut found = Vec::new();
            self.device
                .walk(head, &self.bed.memory, &mut |desc| {
                    let (addr, len) = (desc.addr, desc.len);
                    found.push(Piece { addr, len });
                    Ok(())
                })
                .unwrap();
            assert_eq!(found, self.waiting[nth].1);
            heads.push(head.id);
        }
        if by_one {
            heads.iter().for_each(|&id| self.device.complete(id, 0));
        } else {
            let (first, second) = heads.split_at(ready / 2);
            self.device
                .complete_read_many(first.len(), |nth| first[nth]);
            self.device
                .complete_read_many(second.len(), |nth| second[nth]);
        }
        ready
    }

    fn publish(&mut self, completed: usize) {
        self.device.publish();
        let given = self.waiting.drain(..completed).map(|(token, _)| token);
        self.given.extend(given);
    }

    /// The driver takes back what it was given: that and no more.
    fn pop(&mut self) {
        assert_eq!(
            self.driver.used_ready(usize::MAX).unwrap(),
            self.given.len()
        );
        for token in self.given.drain(..) {
            assert_eq!(self.driver.pop_used().unwrap().token, token);
        }
    }

    /// The device ends at some point of giving back what it completed.
    fn end(&mut self, completed: usize, point: Point) {
        let record = self.record.clone();
        match point {
            Point::Completed => return,
            Point::Advanced if F::PACKED => {
                let base = self.device.base();
                record.free_head().store(0, Relaxed);
                record.used_wrap().store((base >> 15 & 1) as u8, Relaxed);
                record.used_slot().store((base & 0x7fff) as u16, Relaxed);
                return;
            }
            Point::Advanced => return,
            Point::Published | Point::Cleared | Point::AllCleared => (),
        }
        let before: Vec<u64> = words_of(&record).map(|word| word.load(Relaxed)).collect();
        if !F::PACKED {
            let used = record.used_idx().load(Relaxed);
            self.publish(completed);
            return record.used_idx().store(used, Relaxed);
        }
        let free = record.old_free_head().load(Relaxed);
        let (slot, wrap) = (
            record.old_used_slot().load(Relaxed),
            record.old_used_wrap().load(Relaxed),
        );
        self.publish(completed);
        record.old_free_head().store(free, Relaxed);
        record.old_used_slot().store(slot, Relaxed);
        record.old_used_wrap().store(wrap, Relaxed);
        for (nth, (word, before)) in words_of(&record).zip(before).enumerate() {
            // Four words are an entry; marks are taken away from the first on.
            let cleared = match point {
                Point::Published => 0,
                Point::Cleared => 8,
                _ => usize::MAX,
            };
            if nth >= cleared {
                word.store(before, Relaxed);
            }
        }
    }

    /// Another device comes in the place of this one, which ended wherever it was. `told` is what the front end says.
    fn replace(&mut self, told: u32) {
        let areas = F::areas(&self.bed);
        // Twice: the first one ends before it has made a half.
        for _ in 0..2 {
            // SAFETY: the areas lie in the bed, which is mapped.
            let base = unsafe { resume(areas, told, &self.record, &mut |_, _, _| ()) }.unwrap();
            let half = F::take_up(&self.bed, self.features, base);
            self.device = Recorded::new(half, self.record.clone());
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Push(usize),
    /// Takes some, gives them back, and is published.
    Serve(usize, bool),
    /// Takes some, and ends while it gives them back.
    Die(usize, bool, Point),
    Pop,
}

fn point() -> impl Strategy<Value = Point> {
    use Point as P;
    proptest::sample::select(vec![
        P::Completed,
        P::Advanced,
        P::Published,
        P::Cleared,
        P::AllCleared,
    ])
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1usize..5).prop_map(Op::Push),
        3 => (0usize..40, any::<bool>()).prop_map(|(n, by_one)| Op::Serve(n, by_one)),
        2 => (0usize..40, any::<bool>(), point()).prop_map(|(n, by_one, at)| Op::Die(n, by_one, at)),
        2 => Just(Op::Pop),
    ]
}

/// Whatever was completed and not published is served again, as it was, by the device that comes after; what was published is not.
fn gives_each_chain_back_once<F: Kept>() {
    let sizes = F::SIZES.iter().filter(|&&size| size <= 1000);
    let sizes = proptest::sample::select(sizes.copied().collect::<Vec<_>>());
    let all = (
        sizes,
        proptest::sample::select(&FEATURES[..]),
        0u16..700,
        proptest::collection::vec(op(), 1..120),
    );
    proptest!(ProptestConfig::with_cases(96), |((size, features, start, ops) in all)| {
        let mut rig = Rig::<F>::new(size, features, start);
        for op in ops {
            match op {
                Op::Push(pieces) => rig.push(pieces),
                Op::Serve(many, by_one) => {
                    let completed = rig.complete(many, by_one);
                    rig.publish(completed);
                }
                Op::Die(many, by_one, point) => {
                    let completed = rig.complete(many, by_one);
                    rig.end(completed, point);
                    let base = rig.driver.device_base().unwrap();
                    // What a front end says that does not keep count.
                    rig.replace(if F::PACKED { 0x8000_8000 } else { 0 });
                    assert_eq!(rig.device.base(), base);
                }
                Op::Pop => rig.pop(),
            }
        }
        let left = rig.complete(usize::MAX, true);
        rig.publish(left);
        rig.pop();
        assert_eq!(rig.driver.free_descs(), usize::from(size));
    });
}

/// A device that no record was made by goes on where the front end says.
fn a_new_record_says_nothing<F: Kept>() {
    let bed = Bed::<F>::new(8);
    let record = record(F::PACKED, 8);
    // SAFETY: as in Rig::replace.
    let base = unsafe { resume(F::areas(&bed), 0x8003_8003, &record, &mut |_, _, _| ()) };
    assert_eq!(base, Ok(0x8003_8003));
}

/// A record for fewer descriptors than the ring has, of another version, or that says that it has other entries, is refused.
fn a_record_of_another_ring_is_refused<F: Kept>() {
    let bed = Bed::<F>::new(8);
    let refused = |record: &Record| {
        // SAFETY: as in Rig::replace.
        let result = unsafe { resume(F::areas(&bed), 0, record, &mut |_, _, _| ()) };
        assert!(
            matches!(result, Err(RingFault::Record { .. })),
            "{result:?}"
        );
    };
    refused(&record(F::PACKED, 4));
    let other = record(F::PACKED, 8);
    other.version().store(2, Relaxed);
    refused(&other);
    other.version().store(1, Relaxed);
    for entries in [0, 7, 9, u16::MAX] {
        other.desc_num().store(entries, Relaxed);
        refused(&other);
    }
}

/// Whatever a front end writes there, it is read within bounds, and the ring works or is refused.
fn any_bytes_do_no_harm<F: Kept>() {
    let words = proptest::collection::vec((0usize..300, any::<u64>()), 0..40);
    let all = (words, any::<[u16; 3]>(), 1u16..9);
    proptest!(ProptestConfig::with_cases(256), |((words, head, chains) in all)| {
        let mut rig = Rig::<F>::new(8, features(true, true), 3);
        (0..chains).for_each(|_| rig.push(2));
        let count = words_of(&rig.record).count();
        for (at, value) in words {
            // Small numbers are what comes through the checks.
            let value = if at % 3 == 0 { value } else { value & 0x0001_0007_0007_0001 };
            words_of(&rig.record).nth(at % count).unwrap().store(value, Relaxed);
        }
        rig.record.version().store(1, Relaxed);
        rig.record.desc_num().store(8, Relaxed);
        rig.record.used_slot().store(head[0] % 10, Relaxed);
        rig.record.old_used_slot().store(head[1] % 9, Relaxed);
        rig.record.old_free_head().store(head[2] % 10, Relaxed);
        // SAFETY: as in Rig::replace.
        let base = unsafe { resume(F::areas(&rig.bed), 0, &rig.record, &mut |_, _, _| ()) };
        if let Ok(base) = base {
            let half = F::take_up(&rig.bed, rig.features, base);
            let mut device = Recorded::new(half, rig.record.clone());
            for _ in 0..20 {
                let Ok(ready @ 1..) = device.ready(8) else { break };
                let ids: Vec<u16> = (0..ready).filter_map(|nth| device.peek(nth).ok()).map(|head| head.id).collect();
                device.complete_many(ids.len(), |nth| (ids[nth], 0));
                device.publish();
            }
        }
    });
}

for_each_format!(
    gives_each_chain_back_once,
    a_new_record_says_nothing,
    a_record_of_another_ring_is_refused,
    any_bytes_do_no_harm,
);

/// As other devices leave it: chains were used in another order than they came, two of them not yet, and the last batch is not settled.
#[test]
fn chains_of_a_split_ring_come_in_the_order_of_their_counters() {
    let mut rig = Rig::<Split>::new(8, features(false, false), 5);
    (0..6).for_each(|_| rig.push(1));
    let ring = crate::split::tests::raw(&rig.bed);
    let heads: Vec<u16> = (5..9).map(|index| ring.avail_entry(index)).collect();
    // Four were taken, and the second and the last given back: 5 and 6 are the indexes of their used elements.
    for (counter, &head) in (100u64..).zip(&heads) {
        rig.record.counter(head).store(counter, Relaxed);
        rig.record.inflight(head).store(1, Relaxed);
    }
    for (nth, head) in (0u16..).zip([heads[1], heads[3]]) {
        ring.set_used_elem(5 + nth, head.into(), 0);
        let last = rig.record.last_batch_head().load(Relaxed);
        rig.record.next_used(head).store(last, Relaxed);
        rig.record.last_batch_head().store(head, Relaxed);
    }
    ring.set_used_idx(7);
    for done in [3, 1] {
        let (token, _) = rig.waiting.remove(done).unwrap();
        rig.given.push_front(token);
    }
    rig.pop();

    rig.replace(0);
    let left = rig.complete(8, true);
    assert_eq!(left, 4, "two come again, two are new");
    rig.publish(left);
    rig.pop();
}

/// The same of a packed ring, whose used elements lie where descriptors of chains in flight were.
#[test]
fn chains_of_a_packed_ring_are_put_back_in_the_order_of_their_counters() {
    let mut rig = Rig::<Packed>::new(8, features(false, false), 6);
    for pieces in [2, 1, 3] {
        rig.push(pieces);
    }
    let raw = crate::packed::tests::raw(&rig.bed);
    let start = vring_peer::packed::Place {
        slot: 6,
        wrap: true,
    };
    let mut at = start;
    let chains: Vec<_> = (0..3).map(|_| raw.take(&mut at).unwrap()).collect();
    // In entries that are not in order, as a list of free ones becomes: the chain of two in 5 and 2, the last in 7, 0 and 4.
    let entries: [&[u16]; 3] = [&[5, 2], &[3], &[7, 0, 4]];
    let record = rig.record.clone();
    for (nth, (chain, entries)) in chains.iter().zip(entries).enumerate() {
        for (place, (desc, &entry)) in chain.iter().zip(entries).enumerate() {
            let word = u64::from(desc.id) | u64::from(desc.flags) << 16 | u64::from(desc.len) << 32;
            record.word(entry).store(word, Relaxed);
            record.addr(entry).store(desc.addr, Relaxed);
            record
                .next(entry)
                .store(*entries.get(place + 1).unwrap_or(&6), Relaxed);
        }
        record
            .num(entries[0])
            .store(chain.len().try_into().unwrap(), Relaxed);
        record.inflight(entries[0]).store(1, Relaxed);
        record.counter(entries[0]).store(7 + nth as u64, Relaxed);
    }
    // The chain of one is given back, and that is settled; its entry and the two that never were used are free.
    let mut used = start;
    raw.give(&mut used, chains[1][0].id, 0, 1);
    record.inflight(3).store(0, Relaxed);
    for (entry, next) in [(3, 6), (6, 1), (1, 8)] {
        record.next(entry).store(next, Relaxed);
    }
    record.free_heads().store(3 | 3 << 16, Relaxed);
    for slot in [record.used_slot(), record.old_used_slot()] {
        slot.store(used.slot, Relaxed);
    }
    let (token, _) = rig.waiting.remove(1).unwrap();
    rig.given.push_back(token);
    rig.pop();

    rig.replace(0);
    let left = rig.complete(8, true);
    assert_eq!(left, 2);
    rig.publish(left);
    rig.pop();
    assert_eq!(rig.driver.free_descs(), 8);
}
