//! The device's half of a packed virtqueue.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use vring_mem::copy::prefetch_write;
use vring_mem::guest::GuestMemory;

use super::check_packed_size;
use super::shared::{
    BOTH, Held, PackedRing, Pos, flag, id_of, is_wanted, load_table_desc, wish, word,
};
use crate::indirect::{table_desc, table_len};
use crate::sync::fence;
use crate::{Area, Desc, DescFlags, DeviceRing, Head, RingFault, RingFeatures};

/// A chain of several descriptors, by its first slot: what was read of it when it was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// Descriptors.
    pub(super) count: u16,
    /// The id in its last descriptor.
    id: u16,
}

impl Chain {
    /// Any chain of one descriptor, which says its id itself.
    const SINGLE: Self = Self { count: 1, id: 0 };
}

/// The device's half. Chains are given back in the order in which they came, so the used element of a chain lies where its first descriptor was.
pub type PackedDevice = Device<false>;

/// The device's half where `VIRTIO_F_IN_ORDER` was negotiated: a run of chains that were only read is given back by one used element (2.6.9).
pub type PackedDeviceInOrder = Device<true>;

/// See the two types.
#[derive(Debug)]
pub struct Device<const IN_ORDER: bool> {
    pub(super) ring: PackedRing,
    /// The first chain that was not given back, where also the next used element goes.
    pub(super) next: Pos,
    /// Chains known of from there on, and where the look for more goes on.
    seen: usize,
    look: Pos,
    /// Those of them that have several descriptors, by first slot. All others are [`Chain::SINGLE`].
    pub(super) chains: Box<[Chain]>,
    /// How many these are. While there are none, chains and slots are the same.
    pub(super) long: usize,
    /// With long chains: which chain was last looked for, and its slot.
    cursor: Cell<(usize, u16)>,
    /// The first used element since `publish`.
    held: Option<Held>,
    /// In order: the used element of a batch that may still grow. It lies where the batch begins, and names the chain that it ends with.
    batch: Option<Held>,
    /// Descriptors given back since the driver was last told, or could have been.
    untold: u16,
    features: RingFeatures,
}

impl<const IN_ORDER: bool> Device<IN_ORDER> {
    /// Takes a ring up at `base`, in vhost-user's packing: slot and wrap counter of the next available descriptor in the lower half, of the
    /// next used one in the upper. Between bursts this half holds nothing back, so that both are the same; where they are not, another
    /// device left chains behind, and they are served. Front ends that do not keep count leave the upper half empty. A new ring begins at
    /// `0x8000_8000`.
    ///
    /// # Errors
    /// `base` names a descriptor that the ring does not have.
    ///
    /// # Panics
    /// When `size` is no size of a packed ring, or this is not the type for the features.
    ///
    /// # Safety
    /// The areas are aligned by 16, 4 and 4 bytes, writable for a ring of `size` descriptors, and stay mapped for as long as this value lives.
    pub unsafe fn new(
        desc: NonNull<u8>,
        driver_event: NonNull<u8>,
        device_event: NonNull<u8>,
        size: u16,
        base: u32,
        features: RingFeatures,
    ) -> Result<Self, RingFault> {
        assert!(check_packed_size(usize::from(size)).is_some());
        assert_eq!(features.in_order, IN_ORDER);
        let from = if base >> 16 == 0 { base } else { base >> 16 };
        #[expect(clippy::cast_possible_truncation, reason = "takes the word apart")]
        let (slot, wrap) = (from as u16 & 0x7fff, from & 0x8000 != 0);
        if slot >= size {
            return Err(RingFault::Base { base, size });
        }
        // SAFETY: the caller's promise.
        let ring = unsafe { PackedRing::new(desc, driver_event, device_event, size) };
        let mut device = Self {
            ring,
            next: Pos::used(slot, wrap),
            seen: 0,
            look: Pos::avail(slot, wrap),
            chains: vec![Chain::SINGLE; usize::from(size)].into_boxed_slice(),
            long: 0,
            cursor: Cell::new((0, slot)),
            held: None,
            batch: None,
            untold: 0,
            features,
        };
        device.want_kicks(false);
        Ok(device)
    }

    /// Looks for available descriptors until `wanted` chains are known.
    #[inline(always)]
    fn look(&mut self, wanted: usize) -> Result<(), RingFault> {
        loop {
            self.look_singles(wanted);
            if self.seen >= wanted || !self.look_long()? {
                return Ok(());
            }
        }
    }

    /// Descriptors that were not looked at in this round: never those that are not given back.
    #[inline(always)]
    fn room(&self) -> u16 {
        self.ring.size - self.next.other().distance(self.look, self.ring.size)
    }

    /// As far as chains have one descriptor.
    #[inline(always)]
    fn look_singles(&mut self, wanted: usize) {
        const NEXT: u64 = flag(DescFlags::NEXT);
        let most = (wanted - self.seen).min(self.room().into());
        let found = self.ring.published(self.look, most, BOTH | NEXT);
        self.seen += usize::from(found);
        self.look.skip(found, self.ring.size);
    }

    /// One chain of any length; false if there is none that can be taken now.
    #[inline(always)]
    fn look_long(&mut self) -> Result<bool, RingFault> {
        // Acquire: as in published.
        let word = self.ring.word(self.look.slot).load(Ordering::Acquire);
        if word & BOTH != self.look.bits {
            return Ok(false);
        }
        let count = self.look_along(self.room())?;
        self.look.skip(count, self.ring.size);
        self.seen += usize::from(count > 0);
        Ok(count > 0)
    }

    /// Remembers the chain that begins where we look; its length, or 0 if there is none that can be taken now. Of its descriptors only the
    /// first must be the driver's: it was published last (2.8.6).
    #[cold]
    fn look_along(&mut self, room: u16) -> Result<u16, RingFault> {
        const NEXT: u64 = flag(DescFlags::NEXT);
        let (size, mut at) = (self.ring.size, self.look);
        for count in 1..=room {
            let word = self.ring.word(at.slot).load(Ordering::Relaxed);
            if word & NEXT == 0 {
                let id = id_of(word);
                self.chains[usize::from(self.look.slot)] = Chain { count, id };
                self.long += usize::from(count > 1);
                return Ok(count);
            }
            at.step(size);
        }
        // There is no room, or it runs into what is not given back yet: a chain that is longer than the ring. Met when it is the first.
        if self.seen == 0 {
            return Err(RingFault::ChainTooLong { max: size.into() });
        }
        Ok(0)
    }

    /// Where the chain `nth` from the front begins.
    #[inline(always)]
    fn slot_of(&self, nth: usize) -> u16 {
        debug_assert!(nth < self.seen);
        if self.long == 0 {
            let slot = usize::from(self.next.slot) + nth;
            let size = usize::from(self.ring.size);
            #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
            return (if slot < size { slot } else { slot - size }) as u16;
        }
        self.slot_along(nth)
    }

    /// Goes on from where it was last: who looks at one after the other walks once.
    #[cold]
    fn slot_along(&self, nth: usize) -> u16 {
        let (mut at, slot) = self.cursor.get();
        let mut pos = Pos::used(slot, true);
        if at > nth {
            (at, pos.slot) = (0, self.next.slot);
        }
        while at < nth {
            pos.skip(self.chains[usize::from(pos.slot)].count, self.ring.size);
            at += 1;
        }
        self.cursor.set((nth, pos.slot));
        pos.slot
    }

    /// The chain that begins at a slot.
    #[inline(always)]
    fn head(&self, slot: u16) -> Head {
        let (desc, mut id) = self.ring.desc(slot);
        if self.long > 0 {
            let chain = self.chains[usize::from(slot)];
            id = if chain.count > 1 { chain.id } else { id };
        }
        Head { id, desc }
    }

    /// Writes a used element at the front; the first of a burst stays invisible.
    #[inline(always)]
    fn place(&mut self, Held { slot, word }: Held) {
        if self.held.is_some() {
            self.ring.word(slot).store(word, Ordering::Relaxed);
        } else {
            self.held = Some(Held { slot, word });
        }
    }

    /// What was completed as a batch does not grow any more.
    #[inline(always)]
    fn close_batch(&mut self) {
        if IN_ORDER && let Some(batch) = self.batch.take() {
            self.place(batch);
        }
    }

    /// Moves behind the first chain.
    fn pass(&mut self) {
        let chain = &mut self.chains[usize::from(self.next.slot)];
        let count = std::mem::replace(chain, Chain::SINGLE).count;
        self.long -= usize::from(count > 1);
        self.next.skip(count, self.ring.size);
        self.seen -= 1;
        self.untold = self.untold.saturating_add(count);
        self.cursor.set((0, self.next.slot));
    }

    /// `count` single descriptors were given back, and `next` is behind them.
    #[inline(always)]
    fn passed(&mut self, count: usize) {
        self.seen -= count;
        #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size")]
        let count = count as u16;
        self.untold = self.untold.saturating_add(count);
        self.cursor.set((0, self.next.slot));
    }

    fn walk_indirect(
        &self,
        table: Desc,
        memory: &GuestMemory,
        each: &mut dyn FnMut(Desc) -> Result<(), RingFault>,
    ) -> Result<(), RingFault> {
        // The descriptors of a table simply follow each other (2.8.7).
        let count = table_len(table, self.features)?;
        // SAFETY: 16 bytes of guest memory, aligned; memory is borrowed, so it stays mapped.
        let load = |at| unsafe { load_table_desc(at) };
        let mut first = table_desc(table, 0, memory, load)?;
        if count > 1 && first.flags.contains(DescFlags::WRITE) {
            // What is written comes after what is read (2.6.4.2). DPDK's driver leaves WRITE on the header of what it transmits, and means a
            // descriptor to be read.
            let second = table_desc(table, 1, memory, load)?;
            first
                .flags
                .set(DescFlags::WRITE, second.flags.contains(DescFlags::WRITE));
        }
        each(first)?;
        #[expect(clippy::cast_possible_truncation, reason = "table_len has a bound")]
        for index in 1..count as u16 {
            each(table_desc(table, index, memory, load)?)?;
        }
        Ok(())
    }
}

/// The second word of a used element. WRITE says that the length means something (2.8.6).
#[inline(always)]
fn used_word(id: u16, len: u32) -> u64 {
    let written = if len > 0 { flag(DescFlags::WRITE) } else { 0 };
    word(len, id) | written
}

impl<const IN_ORDER: bool> DeviceRing for Device<IN_ORDER> {
    #[inline(always)]
    fn size(&self) -> u16 {
        self.ring.size
    }

    #[inline(always)]
    fn ready(&mut self, wanted: usize) -> Result<usize, RingFault> {
        if self.seen < wanted {
            self.look(wanted)?;
        }
        Ok(self.seen)
    }

    #[inline(always)]
    fn peek(&self, nth: usize) -> Result<Head, RingFault> {
        Ok(self.head(self.slot_of(nth)))
    }

    #[inline(always)]
    fn peek_many(
        &self,
        count: usize,
        mut each: impl FnMut(usize, Head) -> bool,
    ) -> Result<usize, RingFault> {
        debug_assert!(count <= self.seen);
        if self.long > 0 {
            let yes = (0..count).take_while(|&nth| each(nth, self.head(self.slot_along(nth))));
            return Ok(yes.count());
        }
        let (ring, mut nth) = (self.ring, 0);
        for (slots, _) in self.next.runs(count, ring.size) {
            for slot in slots {
                let (desc, id) = ring.desc(slot);
                // The lines came here to be read, and the used elements will be written to them; to few of them where they come in batches.
                if !IN_ORDER && slot.is_multiple_of(4) {
                    prefetch_write(ring.desc_line(slot));
                }
                if !each(nth, Head { id, desc }) {
                    return Ok(nth);
                }
                nth += 1;
            }
        }
        Ok(count)
    }

    fn walk(
        &self,
        head: Head,
        memory: &GuestMemory,
        each: &mut dyn FnMut(Desc) -> Result<(), RingFault>,
    ) -> Result<(), RingFault> {
        let mut desc = head.desc;
        for _ in 0..self.ring.size {
            if desc.flags.contains(DescFlags::INDIRECT) {
                return self.walk_indirect(desc, memory, each);
            }
            each(desc)?;
            if !desc.flags.contains(DescFlags::NEXT) {
                return Ok(());
            }
            (desc, _) = self.ring.desc(desc.next);
        }
        // Chains have an end when they are seen: the driver took it away.
        Err(RingFault::ChainTooLong {
            max: self.ring.size.into(),
        })
    }

    #[inline(always)]
    fn complete(&mut self, id: u16, len: u32) {
        debug_assert!(self.seen > 0);
        self.close_batch();
        let Pos { slot, bits } = self.next;
        let word = used_word(id, len) | bits;
        self.place(Held { slot, word });
        self.pass();
    }

    #[inline(always)]
    fn complete_many(&mut self, count: usize, mut each: impl FnMut(usize) -> (u16, u32)) {
        debug_assert!(count <= self.seen);
        if self.long > 0 {
            for nth in 0..count {
                let (id, len) = each(nth);
                self.complete(id, len);
            }
            return;
        }
        self.close_batch();
        let (ring, mut at, mut nth) = (self.ring, self.next, 0);
        if self.held.is_none() && count > 0 {
            let (id, len) = each(0);
            let Pos { slot, bits } = at;
            let word = used_word(id, len) | bits;
            self.held = Some(Held { slot, word });
            at.step(ring.size);
            nth = 1;
        }
        for (slots, bits) in at.runs(count - nth, ring.size) {
            for slot in slots {
                let (id, len) = each(nth);
                let word = used_word(id, len) | bits;
                ring.word(slot).store(word, Ordering::Relaxed);
                nth += 1;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size")]
        self.next.skip(count as u16, ring.size);
        self.passed(count);
    }

    #[inline(always)]
    fn complete_read_many(&mut self, count: usize, mut each: impl FnMut(usize) -> u16) {
        if !IN_ORDER {
            return self.complete_many(count, |nth| (each(nth), 0));
        }
        debug_assert!(count <= self.seen);
        if count == 0 {
            return;
        }
        // In a new batch, the flags are those of its first slot: only the id changes.
        let Held { slot, word } = self.batch.unwrap_or(Held {
            slot: self.next.slot,
            word: self.next.bits,
        });
        let word = word & BOTH | used_word(each(count - 1), 0);
        self.batch = Some(Held { slot, word });
        if self.long > 0 {
            (0..count).for_each(|_| self.pass());
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size")]
        self.next.skip(count as u16, self.ring.size);
        self.passed(count);
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.close_batch();
        Held::release(&mut self.held, &self.ring);
    }

    #[inline(always)]
    fn needs_call(&mut self) -> bool {
        let count = std::mem::take(&mut self.untold);
        if count == 0 {
            return false;
        }
        // Full fence, against the one in the driver's want_calls: our flags must be visible before we look whether the driver sleeps. Else it
        // could go to sleep on an unused ring while we read its old "do not call": a lost wake-up.
        fence(Ordering::SeqCst);
        let event = self.ring.driver_event().load(Ordering::Relaxed);
        let (size, event_idx) = (self.ring.size, self.features.event_idx);
        is_wanted(event, event_idx, self.next, count.min(size), size)
    }

    fn want_kicks(&mut self, on: bool) -> bool {
        let wish = wish(on, self.features.event_idx, self.next);
        self.ring.device_event().store(wish, Ordering::Relaxed);
        if !on {
            return false;
        }
        // Full fence, against the one in the driver's needs_kick: our wish must be visible before we look for chains a last time. Else the
        // driver could publish one, read the old "do not kick", and leave us asleep.
        fence(Ordering::SeqCst);
        let first = self.ring.word(self.next.slot).load(Ordering::Acquire);
        first & BOTH == self.next.other().bits
    }

    fn base(&self) -> u32 {
        self.next.base()
    }

    fn used_place(&self) -> (Area, u64, u64) {
        // The second word.
        (Area::Desc, 16 * u64::from(self.next.slot) + 8, 8)
    }

    fn index_place(&self) -> Option<(Area, u64, u64)> {
        None
    }

    fn event_word(&self) -> (Area, u64, u64) {
        (Area::Device, 0, 4)
    }
}
