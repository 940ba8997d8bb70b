//! The driver's half of a packed virtqueue.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use vring_mem::Region;
use vring_mem::copy::prefetch_write;

use super::shared::store_table_desc;
use super::shared::{BOTH, Held, PackedRing, Pos, flag, id_of, is_wanted, len_of, wish, word};
use super::{PackedLayout, check_packed_size};
use crate::layout::INDIRECT_DESCS;
use crate::shadow::{CHAIN, FreeList, MAX_CHAIN, NO_TOKEN, Shadow};
use crate::{DescFlags, DriverRing, Piece, RingFault, RingFeatures, Used};

/// See the module. The device may use chains in any order: they go by buffer ids, of which there are as many as descriptors.
#[derive(Debug)]
pub struct PackedDriver {
    ring: PackedRing,
    free: FreeList,
    /// By id.
    shadow: Box<[Shadow]>,
    /// Descriptors that can be pushed.
    free_descs: usize,
    /// Where the next descriptor goes.
    avail: Pos,
    /// The first descriptor pushed since `publish`.
    held: Option<Held>,
    /// Descriptors pushed since the device was last told, or could have been.
    untold: u16,
    /// Where the next used element is taken.
    used: Pos,
    /// Used chains known of and not taken, and where the look for more goes on.
    seen: usize,
    look: Pos,
    /// Chains in flight of more than one descriptor. While there are none, a used element stands for one slot of the ring.
    long: usize,
    /// Where [`DriverRing::take_outstanding`] goes on to look.
    outstanding: usize,
    features: RingFeatures,
    /// First indirect table, and the address that the device knows it by.
    tables: Option<(NonNull<u8>, u64)>,
    /// Keeps the memory mapped.
    _region: Arc<Region>,
}

// SAFETY: the pointers lead into the region, which is held, and are used through atomics or are ours to write.
unsafe impl Send for PackedDriver {}

impl PackedDriver {
    /// A ring of `size` descriptors at `offset` bytes of `region`, laid out by `layout`; the device knows the region's first byte by the
    /// address `device_base`. The ring's memory is initialised. Both wrap counters begin with 1 (2.8.1).
    ///
    /// # Panics
    /// When the layout does not fit the region or `size` is no size of a packed ring: both are ours to choose.
    #[must_use]
    pub fn new(
        region: &Arc<Region>,
        offset: usize,
        device_base: u64,
        size: u16,
        layout: &PackedLayout,
        features: RingFeatures,
    ) -> Self {
        assert!(
            check_packed_size(usize::from(size)).is_some()
                && *layout == PackedLayout::new(size, layout.indirect.is_some())
        );
        assert!(offset.is_multiple_of(128) && offset + layout.total <= region.len());
        let at = |part: usize| {
            NonNull::new(region.base().wrapping_add(offset + part)).expect("inside a mapping")
        };
        // SAFETY: inside the region by the assertion; the device does not know the ring yet.
        unsafe { region.base().add(offset).write_bytes(0, layout.total) };
        let tables = layout
            .indirect
            .filter(|_| features.indirect)
            .map(|part| (at(part), device_base + (offset + part) as u64));
        let (desc, driver, device) = (layout.desc, layout.driver_event, layout.device_event);
        // SAFETY: the layout's parts are aligned and inside the region, and _region keeps it mapped.
        let ring = unsafe { PackedRing::new(at(desc), at(driver), at(device), size) };
        let mut driver = Self {
            ring,
            free: FreeList::new(size),
            shadow: vec![Shadow::FREE; usize::from(size)].into_boxed_slice(),
            free_descs: usize::from(size),
            avail: Pos::avail(0, true),
            held: None,
            untold: 0,
            used: Pos::used(0, true),
            seen: 0,
            look: Pos::used(0, true),
            long: 0,
            outstanding: 0,
            features,
            tables,
            _region: region.clone(),
        };
        driver.want_calls(false);
        driver
    }

    /// Writes the next descriptor; the first of a burst stays invisible.
    #[inline(always)]
    fn place(&mut self, addr: u64, word: u64) {
        let Pos { slot, bits } = self.avail;
        self.ring.set_addr(slot, addr);
        let word = word | bits;
        if self.held.is_some() {
            self.ring.word(slot).store(word, Ordering::Relaxed);
        } else {
            self.held = Some(Held { slot, word });
        }
        self.avail.step(self.ring.size);
        self.free_descs -= 1;
        self.untold = self.untold.saturating_add(1);
    }

    fn push_indirect(
        &mut self,
        token: u32,
        pieces: &[Piece],
        table: NonNull<u8>,
        device_table: u64,
    ) {
        let id = self.free.pop();
        let offset = usize::from(id) * INDIRECT_DESCS * 16;
        for (i, piece) in pieces.iter().enumerate() {
            // SAFETY: the id's own table of INDIRECT_DESCS descriptors, which the caller compared with the pieces; aligned by 16.
            unsafe {
                let at = table.as_ptr().add(offset + 16 * i).cast();
                store_table_desc(at, piece.addr, word(piece.len, 0));
            };
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most INDIRECT_DESCS pieces"
        )]
        let len = 16 * pieces.len() as u32;
        self.shadow[usize::from(id)] = Shadow {
            token,
            count: CHAIN | 1,
            next: 0,
        };
        let addr = device_table + offset as u64;
        self.place(addr, word(len, id) | flag(DescFlags::INDIRECT));
    }

    fn push_direct(&mut self, token: u32, pieces: &[Piece]) {
        let id = self.free.pop();
        for (i, piece) in pieces.iter().enumerate() {
            let last = i + 1 == pieces.len();
            let next = if last { 0 } else { flag(DescFlags::NEXT) };
            // Only the last one's id counts (2.8.6). A chain can be the first of a burst: then its first descriptor is what is held.
            self.place(piece.addr, word(piece.len, id) | next);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "fits the ring, which is a u16"
        )]
        let count = pieces.len() as u16;
        self.long += usize::from(count > 1);
        self.shadow[usize::from(id)] = Shadow {
            token,
            count: CHAIN | count,
            next: 0,
        };
    }

    /// Frees the descriptors and the id of a chain in flight; how many descriptors it had.
    #[inline(always)]
    fn release(&mut self, id: u16) -> u16 {
        let shadow = &mut self.shadow[usize::from(id)];
        shadow.token = NO_TOKEN;
        let count = shadow.count & !CHAIN;
        self.free.push(id);
        self.free_descs += usize::from(count);
        self.long -= usize::from(count > 1);
        count
    }

    /// Looks for used elements until `wanted` chains are known. All of them are ours: no more slots are looked at than are in flight.
    #[inline(always)]
    fn look(&mut self, wanted: usize) {
        let in_flight = self.shadow.len() - self.free_descs;
        if self.long > 0 {
            return self.look_long(wanted, in_flight);
        }
        let (ring, most) = (self.ring, wanted.min(in_flight));
        let (mut at, mut seen) = (self.look, self.seen);
        // Acquire, against the device's releasing store of the first flags of a burst: ids and lengths, the other elements of the burst, and
        // what the device wrote to the buffers, are there.
        while seen < most && ring.word(at.slot).load(Ordering::Acquire) & BOTH == at.bits {
            at.step(ring.size);
            seen += 1;
        }
        (self.look, self.seen) = (at, seen);
    }

    /// With chains of several descriptors in flight: the device skips as many slots as the chain has that it names (2.8.6).
    #[cold]
    fn look_long(&mut self, wanted: usize, in_flight: usize) {
        let size = self.ring.size;
        let mut passed = usize::from(self.used.distance(self.look, size));
        while self.seen < wanted && passed < in_flight {
            // Acquire: as in look.
            let word = self.ring.word(self.look.slot).load(Ordering::Acquire);
            if word & BOTH != self.look.bits {
                return;
            }
            self.seen += 1;
            let shadow = self.shadow.get(usize::from(id_of(word)));
            let count = match shadow {
                Some(shadow) if shadow.token != NO_TOKEN => shadow.count & !CHAIN,
                // A lie, which is met when it is the first.
                _ => return,
            };
            passed += usize::from(count);
            if passed > in_flight {
                // As above: some id comes twice.
                return;
            }
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
    fn bad_id(&self, id: u16) -> RingFault {
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
            self.look = self.used;
        }
    }
}

impl DriverRing for PackedDriver {
    #[inline(always)]
    fn size(&self) -> u16 {
        self.ring.size
    }

    #[inline(always)]
    fn free_descs(&self) -> usize {
        self.free_descs
    }

    #[inline(always)]
    fn prefetch_free(&self, count: usize) {
        let mut at = self.avail;
        // Four descriptors to a line.
        for _ in 0..count.min(self.free_descs).div_ceil(4) {
            prefetch_write(self.ring.desc_line(at.slot));
            at.skip(self.ring.size.min(4), self.ring.size);
        }
    }

    #[inline(always)]
    fn push(&mut self, token: u32, piece: Piece, write: bool) {
        debug_assert!(token != NO_TOKEN && self.free_descs > 0);
        let flags = if write { flag(DescFlags::WRITE) } else { 0 };
        let id = self.free.pop();
        self.shadow[usize::from(id)] = Shadow::single(token);
        self.place(piece.addr, word(piece.len, id) | flags);
    }

    #[inline(always)]
    fn push_many(&mut self, tokens: &[u32], write: bool, mut piece: impl FnMut(usize) -> Piece) {
        debug_assert!(tokens.len() <= self.free_descs);
        self.prefetch_free(tokens.len());
        let flags = if write { flag(DescFlags::WRITE) } else { 0 };
        let (ring, from, mut at) = (self.ring, self.free.head, self.avail);
        let (ids, shadow) = (&*self.free.ids, &mut *self.shadow);
        // The address is written; the other word comes back.
        let mut fill = |nth: usize, token: u32, at: Pos| {
            debug_assert!(token != NO_TOKEN);
            let id = ids[from.wrapping_add(nth) & (ids.len() - 1)];
            let Piece { addr, len } = piece(nth);
            shadow[usize::from(id)] = Shadow::single(token);
            ring.set_addr(at.slot, addr);
            word(len, id) | flags | at.bits
        };
        let mut rest = tokens.iter().enumerate();
        if self.held.is_none()
            && let Some((nth, &token)) = rest.next()
        {
            let word = fill(nth, token, at);
            self.held = Some(Held {
                slot: at.slot,
                word,
            });
            at.step(ring.size);
        }
        for (nth, &token) in rest {
            let word = fill(nth, token, at);
            ring.word(at.slot).store(word, Ordering::Relaxed);
            at.step(ring.size);
        }
        self.avail = at;
        self.free.head = from.wrapping_add(tokens.len());
        self.free.len -= tokens.len();
        self.free_descs -= tokens.len();
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let count = tokens.len() as u16;
        self.untold = self.untold.saturating_add(count);
    }

    fn push_chain(&mut self, token: u32, pieces: &[Piece]) -> bool {
        debug_assert!(token != NO_TOKEN && !pieces.is_empty());
        match self.tables {
            Some((table, device_table))
                if pieces.len() > 1 && pieces.len() <= INDIRECT_DESCS && self.free_descs > 0 =>
            {
                self.push_indirect(token, pieces, table, device_table);
            }
            _ if pieces.len() <= self.free_descs.min(MAX_CHAIN) => self.push_direct(token, pieces),
            _ => return false,
        }
        true
    }

    fn max_pieces(&self) -> usize {
        let direct = usize::from(self.ring.size).min(MAX_CHAIN);
        direct.max(if self.tables.is_some() {
            INDIRECT_DESCS
        } else {
            0
        })
    }

    #[inline(always)]
    fn publish(&mut self) {
        Held::release(&mut self.held, &self.ring);
    }

    #[inline(always)]
    fn needs_kick(&mut self) -> bool {
        let count = std::mem::take(&mut self.untold);
        if count == 0 {
            return false;
        }
        // Full fence, against the one in the device's want_kicks: our flags must be visible before we look whether the device sleeps. Else it
        // could go to sleep on an empty ring while we read its old "do not kick": a lost wake-up.
        fence(Ordering::SeqCst);
        let event = self.ring.device_event().load(Ordering::Relaxed);
        let (size, event_idx) = (self.ring.size, self.features.event_idx);
        is_wanted(event, event_idx, self.avail, count.min(size), size)
    }

    #[inline(always)]
    fn used_ready(&mut self, wanted: usize) -> Result<usize, RingFault> {
        if self.seen < wanted {
            self.look(wanted);
        }
        Ok(self.seen)
    }

    #[inline(always)]
    fn pop_used(&mut self) -> Result<Used, RingFault> {
        let (id, used) = self.first_used()?;
        let count = self.release(id);
        self.used.skip(count, self.ring.size);
        self.took(1);
        Ok(used)
    }

    #[inline(always)]
    fn pop_many(&mut self, tokens: &mut [u32], lens: &mut [u32]) -> Result<usize, RingFault> {
        let (ring, mut at) = (self.ring, self.used);
        let tail = self.free.head.wrapping_add(self.free.len);
        let (ids, shadow) = (&mut *self.free.ids, &mut *self.shadow);
        let mask = ids.len() - 1;
        let mut count = 0;
        for (token, len) in tokens.iter_mut().zip(lens) {
            let word = ring.word(at.slot).load(Ordering::Relaxed);
            let id = id_of(word);
            let found = shadow
                .get_mut(usize::from(id))
                .filter(|found| found.token != NO_TOKEN);
            let Some(found) = found else {
                if count == 0 {
                    return Err(self.bad_id(id));
                }
                break;
            };
            if found.count & CHAIN != 0 {
                break;
            }
            (*token, *len) = (found.token, len_of(word));
            found.token = NO_TOKEN;
            ids[tail.wrapping_add(count) & mask] = id;
            at.step(ring.size);
            count += 1;
        }
        self.free.len += count;
        self.free_descs += count;
        self.used = at;
        self.took(count);
        Ok(count)
    }

    fn take_outstanding(&mut self) -> Option<Used> {
        // On from the last one: who takes all of them looks at each once.
        let from = self.outstanding;
        let id = (from..self.shadow.len())
            .chain(0..from)
            .find(|&id| self.shadow[id].token != NO_TOKEN)?;
        self.outstanding = id;
        let Shadow { token, count, .. } = self.shadow[id];
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        self.release(id as u16);
        Some(Used {
            token,
            len: 0,
            chain: count & CHAIN != 0,
        })
    }

    fn want_calls(&mut self, on: bool) -> bool {
        let wish = wish(on, self.features.event_idx, self.used);
        self.ring.driver_event().store(wish, Ordering::Relaxed);
        if !on {
            return false;
        }
        // Full fence, against the one in the device's needs_call: our wish must be visible before we look for used chains a last time.
        // Else the device could publish one, read the old "do not call", and leave us asleep.
        fence(Ordering::SeqCst);
        let first = self.ring.word(self.used.slot).load(Ordering::Acquire);
        self.free_descs < self.shadow.len() && first & BOTH == self.used.bits
    }
}
