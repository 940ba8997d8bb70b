//! Taking used chains of a device that uses them in order (2.7, 2.6.9): they are taken as they were pushed, and the used index alone says how
//! many. Used elements matter for the lengths in them only: one may stand for a batch of chains that ends with the one that it names, and what
//! was skipped was used completely. Where the device only reads there are no lengths, and the used ring is not read at all.

use std::sync::atomic::Ordering;

use super::Driver;
use crate::shadow::CHAIN;
use crate::{RingFault, Used};

/// Lengths of the chains in flight.
#[derive(Debug)]
pub(super) struct Lens {
    /// The bytes that the device wrote to a buffer, by its descriptor. All of them, until it says otherwise.
    lens: Box<[u32]>,
    /// Buffers were pushed for the device to write, so that lengths matter.
    matter: bool,
    /// Used index and descriptor up to which lengths were read.
    idx: u16,
    desc: u16,
    /// What the used element there names, when that is not a chain that can be meant.
    lie: Option<u32>,
}

impl Lens {
    pub(super) fn new(size: u16) -> Self {
        Self {
            lens: vec![0; usize::from(size)].into_boxed_slice(),
            matter: false,
            idx: 0,
            desc: 0,
            lie: None,
        }
    }

    /// How much of a chain the device writes, where it says nothing.
    #[inline(always)]
    pub(super) fn post(&mut self, id: u16, len: u32) {
        if self.matter {
            self.lens[usize::from(id)] = len;
        }
    }

    #[inline(always)]
    fn of(&self, slot: usize) -> u32 {
        if self.matter { self.lens[slot] } else { 0 }
    }
}

impl<const IN_ORDER: bool> Driver<IN_ORDER> {
    /// A chain is pushed, of which the device writes `len` bytes or none.
    #[inline(always)]
    pub(super) fn post(&mut self, id: u16, write: bool, len: u32) {
        if IN_ORDER {
            if write {
                self.heed_lens();
            }
            self.lens.post(id, if write { len } else { 0 });
        }
    }

    /// From now on lengths matter: of the chains that are not known to be used yet, the first of which a used element will name.
    #[inline(always)]
    pub(super) fn heed_lens(&mut self) {
        if !self.lens.matter {
            self.lens.matter = true;
            self.lens.idx = self.used_seen;
            let mut slot = self.oldest();
            for _ in 0..self.used_seen.wrapping_sub(self.used_idx) {
                let count = self.shadow[slot & (self.shadow.len() - 1)].count & !CHAIN;
                slot = slot.wrapping_add(count.into());
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "masked where it meets the ring"
            )]
            let desc = slot as u16;
            self.lens.desc = desc;
        }
    }

    /// Reads the device's index, and the lengths of what it covers; how many chains can be taken.
    #[inline(always)]
    pub(super) fn look_next(&mut self) -> Result<usize, RingFault> {
        if self.lens.lie.is_none() {
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
            if self.lens.matter {
                self.read_lens();
            }
        }
        // A lie is met when it is the first.
        let good = usize::from(self.used_seen.wrapping_sub(self.used_idx));
        Ok(good + usize::from(self.lens.lie.is_some()))
    }

    /// Reads the lengths of the chains before `used_seen`, or before the first lie, which takes the place of it.
    #[inline(always)]
    fn read_lens(&mut self) {
        let (ring, shadow, lens) = (self.ring, &*self.shadow, &mut self.lens);
        // As far as each chain has one descriptor and a used element of its own, which is so where the device writes.
        let (mut idx, mut desc) = (lens.idx, lens.desc);
        while idx != self.used_seen {
            let (elem, slot) = (ring.used_elem(idx).0, ring.slot(desc));
            #[expect(clippy::cast_possible_truncation, reason = "takes the element apart")]
            let (id, len) = (elem as u32, (elem >> 32) as u32);
            if id as usize != slot || shadow[slot].count != 1 {
                break;
            }
            lens.lens[slot] = len;
            (idx, desc) = (idx.wrapping_add(1), desc.wrapping_add(1));
        }
        (lens.idx, lens.desc) = (idx, desc);
        while self.lens.idx != self.used_seen {
            let elem = self.ring.used_elem(self.lens.idx).0;
            #[expect(clippy::cast_possible_truncation, reason = "takes the element apart")]
            let (id, len) = (elem as u32, (elem >> 32) as u32);
            let Some((chains, descs)) = self.batch_to(id) else {
                (self.used_seen, self.lens.lie) = (self.lens.idx, Some(id));
                return;
            };
            self.lens.lens[id as usize] = len;
            self.lens.idx = self.lens.idx.wrapping_add(chains);
            self.lens.desc = self.lens.desc.wrapping_add(descs);
        }
    }

    /// Chains and descriptors from where lengths were read up to and with the chain `id`, which the used index must cover.
    #[inline(always)]
    fn batch_to(&self, id: u32) -> Option<(u16, u16)> {
        let most = self.used_seen.wrapping_sub(self.lens.idx);
        let (mut at, mut descs) = (self.lens.desc, 0u16);
        for chains in 1..=most {
            let slot = self.ring.slot(at);
            let count = self.shadow[slot].count & !CHAIN;
            descs = descs.wrapping_add(count);
            if slot == id as usize {
                return Some((chains, descs));
            }
            at = at.wrapping_add(count);
        }
        None
    }

    #[cold]
    fn told_lie(&self) -> RingFault {
        debug_assert!(
            self.lens.lie.is_some(),
            "pops what used_ready did not promise"
        );
        RingFault::UsedId {
            id: self.lens.lie.unwrap_or(u32::MAX),
            size: self.ring.size(),
        }
    }

    /// Position of the oldest descriptor in flight: they follow the free ones.
    #[inline(always)]
    fn oldest(&self) -> usize {
        self.free.head.wrapping_add(self.free.len)
    }

    #[inline(always)]
    pub(super) fn pop_next(&mut self) -> Result<Used, RingFault> {
        if self.used_seen == self.used_idx {
            return Err(self.told_lie());
        }
        Ok(self.take_next())
    }

    /// Takes the oldest chain in flight.
    pub(super) fn take_next(&mut self) -> Used {
        let slot = self.oldest() & (self.shadow.len() - 1);
        let (token, count) = (self.shadow[slot].token, self.shadow[slot].count);
        self.free.len += usize::from(count & !CHAIN);
        self.used_idx = self.used_idx.wrapping_add(1);
        Used {
            token,
            len: self.lens.of(slot),
            chain: count & CHAIN != 0,
        }
    }

    #[inline(always)]
    pub(super) fn pop_next_many(
        &mut self,
        tokens: &mut [u32],
        lens: &mut [u32],
    ) -> Result<usize, RingFault> {
        let most = tokens.len().min(lens.len());
        let seen = self.used_seen.wrapping_sub(self.used_idx);
        if seen == 0 && most > 0 {
            return Err(self.told_lie());
        }
        let (oldest, mask) = (self.oldest(), self.shadow.len() - 1);
        let mut count = 0;
        let most = most.min(usize::from(seen));
        for (nth, (token, len)) in tokens[..most].iter_mut().zip(lens).enumerate() {
            let slot = oldest.wrapping_add(nth) & mask;
            let shadow = &self.shadow[slot];
            if shadow.count & CHAIN != 0 {
                break;
            }
            (*token, *len) = (shadow.token, self.lens.of(slot));
            count = nth + 1;
        }
        self.free.len += count;
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let taken = count as u16;
        self.used_idx = self.used_idx.wrapping_add(taken);
        Ok(count)
    }
}
