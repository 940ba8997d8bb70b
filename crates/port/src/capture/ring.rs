//! The way of captured packets from a queue's thread to the one that writes them: bytes in a circle, one writer, one reader.
//!
//! ```text
//! record = [ captured u32 | length u32 | nanoseconds u64 | bytes, padded to 8 ]      captured = u32::MAX: the circle goes on at its beginning
//! ```
//!
//! The memory is private. The writer never waits: what does not fit is dropped, and counted.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes before those of a packet.
pub(super) const HEAD: usize = 16;
const SKIP: u32 = u32::MAX;

/// On a line of its own: the other side spins on it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Position(AtomicUsize);

/// What became of packets. Written by the queue's thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counts {
    pub(super) captured: AtomicU64,
    pub(super) filtered: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// See the module. Positions count bytes since the beginning, and never go back.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: Box<[UnsafeCell<u64>]>,
    /// Up to here the reader is through.
    read: Position,
    /// Up to here the writer has written.
    written: Position,
    pub(super) counts: Counts,
}

// SAFETY: bytes between `read` and `written` are only read, by the one reader; all others are only touched by the one writer. The positions
// pass with release and acquire.
unsafe impl Sync for Ring {}

/// A record as the reader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) len: u32,
    pub(super) time: u64,
    pub(super) bytes: &'a [u8],
}

impl Ring {
    /// A ring of at least `bytes`, a power of two.
    pub(super) fn new(bytes: usize) -> Self {
        let words = bytes.next_power_of_two().max(4096) / 8;
        Self {
            bytes: (0..words).map(|_| UnsafeCell::new(0)).collect(),
            read: Position::default(),
            written: Position::default(),
            counts: Counts::default(),
        }
    }

    fn size(&self) -> usize {
        self.bytes.len() * 8
    }

    /// The byte at a position.
    fn at(&self, position: usize) -> *mut u8 {
        let offset = position & (self.size() - 1);
        // Cells of words, one after the other: the first one's pointer, moved by bytes inside the slice.
        UnsafeCell::raw_get(self.bytes.as_ptr())
            .cast::<u8>()
            .wrapping_add(offset)
    }

    /// Where the next record begins. Only for the writer.
    pub(super) fn position(&self) -> usize {
        self.written.0.load(Ordering::Relaxed)
    }

    /// Room for a packet of at most `captured` bytes in a record that begins at or behind `position`: where it begins, and where its bytes go.
    /// Only for the writer, who may write there until it says [`Ring::publish`].
    pub(super) fn reserve(&self, position: usize, captured: usize) -> Option<(usize, *mut u8)> {
        let need = HEAD + captured.next_multiple_of(8);
        let left = self.size() - (position & (self.size() - 1));
        let begin = if left < need {
            position + left
        } else {
            position
        };
        // Acquire: the reader is through with what we are about to overwrite.
        if begin + need - self.read.0.load(Ordering::Acquire) > self.size() {
            return None;
        }
        if begin != position {
            // SAFETY: at least 8 bytes are left, since records are multiples of 8, and they are the writer's.
            unsafe { self.at(position).cast::<u32>().write(SKIP) };
        }
        Some((begin, self.at(begin).wrapping_add(HEAD)))
    }

    /// Completes a record that was reserved, with that many bytes; where it ends.
    pub(super) fn complete(&self, begin: usize, captured: u32, len: u32, time: u64) -> usize {
        let head = self.at(begin);
        // SAFETY: a record's 16 bytes of head are inside what was reserved, and aligned to 8.
        unsafe {
            head.cast::<[u32; 2]>().write([captured, len]);
            head.add(8).cast::<u64>().write(time);
        }
        begin + HEAD + (captured as usize).next_multiple_of(8)
    }

    /// Shows the reader all records up to there.
    pub(super) fn publish(&self, end: usize) {
        // Release: the records were written before.
        self.written.0.store(end, Ordering::Release);
    }

    /// Lets the reader see each record that is there, as long as it wants more; whether there were any.
    pub(super) fn drain(&self, mut each: impl FnMut(Record<'_>) -> bool) -> bool {
        // Acquire: what was written before is seen.
        let end = self.written.0.load(Ordering::Acquire);
        let begin = self.read.0.load(Ordering::Relaxed);
        let mut position = begin;
        while position < end {
            let head = self.at(position);
            // SAFETY: between the positions lie whole records, or 8 bytes at least of a part that is skipped.
            let [captured, len] = unsafe { head.cast::<[u32; 2]>().read() };
            if captured == SKIP {
                position += self.size() - (position & (self.size() - 1));
                continue;
            }
            // SAFETY: as above; nobody writes there before `read` has gone on.
            let (time, bytes) = unsafe {
                let bytes = std::slice::from_raw_parts(head.add(HEAD), captured as usize);
                (head.add(8).cast::<u64>().read(), bytes)
            };
            position += HEAD + (captured as usize).next_multiple_of(8);
            if !each(Record { len, time, bytes }) {
                break;
            }
        }
        // Release: we are through with the bytes before they are overwritten.
        self.read.0.store(position, Ordering::Release);
        position != begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(ring: &Ring, bytes: &[u8]) -> bool {
        let Some((begin, at)) = ring.reserve(ring.position(), bytes.len()) else {
            return false;
        };
        // SAFETY: reserved.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        let len = u32::try_from(bytes.len()).unwrap();
        ring.publish(ring.complete(begin, len, len + 4, 7));
        true
    }

    #[test]
    fn records_come_in_order_over_many_rounds_and_none_is_cut() {
        let ring = Ring::new(4096);
        let packet = |n: usize| vec![n.to_le_bytes()[0]; 1 + n * 37 % 900];
        let mut next = 0;
        for n in 0..5000 {
            while !put(&ring, &packet(n)) {
                assert!(ring.drain(|record| {
                    assert_eq!(record.bytes, packet(next));
                    assert_eq!(
                        (record.len as usize, record.time),
                        (record.bytes.len() + 4, 7)
                    );
                    next += 1;
                    next % 3 != 0
                }));
            }
        }
        while ring.drain(|_| {
            next += 1;
            true
        }) {}
        assert_eq!(next, 5000);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_spoils_nothing() {
        let ring = Ring::new(4096);
        assert!(put(&ring, &[1; 2000]));
        assert!(!put(&ring, &[2; 2500]));
        assert!(put(&ring, &[3; 1000]));
        let mut seen = Vec::new();
        ring.drain(|record| {
            seen.push(record.bytes[0]);
            true
        });
        assert_eq!(seen, [1, 3]);
        assert!(!put(&ring, &[4; 5000]), "larger than the ring");
    }

    #[test]
    fn two_threads_see_every_record_once() {
        let ring = Ring::new(8192);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..20_000u64 {
                    while !put(&ring, &n.to_le_bytes()) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0u64;
            while next < 20_000 {
                let moved = ring.drain(|record| {
                    assert_eq!(record.bytes, next.to_le_bytes());
                    next += 1;
                    true
                });
                if !moved {
                    std::thread::yield_now();
                }
            }
        });
    }
}
