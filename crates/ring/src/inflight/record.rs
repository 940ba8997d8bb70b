//! The words of a record, in memory that the front end can write too: one accessor for each, all atomic. Offsets are those of
//! `QueueRegionSplit` and `QueueRegionPacked`.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, compiler_fence};

use vring_mem::guest::SharedFile;

use crate::RingFault;

/// The version that the specification describes; 0 is a record that nobody has used.
const VERSION: u16 = 1;

/// Bytes of a record's head and of each entry.
const SPLIT: (u64, u64) = (16, 16);
const PACKED: (u64, u64) = (32, 32);

/// Bytes of a record for a ring of `size` descriptors: whole cache lines, so that those of two rings have none in common.
#[must_use]
pub const fn record_bytes(packed: bool, size: u16) -> u64 {
    let (head, entry) = if packed { PACKED } else { SPLIT };
    (head + entry * size as u64).next_multiple_of(64)
}

/// The record of one ring. Keeps its memory mapped.
#[derive(Debug, Clone)]
pub struct Record {
    at: NonNull<u8>,
    entries: u16,
    packed: bool,
    _file: Arc<SharedFile>,
}

// SAFETY: an address in memory that is held and only accessed by atomics.
unsafe impl Send for Record {}
// SAFETY: as for Send.
unsafe impl Sync for Record {}

/// A word of a record's head, by its offset.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident: $atomic:ident at $offset:literal,)*) => {
        $($(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(&self) -> &$atomic {
            // SAFETY: inside the head, aligned by its size since the record is by 8, and mapped (see new).
            unsafe { $atomic::from_ptr(self.at.as_ptr().add($offset).cast()) }
        })*
    };
}

/// A word of an entry, by its offset in it.
macro_rules! entry_words {
    ($($(#[$doc:meta])* $name:ident: $atomic:ident at $offset:literal,)*) => {
        $($(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(&self, entry: u16) -> &$atomic {
            // SAFETY: as for the words of the head; entry checks its number.
            unsafe { $atomic::from_ptr(self.entry(entry).add($offset).cast()) }
        })*
    };
}

impl Record {
    /// The record of a ring at `offset` in a file, for `entries` descriptors. `None` if it does not lie in the file, or not on whole words.
    #[must_use]
    pub fn new(file: &Arc<SharedFile>, offset: u64, packed: bool, entries: u16) -> Option<Self> {
        let end = offset.checked_add(record_bytes(packed, entries))?;
        if end > file.len() as u64 {
            return None;
        }
        let at = file
            .at()
            .as_ptr()
            .wrapping_add(usize::try_from(offset).ok()?);
        (at as usize).is_multiple_of(8).then_some(Self {
            at: NonNull::new(at)?,
            entries,
            packed,
            _file: file.clone(),
        })
    }

    /// Whether it is one of a packed ring.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.packed
    }

    /// Entries: descriptors of the largest ring that it is for.
    #[must_use]
    pub fn entries(&self) -> u16 {
        self.entries
    }

    #[inline(always)]
    fn entry(&self, entry: u16) -> *mut u8 {
        assert!(entry < self.entries);
        let (head, bytes) = if self.packed { (32, 32) } else { (16, 16) };
        self.at
            .as_ptr()
            .wrapping_add(head + bytes * usize::from(entry))
    }

    /// Entries of a packed ring, one after the other: for loops that check once.
    #[inline(always)]
    pub(crate) fn run(&self, from: u16, count: u16) -> impl Iterator<Item = Entry<'_>> {
        assert!(self.packed && count <= self.entries && from <= self.entries - count);
        let first = self.at.as_ptr().wrapping_add(32 + 32 * usize::from(from));
        (0..usize::from(count)).map(move |nth| Entry {
            at: first.wrapping_add(32 * nth).cast(),
            _record: std::marker::PhantomData,
        })
    }

    words! {
        version: AtomicU16 at 8,
        desc_num: AtomicU16 at 10,
        /// Split.
        last_batch_head: AtomicU16 at 12,
        /// Split.
        used_idx: AtomicU16 at 14,
        /// Packed: the first free entry.
        free_head: AtomicU16 at 12,
        /// Packed: as it is when what is being given back should not be published.
        old_free_head: AtomicU16 at 14,
        /// Packed: both of the above, the second in the upper half.
        free_heads: AtomicU32 at 12,
        /// Packed: the slot of the next used element.
        used_slot: AtomicU16 at 16,
        old_used_slot: AtomicU16 at 18,
        used_wrap: AtomicU8 at 20,
        old_used_wrap: AtomicU8 at 21,
    }

    entry_words! {
        /// The chain that begins here was taken and not given back.
        inflight: AtomicU8 at 0,
        /// Split: the next of the last batch that was given back.
        next_used: AtomicU16 at 6,
        /// Packed: the next free entry, or the next of the chain.
        next: AtomicU16 at 2,
        /// Packed: descriptors of the chain.
        num: AtomicU16 at 6,
        /// Packed: [`Record::inflight`], `next`, the chain's last entry and `num`, from the lowest byte on.
        links: AtomicU64 at 0,
        /// Rises with each chain that is taken.
        counter: AtomicU64 at 8,
        /// Packed: the descriptor's id, flags and length.
        word: AtomicU64 at 16,
        /// Packed: the descriptor's address.
        addr: AtomicU64 at 24,
    }

    /// Whether a device has used it, for a ring that is no larger than it.
    pub(super) fn is_begun(&self, size: u16) -> Result<bool, RingFault> {
        let bad = |what| RingFault::Record { what };
        if size > self.entries {
            return Err(bad("at least as many entries as its ring has descriptors"));
        }
        match self.version().load(Ordering::Acquire) {
            0 => Ok(false),
            VERSION if (size..=self.entries).contains(&self.desc_num().load(Ordering::Relaxed)) => {
                Ok(true)
            }
            VERSION => Err(bad("the number of entries that the front end told")),
            _ => Err(bad("version 1")),
        }
    }

    /// Writes a head, which is no record until it is whole.
    pub(crate) fn begin(&self, write: impl FnOnce()) {
        self.version().store(0, Ordering::Release);
        in_order();
        self.desc_num().store(self.entries, Ordering::Relaxed);
        write();
        self.version().store(VERSION, Ordering::Release);
    }

    /// Entries of chains in flight, oldest first.
    pub(crate) fn in_flight(&self, entries: u16) -> Vec<u16> {
        let marked = |entry: &u16| self.inflight(*entry).load(Ordering::Relaxed) != 0;
        let mut found: Vec<_> = (0..entries)
            .filter(marked)
            .map(|entry| (self.counter(entry).load(Ordering::Relaxed), entry))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Takes marks away, the youngest first: whoever comes back after only some of it finds the oldest still there, which the ring has in
    /// front.
    pub(crate) fn clear(&self, entries: &[u16]) {
        for &entry in entries.iter().rev() {
            self.inflight(entry).store(0, Ordering::Release);
            in_order();
        }
    }
}

/// One entry of a packed ring's record.
pub(crate) struct Entry<'a> {
    at: *mut u64,
    _record: std::marker::PhantomData<&'a Record>,
}

impl Entry<'_> {
    /// Writes all of it, the mark last: after what it is for, and after the mark of the entry before.
    #[inline(always)]
    pub(crate) fn write(&self, links: u64, counter: u64, word: u64, addr: u64) {
        // SAFETY: `run` checked that the entry is inside the record, of whole words.
        let at = |nth| unsafe { AtomicU64::from_ptr(self.at.add(nth)) };
        at(1).store(counter, Ordering::Relaxed);
        at(2).store(word, Ordering::Relaxed);
        at(3).store(addr, Ordering::Relaxed);
        at(0).store(links, Ordering::Release);
    }

    /// Takes the mark away.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        // SAFETY: as in write.
        unsafe { AtomicU8::from_ptr(self.at.cast()) }.store(0, Ordering::Relaxed);
    }
}

/// What is stored before is there when what comes after is, in a process that ends in between. Threads are not concerned.
#[inline(always)]
pub(crate) fn in_order() {
    compiler_fence(Ordering::SeqCst);
}
