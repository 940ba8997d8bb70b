//! The packet mempool: one shared region of equal buffers.
//!
//! ```text
//! buffer = [ headroom: virtio-net header right before the data | data room ]      stride = buffer, an odd number of cache lines
//! ```
//!
//! The stride is an odd number of lines so that the first lines of successive buffers do not fall into the same few sets of the
//! processor's caches. No buffer lies on two hugepages: a device that reaches memory by physical addresses could not be given it. The place of
//! one that would is left out. Nothing that we rely on lies in the region, because a peer may write to it: the free list and the segment
//! links are private memory.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::audit::Audit;
use crate::burst::{Burst, flags};
use crate::cache::{self, CacheCount};
use crate::{CACHE_LINE, MemError, Pages, Region};

pub use crate::geometry::Geometry;

/// Bytes before the data of a fresh packet. A multiple of the cache line, so that a header written there does not touch the
/// data's lines.
pub const HEADROOM: u32 = 128;

/// Most segments of one packet: 64 KiB in the smallest buffers, and the bound of every walk along a chain.
pub const MAX_SEGS: usize = 256;

/// "No further segment".
pub const NO_SEG: u32 = u32::MAX;

/// What to make a mempool of.
#[derive(Debug, Clone)]
pub struct MempoolConfig {
    /// Shown in errors and in the process's memory map.
    pub name: String,
    /// Buffers: 1 to 2³¹, at most 4 GiB together.
    pub count: usize,
    /// Bytes of a buffer with its headroom: 256 to 65535.
    pub buffer_size: usize,
    /// Free buffers that each thread keeps at hand: 0 to 512.
    pub cache_size: usize,
    /// The pages to lie on.
    pub pages: Pages,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self {
            name: "mbuf_pool".into(),
            count: 16384,
            buffer_size: 2048 + 128,
            cache_size: 256,
            pages: Pages::Auto,
        }
    }
}

/// How a packet of several segments goes on behind one of its buffers. Private to this process, but scripts see it.
#[derive(Debug)]
#[repr(C)]
pub struct SegMeta {
    /// Address of the next segment's first byte, or [`NO_SEG`].
    pub next: AtomicU32,
    /// Bytes of this segment.
    pub len: AtomicU32,
}

/// One contiguous piece of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Address of its first byte.
    pub addr: u32,
    /// Bytes.
    pub len: u32,
}

/// Why a packet in a burst cannot be sent: what a script wrote there does not fit the mempool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// Address and length do not lie inside one buffer.
    #[error(
        "expected a packet inside one buffer of its mempool, got {len} bytes at address {addr}"
    )]
    OutsideBuffer {
        /// Its address.
        addr: u32,
        /// Its length.
        len: u32,
    },
    /// The chain of segments does not end, or its lengths do not add up.
    #[error("expected at most {MAX_SEGS} segments that add up to {len} bytes from address {addr}")]
    Chain {
        /// The first segment's address.
        addr: u32,
        /// The length that the burst gives.
        len: u32,
    },
}

/// See the module. Made once, shared by all queues of a forwarding application.
#[derive(Debug)]
pub struct Mempool {
    id: u64,
    name: String,
    region: Arc<Region>,
    geometry: Geometry,
    count: u32,
    cache_size: usize,
    meta: Box<[SegMeta]>,
    free: Mutex<Vec<u32>>,
    caches: Mutex<Vec<Arc<CacheCount>>>,
    audit: Audit,
}

impl Mempool {
    /// Makes the pool with all its buffers free.
    ///
    /// # Errors
    /// A value out of its range, or no memory: see [`MemError`].
    pub fn new(config: &MempoolConfig) -> Result<Arc<Self>, MemError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        check("bufferSize", config.buffer_size, 256, usize::from(u16::MAX))?;
        check("count", config.count, 1, 1 << 31)?;
        check("cacheSize", config.cache_size, 0, 512)?;
        let lines = config.buffer_size.div_ceil(CACHE_LINE) | 1;
        let stride = lines * CACHE_LINE;
        let too_large = || MemError::TooLarge {
            count: config.count,
            stride,
        };
        let fits = |places: usize| {
            let len = places.checked_mul(stride);
            len.filter(|&len| u32::try_from(len).is_ok())
                .ok_or_else(too_large)
        };
        fits(config.count)?;
        let whole = |place: usize, page| is_whole(place * stride, config.buffer_size, page);
        let places = |page| {
            let buffers = (0..).filter(|&place| whole(place, page));
            buffers.take(config.count).last().map_or(0, |last| last + 1)
        };
        // What is left out on the smallest hugepages is enough for all.
        let len = fits(places(Pages::Huge2M.size()))?;
        let region = Region::create(&format!("vring-{}", config.name), len, config.pages)?;
        let narrow = |n: usize| u32::try_from(n).map_err(|_| too_large());
        let page = match region.pages() {
            Pages::Auto | Pages::Base => usize::MAX,
            huge => huge.size(),
        };
        let places = places(page);
        // From the top of the stack come the lowest addresses first.
        let free = (0..places).rev().filter(|&place| whole(place, page));
        let free = free
            .map(|place| narrow(place * stride).map(|at| at + HEADROOM))
            .collect::<Result<_, _>>()?;
        let (count, places, stride) = (narrow(config.count)?, narrow(places)?, narrow(stride)?);
        let geometry = Geometry::new(region.base(), stride, places, narrow(config.buffer_size)?);
        let meta = (0..places)
            .map(|_| SegMeta {
                next: AtomicU32::new(NO_SEG),
                len: AtomicU32::new(0),
            })
            .collect();
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: config.name.clone(),
            region,
            geometry,
            count,
            cache_size: config.cache_size,
            meta,
            free: Mutex::new(free),
            caches: Mutex::new(Vec::new()),
            audit: Audit::new(geometry.count() as usize),
        }))
    }

    /// Unlike any other pool's, also of those that are gone.
    #[must_use]
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its memory.
    #[must_use]
    #[inline]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Buffers, free or not.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Places of buffers in the region, with those that are left out: a [`Mempool::buffer_of`] is below this.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.geometry.count()
    }

    /// Bytes of a buffer with its headroom, as asked for.
    #[must_use]
    #[inline]
    pub fn buffer_size(&self) -> u32 {
        self.geometry.buffer_size()
    }

    /// Bytes from a buffer's start to the next one's.
    #[must_use]
    pub fn stride(&self) -> u32 {
        self.geometry.stride()
    }

    /// Bytes of data that a fresh buffer takes.
    #[must_use]
    #[inline]
    pub fn data_room(&self) -> u32 {
        self.buffer_size() - HEADROOM
    }

    /// Free buffers that a thread keeps at hand.
    #[must_use]
    pub fn cache_size(&self) -> usize {
        self.cache_size
    }

    /// The segment links, by buffer: for the one who shows them to JavaScript.
    #[must_use]
    pub fn meta(&self) -> &[SegMeta] {
        &self.meta
    }

    /// Free buffers, those in the caches of threads included. Exact while nothing moves.
    #[must_use]
    pub fn free_count(&self) -> usize {
        let cached: usize = lock(&self.caches).iter().map(|count| count.get()).sum();
        lock(&self.free).len() + cached
    }

    /// Where things lie, as plain numbers: what a loop over a burst keeps in registers.
    #[must_use]
    #[inline(always)]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// See [`Geometry::ptr`].
    #[must_use]
    #[inline(always)]
    pub fn ptr(&self, addr: u32) -> *mut u8 {
        self.geometry().ptr(addr)
    }

    /// See [`Geometry::buffer_of`].
    #[must_use]
    #[inline(always)]
    pub fn buffer_of(&self, addr: u32) -> u32 {
        self.geometry().buffer_of(addr)
    }

    /// See [`Geometry::fresh`].
    #[must_use]
    #[inline(always)]
    pub fn fresh(&self, addr: u32) -> u32 {
        self.geometry().fresh(addr)
    }

    /// See [`Geometry::checked`].
    #[must_use]
    #[inline(always)]
    pub fn checked(&self, addr: u32, len: u32, room: u32) -> bool {
        self.geometry().checked(addr, len, room)
    }

    /// Takes up to `out.len()` buffers; how many there were. Each stands in `out` as the address of a fresh packet.
    #[inline]
    pub fn alloc_bulk(self: &Arc<Self>, out: &mut [u32]) -> usize {
        let got = cache::alloc(self, out);
        self.audit.take(self, &out[..got]);
        got
    }

    /// Gives buffers back: any address inside each will do. Links are not followed.
    #[inline]
    pub fn free_bulk(self: &Arc<Self>, addrs: &[u32]) {
        self.audit.give(self, addrs);
        cache::free(self, addrs);
    }

    /// Gives the free buffers that this thread keeps at hand back to all: for a thread that will not need them soon, so that no other runs
    /// out of buffers while they lie here.
    pub fn flush_thread_cache(self: &Arc<Self>) {
        cache::flush(self);
    }

    /// Gives one packet back with all its segments.
    pub fn free_packet(self: &Arc<Self>, addr: u32, packet_flags: u32) {
        if packet_flags & flags::MULTI == 0 {
            if self.buffer_of(addr) < self.places() {
                self.free_bulk(&[addr]);
            }
            return;
        }
        let mut at = addr;
        for _ in 0..MAX_SEGS {
            let Some(meta) = self.meta.get(self.buffer_of(at) as usize) else {
                return;
            };
            let next = meta.next.load(Ordering::Relaxed);
            self.free_bulk(&[at]);
            if next == NO_SEG {
                return;
            }
            at = next;
        }
    }

    /// Gives all packets of a burst back and empties it.
    pub fn free_burst(self: &Arc<Self>, burst: &mut Burst) {
        let (addrs, _, all_flags) = burst.packets();
        if all_flags.iter().all(|f| f & flags::MULTI == 0)
            && addrs.iter().all(|&a| self.buffer_of(a) < self.places())
        {
            self.free_bulk(addrs);
        } else {
            for (&addr, &f) in addrs.iter().zip(all_flags) {
                self.free_packet(addr, f);
            }
        }
        burst.set_len(0);
    }

    /// The first segment of a packet, checked: a single one is the packet itself.
    ///
    /// # Errors
    /// What the burst says does not fit the pool.
    #[inline]
    pub fn segments(
        &self,
        addr: u32,
        len: u32,
        packet_flags: u32,
    ) -> Result<Segments<'_>, BadPacket> {
        let multi = packet_flags & flags::MULTI != 0;
        if !multi {
            if !self.checked(addr, len, 0) {
                return Err(BadPacket::OutsideBuffer { addr, len });
            }
            return Ok(Segments {
                pool: self,
                multi,
                next: addr,
                single: len,
                left: 1,
            });
        }
        let segments = Segments {
            pool: self,
            multi,
            next: addr,
            single: len,
            left: MAX_SEGS,
        };
        let mut total = 0u64;
        let mut last = Segment { addr, len: 0 };
        for segment in segments.clone() {
            if !self.checked(segment.addr, segment.len, 0) {
                return Err(BadPacket::OutsideBuffer {
                    addr: segment.addr,
                    len: segment.len,
                });
            }
            total += u64::from(segment.len);
            last = segment;
        }
        let ends = self
            .meta
            .get(self.buffer_of(last.addr) as usize)
            .map(|m| m.next.load(Ordering::Relaxed));
        if total != u64::from(len) || ends != Some(NO_SEG) {
            return Err(BadPacket::Chain { addr, len });
        }
        Ok(segments)
    }

    /// Says how the packet goes on behind the buffer of `segment`.
    #[inline]
    pub fn link(&self, segment: Segment, next: u32) {
        if let Some(meta) = self.meta.get(self.buffer_of(segment.addr) as usize) {
            meta.next.store(next, Ordering::Relaxed);
            meta.len.store(segment.len, Ordering::Relaxed);
        }
    }

    pub(crate) fn lock_free(&self) -> MutexGuard<'_, Vec<u32>> {
        lock(&self.free)
    }

    pub(crate) fn register_cache(&self, count: Arc<CacheCount>) {
        lock(&self.caches).push(count);
    }

    /// A thread ends: its cache goes back. Both locks are held, so that nobody counts the buffers twice or not at all.
    pub(crate) fn retire_cache(&self, count: &Arc<CacheCount>, addrs: &[u32]) {
        let mut caches = lock(&self.caches);
        lock(&self.free).extend_from_slice(addrs);
        caches.retain(|other| !Arc::ptr_eq(other, count));
    }
}

/// A panic elsewhere leaves the list as it was: each change to it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `len` bytes from `at` lie on one page of `page` bytes.
fn is_whole(at: usize, len: usize, page: usize) -> bool {
    at / page == (at + len - 1) / page
}

fn check(what: &'static str, got: usize, min: usize, max: usize) -> Result<(), MemError> {
    if (min..=max).contains(&got) {
        Ok(())
    } else {
        Err(MemError::Range {
            what,
            min,
            max,
            got,
        })
    }
}

/// Walks the segments of a packet, at most [`MAX_SEGS`].
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    pool: &'a Mempool,
    multi: bool,
    next: u32,
    single: u32,
    left: usize,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        if !self.multi {
            return Some(Segment {
                addr: self.next,
                len: self.single,
            });
        }
        let addr = self.next;
        let meta = self.pool.meta.get(self.pool.buffer_of(addr) as usize)?;
        self.next = meta.next.load(Ordering::Relaxed);
        if self.next == NO_SEG {
            self.left = 0;
        }
        Some(Segment {
            addr,
            len: meta.len.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests;
