//! The words of a split ring in memory that the peer writes too: one accessor for each, all atomic.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicU16, load_elem, store_elem, u16_at, u64_at};
use crate::{Desc, DescFlags};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` and `VIRTQ_USED_F_NO_NOTIFY`: both are bit 0.
pub(crate) const SUPPRESS: u16 = 1;

/// The three areas of a split ring of `mask + 1` descriptors.
///
/// Every index is masked, so no access leaves the areas, whatever the peer wrote.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SplitRing {
    desc: NonNull<u8>,
    avail: NonNull<u8>,
    used: NonNull<u8>,
    mask: u16,
}

// SAFETY: plain addresses; all access goes through atomics.
unsafe impl Send for SplitRing {}

/// The used element as one word: id below, length above. Elements are aligned by 4 only, and so is this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(crate) struct UsedElem(pub(crate) u64);

impl SplitRing {
    /// # Safety
    /// The areas are aligned by 16, 2 and 4 bytes, writable for the bytes of a ring of `size` (a power of two) descriptors, and stay
    /// mapped for as long as this value or a copy of it is used.
    pub(crate) unsafe fn new(
        desc: NonNull<u8>,
        avail: NonNull<u8>,
        used: NonNull<u8>,
        size: u16,
    ) -> Self {
        debug_assert!(size.is_power_of_two());
        Self {
            desc,
            avail,
            used,
            mask: size - 1,
        }
    }

    #[inline(always)]
    pub(crate) fn size(&self) -> u16 {
        self.mask + 1
    }

    #[inline(always)]
    pub(crate) fn slot(&self, index: u16) -> usize {
        usize::from(index & self.mask)
    }

    #[inline(always)]
    fn u16_at(&self, area: NonNull<u8>, offset: usize) -> &AtomicU16 {
        // SAFETY: the callers below pass offsets inside the area, which is aligned for u16 and mapped (see new). An atomic may be written by
        // the peer at any time.
        unsafe { u16_at(area.as_ptr().add(offset).cast()) }
    }

    #[inline(always)]
    fn desc_at(&self, index: u16) -> *mut u64 {
        // SAFETY: masked, inside the table.
        unsafe { self.desc.as_ptr().add(16 * self.slot(index)).cast() }
    }

    #[inline(always)]
    pub(crate) fn avail_flags(&self) -> &AtomicU16 {
        self.u16_at(self.avail, 0)
    }

    #[inline(always)]
    pub(crate) fn avail_idx(&self) -> &AtomicU16 {
        self.u16_at(self.avail, 2)
    }

    #[inline(always)]
    pub(crate) fn avail_entry(&self, index: u16) -> &AtomicU16 {
        self.u16_at(self.avail, 4 + 2 * self.slot(index))
    }

    /// Writes an available entry unless it says so already, as it does in steady state: not writing leaves its line in the device's cache.
    #[inline(always)]
    pub(crate) fn update_avail_entry(&self, index: u16, head: u16) {
        let entry = self.avail_entry(index);
        if entry.load(Ordering::Relaxed) != head {
            entry.store(head, Ordering::Relaxed);
        }
    }

    /// Behind the available ring: the used index at which the driver wants a call.
    #[inline(always)]
    pub(crate) fn used_event(&self) -> &AtomicU16 {
        self.u16_at(self.avail, 4 + 2 * usize::from(self.size()))
    }

    #[inline(always)]
    pub(crate) fn used_flags(&self) -> &AtomicU16 {
        self.u16_at(self.used, 0)
    }

    #[inline(always)]
    pub(crate) fn used_idx(&self) -> &AtomicU16 {
        self.u16_at(self.used, 2)
    }

    /// Behind the used ring: the available index at which the device wants a kick.
    #[inline(always)]
    pub(crate) fn avail_event(&self) -> &AtomicU16 {
        self.u16_at(self.used, 4 + 8 * usize::from(self.size()))
    }

    #[inline(always)]
    pub(crate) fn elem_ptr(&self, index: u16) -> *mut UsedElem {
        // SAFETY: masked, inside the used ring.
        unsafe { self.used.as_ptr().add(4 + 8 * self.slot(index)).cast() }
    }

    /// Volatile, so that it is read once. The peer may tear it; its parts are checked one by one.
    #[inline(always)]
    pub(crate) fn used_elem(&self, index: u16) -> UsedElem {
        // SAFETY: inside the used ring, which is aligned by 4 like the type.
        unsafe { load_elem(self.elem_ptr(index)) }
    }

    /// Writes a used element unless it says so already, as it does in steady state: not writing leaves its line in the driver's cache.
    #[inline(always)]
    pub(crate) fn update_used_elem(&self, index: u16, id: u16, len: u32) {
        let elem = UsedElem(u64::from(id) | u64::from(len) << 32);
        if self.used_elem(index) != elem {
            // SAFETY: as in used_elem.
            unsafe { store_elem(self.elem_ptr(index), elem) }
        }
    }

    #[inline(always)]
    pub(crate) fn desc(&self, index: u16) -> Desc {
        // SAFETY: masked, inside the table, which is aligned by 16.
        unsafe { load_desc(self.desc_at(index)) }
    }

    #[inline(always)]
    pub(crate) fn desc_line(&self, index: u16) -> *const u8 {
        self.desc_at(index).cast()
    }

    #[inline(always)]
    pub(crate) fn set_desc(&self, index: u16, desc: Desc) {
        // SAFETY: as in desc.
        unsafe { store_desc(self.desc_at(index), desc) }
    }
}

/// Reads a descriptor once.
///
/// # Safety
/// `at` is readable for 16 bytes and aligned by 8.
#[inline(always)]
pub(crate) unsafe fn load_desc(at: *mut u64) -> Desc {
    // SAFETY: the caller's promise.
    let (addr, rest) = unsafe {
        (
            u64_at(at).load(Ordering::Relaxed),
            u64_at(at.add(1)).load(Ordering::Relaxed),
        )
    };
    #[expect(clippy::cast_possible_truncation, reason = "takes the word apart")]
    Desc {
        addr,
        len: rest as u32,
        flags: DescFlags::from_bits_retain((rest >> 32) as u16),
        next: (rest >> 48) as u16,
    }
}

/// Writes a descriptor.
///
/// # Safety
/// `at` is writable for 16 bytes and aligned by 8.
#[inline(always)]
pub(crate) unsafe fn store_desc(at: *mut u64, desc: Desc) {
    let rest =
        u64::from(desc.len) | u64::from(desc.flags.bits()) << 32 | u64::from(desc.next) << 48;
    // SAFETY: the caller's promise.
    unsafe {
        u64_at(at).store(desc.addr, Ordering::Relaxed);
        u64_at(at.add(1)).store(rest, Ordering::Relaxed);
    }
}

/// Whether `event` is the index of one of the chains from `old` on and below `new`: right across the wrap (2.7.10).
#[inline(always)]
pub(crate) fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
