//! Bursts that JavaScript holds.
//!
//! JavaScript names a burst by a number, its *handle*: the index of a slot in a table that is never freed, and how often the slot was
//! used before. So a handle that is stale, foreign or made up is an error and never a wild pointer, for two loads and two comparisons.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use vring_mem::burst::MAX_BURST;
use vring_mem::{Burst, Mempool};
use vring_port::Owner;

use crate::error::{Error, Result, failure};
use crate::hot::{self, Callable, Outcome};
use crate::{isolate, shown};

const SLOT_BITS: u32 = 12;
const SLOTS: usize = 1 << SLOT_BITS;
/// No burst has this handle: scripts get it for what is no number.
const NO_HANDLE: u32 = u32::MAX;

/// The arrays, shared with the `ArrayBuffer` that shows them.
struct Arrays(UnsafeCell<Burst>);

// SAFETY: the burst is reached only through its slot, which checks that it is the thread's own. The Arc is shared within one thread.
unsafe impl Send for Arrays {}
// SAFETY: as above.
unsafe impl Sync for Arrays {}

/// What stands in a slot.
pub struct Held {
    arrays: Arc<Arrays>,
    /// The mempool of its packets.
    pub pool: Arc<Mempool>,
    /// The same pool's id: compared without a look at the pool.
    pub pool_id: u64,
}

/// See the module.
#[repr(align(64))]
struct Slot {
    /// Zero while nobody uses the slot.
    handle: AtomicU32,
    thread: AtomicU64,
    held: UnsafeCell<Option<Held>>,
}

// SAFETY: `held` is reached only by the thread in `thread` while `handle` is set, and by the one that is just setting them.
unsafe impl Sync for Slot {}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        handle: AtomicU32::new(0),
        thread: AtomicU64::new(0),
        held: UnsafeCell::new(None),
    }
}; SLOTS];

/// Slots that nobody uses, each with the handle that it gets next.
static FREE: Mutex<Option<Vec<u32>>> = Mutex::new(None);

fn with_free<R>(f: impl FnOnce(&mut Vec<u32>) -> R) -> R {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    #[expect(clippy::cast_possible_truncation, reason = "SLOTS is small")]
    f(free.get_or_insert_with(|| {
        (0..SLOTS as u32)
            .rev()
            .map(|index| index | 1 << SLOT_BITS)
            .collect()
    }))
}

fn slot(handle: u32) -> &'static Slot {
    &TABLE[handle as usize % SLOTS]
}

/// The thread's number for the table.
fn thread(owner: Owner) -> u64 {
    owner.number()
}

/// Runs `f` on the burst with that handle.
///
/// # Errors
/// A burst that is closed, or another thread's.
#[inline(always)]
pub fn with<R>(
    handle: u32,
    owner: Owner,
    f: impl FnOnce(&mut Burst, &Held) -> Outcome<R>,
) -> Outcome<R> {
    let slot = slot(handle);
    // Relaxed: both equal what this thread stored there only if this thread did store it, and did not take it back since.
    if slot.handle.load(Ordering::Relaxed) != handle
        || slot.thread.load(Ordering::Relaxed) != thread(owner)
    {
        return Err(refuse(handle, owner));
    }
    // SAFETY: the slot is this thread's, and in use.
    match unsafe { &*slot.held.get() } {
        // SAFETY: JavaScript does not run meanwhile, and a native function does not call another: this is the only reference.
        Some(held) => f(unsafe { &mut *held.arrays.0.get() }, held),
        None => Err(refuse(handle, owner)),
    }
}

#[cold]
fn refuse(handle: u32, owner: Owner) -> Box<Error> {
    Box::new(reason(handle, owner))
}

fn reason(handle: u32, owner: Owner) -> Error {
    let slot = slot(handle);
    if handle == NO_HANDLE {
        return failure("ERR_VRING_INVALID_ARGUMENT", "expected a Burst");
    }
    if slot.handle.load(Ordering::Relaxed) == handle
        && slot.thread.load(Ordering::Relaxed) != thread(owner)
    {
        return failure(
            "ERR_VRING_WRONG_THREAD",
            "expected a burst of this thread, got another thread's; make one here with mempool.createBurst()",
        );
    }
    failure(
        "ERR_VRING_CLOSED",
        "expected a burst that is open, but it was closed; make another with mempool.createBurst()",
    )
}

/// A new burst.
#[napi(object, object_from_js = false)]
pub struct NewBurst<'env> {
    /// Its handle.
    pub handle: u32,
    /// Packets that fit.
    pub capacity: u32,
    /// Its words: length, capacity, reserved up to 16, then its seven arrays: see `vring_mem::burst`.
    #[napi(ts_type = "ArrayBuffer")]
    pub memory: Unknown<'env>,
}

/// Dropped when the `ArrayBuffer` is gone: a burst that was never closed is closed then.
struct Showing {
    handle: u32,
    owner: Owner,
    /// Keeps the words.
    _arrays: Arc<Arrays>,
}

impl Drop for Showing {
    fn drop(&mut self) {
        close(self.handle, self.owner);
    }
}

/// Makes a burst for this isolate.
pub fn create<'env>(env: &'env Env, pool: &Arc<Mempool>, capacity: u32) -> Result<NewBurst<'env>> {
    if !(1..=MAX_BURST).contains(&(capacity as usize)) {
        return Err(failure(
            "ERR_VRING_OUT_OF_RANGE",
            format!("expected a burst of 1 to {MAX_BURST} packets, got {capacity}"),
        ));
    }
    let owner = isolate::current(env)?.owner;
    let handle = with_free(Vec::pop).ok_or_else(|| {
        failure(
            "ERR_VRING_TOO_MANY_BURSTS",
            format!("expected at most {SLOTS} bursts at a time; close those that are not used"),
        )
    })?;
    let burst = Burst::new(capacity as usize);
    let (words, bytes) = (
        burst.as_ptr(),
        size_of::<u32>() * Burst::word_count(capacity as usize),
    );
    let arrays = Arc::new(Arrays(UnsafeCell::new(burst)));
    let slot = slot(handle);
    // SAFETY: the handle came from the free list, so nobody else uses the slot.
    unsafe {
        *slot.held.get() = Some(Held {
            arrays: arrays.clone(),
            pool: pool.clone(),
            pool_id: pool.id(),
        });
    };
    slot.thread.store(thread(owner), Ordering::Relaxed);
    slot.handle.store(handle, Ordering::Relaxed);
    // SAFETY: the words live as long as `arrays`. If this fails, dropping `Showing` closes the slot.
    let memory = unsafe {
        shown::show(
            env,
            words.cast(),
            bytes,
            Showing {
                handle,
                owner,
                _arrays: arrays,
            },
        )?
    };
    Ok(NewBurst {
        handle,
        capacity,
        memory,
    })
}

/// Frees the packets and the slot. Does nothing for a burst that is closed, or another thread's.
fn close(handle: u32, owner: Owner) {
    let slot = slot(handle);
    if with(handle, owner, |burst, held| {
        held.pool.free_burst(burst);
        Ok(())
    })
    .is_err()
    {
        return;
    }
    slot.handle.store(0, Ordering::Relaxed);
    // SAFETY: `with` found the slot to be this thread's, and it is not on the free list yet.
    let held = unsafe { (*slot.held.get()).take() };
    drop(held);
    // The next handle of the slot; never 0 nor NO_HANDLE.
    let next = handle.wrapping_add(1 << SLOT_BITS);
    let wrapped = next >> SLOT_BITS == 0 || next >> SLOT_BITS == NO_HANDLE >> SLOT_BITS;
    #[expect(clippy::cast_possible_truncation, reason = "SLOTS is small")]
    let next = if wrapped {
        (handle % SLOTS as u32) | (1 << SLOT_BITS)
    } else {
        next
    };
    with_free(|free| free.push(next));
}

/// Frees all packets of a burst: `(burst) => how many`.
struct Free(Owner);

impl Callable for Free {
    const NAME: &'static str = "freeBurst";

    #[inline(always)]
    fn call(&self, handle: u32, _: u32) -> Outcome<u32> {
        with(handle, self.0, |burst, held| {
            let count = narrow(burst.len());
            held.pool.free_burst(burst);
            Ok(count)
        })
    }
}

/// Frees one packet of a burst; the last one takes its place: `(burst, index) => 1`, or 0 if there is no such packet.
struct Drop1(Owner);

impl Callable for Drop1 {
    const NAME: &'static str = "dropPacket";

    #[inline(always)]
    fn call(&self, handle: u32, index: u32) -> Outcome<u32> {
        with(handle, self.0, |burst, held| {
            let (len, index) = (burst.len(), index as usize);
            if index >= len {
                return Ok(0);
            }
            let (addrs, _, flags) = burst.packets();
            held.pool.free_packet(addrs[index], flags[index]);
            burst.move_down(len - 1, len, index);
            burst.set_len(len - 1);
            Ok(1)
        })
    }
}

/// Appends fresh packets of length 0: `(burst, wanted) => got`. Does not keep its pool: the burst does.
pub struct Alloc {
    pool_id: u64,
    pool_name: String,
    owner: Owner,
}

impl Alloc {
    /// From this pool, for bursts of this isolate.
    pub fn new(pool: &Mempool, owner: Owner) -> Self {
        Self {
            pool_id: pool.id(),
            pool_name: pool.name().to_owned(),
            owner,
        }
    }
}

impl Alloc {
    #[cold]
    fn wrong_pool(&self, got: &Mempool) -> Box<Error> {
        let message = format!(
            "expected a burst of mempool '{}', got one of '{}'",
            self.pool_name,
            got.name()
        );
        Box::new(failure("ERR_VRING_WRONG_MEMPOOL", message))
    }
}

impl Callable for Alloc {
    const NAME: &'static str = "allocPackets";

    #[inline(always)]
    fn call(&self, handle: u32, wanted: u32) -> Outcome<u32> {
        with(handle, self.owner, |burst, held| {
            if held.pool_id != self.pool_id {
                return Err(self.wrong_pool(&held.pool));
            }
            let len = burst.len();
            let end = len.saturating_add(wanted as usize).min(burst.capacity());
            let (addrs, lens, flags) = burst.arrays_mut();
            let got = held.pool.alloc_bulk(&mut addrs[len..end]);
            lens[len..len + got].fill(0);
            flags[len..len + got].fill(0);
            burst.set_len(len + got);
            Ok(narrow(got))
        })
    }
}

/// The functions on bursts of any pool, for one isolate.
#[napi(object, object_from_js = false)]
pub struct BurstFunctions<'env> {
    /// Frees all packets: `(burst) => how many`.
    #[napi(ts_type = "(burst: number) => number")]
    pub free: Unknown<'env>,
    /// Frees one packet: `(burst, index) => 1 or 0`.
    #[napi(ts_type = "(burst: number, index: number) => number")]
    pub drop: Unknown<'env>,
}

/// Makes the functions on bursts, once for each isolate.
#[napi(catch_unwind)]
pub fn burst_functions(env: &Env) -> Result<BurstFunctions<'_>> {
    let owner = isolate::current(env)?.owner;
    Ok(BurstFunctions {
        free: hot::bind(env, Free(owner))?,
        drop: hot::bind(env, Drop1(owner))?,
    })
}

/// Frees the packets of a burst and its handle. Closing twice is no error.
#[napi(catch_unwind)]
pub fn close_burst(env: Env, handle: u32) -> Result<()> {
    close(handle, isolate::current(&env)?.owner);
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "at most MAX_BURST")]
fn narrow(count: usize) -> u32 {
    count as u32
}
