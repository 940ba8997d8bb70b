//! The in-flight record of a split ring.

use std::sync::atomic::Ordering;

use super::device::Device;
use crate::inflight::{Areas, Book, Record, Recordable, in_order};
use crate::shared::SplitRing;
use crate::{Area, DeviceRing, RingFault};

impl<const IN_ORDER: bool> Recordable for Device<IN_ORDER> {
    fn begin(&self, record: Record) -> Book {
        let base = self.base();
        record.begin(|| {
            record.last_batch_head().store(0, Ordering::Relaxed);
            #[expect(clippy::cast_possible_truncation, reason = "the base of a split ring")]
            record.used_idx().store(base as u16, Ordering::Relaxed);
        });
        Book::new(record)
    }

    /// The ring stays as it is until it is published, so there is nothing to be noted.
    #[inline(always)]
    fn note(&self, _book: &mut Book, _count: usize) {}

    #[inline(always)]
    fn publish_noted(&mut self, book: &mut Book) {
        self.publish();
        in_order();
        #[expect(clippy::cast_possible_truncation, reason = "the base of a split ring")]
        let used = self.base() as u16;
        book.record.used_idx().store(used, Ordering::Relaxed);
    }
}

/// See [`crate::inflight::resume`]. The base follows from the ring. What is in flight is put in front of what the driver made available since: as
/// many entries of the available ring as are in flight lie between the used index and those that no device has taken, and the driver writes
/// none of them before they come round again.
///
/// # Safety
/// See there.
pub(crate) unsafe fn resume(
    areas: Areas,
    base: u32,
    record: &Record,
    written: &mut dyn FnMut(Area, u64, u64),
) -> Result<u32, RingFault> {
    let Areas {
        desc,
        driver,
        device,
        size,
    } = areas;
    // SAFETY: the caller's promise.
    let ring = unsafe { SplitRing::new(desc, driver, device, size) };
    let used = ring.used_idx().load(Ordering::Acquire);
    forget_last_batch(record, used, size);
    let heads = record.in_flight(size);
    let waiting = ring.avail_idx().load(Ordering::Acquire).wrapping_sub(used);
    if heads.len() > usize::from(waiting) {
        return Err(RingFault::Record {
            what: "no more chains in flight than the driver made available",
        });
    }
    for (index, &head) in (0..=u16::MAX).zip(&heads) {
        let index = used.wrapping_add(index);
        ring.update_avail_entry(index, head);
        written(Area::Driver, 4 + 2 * ring.slot(index) as u64, 2);
    }
    in_order();
    record.clear(&heads);
    Ok(base)
}

/// What was published is not in flight, though the device ended before it could say so.
fn forget_last_batch(record: &Record, used: u16, size: u16) {
    let batch = used.wrapping_sub(record.used_idx().load(Ordering::Relaxed));
    let mut head = record.last_batch_head().load(Ordering::Relaxed);
    for _ in 0..batch.min(size) {
        if head >= size {
            break;
        }
        record.inflight(head).store(0, Ordering::Relaxed);
        head = record.next_used(head).load(Ordering::Relaxed);
    }
    in_order();
    record.used_idx().store(used, Ordering::Relaxed);
}
