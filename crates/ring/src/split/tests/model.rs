//! The protocol of publishing and suppressing, in every order that the memory model allows.
//!
//! Both directions are one protocol with the roles exchanged. The model has the same accesses with the same orderings as these
//! functions; a change there is a change here:
//!
//! | model             | `SplitDriver` → device                    | `SplitDevice` → driver                    |
//! |-------------------|-------------------------------------------|-------------------------------------------|
//! | `Words::publish`  | `publish`: `avail.idx`, Release           | `publish`: `used.idx`, Release            |
//! | `Words::tell`     | `needs_kick`: fence, `avail_event`/flags  | `needs_call`: fence, `used_event`/flags   |
//! | `Words::sleeps`   | the device's `want_kicks(true)`           | the driver's `want_calls(true)`           |
//! | `Words::ready`    | the device's `ready`: Acquire             | the driver's `used_ready`: Acquire        |

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU16, fence};

use crate::shared::{SUPPRESS, need_event};

/// The words that the two sides share, with an entry behind each of two indexes.
struct Words {
    event_idx: bool,
    fences: bool,
    index: AtomicU16,
    /// `avail_event` or `used_event`.
    event: AtomicU16,
    /// The flags of the other ring.
    flags: AtomicU16,
    entries: [UnsafeCell<u16>; 2],
    told: AtomicBool,
}

impl Words {
    fn new(event_idx: bool, fences: bool) -> Arc<Self> {
        Arc::new(Self {
            event_idx,
            fences,
            index: AtomicU16::new(0),
            // Suppressed, as a new ring is.
            event: AtomicU16::new(0u16.wrapping_sub(5)),
            flags: AtomicU16::new(SUPPRESS),
            entries: [UnsafeCell::new(0), UnsafeCell::new(0)],
            told: AtomicBool::new(false),
        })
    }

    fn fence(&self) {
        if self.fences {
            fence(SeqCst);
        }
    }

    fn publish(&self, old: u16) {
        // SAFETY: loom proves it: nobody reads an entry before the index that covers it.
        self.entries[usize::from(old)].with_mut(|entry| unsafe { *entry = old + 1 });
        self.index.store(old + 1, Release);
    }

    fn tell(&self, new: u16, old: u16) {
        self.fence();
        let told = if self.event_idx {
            need_event(self.event.load(Relaxed), new, old)
        } else {
            self.flags.load(Relaxed) & SUPPRESS == 0
        };
        if told {
            self.told.store(true, Relaxed);
        }
    }

    fn sleeps(&self, taken: u16) -> bool {
        if self.event_idx {
            self.event.store(taken, Relaxed);
        } else {
            self.flags.store(0, Relaxed);
        }
        self.fence();
        self.index.load(Acquire) == taken
    }

    fn ready(&self, taken: u16) -> u16 {
        let index = self.index.load(Acquire);
        for entry in taken..index {
            // SAFETY: loom proves it: the index covers the entry.
            let value = self.entries[usize::from(entry)].with(|entry| unsafe { *entry });
            assert_eq!(value, entry + 1);
        }
        index
    }
}

/// One side publishes twice; the other takes once, then falls asleep unless a last look finds more.
fn explore(event_idx: bool, fences: bool) {
    loom::model(move || {
        let words = Words::new(event_idx, fences);
        let theirs = words.clone();
        let publisher = loom::thread::spawn(move || {
            for old in 0..2 {
                theirs.publish(old);
                theirs.tell(old + 1, old);
            }
        });
        let taken = words.ready(0);
        let asleep = words.sleeps(taken);
        publisher.join().unwrap();
        let missed = words.index.load(Acquire) != taken;
        let told = words.told.load(Relaxed);
        assert!(told || !(asleep && missed), "slept through news");
    });
}

/// With flags: whoever sleeps while something is published is told of it.
#[test]
fn flags_lose_no_wake_up() {
    explore(false, true);
}

/// With event indexes: the same.
#[test]
fn event_indexes_lose_no_wake_up() {
    explore(true, true);
}

/// The model sees what it is for: without the fences a wake-up is lost.
#[test]
#[should_panic(expected = "slept through news")]
fn without_fences_flags_lose_one() {
    explore(false, false);
}

/// As above, with event indexes.
#[test]
#[should_panic(expected = "slept through news")]
fn without_fences_event_indexes_lose_one() {
    explore(true, false);
}
