//! The cache of free buffers that each thread keeps for each mempool: last in, first out, so that a buffer that was just read is the
//! next to be written.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::Mempool;

/// How many buffers a cache holds, written by its thread alone, read by whoever counts.
#[derive(Debug, Default)]
pub(crate) struct CacheCount(AtomicUsize);

impl CacheCount {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Cache {
    pool_id: u64,
    pool: Weak<Mempool>,
    count: Arc<CacheCount>,
    /// Flushed down to half when full, refilled up to half when empty.
    slots: Box<[u32]>,
    len: usize,
}

impl Cache {
    fn new(pool: &Arc<Mempool>) -> Self {
        let count = Arc::new(CacheCount::default());
        pool.register_cache(count.clone());
        let slots = vec![0; 2 * pool.cache_size()].into_boxed_slice();
        Self {
            pool_id: pool.id(),
            pool: Arc::downgrade(pool),
            count,
            slots,
            len: 0,
        }
    }

    #[inline(always)]
    fn set_len(&mut self, len: usize) {
        self.len = len;
        self.count.0.store(len, Ordering::Relaxed);
    }

    #[inline(always)]
    fn alloc(&mut self, pool: &Mempool, out: &mut [u32]) -> usize {
        if out.len() > self.len {
            self.refill(pool, out.len());
        }
        let got = out.len().min(self.len);
        let rest = self.len - got;
        out[..got].copy_from_slice(&self.slots[rest..self.len]);
        self.set_len(rest);
        // More than a cache can hold was asked for: the remainder comes straight from the pool.
        if got < out.len() && out.len() > self.slots.len() / 2 {
            got + take(pool, &mut out[got..])
        } else {
            got
        }
    }

    #[cold]
    fn refill(&mut self, pool: &Mempool, wanted: usize) {
        let target = wanted.max(self.slots.len() / 2).min(self.slots.len());
        if target > self.len {
            let got = take(pool, &mut self.slots[self.len..target]);
            self.set_len(self.len + got);
        }
    }

    #[inline(always)]
    fn free(&mut self, pool: &Mempool, addrs: &[u32]) {
        if self.len + addrs.len() > self.slots.len() {
            self.flush(pool);
            if addrs.len() > self.slots.len() / 2 {
                pool.lock_free()
                    .extend(addrs.iter().map(|&addr| pool.fresh(addr)));
                return;
            }
        }
        for (slot, &addr) in self.slots[self.len..].iter_mut().zip(addrs) {
            *slot = pool.fresh(addr);
        }
        self.set_len(self.len + addrs.len());
    }

    /// Everything goes back to the pool.
    fn empty(&mut self, pool: &Mempool) {
        pool.lock_free().extend_from_slice(&self.slots[..self.len]);
        self.set_len(0);
    }

    /// The older half goes back to the pool; the younger, whose lines are in the processor's cache, stays.
    #[cold]
    fn flush(&mut self, pool: &Mempool) {
        let keep = self.len.min(self.slots.len() / 4);
        let out = self.len - keep;
        pool.lock_free().extend_from_slice(&self.slots[..out]);
        self.slots.copy_within(out..self.len, 0);
        self.set_len(keep);
    }
}

fn take(pool: &Mempool, out: &mut [u32]) -> usize {
    let mut free = pool.lock_free();
    let got = out.len().min(free.len());
    let rest = free.len() - got;
    out[..got].copy_from_slice(&free[rest..]);
    free.truncate(rest);
    got
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.retire_cache(&self.count, &self.slots[..self.len]);
        }
    }
}

/// The caches of one thread, the one used last in front.
struct Caches(UnsafeCell<Vec<Cache>>);

thread_local! {
    static CACHES: Caches = const { Caches(UnsafeCell::new(Vec::new())) };
}

impl Caches {
    #[inline(always)]
    fn with<R>(&self, pool: &Arc<Mempool>, f: impl FnOnce(&mut Cache) -> R) -> R {
        // SAFETY: the cell belongs to this thread, and no `f` below comes back here, so this is the only reference.
        let caches = unsafe { &mut *self.0.get() };
        match caches.first_mut() {
            Some(first) if first.pool_id == pool.id() => f(first),
            _ => f(Self::find(caches, pool)),
        }
    }

    #[cold]
    fn find<'a>(caches: &'a mut Vec<Cache>, pool: &Arc<Mempool>) -> &'a mut Cache {
        caches.retain(|cache| cache.pool.strong_count() > 0);
        let at = caches
            .iter()
            .position(|cache| cache.pool_id == pool.id())
            .unwrap_or_else(|| {
                caches.push(Cache::new(pool));
                caches.len() - 1
            });
        caches.swap(0, at);
        &mut caches[0]
    }
}

/// Takes buffers out of this thread's cache.
#[inline]
pub(crate) fn alloc(pool: &Arc<Mempool>, out: &mut [u32]) -> usize {
    // A thread that is ending has no cache any more: straight from the pool.
    if pool.cache_size() == 0 {
        return take(pool, out);
    }
    CACHES
        .try_with(|caches| caches.with(pool, |cache| cache.alloc(pool, &mut *out)))
        .unwrap_or_else(|_| take(pool, out))
}

/// Puts buffers into this thread's cache.
#[inline]
pub(crate) fn free(pool: &Arc<Mempool>, addrs: &[u32]) {
    let direct = || {
        pool.lock_free()
            .extend(addrs.iter().map(|&addr| pool.fresh(addr)));
    };
    if pool.cache_size() == 0 {
        return direct();
    }
    CACHES
        .try_with(|caches| caches.with(pool, |cache| cache.free(pool, addrs)))
        .unwrap_or_else(|_| direct());
}

/// Empties this thread's cache into the pool.
pub(crate) fn flush(pool: &Arc<Mempool>) {
    if pool.cache_size() > 0 {
        // A thread that is ending has no cache any more.
        let _none = CACHES.try_with(|caches| caches.with(pool, |cache| cache.empty(pool)));
    }
}
