//! Taking used chains of a device that uses them in order (2.7, 2.6.9): they are taken as they were pushed, and the used index alone says how
//! many. Used elements matter for the lengths in them only: one may stand for a batch of chains that ends with the one that it names, and what
//! was skipped was used completely. Where the device only reads there are no lengths, and the used ring is not read at all.

use std::sync::atomic::Ordering;

use super::Driver;
use crate::shadow::CHAIN;
use crate::{DescFlags, RingFault, Used};

/// The batch that is being taken.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Buffers were pushed for the device to write, so that lengths matter.
    matter: bool,
    /// Its chains that were not taken yet. With none, the next used element begins another.
    left: u16,
    /// The bytes that the device wrote to the last of them.
    len: u32,
    /// Whether elements are taken several at a time.
    vector: bool,
}

impl Batch {
    /// None yet, on this processor.
    pub(super) fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        let vector = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let vector = false;
        Self {
            vector,
            ..Self::default()
        }
    }

    pub(super) fn vectors(&self) -> Option<&'static str> {
        self.vector.then_some("AVX2")
    }
}

impl Driver<true> {
    /// The same, but one buffer after the other, whatever the processor has: the reference for what is done by vectors.
    #[must_use]
    pub fn scalar(mut self) -> Self {
        self.batch.vector = false;
        self
    }
}

impl<const IN_ORDER: bool> Driver<IN_ORDER> {
    /// A chain is pushed that the device writes: from now on lengths matter. Chains that are known to be used by then are a batch of their own,
    /// whose elements were not looked at.
    #[inline(always)]
    pub(super) fn heed_lens(&mut self) {
        if IN_ORDER && !self.batch.matter {
            self.batch = Batch {
                vector: self.batch.vector,
                matter: true,
                left: self.used_seen.wrapping_sub(self.used_idx),
                len: 0,
            };
        }
    }

    /// Reads the device's index; how many chains can be taken.
    #[inline(always)]
    pub(super) fn look_next(&mut self) -> Result<usize, RingFault> {
        // Acquire, against the device's releasing store: the elements below the index, and what it wrote to the buffers, are there.
        let seen = self.ring.used_idx().load(Ordering::Acquire);
        // No ids are checked, so the index must not reach over what is in flight; nor does it go back.
        let most = self.avail_idx.wrapping_sub(self.used_seen);
        if seen.wrapping_sub(self.used_seen) > most {
            return Err(RingFault::Index {
                ring: "used",
                ahead: seen.wrapping_sub(self.used_idx),
                size: self.avail_idx.wrapping_sub(self.used_idx),
            });
        }
        self.used_seen = seen;
        Ok(usize::from(seen.wrapping_sub(self.used_idx)))
    }

    /// Begins the batch of the next used element: it ends with the chain that this names, which the used index must cover.
    fn next_batch(&mut self) -> Result<(), RingFault> {
        let elem = self.ring.used_elem(self.used_idx).0;
        #[expect(clippy::cast_possible_truncation, reason = "takes the element apart")]
        let (id, len) = (elem as u32, (elem >> 32) as u32);
        let (mut at, mask) = (self.oldest(), self.shadow.len() - 1);
        for chains in 1..=self.used_seen.wrapping_sub(self.used_idx) {
            let slot = at & mask;
            if slot == id as usize {
                (self.batch.left, self.batch.len) = (chains, len);
                return Ok(());
            }
            at = at.wrapping_add(usize::from(self.shadow[slot].count & !CHAIN));
        }
        Err(RingFault::UsedId {
            id,
            size: self.ring.size(),
        })
    }

    /// The bytes written to the oldest chain, of the batch that is being taken: all of them, unless it is the last. Our own descriptor says how
    /// many these are; a device that changes it lies about a length, as it can in any case.
    #[inline(always)]
    fn next_len(&self, slot: usize) -> u32 {
        if self.batch.left == 1 {
            return self.batch.len;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let desc = self.ring.desc(slot as u16);
        if desc.flags.contains(DescFlags::WRITE) {
            desc.len
        } else {
            0
        }
    }

    /// Position of the oldest descriptor in flight: they follow the free ones.
    #[inline(always)]
    fn oldest(&self) -> usize {
        self.free.head.wrapping_add(self.free.len)
    }

    #[inline(always)]
    pub(super) fn pop_next(&mut self) -> Result<Used, RingFault> {
        debug_assert!(
            self.used_seen != self.used_idx,
            "pops what used_ready did not promise"
        );
        let mut len = 0;
        if self.batch.matter {
            if self.batch.left == 0 {
                self.next_batch()?;
            }
            len = self.next_len(self.oldest() & (self.shadow.len() - 1));
            self.batch.left -= 1;
        }
        Ok(Used {
            len,
            ..self.take_next()
        })
    }

    /// Takes the oldest chain in flight.
    pub(super) fn take_next(&mut self) -> Used {
        let slot = self.oldest() & (self.shadow.len() - 1);
        let (token, count) = (self.shadow[slot].token, self.shadow[slot].count);
        self.free.len += usize::from(count & !CHAIN);
        self.used_idx = self.used_idx.wrapping_add(1);
        Used {
            token,
            len: 0,
            chain: count & CHAIN != 0,
        }
    }

    #[inline(always)]
    pub(super) fn pop_next_many(
        &mut self,
        tokens: &mut [u32],
        lens: &mut [u32],
    ) -> Result<usize, RingFault> {
        let seen = usize::from(self.used_seen.wrapping_sub(self.used_idx));
        let most = tokens.len().min(lens.len()).min(seen);
        let (tokens, lens) = (&mut tokens[..most], &mut lens[..most]);
        if !self.batch.matter {
            return Ok(self.pop_read(tokens, lens));
        }
        let mut count = 0;
        while count < most {
            if self.batch.left == 0 {
                count += self.pop_singles(&mut tokens[count..], &mut lens[count..]);
                if count == most {
                    break;
                }
            }
            let slot = self.oldest() & (self.shadow.len() - 1);
            if self.shadow[slot].count & CHAIN != 0 {
                break;
            }
            match self.pop_next() {
                Ok(used) => (tokens[count], lens[count]) = (used.token, used.len),
                Err(fault) if count == 0 => return Err(fault),
                // A lie further back is met when it is the first.
                Err(_) => break,
            }
            count += 1;
        }
        Ok(count)
    }

    /// Takes chains that the device only reads.
    #[inline(always)]
    fn pop_read(&mut self, tokens: &mut [u32], lens: &mut [u32]) -> usize {
        let (oldest, mask) = (self.oldest(), self.shadow.len() - 1);
        let mut count = 0;
        for (nth, (token, len)) in tokens.iter_mut().zip(lens).enumerate() {
            let shadow = &self.shadow[oldest.wrapping_add(nth) & mask];
            if shadow.count & CHAIN != 0 {
                break;
            }
            (*token, *len) = (shadow.token, 0);
            count = nth + 1;
        }
        self.took_singles(count);
        count
    }

    /// Takes chains of one descriptor, each with a used element of its own, as is usual where the device writes.
    #[inline(always)]
    fn pop_singles(&mut self, tokens: &mut [u32], lens: &mut [u32]) -> usize {
        let (ring, from) = (self.ring, self.used_idx);
        let (oldest, mask) = (self.oldest(), self.shadow.len() - 1);
        let mut count = self.pop_vector(tokens, lens);
        let rest = tokens.iter_mut().zip(lens).enumerate().skip(count);
        for (nth, (token, len)) in rest {
            #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
            let elem = ring.used_elem(from.wrapping_add(nth as u16)).0;
            #[expect(clippy::cast_possible_truncation, reason = "takes the element apart")]
            let (id, written) = (elem as u32, (elem >> 32) as u32);
            let slot = oldest.wrapping_add(nth) & mask;
            let shadow = &self.shadow[slot];
            if id as usize != slot || shadow.count != 1 {
                break;
            }
            (*token, *len) = (shadow.token, written);
            count = nth + 1;
        }
        self.took_singles(count);
        count
    }

    /// As many of them as the processor takes several at a time, as far as neither ring comes round its end.
    #[cfg(all(target_arch = "x86_64", not(all(test, feature = "loom"))))]
    #[inline(always)]
    fn pop_vector(&self, tokens: &mut [u32], lens: &mut [u32]) -> usize {
        if !self.batch.vector {
            return 0;
        }
        let slot = self.oldest() & (self.shadow.len() - 1);
        let left = self.shadow.len() - self.ring.slot(self.used_idx);
        let ahead = tokens.len().min(left);
        let shadows = &self.shadow[slot..];
        let shadows = &shadows[..ahead.min(shadows.len())];
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        // SAFETY: `vector` says that the processor has AVX2; the elements from `used_idx` on to the end of the ring are `left`.
        unsafe {
            let elems = self.ring.elem_ptr(self.used_idx);
            super::avx2::pop_singles(elems.cast(), shadows, slot as u32, tokens, lens)
        }
    }

    #[cfg(not(all(target_arch = "x86_64", not(all(test, feature = "loom")))))]
    fn pop_vector(&self, _tokens: &mut [u32], _lens: &mut [u32]) -> usize {
        0
    }

    #[inline(always)]
    fn took_singles(&mut self, count: usize) {
        self.free.len += count;
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let taken = count as u16;
        self.used_idx = self.used_idx.wrapping_add(taken);
    }
}
