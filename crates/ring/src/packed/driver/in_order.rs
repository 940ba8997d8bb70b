//! Taking used chains of a device that uses them in order (2.8, 2.6.9): they are taken as they were pushed. The id of a chain is the slot of
//! its first descriptor, and one used element may stand for a batch of chains that ends with the one that it names. What was skipped was used
//! completely.

use std::sync::atomic::Ordering;

use super::Driver;
use crate::packed::shared::{BOTH, id_of, len_of};
use crate::shadow::CHAIN;
use crate::{RingFault, Used};

impl<const IN_ORDER: bool> Driver<IN_ORDER> {
    /// Looks for used elements until `wanted` chains are known. Lengths are kept, and the ring is not read again when chains are taken.
    #[inline(always)]
    pub(super) fn look_next(&mut self, wanted: usize) {
        let (ring, size, in_flight) = (self.ring, self.ring.size, self.in_flight());
        let mut passed = usize::from(self.used.distance(self.look, size));
        while self.seen < wanted && passed < in_flight && self.lie.is_none() {
            // Acquire, against the device's releasing store of the first flags of a burst: ids and lengths, the other elements of the burst,
            // and what the device wrote to the buffers, are there.
            let word = ring.word(self.look.slot).load(Ordering::Acquire);
            if word & BOTH != self.look.bits {
                return;
            }
            let id = id_of(word);
            let Some((chains, descs)) = self.batch_to(id, in_flight - passed) else {
                self.lie = Some(id);
                return;
            };
            if self.writes {
                self.lens[usize::from(id)] = len_of(word);
            }
            self.seen += chains;
            passed += usize::from(descs);
            self.look.skip(descs, size);
        }
    }

    /// Chains and descriptors from where we look up to and with the chain `id`, which is one of `most` descriptors in flight.
    #[inline(always)]
    fn batch_to(&self, id: u16, most: usize) -> Option<(usize, u16)> {
        let size = self.ring.size;
        if self.long > 0 {
            return self.batch_along(id, most);
        }
        let behind = id < self.look.slot;
        let ahead = id.wrapping_sub(self.look.slot);
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
    fn batch_along(&self, id: u16, most: usize) -> Option<(usize, u16)> {
        let (mut at, mut chains, mut descs) = (self.look, 0, 0u16);
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
        let (size, mut at, mut count) = (self.ring.size, self.used, 0);
        let most = most.min(self.seen);
        for (token, len) in tokens[..most].iter_mut().zip(lens) {
            let shadow = &mut self.shadow[usize::from(at.slot)];
            if shadow.count & CHAIN != 0 {
                break;
            }
            *token = shadow.token;
            *len = if self.writes {
                self.lens[usize::from(at.slot)]
            } else {
                0
            };
            at.step(size);
            count += 1;
        }
        self.free_descs += count;
        self.used = at;
        self.seen -= count;
        Ok(count)
    }
}
