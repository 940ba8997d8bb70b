//! A chain of guest memory as a run of host memory: the way for whatever is not one descriptor of one region.

use std::ptr::NonNull;

use vring_mem::copy::copy;
use vring_mem::guest::{Access, GuestMemory};
use vring_ring::{Desc, DescFlags, DeviceRing, Head, RingFault};

/// Most bytes of one chain: more than any packet. What a peer claims beyond is not looked at.
const MAX_BYTES: u64 = 1 << 24;

/// Most pieces of one packet: 64 KiB in pieces of 32 bytes. Pieces may be empty, so bytes alone do not bound the work that a peer can make.
const MAX_PIECES: usize = 2048;

/// The pieces of one or more chains, in order, with a position. Kept and reused, so that steady state allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    list: Vec<(NonNull<u8>, usize)>,
    total: u64,
    /// Current piece, and bytes of it that are done.
    at: (usize, usize),
}

// SAFETY: the pointers are only followed while the memory map that they were made from is held, by the queue that owns both.
unsafe impl Send for Pieces {}

impl Pieces {
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.total = 0;
        self.at = (0, 0);
    }

    /// Bytes of all pieces.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Adds the pieces of a chain, all of which the device must `write`, or none. Addresses are checked even where the length is zero.
    /// Returns the chain's bytes.
    pub(super) fn add_chain<R: DeviceRing>(
        &mut self,
        ring: &R,
        head: Head,
        memory: &GuestMemory,
        write: bool,
    ) -> Result<u64, RingFault> {
        let before = self.total;
        ring.walk(head, memory, &mut |desc| {
            if desc.flags.contains(DescFlags::WRITE) != write {
                return Err(RingFault::Direction {
                    expected: if write { "writes" } else { "reads" },
                });
            }
            let access = if write { Access::WRITE } else { Access::READ };
            self.add(desc, memory, access)
        })?;
        Ok(self.total - before)
    }

    /// A descriptor may reach over the border of adjacent regions.
    fn add(&mut self, desc: Desc, memory: &GuestMemory, access: Access) -> Result<(), RingFault> {
        let bad = RingFault::Address {
            addr: desc.addr,
            len: desc.len,
        };
        let (mut addr, mut left) = (desc.addr, u64::from(desc.len));
        if self.total + left > MAX_BYTES {
            return Err(bad);
        }
        loop {
            if self.list.len() == MAX_PIECES {
                #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
                return Err(RingFault::ChainTooLong {
                    max: MAX_PIECES as u32,
                });
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_BYTES")]
            let missing = || match RingFault::no_memory(memory, addr, left as u32, access) {
                RingFault::Address { .. } => bad,
                miss => miss,
            };
            let view = memory.region_of(addr, access).ok_or_else(missing)?;
            let here = left.min(view.end - addr);
            let ptr = view.translate(addr, here).ok_or_else(missing)?;
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_BYTES")]
            self.list.push((ptr, here as usize));
            self.total += here;
            left -= here;
            if left == 0 {
                return Ok(());
            }
            addr += here;
        }
    }

    /// Moves the position forward without copying.
    pub(super) fn skip(&mut self, len: usize) {
        self.each(len, |_, _, _| ());
    }

    /// Copies the next `len` bytes out; there must be as many.
    ///
    /// # Safety
    /// `dst` is writable for `len` bytes; the memory map that the pieces were made from is held.
    pub(super) unsafe fn read(&mut self, dst: *mut u8, len: usize) {
        // SAFETY: each piece is guest memory of `n` bytes from `ptr`, and `done + n <= len`.
        self.each(len, |ptr, done, n| unsafe { copy(dst.add(done), ptr, n) });
    }

    /// Copies `len` bytes in; there must be room.
    ///
    /// # Safety
    /// `src` is readable for `len` bytes; the memory map that the pieces were made from is held.
    pub(super) unsafe fn write(&mut self, src: *const u8, len: usize) {
        // SAFETY: as in read.
        self.each(len, |ptr, done, n| unsafe { copy(ptr, src.add(done), n) });
    }

    /// Marks the first `len` bytes in the log, after they were written.
    pub(super) fn mark_written(&self, len: u64, memory: &GuestMemory) {
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        for &(ptr, size) in &self.list {
            let here = size.min(left);
            memory.mark_written(ptr.as_ptr(), here);
            left -= here;
        }
    }

    fn each(&mut self, len: usize, f: impl Fn(*mut u8, usize, usize)) {
        let mut done = 0;
        while done < len {
            let Some(&(ptr, size)) = self.list.get(self.at.0) else {
                return;
            };
            let n = (size - self.at.1).min(len - done);
            // The position is inside the piece.
            f(ptr.as_ptr().wrapping_add(self.at.1), done, n);
            done += n;
            self.at.1 += n;
            if self.at.1 == size {
                self.at = (self.at.0 + 1, 0);
            }
        }
    }
}
