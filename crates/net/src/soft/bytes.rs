//! Access to the bytes of a packet, over its segments.

use std::sync::atomic::{Ordering, compiler_fence};

use vring_mem::Mempool;
use vring_mem::burst::{Packet, flags};
use vring_mem::copy::copy;
use vring_mem::mempool::{NO_SEG, Segment, Segments};

use super::csum;

/// A packet whose segments were found to lie in its mempool. The links between them may be written by a script meanwhile: each segment is
/// checked again when it is used.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pool: &'a Mempool,
    segments: Segments<'a>,
    len: usize,
}

impl<'a> View<'a> {
    /// `None` when what the burst says does not fit the pool.
    #[must_use]
    pub fn new(pool: &'a Mempool, packet: &Packet) -> Option<Self> {
        let segments = pool.segments(packet.addr, packet.len, packet.flags).ok()?;
        Some(Self {
            pool,
            segments,
            len: packet.len as usize,
        })
    }

    /// Bytes of the packet.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The first segment.
    pub(super) fn first(&self) -> Option<Segment> {
        self.segments.clone().next()
    }

    /// How many segments it has.
    pub(super) fn count(&self) -> usize {
        self.segments.clone().count()
    }

    /// Copies the bytes from `at` on; false, and some of them at most, when there are not so many.
    pub fn read(&self, at: usize, out: &mut [u8]) -> bool {
        let to = out.as_mut_ptr();
        let all = self.each(at, out.len(), |ptr, done, n| {
            // SAFETY: `ptr` is inside a buffer for n bytes, `done + n` is at most the length of `out`.
            unsafe { copy(to.wrapping_add(done), ptr, n) };
        });
        // What was copied is what is checked and used: the compiler must not look at the packet, which may change, a second time.
        compiler_fence(Ordering::Acquire);
        all
    }

    /// Copies the packet's first bytes, as many as there are and fit: how many.
    pub fn head<'b>(&self, out: &'b mut [u8]) -> &'b [u8] {
        let n = out.len().min(self.len);
        let out = &mut out[..n];
        if self.read(0, out) { out } else { &[] }
    }

    /// Writes the bytes from `at` on; false, and nothing beyond the packet written, when it is too short.
    pub fn write(&self, at: usize, bytes: &[u8]) -> bool {
        let from = bytes.as_ptr();
        self.each(at, bytes.len(), |ptr, done, n| {
            // SAFETY: as in read.
            unsafe { copy(ptr, from.wrapping_add(done), n) };
        })
    }

    /// Fills `len` bytes from `at` on with the next ones of another packet; false when either is too short.
    pub(super) fn fill(&self, at: usize, len: usize, source: &mut Cursor) -> bool {
        let pool = self.pool;
        let mut enough = true;
        let all = self.each(at, len, |ptr, _, n| enough &= source.copy(pool, ptr, n));
        all && enough
    }

    /// The ones' complement sum of the bytes from `from` up to and without `to`, as [`csum::Sum`] counts; `None` when they are not there.
    pub(super) fn sum(&self, from: usize, to: usize) -> Option<csum::Sum> {
        let mut sum = csum::Sum::default();
        let all = self.each(from, to.checked_sub(from)?, |ptr, done, n| {
            // SAFETY: `ptr` is inside a buffer for n bytes.
            let piece = unsafe { csum::sum(ptr, n) };
            sum = sum.add_at(done, piece);
        });
        all.then_some(sum)
    }

    /// Calls `f` with a pointer, the bytes before it, and bytes that are there, until `len` bytes from `at` on are through.
    fn each(&self, at: usize, len: usize, mut f: impl FnMut(*mut u8, usize, usize)) -> bool {
        let (mut skip, mut done) = (at, 0);
        for segment in self.segments.clone() {
            if done == len || !self.pool.checked(segment.addr, segment.len, 0) {
                break;
            }
            let here = segment.len as usize;
            if skip >= here {
                skip -= here;
                continue;
            }
            let n = (here - skip).min(len - done);
            f(self.pool.ptr(segment.addr).wrapping_add(skip), done, n);
            done += n;
            skip = 0;
        }
        done == len
    }
}

/// A position in a packet that only moves forward: for one that is read piece by piece, and kept meanwhile.
#[derive(Debug)]
pub(super) struct Cursor {
    /// What is left of the segment.
    here: Segment,
    /// The next segment's address, or [`NO_SEG`].
    next: u32,
    /// Segments that may still come: links that a script made a circle of end too.
    left: usize,
}

impl Cursor {
    /// Begins at byte `at` of the packet; `None` when there are not so many, or the packet does not fit the pool.
    pub(super) fn new(pool: &Mempool, packet: &Packet, at: usize) -> Option<Self> {
        let view = View::new(pool, packet)?;
        let mut cursor = if packet.flags & flags::MULTI == 0 {
            Self {
                here: view.first()?,
                next: NO_SEG,
                left: 0,
            }
        } else {
            Self {
                here: Segment { addr: 0, len: 0 },
                next: packet.addr,
                left: view.count(),
            }
        };
        let mut skip = u32::try_from(at).ok()?;
        while cursor.here.len < skip {
            skip -= cursor.here.len;
            if !cursor.advance(pool) {
                return None;
            }
        }
        cursor.here.addr += skip;
        cursor.here.len -= skip;
        Some(cursor)
    }

    /// Moves to the next segment. False when there is none.
    fn advance(&mut self, pool: &Mempool) -> bool {
        let addr = self.next;
        let Some(meta) = pool.meta().get(pool.buffer_of(addr) as usize) else {
            return false;
        };
        let len = meta.len.load(Ordering::Relaxed);
        if self.left == 0 || !pool.checked(addr, len, 0) {
            return false;
        }
        self.left -= 1;
        self.here = Segment { addr, len };
        self.next = meta.next.load(Ordering::Relaxed);
        true
    }

    /// Copies the next `n` bytes to `to`, which must be writable for as many.
    fn copy(&mut self, pool: &Mempool, to: *mut u8, n: usize) -> bool {
        let mut done = 0;
        while done < n {
            if self.here.len == 0 && !self.advance(pool) {
                return false;
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "at most a segment's length"
            )]
            let here = (self.here.len as usize).min(n - done) as u32;
            // SAFETY: `advance` checked the segment, of which `here` bytes are left; the caller gives n bytes of room.
            unsafe {
                copy(
                    to.wrapping_add(done),
                    pool.ptr(self.here.addr),
                    here as usize,
                );
            }
            self.here.addr += here;
            self.here.len -= here;
            done += here as usize;
        }
        true
    }
}
