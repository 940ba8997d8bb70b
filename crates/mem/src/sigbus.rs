//! A peer can truncate the file behind memory that it shared with us. The next touch of such a page raises SIGBUS, whose
//! default action ends the whole process. This module turns that into a poisoned mapping: zeroed private pages take its
//! place, the faulting instruction runs again, and whoever owns the mapping sees [`Guard::is_poisoned`].
//!
//! The handler is installed once, when the first mapping is guarded, and hands every other SIGBUS on to the handler that
//! was there before.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// How many mappings the process can guard at once: eight peers with the most regions that each may have.
const SLOTS: usize = 4096;

/// Number of mappings poisoned since the process started. A data path compares it with the last value it saw, and looks
/// at its own regions only when it moved.
static POISONED: AtomicU64 = AtomicU64::new(0);

static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];

/// The action that was installed before ours; written once, before the handler can run, and leaked.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// One guarded mapping. `start == 0` means that the handler must not look at it.
struct Slot {
    claimed: AtomicBool,
    start: AtomicUsize,
    len: AtomicUsize,
    poisoned: AtomicBool,
}

impl Slot {
    const fn new() -> Self {
        Self {
            claimed: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    fn contains(&self, address: usize) -> bool {
        // Acquire pairs with the Release in `Guard::new`: who sees the start sees the length that belongs to it.
        let start = self.start.load(Ordering::Acquire);
        start != 0 && address.wrapping_sub(start) < self.len.load(Ordering::Relaxed)
    }
}

/// Keeps one mapping in the handler's table. Drop it before the mapping is unmapped.
pub(crate) struct Guard {
    slot: &'static Slot,
}

impl Guard {
    /// Guards `len` bytes at `start`, which must be a whole mapping of the caller's. `None` if the table is full.
    pub(crate) fn new(start: *mut u8, len: usize) -> Option<Self> {
        install();
        let slot = TABLE.iter().find(|slot| {
            slot.claimed
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })?;
        slot.len.store(len, Ordering::Relaxed);
        slot.poisoned.store(false, Ordering::Relaxed);
        // Release: the handler (any thread) must not combine this start with the length of the slot's last user.
        slot.start.store(start as usize, Ordering::Release);
        Some(Self { slot })
    }

    /// Whether the memory was lost: it now reads as zeroes that no peer sees.
    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.slot.poisoned.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.slot.start.store(0, Ordering::Release);
        // Release pairs with the Acquire of the next claim: its stores come after ours.
        self.slot.claimed.store(false, Ordering::Release);
    }
}

/// Number of guarded mappings that were lost since the process started.
#[inline]
pub(crate) fn poisoned_count() -> u64 {
    POISONED.load(Ordering::Relaxed)
}

fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // SAFETY: an all-zero sigaction is a valid value of that C struct; both calls get pointers to live structs. The
        // handler is async-signal-safe (atomics, mmap, sigaction and raise only). PREVIOUS is filled before the handler
        // can be entered, and the box behind it is leaked.
        unsafe {
            let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr()) != 0 {
                return;
            }
            PREVIOUS.store(
                Box::into_raw(Box::new(previous.assume_init())),
                Ordering::Release,
            );
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    });
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel calls a SA_SIGINFO handler with a valid siginfo. errno belongs to the interrupted code, which
    // may be about to read it, so it is put back.
    unsafe {
        let errno = *libc::__errno_location();
        // A positive code means that the kernel sent it for an access, and only then si_addr means something.
        let handled = (*info).si_code > 0 && replace((*info).si_addr() as usize);
        if !handled {
            forward(signal, info, context);
        }
        *libc::__errno_location() = errno;
    }
}

/// Puts zeroed pages over the guarded mapping that holds `address`. False if none does or the kernel refuses.
fn replace(address: usize) -> bool {
    let Some(slot) = TABLE.iter().find(|slot| slot.contains(address)) else {
        return false;
    };
    let start = slot.start.load(Ordering::Acquire);
    let len = slot.len.load(Ordering::Relaxed);
    // SAFETY: the slot says that [start, start + len) is a whole mapping that some Guard's owner keeps. The owner drops its
    // Guard before it unmaps, and unmaps only when no thread uses the memory any more; this thread is just using it.
    // So the range is still that mapping, and replacing it is what the owner asked for.
    let page = unsafe {
        libc::mmap(
            start as *mut c_void,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return false;
    }
    if !slot.poisoned.swap(true, Ordering::Relaxed) {
        POISONED.fetch_add(1, Ordering::Relaxed);
    }
    true
}

/// Gives a SIGBUS that is not ours to the handler before ours, or lets it have its default effect.
///
/// # Safety
/// Only from the signal handler, with the kernel's arguments.
unsafe fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: PREVIOUS is null or points to a leaked sigaction that nobody writes. A handler address in it was installed by
    // someone for this very signal with the signature that its flags name.
    unsafe {
        let handler = previous.as_ref().map_or(libc::SIG_DFL, |p| p.sa_sigaction);
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            // An access error cannot be ignored: returning would repeat it for ever. Both cases end as the default does;
            // the signal is blocked while we run, so it takes effect when we return.
            let mut default: libc::sigaction = MaybeUninit::zeroed().assume_init();
            default.sa_sigaction = if (*info).si_code > 0 {
                libc::SIG_DFL
            } else {
                handler
            };
            if default.sa_sigaction == libc::SIG_DFL {
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                libc::raise(signal);
            }
        } else if (*previous).sa_flags & libc::SA_SIGINFO != 0 {
            let call: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                std::mem::transmute(handler);
            call(signal, info, context);
        } else {
            let call: extern "C" fn(c_int) = std::mem::transmute(handler);
            call(signal);
        }
    }
}
