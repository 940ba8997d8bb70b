//! The atomics under the rings, in one place: with the feature `loom` the proofs (model.rs) run the same code over atomics that show every
//! value which the memory model allows.

#[cfg(not(all(test, feature = "loom")))]
mod real {
    use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

    use crate::shared::UsedElem;

    /// # Safety
    /// As for `AtomicU16::from_ptr`.
    #[inline(always)]
    pub(crate) unsafe fn u16_at<'a>(at: *mut u16) -> &'a AtomicU16 {
        // SAFETY: the caller's promise.
        unsafe { AtomicU16::from_ptr(at) }
    }

    /// # Safety
    /// As for `AtomicU32::from_ptr`.
    #[inline(always)]
    pub(crate) unsafe fn u32_at<'a>(at: *mut u32) -> &'a AtomicU32 {
        // SAFETY: the caller's promise.
        unsafe { AtomicU32::from_ptr(at) }
    }

    /// # Safety
    /// As for `AtomicU64::from_ptr`.
    #[inline(always)]
    pub(crate) unsafe fn u64_at<'a>(at: *mut u64) -> &'a AtomicU64 {
        // SAFETY: the caller's promise.
        unsafe { AtomicU64::from_ptr(at) }
    }

    /// A used element of a split ring is aligned by 4 only, too little for an atomic.
    ///
    /// # Safety
    /// As for `read_volatile`.
    #[inline(always)]
    pub(crate) unsafe fn load_elem(at: *mut UsedElem) -> UsedElem {
        // SAFETY: the caller's promise.
        unsafe { at.read_volatile() }
    }

    /// # Safety
    /// As for `write_volatile`.
    #[inline(always)]
    pub(crate) unsafe fn store_elem(at: *mut UsedElem, elem: UsedElem) {
        // SAFETY: the caller's promise.
        unsafe { at.write_volatile(elem) }
    }
}

#[cfg(not(all(test, feature = "loom")))]
pub(crate) use real::{load_elem, store_elem, u16_at, u32_at, u64_at};
#[cfg(not(all(test, feature = "loom")))]
pub(crate) use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};

#[cfg(all(test, feature = "loom"))]
pub(crate) use crate::model::cells::{fence, load_elem, store_elem, u16_at, u32_at, u64_at};
#[cfg(all(test, feature = "loom"))]
pub(crate) use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};
