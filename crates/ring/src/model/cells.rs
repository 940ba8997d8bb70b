//! Memory of loom's atomics, by address. All threads of a model run on one thread of the system, which has a memory of its own.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use crate::shared::UsedElem;

thread_local! {
    static CELLS: RefCell<BTreeMap<usize, &'static dyn Any>> = const { RefCell::new(BTreeMap::new()) };
    static FENCES: Cell<bool> = const { Cell::new(true) };
}

/// Makes all memory zero. Without `fences`, those of the code do nothing.
pub(super) fn reset(fences: bool) {
    CELLS.with_borrow_mut(BTreeMap::clear);
    FENCES.set(fences);
}

/// Loom keeps what was made in one run of a model until its end, and a run is short: nothing is freed.
fn cell<T: 'static>(addr: usize, new: impl FnOnce() -> T) -> &'static T {
    let known = CELLS.with_borrow(|cells| cells.get(&addr).copied());
    let cell: &'static dyn Any = known.unwrap_or_else(|| {
        let cell: &'static T = Box::leak(Box::new(new()));
        CELLS.with_borrow_mut(|cells| cells.insert(addr, cell));
        cell
    });
    cell.downcast_ref().expect("a word has one width")
}

/// # Safety
/// None is needed: nothing is read there.
pub(crate) unsafe fn u16_at<'a>(at: *mut u16) -> &'a AtomicU16 {
    cell(at.addr(), || AtomicU16::new(0))
}

/// # Safety
/// As above.
pub(crate) unsafe fn u32_at<'a>(at: *mut u32) -> &'a AtomicU32 {
    cell(at.addr(), || AtomicU32::new(0))
}

/// # Safety
/// As above.
pub(crate) unsafe fn u64_at<'a>(at: *mut u64) -> &'a AtomicU64 {
    cell(at.addr(), || AtomicU64::new(0))
}

/// # Safety
/// As above.
pub(crate) unsafe fn load_elem(at: *mut UsedElem) -> UsedElem {
    UsedElem(cell(at.addr(), || AtomicU64::new(0)).load(Ordering::Relaxed))
}

/// # Safety
/// As above.
pub(crate) unsafe fn store_elem(at: *mut UsedElem, elem: UsedElem) {
    cell(at.addr(), || AtomicU64::new(0)).store(elem.0, Ordering::Relaxed);
}

pub(crate) fn fence(order: Ordering) {
    if FENCES.get() {
        loom::sync::atomic::fence(order);
    }
}
