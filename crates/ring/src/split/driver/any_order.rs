//! Taking used chains of a device that uses them in any order: by their ids.

use super::Driver;
use crate::shadow::{CHAIN, NO_TOKEN};
use crate::{RingFault, Used};

impl<const IN_ORDER: bool> Driver<IN_ORDER> {
    #[inline(always)]
    fn first_used(&self) -> Result<(u16, Used), RingFault> {
        let elem = self.ring.used_elem(self.used_idx).0;
        #[expect(clippy::cast_possible_truncation, reason = "takes the element apart")]
        let (id, len) = (elem as u32, (elem >> 32) as u32);
        // Ids beyond the ring and ids that are not in flight are both lies (2.7.8).
        match self.shadow.get(id as usize) {
            #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
            Some(shadow) if shadow.token != NO_TOKEN => Ok((
                id as u16,
                Used {
                    token: shadow.token,
                    len,
                    chain: shadow.count & CHAIN != 0,
                },
            )),
            _ => Err(RingFault::UsedId {
                id,
                size: self.ring.size(),
            }),
        }
    }

    #[inline(always)]
    pub(super) fn pop_any(&mut self) -> Result<Used, RingFault> {
        let (head, used) = self.first_used()?;
        self.used_idx = self.used_idx.wrapping_add(1);
        self.release(head);
        Ok(used)
    }

    #[inline(always)]
    pub(super) fn pop_any_many(
        &mut self,
        tokens: &mut [u32],
        lens: &mut [u32],
    ) -> Result<usize, RingFault> {
        let (ring, from) = (self.ring, self.used_idx);
        let tail = self.free.head.wrapping_add(self.free.len);
        let (ids, shadow) = (&mut *self.free.ids, &mut *self.shadow);
        let mask = ids.len() - 1;
        let mut count = 0;
        for (nth, (token, len)) in tokens.iter_mut().zip(lens).enumerate() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "takes the element apart; nth is below the ring's size"
            )]
            let (id, written) = {
                let elem = ring.used_elem(from.wrapping_add(nth as u16)).0;
                (elem as u32, (elem >> 32) as u32)
            };
            let found = shadow
                .get_mut(id as usize)
                .filter(|found| found.token != NO_TOKEN);
            let Some(found) = found else {
                if nth == 0 {
                    return Err(RingFault::UsedId {
                        id,
                        size: ring.size(),
                    });
                }
                break;
            };
            if found.count & CHAIN != 0 {
                break;
            }
            (*token, *len) = (found.token, written);
            found.token = NO_TOKEN;
            #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
            let id = id as u16;
            ids[tail.wrapping_add(nth) & mask] = id;
            count = nth + 1;
        }
        self.free.len += count;
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let taken = count as u16;
        self.used_idx = from.wrapping_add(taken);
        Ok(count)
    }
}
