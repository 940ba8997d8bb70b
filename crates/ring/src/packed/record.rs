//! The in-flight record of a packed ring.

use std::sync::atomic::Ordering;

use super::device::Device;
use super::shared::{BOTH, PackedRing, Pos};
use crate::inflight::{Areas, Book, Record, Recordable, in_order};
use crate::{Area, DeviceRing, RingFault};

/// The first word of an entry. Only a chain's first one is marked.
#[inline(always)]
fn links(inflight: bool, next: u16, last: u16, num: u16) -> u64 {
    u64::from(inflight) | u64::from(next) << 16 | u64::from(last) << 32 | u64::from(num) << 48
}

/// What [`links`] rises by from one chain of one descriptor to the next.
const STEP: u64 = 1 << 16 | 1 << 32;

/// A descriptor's second word as it lies in an entry, where the length is on top; and back.
#[inline(always)]
const fn swapped(word: u64) -> u64 {
    word.rotate_left(32)
}

impl Book {
    /// Copies a chain's descriptors from these slots to the next entries.
    #[inline(always)]
    fn copy(&mut self, ring: &PackedRing, slots: impl Iterator<Item = usize>, num: u16) {
        let (head, last) = (self.taken, self.taken + num - 1);
        for (entry, slot) in (head..).zip(slots) {
            let (addr, word) = ring.words(slot);
            self.record.addr(entry).store(addr, Ordering::Relaxed);
            self.record
                .word(entry)
                .store(swapped(word), Ordering::Relaxed);
            if entry != head {
                let links = links(false, entry + 1, 0, 0);
                self.record.links(entry).store(links, Ordering::Relaxed);
            }
        }
        self.record
            .counter(head)
            .store(self.counter, Ordering::Relaxed);
        self.counter += 1;
        // Release: the mark comes after what it is for, and after the mark of the chain before.
        let links = links(true, head + 1, last, num);
        self.record.links(head).store(links, Ordering::Release);
        self.taken += num;
    }
}

/// Where a record says that the next used element goes.
fn position(record: &Record) -> Pos {
    let slot = record.used_slot().load(Ordering::Relaxed);
    Pos::used(slot, record.used_wrap().load(Ordering::Relaxed) != 0)
}

fn old_position(record: &Record) -> Pos {
    let slot = record.old_used_slot().load(Ordering::Relaxed);
    Pos::used(slot, record.old_used_wrap().load(Ordering::Relaxed) != 0)
}

fn set_position(record: &Record, at: Pos) {
    record
        .used_wrap()
        .store(at.wrap().into(), Ordering::Relaxed);
    record.used_slot().store(at.slot, Ordering::Relaxed);
}

/// The slot last: while the two slots differ, the ring tells whether what was given back was published.
fn set_old_position(record: &Record, at: Pos) {
    record
        .old_used_wrap()
        .store(at.wrap().into(), Ordering::Relaxed);
    in_order();
    record.old_used_slot().store(at.slot, Ordering::Relaxed);
}

impl<const IN_ORDER: bool> Recordable for Device<IN_ORDER> {
    fn begin(&self, record: Record) -> Book {
        record.begin(|| {
            for entry in 0..record.entries() {
                let links = links(false, entry + 1, 0, 0);
                record.links(entry).store(links, Ordering::Relaxed);
            }
            record.free_heads().store(0, Ordering::Relaxed);
            set_position(&record, self.next);
            set_old_position(&record, self.next);
        });
        Book::new(record)
    }

    /// Chains are in the record as they are in the ring, and wholly, before the first used element is written over them.
    #[inline(always)]
    fn note(&self, book: &mut Book, count: usize) {
        let room = usize::from(book.record.entries() - book.taken);
        if count > room || !self.copy_to(book, count) {
            // The driver made descriptors available again that it was not given back yet: it wants no record.
            return;
        }
        let taken = u32::from(book.taken);
        in_order();
        book.record
            .free_heads()
            .store(taken | taken << 16, Ordering::Relaxed);
        in_order();
    }

    #[inline(always)]
    fn publish_noted(&mut self, book: &mut Book) {
        let taken = std::mem::take(&mut book.taken);
        if taken == 0 {
            return self.publish();
        }
        let record = &book.record;
        record.free_head().store(0, Ordering::Relaxed);
        set_position(record, self.next);
        in_order();
        self.publish();
        in_order();
        record.run(0, taken).for_each(|entry| entry.clear());
        in_order();
        record.old_free_head().store(0, Ordering::Relaxed);
        set_old_position(record, self.next);
    }
}

impl<const IN_ORDER: bool> Device<IN_ORDER> {
    /// Copies the first `count` chains to the book; false if they do not fit there.
    #[inline(always)]
    fn copy_to(&self, book: &mut Book, count: usize) -> bool {
        let ring = &self.ring;
        if self.long > 0 {
            return self.copy_long(book, count);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the caller has compared it"
        )]
        let count = count as u16;
        let first = book.taken;
        let mut entries = book.record.run(first, count);
        let (mut links, mut counter) = (links(true, first + 1, first, 1), book.counter);
        for (slots, _) in self.next.runs(count.into(), ring.size) {
            for (slot, entry) in slots.zip(&mut entries) {
                let (addr, word) = ring.words(slot);
                entry.write(links, counter, swapped(word), addr);
                links += STEP;
                counter += 1;
            }
        }
        (book.taken, book.counter) = (first + count, counter);
        true
    }

    #[cold]
    fn copy_long(&self, book: &mut Book, count: usize) -> bool {
        let (ring, mut at) = (&self.ring, self.next);
        for _ in 0..count {
            let num = self.chains[usize::from(at.slot)].count;
            if num > book.record.entries() - book.taken {
                return false;
            }
            let slots = at.runs(num.into(), ring.size);
            book.copy(ring, slots.into_iter().flat_map(|(slots, _)| slots), num);
            at.skip(num, ring.size);
        }
        true
    }
}

/// See [`crate::inflight::resume`]. Descriptors in flight are put back where the next used elements go: from there on, as many slots as they are
/// belong to the device, and the driver does not look at them before they are used.
///
/// # Safety
/// See there.
pub(crate) unsafe fn resume(
    areas: Areas,
    record: &Record,
    written: &mut dyn FnMut(Area, u64, u64),
) -> Result<u32, RingFault> {
    let bad = |what| RingFault::Record { what };
    let Areas {
        desc,
        driver,
        device,
        size,
    } = areas;
    // SAFETY: the caller's promise.
    let ring = unsafe { PackedRing::new(desc, driver, device, size) };
    let entries = record
        .desc_num()
        .load(Ordering::Relaxed)
        .min(record.entries());
    settle_last_batch(&ring, record, entries)?;
    let from = old_position(record);
    let heads = record.in_flight(entries);
    let mut at = from.other();
    let mut left = size;
    for &head in &heads {
        let num = record.num(head).load(Ordering::Relaxed);
        left = left
            .checked_sub(num)
            .filter(|_| num > 0)
            .ok_or_else(|| bad("chains in flight that fit the ring"))?;
        let mut entry = head;
        for _ in 0..num {
            if entry >= entries {
                return Err(bad("chains of entries that it has"));
            }
            let word = swapped(record.word(entry).load(Ordering::Relaxed));
            ring.set_addr(at.slot, record.addr(entry).load(Ordering::Relaxed));
            ring.word(at.slot)
                .store(word & !BOTH | at.bits, Ordering::Relaxed);
            written(Area::Desc, 16 * u64::from(at.slot), 16);
            at.step(size);
            entry = record.next(entry).load(Ordering::Relaxed);
        }
    }
    in_order();
    record.clear(&heads);
    Ok(from.base())
}

/// Finds out whether what was being given back was published, and forgets either that or the chains.
fn settle_last_batch(ring: &PackedRing, record: &Record, entries: u16) -> Result<(), RingFault> {
    let bad = |what| RingFault::Record { what };
    let (now, old) = (position(record), old_position(record));
    if now.slot >= ring.size || old.slot >= ring.size {
        return Err(bad("a used index inside the ring"));
    }
    if now != old {
        // Acquire: as in PackedRing::published. The first used element is written last.
        let first = ring.word(old.slot).load(Ordering::Acquire);
        if first & BOTH != old.other().bits {
            let free = record.free_head().load(Ordering::Relaxed);
            record.old_free_head().store(free, Ordering::Relaxed);
            in_order();
            // Entries are free before the record says that nothing is being given back.
            clear_free(record, free, entries);
            in_order();
            set_old_position(record, now);
        }
    }
    let free = record.old_free_head().load(Ordering::Relaxed);
    set_position(record, old_position(record));
    record.free_head().store(free, Ordering::Relaxed);
    clear_free(record, free, entries);
    Ok(())
}

/// Nothing is in flight on the list of free entries, which ends with a number that is none.
fn clear_free(record: &Record, first: u16, entries: u16) {
    let mut entry = first;
    for _ in 0..entries {
        if entry >= entries {
            return;
        }
        record.inflight(entry).store(0, Ordering::Relaxed);
        entry = record.next(entry).load(Ordering::Relaxed);
    }
}
