//! The words of a packed ring in memory that the peer writes too: one accessor for each, all atomic; and positions in the ring.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::shared::need_event;
use crate::sync::{AtomicU32, AtomicU64, u32_at, u64_at};
use crate::{Desc, DescFlags};

/// The second word of a descriptor: length below, then id, flags on top. What was published is seen with this word, or not at all.
pub(super) const FLAGS_SHIFT: u32 = 48;

/// `VIRTQ_DESC_F_AVAIL` and `VIRTQ_DESC_F_USED` where they stand in that word (2.8.1).
pub(super) const AVAIL: u64 = 1 << (FLAGS_SHIFT + 7);
pub(super) const USED: u64 = 1 << (FLAGS_SHIFT + 15);
pub(super) const BOTH: u64 = AVAIL | USED;

/// The flags of [`DescFlags`] where they stand in that word.
pub(super) const fn flag(flags: DescFlags) -> u64 {
    (flags.bits() as u64) << FLAGS_SHIFT
}

/// The second word of a descriptor, without [`AVAIL`] and [`USED`].
#[inline(always)]
pub(super) const fn word(len: u32, id: u16) -> u64 {
    len as u64 | (id as u64) << 32
}

/// The id in a descriptor's second word.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes the word apart")]
pub(super) const fn id_of(word: u64) -> u16 {
    (word >> 32) as u16
}

/// The length in a descriptor's second word.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes the word apart")]
pub(super) const fn len_of(word: u64) -> u32 {
    word as u32
}

/// A place in a ring, with what [`AVAIL`] and [`USED`] are in a descriptor that is published there: one bit of the two for the driver, both
/// or none for the device (2.8.1). They all change when the place comes round the end of the ring, so the wrap counter is not kept beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pos {
    /// Below the ring's size, always.
    pub(super) slot: u16,
    pub(super) bits: u64,
}

impl Pos {
    /// Where the driver publishes.
    pub(super) const fn avail(slot: u16, wrap: bool) -> Self {
        let bits = if wrap { AVAIL } else { USED };
        Self { slot, bits }
    }

    /// Where the device publishes.
    pub(super) const fn used(slot: u16, wrap: bool) -> Self {
        let bits = if wrap { BOTH } else { 0 };
        Self { slot, bits }
    }

    /// The wrap counter.
    #[inline(always)]
    pub(super) const fn wrap(self) -> bool {
        self.bits & AVAIL != 0
    }

    /// The same place for the other side.
    #[inline(always)]
    pub(super) const fn other(self) -> Self {
        // The bit for used is the one that differs.
        Self {
            slot: self.slot,
            bits: self.bits ^ USED,
        }
    }

    /// The next place in a ring of `size`.
    #[inline(always)]
    pub(super) fn step(&mut self, size: u16) {
        self.slot += 1;
        if self.slot == size {
            self.slot = 0;
            self.bits ^= BOTH;
        }
    }

    /// The place `count` further, at most a whole ring.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u16, size: u16) {
        debug_assert!(count <= size);
        self.slot += count;
        if self.slot >= size {
            self.slot -= size;
            self.bits ^= BOTH;
        }
    }

    /// The next `count` places, at most a whole ring, as two runs of slots, with the bits for each: loops over them carry no compare-and-wrap.
    #[inline(always)]
    pub(super) fn runs(self, count: usize, size: u16) -> [(Range<usize>, u64); 2] {
        let (from, size) = (usize::from(self.slot), usize::from(size));
        debug_assert!(count <= size);
        // Whatever a caller asks for, the slots are inside the ring.
        let count = count.min(size);
        let first = count.min(size - from);
        [
            (from..from + first, self.bits),
            (0..count - first, self.bits ^ BOTH),
        ]
    }

    /// How far it is to `to`, which is ahead by at most a whole ring.
    #[inline(always)]
    pub(super) const fn distance(self, to: Self, size: u16) -> u16 {
        if self.wrap() == to.wrap() {
            to.slot.wrapping_sub(self.slot)
        } else {
            to.slot + size - self.slot
        }
    }

    /// As the event suppression words and vhost-user's base have it: the slot, and the wrap counter in bit 15.
    #[inline(always)]
    pub(super) const fn packed(self) -> u16 {
        self.slot | (self.wrap() as u16) << 15
    }

    /// The base of a vring that goes on here, of which nothing is in flight: in vhost-user's packing.
    #[inline(always)]
    pub(super) const fn base(self) -> u32 {
        let at = self.packed() as u32;
        at | at << 16
    }
}

/// `RING_EVENT_FLAGS_*` (2.8.10).
pub(super) const EVENTS_ON: u16 = 0;
pub(super) const EVENTS_OFF: u16 = 1;
pub(super) const EVENTS_AT: u16 = 2;

/// An event suppression word: place below, flags above. One word, so that the other side never sees the flags of one wish with the place of
/// another.
pub(super) const fn event_word(flags: u16, at: u16) -> u32 {
    at as u32 | (flags as u32) << 16
}

/// What a side asks for that wants to be told of what is published at `at` and later, or of nothing.
pub(super) const fn wish(on: bool, event_idx: bool, at: Pos) -> u32 {
    match (on, event_idx) {
        (false, _) => event_word(EVENTS_OFF, 0),
        (true, false) => event_word(EVENTS_ON, 0),
        (true, true) => event_word(EVENTS_AT, at.packed()),
    }
}

/// Whether the other side, which wrote `event`, wants to be told of the `count` descriptors before `new` (2.8.10, 2.7.10). What makes no sense is
/// taken for a yes.
#[inline(always)]
pub(super) fn is_wanted(event: u32, event_idx: bool, new: Pos, count: u16, size: u16) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "takes the word apart")]
    let (at, flags) = (event as u16, (event >> 16) as u16 & 3);
    match flags {
        EVENTS_OFF => false,
        EVENTS_AT if event_idx => {
            // Slots of the round before this one are below zero: then the arithmetic is that of free-running indexes.
            let round = if (at >> 15 == 1) == new.wrap() {
                0
            } else {
                size
            };
            let at = (at & 0x7fff).wrapping_sub(round);
            need_event(at, new.slot, new.slot.wrapping_sub(count))
        }
        _ => true,
    }
}

/// The three areas of a packed ring of `size` descriptors.
///
/// Slots come from a [`Pos`] and its runs and are below the size, so no access leaves the areas, whatever the peer wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedRing {
    desc: NonNull<u8>,
    driver_event: NonNull<u8>,
    device_event: NonNull<u8>,
    pub(super) size: u16,
}

// SAFETY: plain addresses; all access goes through atomics.
unsafe impl Send for PackedRing {}

impl PackedRing {
    /// # Safety
    /// The areas are aligned by 16, 4 and 4 bytes, writable for `16 * size`, 4 and 4 bytes, and stay mapped for as long as this value or a
    /// copy of it is used.
    pub(super) unsafe fn new(
        desc: NonNull<u8>,
        driver_event: NonNull<u8>,
        device_event: NonNull<u8>,
        size: u16,
    ) -> Self {
        Self {
            desc,
            driver_event,
            device_event,
            size,
        }
    }

    #[inline(always)]
    fn desc_at(&self, slot: usize) -> *mut u64 {
        debug_assert!(slot < usize::from(self.size));
        // SAFETY: below the size, inside the ring.
        unsafe { self.desc.as_ptr().add(16 * slot).cast() }
    }

    /// The first word of a descriptor.
    #[inline(always)]
    fn addr(&self, slot: usize) -> &AtomicU64 {
        // SAFETY: inside the ring, which is aligned by 16 and mapped (see new). An atomic may be written by the peer at any time.
        unsafe { u64_at(self.desc_at(slot)) }
    }

    /// The second word of a descriptor.
    #[inline(always)]
    pub(super) fn word(&self, slot: impl Into<usize>) -> &AtomicU64 {
        // SAFETY: as in addr.
        unsafe { u64_at(self.desc_at(slot.into()).add(1)) }
    }

    /// How many of the next `most` descriptors the other side has published one after the other: those whose second words say `at`'s bits under
    /// `mask`. A line that is published as a whole takes one comparison.
    #[inline(always)]
    pub(super) fn published(&self, at: Pos, most: usize, mask: u64) -> u16 {
        // Acquire, against the releasing store of the first flags of a burst: the rest of the descriptors or used elements of that burst, and
        // what was written to the buffers, are there.
        let differs = |slot: usize, bits: u64| self.word(slot).load(Ordering::Acquire) ^ bits;
        let mut found = 0;
        for (slots, bits) in at.runs(most, self.size) {
            let mut slot = slots.start;
            while slot < slots.end {
                let line = slot.is_multiple_of(4) && slots.end - slot >= 4;
                let step = if line
                    && (differs(slot, bits)
                        | differs(slot + 1, bits)
                        | differs(slot + 2, bits)
                        | differs(slot + 3, bits))
                        & mask
                        == 0
                {
                    4
                } else if differs(slot, bits) & mask == 0 {
                    1
                } else {
                    return found;
                };
                slot += usize::from(step);
                found += step;
            }
        }
        found
    }

    /// Writes the first word of a descriptor.
    #[inline(always)]
    pub(super) fn set_addr(&self, slot: impl Into<usize>, addr: u64) {
        self.addr(slot.into()).store(addr, Ordering::Relaxed);
    }

    /// Both words of a descriptor as they are.
    #[inline(always)]
    pub(super) fn words(&self, slot: usize) -> (u64, u64) {
        let word = self.word(slot).load(Ordering::Relaxed);
        (self.addr(slot).load(Ordering::Relaxed), word)
    }

    /// Reads a descriptor once; the second word has been seen to be the driver's before. Also its id.
    #[inline(always)]
    pub(super) fn desc(&self, slot: impl Into<usize>) -> (Desc, u16) {
        let slot = slot.into();
        let word = self.word(slot).load(Ordering::Relaxed);
        let addr = self.addr(slot).load(Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "below the size")]
        let next = slot as u16 + 1;
        let next = if next == self.size { 0 } else { next };
        (desc(addr, word, next), id_of(word))
    }

    #[inline(always)]
    pub(super) fn desc_line(&self, slot: impl Into<usize>) -> *const u8 {
        self.desc_at(slot.into()).cast()
    }

    #[inline(always)]
    pub(super) fn driver_event(&self) -> &AtomicU32 {
        // SAFETY: aligned by 4 and mapped (see new).
        unsafe { u32_at(self.driver_event.as_ptr().cast()) }
    }

    #[inline(always)]
    pub(super) fn device_event(&self) -> &AtomicU32 {
        // SAFETY: aligned by 4 and mapped (see new).
        unsafe { u32_at(self.device_event.as_ptr().cast()) }
    }
}

/// A descriptor from its two words. Packed ones do not say what follows them: that is the next slot.
#[inline(always)]
fn desc(addr: u64, word: u64, next: u16) -> Desc {
    Desc {
        addr,
        len: len_of(word),
        flags: DescFlags::from_bits_retain((word >> FLAGS_SHIFT) as u16),
        next,
    }
}

/// Reads a descriptor of an indirect table once (2.8.7): only the WRITE and INDIRECT flags mean something there.
///
/// # Safety
/// `at` is readable for 16 bytes and aligned by 8.
pub(super) unsafe fn load_table_desc(at: *mut u64) -> Desc {
    // SAFETY: the caller's promise.
    let (addr, word) = unsafe {
        (
            u64_at(at).load(Ordering::Relaxed),
            u64_at(at.add(1)).load(Ordering::Relaxed),
        )
    };
    desc(addr, word, 0)
}

/// Writes a descriptor of an indirect table.
///
/// # Safety
/// `at` is writable for 16 bytes and aligned by 8.
pub(super) unsafe fn store_table_desc(at: *mut u64, addr: u64, word: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        u64_at(at).store(addr, Ordering::Relaxed);
        u64_at(at.add(1)).store(word, Ordering::Relaxed);
    }
}

/// The first descriptor of a burst, which becomes visible last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) slot: u16,
    pub(super) word: u64,
}

impl Held {
    /// Publishes the burst.
    #[inline(always)]
    pub(super) fn release(held: &mut Option<Self>, ring: &PackedRing) {
        if let Some(Self { slot, word }) = held.take() {
            // Release, against the acquiring load of the other side's look: without it that side could see these flags before the rest of
            // the descriptor, the others of the burst, and what was written to the buffers.
            ring.word(slot).store(word, Ordering::Release);
        }
    }
}
