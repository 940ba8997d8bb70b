//! The driver's half of a packed virtqueue.

mod any_order;
mod in_order;

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vring_mem::Region;
use vring_mem::copy::prefetch_write;

use super::shared::store_table_desc;
use super::shared::{BOTH, Held, PackedRing, Pos, flag, is_wanted, wish, word};
use super::{PackedLayout, check_packed_size};
use crate::layout::INDIRECT_DESCS;
use crate::shadow::{CHAIN, FreeList, MAX_CHAIN, NO_TOKEN, Shadow};
use crate::sync::fence;
use crate::{DescFlags, DriverRing, Piece, RingFault, RingFeatures, Used};

/// The driver's half. The device may use chains in any order: they go by buffer ids, of which there are as many as descriptors.
pub type PackedDriver = Driver<false>;

/// The driver's half where `VIRTIO_F_IN_ORDER` was negotiated.
pub type PackedDriverInOrder = Driver<true>;

/// See the two types.
#[derive(Debug)]
pub struct Driver<const IN_ORDER: bool> {
    ring: PackedRing,
    /// Free ids. In order: none, a chain goes by the slot of its first descriptor.
    free: FreeList,
    /// By id.
    shadow: Box<[Shadow]>,
    /// In order: the bytes that the device wrote to a buffer, by id. All of them, until it says otherwise.
    lens: Box<[u32]>,
    /// In order: buffers were pushed for the device to write, so that lengths matter.
    writes: bool,
    /// The id in the next used element, when that was looked at and no chain can be meant.
    lie: Option<u16>,
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
unsafe impl<const IN_ORDER: bool> Send for Driver<IN_ORDER> {}

impl<const IN_ORDER: bool> Driver<IN_ORDER> {
    /// A ring of `size` descriptors at `offset` bytes of `region`, laid out by `layout`; the device knows the region's first byte by the
    /// address `device_base`, modulo 2⁶⁴. The ring's memory is initialised. Both wrap counters begin with 1 (2.8.1).
    ///
    /// # Panics
    /// When the layout does not fit the region, `size` is no size of a packed ring, or this is not the type for the features: all of that is
    /// ours to choose.
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
        assert_eq!(features.in_order, IN_ORDER);
        assert!(offset.is_multiple_of(128) && offset + layout.total <= region.len());
        let at = |part: usize| {
            NonNull::new(region.base().wrapping_add(offset + part)).expect("inside a mapping")
        };
        // SAFETY: inside the region by the assertion; the device does not know the ring yet.
        unsafe { region.base().add(offset).write_bytes(0, layout.total) };
        let tables = layout
            .indirect
            .filter(|_| features.indirect)
            .map(|part| (at(part), device_base.wrapping_add((offset + part) as u64)));
        let (desc, driver, device) = (layout.desc, layout.driver_event, layout.device_event);
        // SAFETY: the layout's parts are aligned and inside the region, and _region keeps it mapped.
        let ring = unsafe { PackedRing::new(at(desc), at(driver), at(device), size) };
        let mut driver = Self {
            ring,
            free: FreeList::new(if IN_ORDER { 0 } else { size }),
            shadow: vec![Shadow::FREE; usize::from(size)].into_boxed_slice(),
            lens: vec![0; if IN_ORDER { usize::from(size) } else { 0 }].into_boxed_slice(),
            writes: false,
            lie: None,
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

    /// Descriptors that the device has, or gave back and we did not take.
    #[inline(always)]
    fn in_flight(&self) -> usize {
        self.shadow.len() - self.free_descs
    }

    /// The id of the chain that begins with the next descriptor.
    #[inline(always)]
    fn new_id(&mut self) -> u16 {
        if IN_ORDER {
            self.avail.slot
        } else {
            self.free.pop()
        }
    }

    /// In order: how much of a chain the device writes, where it says nothing.
    #[inline(always)]
    fn post(&mut self, id: u16, len: u32) {
        if IN_ORDER && self.writes {
            self.lens[usize::from(id)] = len;
        }
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
        let id = self.new_id();
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
        self.post(id, 0);
        let addr = device_table + offset as u64;
        self.place(addr, word(len, id) | flag(DescFlags::INDIRECT));
    }

    /// The chain's last descriptor has the flags `end`.
    fn push_direct(
        &mut self,
        token: u32,
        pieces: impl ExactSizeIterator<Item = Piece>,
        end: DescFlags,
    ) {
        let id = self.new_id();
        let len = pieces.len();
        for (i, piece) in pieces.enumerate() {
            let last = i + 1 == len;
            let next = flag(if last { end } else { DescFlags::NEXT });
            // Only the last one's id counts (2.8.6). A chain can be the first of a burst: then its first descriptor is what is held.
            self.place(piece.addr, word(piece.len, id) | next);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "fits the ring, which is a u16"
        )]
        let count = len as u16;
        self.long += usize::from(count > 1);
        self.post(id, 0);
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
        if !IN_ORDER {
            self.free.push(id);
        }
        self.free_descs += usize::from(count);
        self.long -= usize::from(count > 1);
        count
    }
}

impl<const IN_ORDER: bool> DriverRing for Driver<IN_ORDER> {
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
        let id = self.new_id();
        self.shadow[usize::from(id)] = Shadow::single(token);
        self.writes |= write;
        self.post(id, if write { piece.len } else { 0 });
        self.place(piece.addr, word(piece.len, id) | flags);
    }

    #[inline(always)]
    fn push_many(&mut self, tokens: &[u32], write: bool, mut piece: impl FnMut(usize) -> Piece) {
        debug_assert!(tokens.len() <= self.free_descs);
        self.prefetch_free(tokens.len());
        let flags = if write { flag(DescFlags::WRITE) } else { 0 };
        let (ring, from, mut at) = (self.ring, self.free.head, self.avail);
        let (ids, shadow, lens) = (&*self.free.ids, &mut *self.shadow, &mut *self.lens);
        self.writes |= write;
        let writes = self.writes;
        // The address is written; the other word comes back.
        let mut fill = |nth: usize, token: u32, slot: usize| {
            debug_assert!(token != NO_TOKEN);
            #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
            let id = if IN_ORDER {
                slot as u16
            } else {
                ids[from.wrapping_add(nth) & (ids.len() - 1)]
            };
            let Piece { addr, len } = piece(nth);
            if IN_ORDER && writes {
                lens[usize::from(id)] = if write { len } else { 0 };
            }
            shadow[usize::from(id)] = Shadow::single(token);
            ring.set_addr(slot, addr);
            word(len, id) | flags
        };
        let mut nth = 0;
        if self.held.is_none()
            && let Some(&token) = tokens.first()
        {
            let Pos { slot, bits } = at;
            let word = fill(0, token, slot.into()) | bits;
            self.held = Some(Held { slot, word });
            at.step(ring.size);
            nth = 1;
        }
        for (slots, bits) in at.runs(tokens.len() - nth, ring.size) {
            for (slot, &token) in slots.zip(&tokens[nth..]) {
                let word = fill(nth, token, slot) | bits;
                ring.word(slot).store(word, Ordering::Relaxed);
                nth += 1;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let count = tokens.len() as u16;
        self.avail.skip(count, ring.size);
        if !IN_ORDER {
            self.free.head = from.wrapping_add(tokens.len());
            self.free.len -= tokens.len();
        }
        self.free_descs -= tokens.len();
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
            _ if pieces.len() <= self.free_descs.min(MAX_CHAIN) => {
                self.push_direct(token, pieces.iter().copied(), DescFlags::empty());
            }
            _ => return false,
        }
        true
    }

    fn push_request(&mut self, token: u32, request: &[Piece], answer: Piece) -> bool {
        debug_assert!(token != NO_TOKEN);
        if request.len() >= self.free_descs.min(MAX_CHAIN) {
            return false;
        }
        let all: Vec<_> = request.iter().copied().chain([answer]).collect();
        self.push_direct(token, all.into_iter(), DescFlags::WRITE);
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
    fn next_avail(&self) -> u16 {
        self.avail.packed()
    }

    #[inline(always)]
    fn used_ready(&mut self, wanted: usize) -> Result<usize, RingFault> {
        if self.seen < wanted {
            if IN_ORDER {
                self.look_next(wanted);
            } else {
                self.look_any(wanted);
            }
        }
        // A lie is met when it is the first.
        Ok(self.seen + usize::from(self.lie.is_some()))
    }

    #[inline(always)]
    fn pop_used(&mut self) -> Result<Used, RingFault> {
        if IN_ORDER {
            self.pop_next()
        } else {
            self.pop_any()
        }
    }

    #[inline(always)]
    fn pop_many(&mut self, tokens: &mut [u32], lens: &mut [u32]) -> Result<usize, RingFault> {
        if IN_ORDER {
            self.pop_next_many(tokens, lens)
        } else {
            self.pop_any_many(tokens, lens)
        }
    }

    fn take_outstanding(&mut self) -> Option<Used> {
        if IN_ORDER {
            let used = (self.in_flight() > 0).then(|| self.take_next())?;
            return Some(Used { len: 0, ..used });
        }
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
        // What was seen of a batch is not written at each of its places.
        self.seen > 0 || (self.in_flight() > 0 && first & BOTH == self.used.bits)
    }

    fn device_base(&mut self) -> Result<u32, RingFault> {
        self.used_ready(usize::MAX)?;
        if let Some(id) = self.lie {
            return Err(self.bad_id(id));
        }
        Ok(self.look.base())
    }
}
