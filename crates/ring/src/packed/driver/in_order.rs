//! Taking used chains of a device that uses them in order (2.8, 2.6.9): they are taken as they were pushed. The id of a chain is the slot of
//! its first descriptor, and one used element may stand for a batch of chains that ends with the one that it names. What was skipped was used
//! completely.

use std::sync::atomic::Ordering;

use super::Driver;
use crate::packed::shared::{BOTH, Pos, id_of, len_of};
use crate::shadow::CHAIN;
use crate::{RingFault, Used};

impl<const IN_ORDER: bool> Driver<IN_ORDER> {
    /// Looks for used elements until `wanted` chains are known. Lengths are kept, and the ring is not read again when chains are taken.
    #[inline(always)]
    pub(super) fn look_next(&mut self, wanted: usize) {
        if self.long == 0 && self.lie.is_none() {
            self.look_singles(wanted);
        }
        let (ring, size, in_flight) = (self.ring, self.ring.size, self.in_flight());
        let (mut at, mut seen) = (self.look, self.seen);
        let mut passed = self.used.distance(at, size);
        while seen < wanted && usize::from(passed) < in_flight && self.lie.is_none() {
            // Acquire: as in PackedRing::published.
            let word = ring.word(at.slot).load(Ordering::Acquire);
            if word & BOTH != at.bits {
                break;
            }
            let id = id_of(word);
            let Some((chains, descs)) = self.batch_to(id, at, in_flight - usize::from(passed))
            else {
                self.lie = Some(id);
                break;
            };
            if self.writes {
                self.lens[usize::from(id)] = len_of(word);
            }
            seen += chains;
            passed += descs;
            at.skip(descs, size);
        }
        (self.look, self.seen) = (at, seen);
    }

    /// As far as each chain has one descriptor and a used element of its own, which is so where the device writes.
    #[inline(always)]
    fn look_singles(&mut self, wanted: usize) {
        let (ring, writes, lens) = (self.ring, self.writes, &mut *self.lens);
        let most = wanted.min(self.shadow.len() - self.free_descs);
        let mut found = 0;
        'all: for (slots, bits) in self.look.runs(most.saturating_sub(self.seen), ring.size) {
            for slot in slots {
                // Acquire: as in PackedRing::published.
                let word = ring.word(slot).load(Ordering::Acquire);
                if word & BOTH != bits || usize::from(id_of(word)) != slot {
                    break 'all;
                }
                if writes {
                    lens[slot] = len_of(word);
                }
                found += 1;
            }
        }
        self.seen += usize::from(found);
        self.look.skip(found, ring.size);
    }

    /// Chains and descriptors from where we look up to and with the chain `id`, which is among the `most` descriptors in flight from there.
    #[inline(always)]
    fn batch_to(&self, id: u16, from: Pos, most: usize) -> Option<(usize, u16)> {
        let size = self.ring.size;
        if self.long > 0 {
            return self.batch_along(id, from, most);
        }
        if id == from.slot {
            return Some((1, 1));
        }
        let behind = id < from.slot;
        let ahead = id.wrapping_sub(from.slot);
        let ahead = if behind {
            ahead.wrapping_add(size)
        } else {
            ahead
        };
        let count = usize::from(ahead) + 1;
        (id < size && count <= most).then(|| (count, ahead + 1))
    }

    /// With long chains: only a first descriptor is an id.
    #[cold]
    fn batch_along(&self, id: u16, from: Pos, most: usize) -> Option<(usize, u16)> {
        let (mut at, mut chains, mut descs) = (from, 0, 0u16);
        while usize::from(descs) < most {
            let here = at.slot;
            let count = self.shadow[usize::from(here)].count & !CHAIN;
            (chains, descs) = (chains + 1, descs + count);
            if here == id {
                return Some((chains, descs));
            }
            at.skip(count, self.ring.size);
        }
        None
    }

    #[cold]
    fn told_lie(&self) -> RingFault {
        debug_assert!(self.lie.is_some(), "pops what used_ready did not promise");
        RingFault::UsedId {
            id: self.lie.unwrap_or(self.used.slot).into(),
            size: self.ring.size,
        }
    }

    #[inline(always)]
    pub(super) fn pop_next(&mut self) -> Result<Used, RingFault> {
        if self.seen == 0 {
            return Err(self.told_lie());
        }
        self.seen -= 1;
        Ok(self.take_next())
    }

    /// Takes the oldest chain in flight.
    pub(super) fn take_next(&mut self) -> Used {
        let slot = usize::from(self.used.slot);
        let (token, chain) = (
            self.shadow[slot].token,
            self.shadow[slot].count & CHAIN != 0,
        );
        let len = if self.writes { self.lens[slot] } else { 0 };
        let count = self.release(self.used.slot);
        self.used.skip(count, self.ring.size);
        Used { token, len, chain }
    }

    #[inline(always)]
    pub(super) fn pop_next_many(
        &mut self,
        tokens: &mut [u32],
        lens: &mut [u32],
    ) -> Result<usize, RingFault> {
        let most = tokens.len().min(lens.len());
        if self.seen == 0 && most > 0 {
            return Err(self.told_lie());
        }
        let (size, mut count) = (self.ring.size, 0);
        let (shadow, writes) = (&*self.shadow, self.writes);
        'all: for (slots, _) in self.used.runs(most.min(self.seen), size) {
            let places = tokens[count..].iter_mut().zip(&mut lens[count..]);
            let kept = shadow[slots.clone()].iter().zip(slots).zip(places);
            for ((shadow, slot), (token, len)) in kept {
                if shadow.count & CHAIN != 0 {
                    break 'all;
                }
                *token = shadow.token;
                *len = if writes { self.lens[slot] } else { 0 };
                count += 1;
            }
        }
        self.free_descs += count;
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        self.used.skip(count as u16, size);
        self.seen -= count;
        Ok(count)
    }
}
