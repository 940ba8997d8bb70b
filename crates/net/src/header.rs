//! The virtio-net header (5.1.6).
//!
//! ```text
//! 0 flags u8 · 1 gso_type u8 · 2 hdr_len u16 · 4 gso_size u16 · 6 csum_start u16 · 8 csum_offset u16 · 10 num_buffers u16
//! ```

use std::sync::atomic::{Ordering, compiler_fence};

use vring_mem::copy::copy;

use crate::Features;
use crate::offload::{Direction, Header};

/// The longest header, with a hash report.
pub const MAX_HEADER: usize = 20;

/// Where `num_buffers` stands.
pub(crate) const NUM_BUFFERS: usize = 10;

/// How long the header is with what was negotiated. The one place that knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLayout {
    /// Bytes.
    pub len: u32,
    /// `num_buffers` counts: a received packet may lie in several buffers.
    pub mergeable: bool,
    /// What the driver says to the device.
    pub to_device: Direction,
    /// What the device says to the driver.
    pub to_driver: Direction,
}

impl HeaderLayout {
    /// The layout for these features.
    #[must_use]
    pub fn of(features: Features) -> Self {
        let len = if features.contains(Features::HASH_REPORT) {
            20
        } else if features.intersects(Features::VERSION_1 | Features::MRG_RXBUF) {
            12
        } else {
            10
        };
        Self {
            len,
            mergeable: features.contains(Features::MRG_RXBUF),
            to_device: Direction::to_device(features),
            to_driver: Direction::to_driver(features),
        }
    }
}

/// Writes a header of zeros, unless it is there: not writing leaves the line in the peer's cache.
///
/// # Safety
/// `at` is writable for `len` bytes, 10, 12 or 20.
#[inline(always)]
pub(crate) unsafe fn clear(at: *mut u8, len: u32) {
    // SAFETY: the caller's promise: every access is below len.
    unsafe {
        let first = at.cast::<u64>();
        if first.read_unaligned() != 0 {
            first.write_unaligned(0);
        }
        clear_tail(at.add(8), len - 8);
    }
}

/// # Safety
/// `at` is writable for `len` bytes, 2, 4 or 12.
#[inline(always)]
unsafe fn clear_tail(at: *mut u8, len: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        match len {
            4 => {
                if at.cast::<u32>().read_unaligned() != 0 {
                    at.cast::<u32>().write_unaligned(0);
                }
            }
            _ => at.write_bytes(0, len as usize),
        }
    }
}

/// Writes the header of a received packet in `buffers` buffers, with nothing offloaded, unless it is there.
///
/// # Safety
/// `at` is writable for `len` bytes, 10, 12 or 20.
#[inline(always)]
pub(crate) unsafe fn write_received(at: *mut u8, len: u32, buffers: u16) {
    // SAFETY: the caller's promise.
    unsafe {
        if len == 12 {
            let first = at.cast::<u64>();
            if first.read_unaligned() != 0 {
                first.write_unaligned(0);
            }
            let rest = u32::from(buffers) << 16;
            if at.add(8).cast::<u32>().read_unaligned() != rest {
                at.add(8).cast::<u32>().write_unaligned(rest);
            }
        } else {
            at.write_bytes(0, len as usize);
            if len > 10 {
                at.add(NUM_BUFFERS).cast::<u16>().write_unaligned(buffers);
            }
        }
    }
}

/// Copies a header that a peer can write: once, what is behind it as zeros.
///
/// # Safety
/// `at` is readable for `len` bytes, 10, 12 or 20.
#[inline]
pub(crate) unsafe fn copy_in(at: *const u8, len: u32) -> Header {
    let mut header = [0; MAX_HEADER];
    // SAFETY: the caller's promise; `len` is at most MAX_HEADER.
    unsafe { copy(header.as_mut_ptr(), at, len as usize) };
    // What was copied is what is checked and used: the compiler must not look at the peer's memory a second time.
    compiler_fence(Ordering::Acquire);
    header
}

/// Writes a header with `buffers` for its `num_buffers`, if it has that.
///
/// # Safety
/// `at` is writable for `len` bytes, 10, 12 or 20.
#[inline]
pub(crate) unsafe fn copy_out(at: *mut u8, len: u32, mut header: Header, buffers: u16) {
    header[NUM_BUFFERS..NUM_BUFFERS + 2].copy_from_slice(&buffers.to_le_bytes());
    // SAFETY: the caller's promise; `len` is at most MAX_HEADER.
    unsafe { copy(at, header.as_ptr(), len as usize) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10, 12 or 20 bytes, by the features alone.
    #[test]
    fn lengths() {
        let of = |features| {
            let layout = HeaderLayout::of(features);
            (layout.len, layout.mergeable)
        };
        assert_eq!(of(Features::empty()), (10, false));
        assert_eq!(of(Features::MRG_RXBUF), (12, true));
        assert_eq!(HeaderLayout::of(Features::VERSION_1).len, 12);
        assert_eq!(
            HeaderLayout::of(Features::VERSION_1 | Features::HASH_REPORT).len,
            20
        );
    }

    /// What stood there before does not matter.
    #[test]
    fn writes_whole_headers() {
        for len in [10u32, 12, 20] {
            let mut bytes = [0xffu8; 24];
            // SAFETY: the array is longer.
            unsafe { write_received(bytes.as_mut_ptr(), len, 3) };
            let mut expected = vec![0; len as usize];
            if len > 10 {
                expected[10] = 3;
            }
            assert_eq!(bytes[..len as usize], expected[..]);
            assert_eq!(bytes[len as usize], 0xff);
            // SAFETY: as above.
            unsafe { clear(bytes.as_mut_ptr(), len) };
            assert!(bytes[..len as usize].iter().all(|&b| b == 0));
            assert_eq!(bytes[len as usize], 0xff);
        }
    }
}
