//! A burst: up to [`MAX_BURST`] packets as a struct of arrays, in memory that Rust and JavaScript both see.
//!
//! ```text
//! words[0] = packets in it      words[1] = capacity      words[2..16] reserved
//! words[16 ..]            addr [capacity]   byte position of the packet's first byte in its mempool's region
//! words[16 +   capacity]  len  [capacity]   bytes of the packet, all segments together
//! words[16 + 2*capacity]  flags[capacity]   see [`flags`]
//! ```
//!
//! The head lies on a cache line of its own. A burst is used by one thread at a time; its numbers may have been written by a script, so
//! whoever takes packets out of a burst checks them ([`crate::Mempool::checked`]).

use std::alloc::{self, Layout};
use std::ptr::NonNull;

/// Most packets that one burst can hold, as in testpmd's `--burst`.
pub const MAX_BURST: usize = 512;

/// Words before the arrays.
pub const HEAD_WORDS: usize = 16;

/// Bits of a packet's flags.
pub mod flags {
    /// The packet has more than one segment: its first segment's length and the way to the next stand in the mempool's
    /// [`SegMeta`](crate::mempool::SegMeta).
    pub const MULTI: u32 = 1;
}

/// See the module. The memory is freed on drop; the packets in it are not: their mempool is not known here.
#[derive(Debug)]
pub struct Burst {
    words: NonNull<u32>,
    capacity: usize,
}

// SAFETY: a burst owns its memory; moving it to another thread moves the only handle.
unsafe impl Send for Burst {}

impl Burst {
    /// A burst for `capacity` packets, which is clamped to 1..=[`MAX_BURST`].
    ///
    /// # Panics
    /// When the process is out of memory.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, MAX_BURST);
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a size that is not zero.
        let ptr = unsafe { alloc::alloc_zeroed(layout) };
        let Some(words) = NonNull::new(ptr.cast::<u32>()) else {
            alloc::handle_alloc_error(layout)
        };
        // SAFETY: word 1 is inside the allocation.
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_BURST")]
        unsafe {
            words.add(1).write(capacity as u32);
        }
        Self { words, capacity }
    }

    /// Words of a burst of that capacity, head and arrays.
    #[must_use]
    pub const fn word_count(capacity: usize) -> usize {
        HEAD_WORDS + 3 * capacity
    }

    fn layout(capacity: usize) -> Layout {
        Layout::array::<u32>(Self::word_count(capacity))
            .and_then(|layout| layout.align_to(crate::CACHE_LINE))
            .expect("a burst is a few KiB at most")
    }

    /// The memory, [`Burst::word_count`] words: for the one who shows it to JavaScript.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u32 {
        self.words.as_ptr()
    }

    /// Packets that fit.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Packets in it. A script may have written any number: it counts as the capacity at most.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: word 0 is inside the allocation.
        (unsafe { self.words.read() } as usize).min(self.capacity)
    }

    /// No packet in it.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No packet more fits.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity
    }

    /// Says how many packets are in it: the entries below `len` have been written.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_BURST")]
        // SAFETY: word 0 is inside the allocation.
        unsafe {
            self.words.write(len.min(self.capacity) as u32);
        }
    }

    /// The three arrays in full length: address, length, flags.
    #[inline]
    pub fn arrays_mut(&mut self) -> (&mut [u32], &mut [u32], &mut [u32]) {
        let n = self.capacity;
        // SAFETY: the three arrays of n words lie behind the head, do not overlap, and &mut self is the only user: JavaScript, which
        // knows the memory too, does not run while a native call does, and never gets bursts of native threads.
        unsafe {
            let first = self.words.as_ptr().add(HEAD_WORDS);
            (
                std::slice::from_raw_parts_mut(first, n),
                std::slice::from_raw_parts_mut(first.add(n), n),
                std::slice::from_raw_parts_mut(first.add(2 * n), n),
            )
        }
    }

    /// Addresses, lengths and flags of the packets in it.
    #[inline]
    #[must_use]
    pub fn packets(&self) -> (&[u32], &[u32], &[u32]) {
        let (n, len) = (self.capacity, self.len());
        // SAFETY: as in arrays_mut.
        unsafe {
            let first = self.words.as_ptr().add(HEAD_WORDS);
            (
                std::slice::from_raw_parts(first, len),
                std::slice::from_raw_parts(first.add(n), len),
                std::slice::from_raw_parts(first.add(2 * n), len),
            )
        }
    }

    /// Appends a packet; false when it is full.
    #[inline]
    pub fn push(&mut self, addr: u32, len: u32, flags: u32) -> bool {
        let at = self.len();
        if at == self.capacity {
            return false;
        }
        let (addrs, lens, all_flags) = self.arrays_mut();
        addrs[at] = addr;
        lens[at] = len;
        all_flags[at] = flags;
        self.set_len(at + 1);
        true
    }

    /// Takes the first `count` packets out, whose owner is another now; the rest moves to the front.
    #[inline]
    pub fn remove_front(&mut self, count: usize) {
        let len = self.len();
        let count = count.min(len);
        if count < len {
            let (addrs, lens, all_flags) = self.arrays_mut();
            addrs.copy_within(count..len, 0);
            lens.copy_within(count..len, 0);
            all_flags.copy_within(count..len, 0);
        }
        self.set_len(len - count);
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        // SAFETY: allocated in new with the same layout.
        unsafe { alloc::dealloc(self.words.as_ptr().cast(), Self::layout(self.capacity)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not taken from the front stays, in order.
    #[test]
    fn remove_front_keeps_order() {
        let mut burst = Burst::new(4);
        for i in 0..4 {
            assert!(burst.push(i, 60 + i, 0));
        }
        assert!(!burst.push(9, 9, 9));
        burst.remove_front(3);
        assert_eq!(burst.packets(), (&[3][..], &[63][..], &[0][..]));
        burst.remove_front(5);
        assert!(burst.is_empty());
    }

    /// A length that a script wrote beyond the capacity is not believed.
    #[test]
    fn length_is_clamped() {
        let burst = Burst::new(8);
        // SAFETY: word 0 of a live burst.
        unsafe { burst.as_ptr().write(1_000_000) };
        assert_eq!(burst.len(), 8);
        assert_eq!(burst.packets().0.len(), 8);
    }
}
