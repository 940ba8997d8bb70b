//! Four used elements at a time, on a processor that has AVX2. What it does is [`Driver::pop_singles`](super::Driver)'s, which stays the
//! reference, and does what is left over.

use std::arch::asm;
use std::arch::x86_64::{
    __m128i, __m256i, _mm_storeu_si128, _mm256_add_epi32, _mm256_blend_epi32,
    _mm256_castsi256_si128, _mm256_cmpeq_epi32, _mm256_loadu_si256, _mm256_movemask_epi8,
    _mm256_permutevar8x32_epi32, _mm256_setr_epi32,
};

use crate::shadow::Shadow;

/// Chains of one step.
const STEP: usize = 4;

/// Takes chains of one descriptor that have a used element of their own: how many, a multiple of [`STEP`].
///
/// `elems` is the first used element, `shadows` are those of the chains from slot `slot` on.
///
/// # Safety
/// The processor has AVX2. `elems` is readable for `shadows.len()` elements of 8 bytes.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pop_singles(
    elems: *const u8,
    shadows: &[Shadow],
    slot: u32,
    tokens: &mut [u32],
    lens: &mut [u32],
) -> usize {
    let most = shadows.len().min(tokens.len()).min(lens.len());
    #[expect(clippy::cast_possible_wrap, reason = "a slot has 15 bits")]
    let first = slot as i32;
    // A chain's id, and one descriptor that nothing follows.
    let mut wanted = _mm256_setr_epi32(first, 1, first + 1, 1, first + 2, 1, first + 3, 1);
    let next = _mm256_setr_epi32(4, 0, 4, 0, 4, 0, 4, 0);
    let even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    let odd = _mm256_setr_epi32(1, 3, 5, 7, 1, 3, 5, 7);
    let mut count = 0;
    while count + STEP <= most {
        let used: __m256i;
        // SAFETY: four elements inside the caller's. The device writes them too: by assembly they are read once, and torn at worst between
        // words, each of which is checked or may be anything.
        unsafe {
            asm!("vmovdqu {used}, [{at}]", used = lateout(ymm_reg) used, at = in(reg) elems.add(8 * count),
                options(nostack, preserves_flags, readonly));
        }
        // SAFETY: four shadows of 8 bytes, see their layout; count + 4 is at most the slices' lengths.
        let known = unsafe { _mm256_loadu_si256(shadows.as_ptr().add(count).cast()) };
        let both = _mm256_blend_epi32::<0b1010_1010>(used, known);
        if _mm256_movemask_epi8(_mm256_cmpeq_epi32(both, wanted)) != -1 {
            break;
        }
        let low = |lanes: __m256i, order| -> __m128i {
            _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(lanes, order))
        };
        // SAFETY: as above.
        unsafe {
            _mm_storeu_si128(tokens.as_mut_ptr().add(count).cast(), low(known, even));
            _mm_storeu_si128(lens.as_mut_ptr().add(count).cast(), low(used, odd));
        }
        wanted = _mm256_add_epi32(wanted, next);
        count += STEP;
    }
    count
}
