//! Taking used chains of a device that uses them in any order: by their ids.

use std::sync::atomic::Ordering;

use super::Driver;
use crate::packed::shared::{BOTH, id_of, len_of};
use crate::shadow::{CHAIN, NO_TOKEN};
use crate::{RingFault, Used};

impl<const IN_ORDER: bool> Driver<IN_ORDER> {
    /// Looks for used elements until `wanted` chains are known. All of them are ours: no more slots are looked at than are in flight.
    #[inline(always)]
    pub(super) fn look_any(&mut self, wanted: usize) {
        let in_flight = self.in_flight();
        if self.long > 0 {
            return self.look_long(wanted, in_flight);
        }
        self.lie = None;
        let most = wanted.min(in_flight).saturating_sub(self.seen);
        let found = self.ring.published(self.look, most, BOTH);
        self.seen += usize::from(found);
        self.look.skip(found, self.ring.size);
    }

    /// With chains of several descriptors in flight: the device skips as many slots as the chain has that it names (2.8.6).
    #[cold]
    fn look_long(&mut self, wanted: usize, in_flight: usize) {
        let size = self.ring.size;
        let mut passed = usize::from(self.used.distance(self.look, size));
        while self.seen < wanted && passed < in_flight && self.lie.is_none() {
            // Acquire: as in published.
            let word = self.ring.word(self.look.slot).load(Ordering::Acquire);
            if word & BOTH != self.look.bits {
                return;
            }
            let id = id_of(word);
            let shadow = self.shadow.get(usize::from(id));
            let count = match shadow {
                Some(shadow) if shadow.token != NO_TOKEN => shadow.count & !CHAIN,
                _ => 0,
            };
            passed += usize::from(count);
            if count == 0 || passed > in_flight {
                // Not in flight, or it comes twice.
                self.lie = Some(id);
                return;
            }
            self.seen += 1;
            self.look.skip(count, size);
        }
    }

    /// The first used element: its id, which is in flight, and what it says.
    #[inline(always)]
    fn first_used(&self) -> Result<(u16, Used), RingFault> {
        let word = self.ring.word(self.used.slot).load(Ordering::Relaxed);
        let id = id_of(word);
        // Ids beyond the ring and ids that are not in flight are both lies (2.8.9). The length is taken as it is: there are devices that write
        // one without the flag that says so.
        match self.shadow.get(usize::from(id)) {
            Some(shadow) if shadow.token != NO_TOKEN => Ok((
                id,
                Used {
                    token: shadow.token,
                    len: len_of(word),
                    chain: shadow.count & CHAIN != 0,
                },
            )),
            _ => Err(self.bad_id(id)),
        }
    }

    #[cold]
    pub(super) fn bad_id(&self, id: u16) -> RingFault {
        RingFault::UsedId {
            id: id.into(),
            size: self.ring.size,
        }
    }

    /// `count` chains were taken.
    #[inline(always)]
    fn took(&mut self, count: usize) {
        // A device that changes an id between the look and now leads us astray in its own ring: when all that was seen is taken, we look
        // where we took last.
        self.seen = self.seen.saturating_sub(count);
        if self.seen == 0 {
            (self.look, self.lie) = (self.used, None);
        }
    }

    #[inline(always)]
    pub(super) fn pop_any(&mut self) -> Result<Used, RingFault> {
        let (id, used) = self.first_used()?;
        let count = self.release(id);
        self.used.skip(count, self.ring.size);
        self.took(1);
        Ok(used)
    }

    #[inline(always)]
    pub(super) fn pop_any_many(
        &mut self,
        tokens: &mut [u32],
        lens: &mut [u32],
    ) -> Result<usize, RingFault> {
        let (ring, used) = (self.ring, self.used);
        let tail = self.free.head.wrapping_add(self.free.len);
        let (ids, shadow) = (&mut *self.free.ids, &mut *self.shadow);
        let mask = ids.len() - 1;
        let mut count = 0;
        'all: for (slots, _) in used.runs(tokens.len().min(lens.len()), ring.size) {
            let places = tokens[count..].iter_mut().zip(&mut lens[count..]);
            for (slot, (token, len)) in slots.zip(places) {
                let word = ring.word(slot).load(Ordering::Relaxed);
                let id = id_of(word);
                let found = shadow
                    .get_mut(usize::from(id))
                    .filter(|found| found.token != NO_TOKEN);
                let Some(found) = found else {
                    if count == 0 {
                        return Err(self.bad_id(id));
                    }
                    break 'all;
                };
                if found.count & CHAIN != 0 {
                    break 'all;
                }
                (*token, *len) = (found.token, len_of(word));
                found.token = NO_TOKEN;
                ids[tail.wrapping_add(count) & mask] = id;
                count += 1;
            }
        }
        self.free.len += count;
        self.free_descs += count;
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        self.used.skip(count as u16, ring.size);
        self.took(count);
        Ok(count)
    }
}
