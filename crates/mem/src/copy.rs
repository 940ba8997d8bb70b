//! Copies and prefetches between memory of ours and memory that a peer can write.
//!
//! The bytes of a packet may change while they are copied: a peer that does so harms only the content of its own packet. They are
//! therefore moved by raw pointer, never seen through a reference, and nothing is decided from them before the copy.

/// Copies `len` bytes; short ones in registers, without a call.
///
/// # Safety
/// `src` is readable and `dst` writable for `len` bytes, and the two do not overlap.
#[inline(always)]
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's promise; every access below stays inside [0, len).
    unsafe {
        match len {
            33..=64 => copy_ends::<32>(dst, src, len),
            65..=INLINE_MAX => copy_long(dst, src, len),
            16..=32 => copy_ends::<16>(dst, src, len),
            0..16 => copy_short(dst, src, len),
            _ => std::ptr::copy_nonoverlapping(src, dst, len),
        }
    }
}

/// Above this the C library's copy, which knows the processor, is the faster one.
const INLINE_MAX: usize = 256;

/// `N` to `2 * N` bytes: the first `N` and the last `N`, which may overlap.
#[inline(always)]
unsafe fn copy_ends<const N: usize>(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: both blocks lie inside [0, len). Read before they are written: unaligned arrays become vector registers.
    unsafe {
        let head = src.cast::<[u8; N]>().read_unaligned();
        let tail = src.add(len - N).cast::<[u8; N]>().read_unaligned();
        dst.cast::<[u8; N]>().write_unaligned(head);
        dst.add(len - N).cast::<[u8; N]>().write_unaligned(tail);
    }
}

/// 65 to [`INLINE_MAX`] bytes: whole blocks, then one that ends at the last byte and may overlap the one before.
#[inline(always)]
unsafe fn copy_long(dst: *mut u8, src: *const u8, len: usize) {
    type Block = [u8; 64];
    // SAFETY: blocks start at 0, 64, … below len - 64, and at len - 64.
    unsafe {
        let mut at = 0;
        while at + 64 < len {
            dst.add(at)
                .cast::<Block>()
                .write_unaligned(src.add(at).cast::<Block>().read_unaligned());
            at += 64;
        }
        dst.add(len - 64)
            .cast::<Block>()
            .write_unaligned(src.add(len - 64).cast::<Block>().read_unaligned());
    }
}

#[inline(always)]
unsafe fn copy_short(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: each arm touches the first and the last 8, 4, 2 or 1 of len bytes.
    unsafe {
        if len >= 8 {
            let tail = src.add(len - 8).cast::<u64>().read_unaligned();
            dst.cast::<u64>()
                .write_unaligned(src.cast::<u64>().read_unaligned());
            dst.add(len - 8).cast::<u64>().write_unaligned(tail);
        } else if len >= 4 {
            let tail = src.add(len - 4).cast::<u32>().read_unaligned();
            dst.cast::<u32>()
                .write_unaligned(src.cast::<u32>().read_unaligned());
            dst.add(len - 4).cast::<u32>().write_unaligned(tail);
        } else {
            for at in 0..len {
                dst.add(at).write(src.add(at).read());
            }
        }
    }
}

/// Asks for the line of `ptr` to be read soon. Any address will do.
#[inline(always)]
pub fn prefetch_read(ptr: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(ptr.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = ptr;
}

/// Asks for the line of `ptr` to be owned soon, for writing. Any address will do.
#[inline(always)]
pub fn prefetch_write(ptr: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHW never faults; processors without it take it for a no-op.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(ptr.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = ptr;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length copies exactly its bytes and not one beyond.
    #[test]
    fn copies_exactly() {
        let src: Vec<u8> = (0..2000u32).map(|i| (i % 251) as u8 + 1).collect();
        for len in (0..400).chain([1000, 1514, 1999]) {
            let mut dst = vec![0u8; 2001];
            // SAFETY: both are longer than len.
            unsafe { copy(dst.as_mut_ptr(), src.as_ptr(), len) };
            assert_eq!(&dst[..len], &src[..len]);
            assert!(dst[len..].iter().all(|&b| b == 0), "wrote beyond {len}");
        }
    }
}
