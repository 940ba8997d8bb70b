//! Where the buffers of a mempool lie, as plain numbers.

use crate::mempool::HEADROOM;

/// See [`Mempool::geometry`]. Its pointer is good for as long as the mempool lives.
#[derive(Debug, Clone, Copy)]
pub struct Geometry {
    base: *mut u8,
    /// 2⁶⁴ / stride, rounded up: turns the division of an address into a multiplication.
    reciprocal: u64,
    stride: u32,
    count: u32,
    buffer_size: u32,
}

// SAFETY: an address and four numbers. Who follows the pointer must hold the mempool, on whatever thread.
unsafe impl Send for Geometry {}
// SAFETY: as for Send.
unsafe impl Sync for Geometry {}

impl Geometry {
    pub(crate) fn new(base: *mut u8, stride: u32, count: u32, buffer_size: u32) -> Self {
        Self {
            base,
            reciprocal: u64::MAX / u64::from(stride) + 1,
            stride,
            count,
            buffer_size,
        }
    }

    /// Bytes from a buffer's start to the next one's.
    pub(crate) fn stride(&self) -> u32 {
        self.stride
    }

    /// Places of buffers.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of a buffer with its headroom.
    pub(crate) fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    /// The pointer to an address. The address may be anything below the region's length.
    #[must_use]
    #[inline(always)]
    pub fn ptr(&self, addr: u32) -> *mut u8 {
        self.base.wrapping_add(addr as usize)
    }

    /// The buffer that an address lies in; at or above [`Mempool::places`] for an address behind the last.
    #[must_use]
    #[inline(always)]
    pub fn buffer_of(&self, addr: u32) -> u32 {
        // Exact for every 32-bit address: the reciprocal is too large by less than one part in 2⁶⁴ / stride, so the error stays below
        // addr * stride / 2⁶⁴ < 1 / stride.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the quotient of a u32 is a u32"
        )]
        let buffer = ((u128::from(addr) * u128::from(self.reciprocal)) >> 64) as u32;
        buffer
    }

    /// Where the data of a fresh packet begins in the buffer that `addr` lies in.
    #[must_use]
    #[inline(always)]
    pub fn fresh(&self, addr: u32) -> u32 {
        self.buffer_of(addr) * self.stride + HEADROOM
    }

    /// Says whether `len` bytes from `addr` lie inside one buffer with at least `room` bytes before them.
    #[must_use]
    #[inline(always)]
    pub fn checked(&self, addr: u32, len: u32, room: u32) -> bool {
        let buffer = self.buffer_of(addr);
        let offset = addr.wrapping_sub(buffer.wrapping_mul(self.stride));
        (buffer < self.count)
            & (offset >= room)
            & (u64::from(offset) + u64::from(len) <= u64::from(self.buffer_size))
    }
}
