//! The driver's half of a split virtqueue.

mod any_order;
#[cfg(all(target_arch = "x86_64", not(all(test, feature = "loom"))))]
mod avx2;
mod in_order;

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vring_mem::Region;
use vring_mem::copy::prefetch_write;

use in_order::Batch;

use crate::layout::INDIRECT_DESCS;
use crate::shadow::{CHAIN, FreeList, MAX_CHAIN, NO_TOKEN, Shadow};
use crate::shared::{SUPPRESS, SplitRing, need_event, store_desc};
use crate::sync::fence;
use crate::{Desc, DescFlags, DriverRing, Piece, RingFault, RingFeatures, SplitLayout, Used};

/// The driver's half. The device may use chains in any order.
pub type SplitDriver = Driver<false>;

/// The driver's half where `VIRTIO_F_IN_ORDER` was negotiated.
pub type SplitDriverInOrder = Driver<true>;

/// See the two types. Indexes run freely through all of 16 bits and are masked where they meet the ring.
#[derive(Debug)]
pub struct Driver<const IN_ORDER: bool> {
    ring: SplitRing,
    /// In order, the list is the table itself: free descriptors follow each other, and so do those in flight.
    free: FreeList,
    shadow: Box<[Shadow]>,
    /// In order: what is being taken.
    batch: Batch,
    /// Where the next available entry goes.
    avail_idx: u16,
    /// `avail_idx` when the device was last told, or could have been.
    kicked_idx: u16,
    /// The next used element to take.
    used_idx: u16,
    /// The device's index when we last looked.
    used_seen: u16,
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
    /// address `device_base`, modulo 2⁶⁴. The ring's memory is initialised.
    ///
    /// # Panics
    /// When the layout does not fit the region, `size` is no size of a split ring, or this is not the type for the features: all of that is ours
    /// to choose.
    #[must_use]
    pub fn new(
        region: &Arc<Region>,
        offset: usize,
        device_base: u64,
        size: u16,
        layout: &SplitLayout,
        features: RingFeatures,
    ) -> Self {
        assert!(
            crate::check_split_size(usize::from(size)).is_some()
                && [SplitLayout::new, SplitLayout::legacy]
                    .map(|known| known(size, layout.indirect.is_some()))
                    .contains(layout)
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
        // SAFETY: the layout's parts are aligned and inside the region, and _region keeps it mapped.
        let ring =
            unsafe { SplitRing::new(at(layout.desc), at(layout.avail), at(layout.used), size) };
        let shadow = vec![Shadow::FREE; usize::from(size)].into_boxed_slice();
        let mut driver = Self {
            ring,
            free: FreeList::new(size),
            batch: Batch::new(),
            shadow,
            avail_idx: 0,
            kicked_idx: 0,
            used_idx: 0,
            used_seen: 0,
            outstanding: 0,
            features,
            tables,
            _region: region.clone(),
        };
        driver.want_calls(false);
        driver
    }

    /// Puts a chain's first descriptor into the available ring.
    #[inline(always)]
    fn offer(&mut self, head: u16) {
        self.ring.update_avail_entry(self.avail_idx, head);
        self.avail_idx = self.avail_idx.wrapping_add(1);
    }

    fn push_indirect(
        &mut self,
        token: u32,
        pieces: &[Piece],
        table: NonNull<u8>,
        device_table: u64,
    ) {
        let head = self.free.pop();
        let offset = usize::from(head) * INDIRECT_DESCS * 16;
        for (i, piece) in (0u16..).zip(pieces) {
            let last = usize::from(i) + 1 == pieces.len();
            let flags = if last {
                DescFlags::empty()
            } else {
                DescFlags::NEXT
            };
            let desc = Desc {
                addr: piece.addr,
                len: piece.len,
                flags,
                next: if last { 0 } else { i + 1 },
            };
            // SAFETY: the head's own table of INDIRECT_DESCS descriptors, which the caller compared with the pieces; aligned by 16.
            unsafe {
                store_desc(
                    table.as_ptr().add(offset + 16 * usize::from(i)).cast(),
                    desc,
                );
            };
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most INDIRECT_DESCS pieces"
        )]
        let len = 16 * pieces.len() as u32;
        let addr = device_table + offset as u64;
        self.ring.set_desc(
            head,
            Desc {
                addr,
                len,
                flags: DescFlags::INDIRECT,
                next: 0,
            },
        );
        self.shadow[usize::from(head)] = Shadow {
            token,
            count: CHAIN | 1,
            next: 0,
        };
        self.offer(head);
    }

    /// The chain's last descriptor has the flags `end`.
    fn push_direct(
        &mut self,
        token: u32,
        pieces: impl ExactSizeIterator<Item = Piece>,
        end: DescFlags,
    ) {
        let head = self.free.pop();
        let mut id = head;
        let len = pieces.len();
        for (i, piece) in pieces.enumerate() {
            let last = i + 1 == len;
            let next = if last { 0 } else { self.free.pop() };
            let flags = if last { end } else { DescFlags::NEXT };
            self.ring.set_desc(
                id,
                Desc {
                    addr: piece.addr,
                    len: piece.len,
                    flags,
                    next,
                },
            );
            self.shadow[usize::from(id)] = Shadow {
                token: NO_TOKEN,
                count: 0,
                next,
            };
            id = next;
        }
        let shadow = &mut self.shadow[usize::from(head)];
        shadow.token = token;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "fits the ring, which is a u16"
        )]
        let count = len as u16;
        shadow.count = CHAIN | count;
        self.offer(head);
    }

    /// Frees the descriptors of the chain at `head`, which is in flight.
    #[inline(always)]
    fn release(&mut self, head: u16) -> u32 {
        let shadow = self.shadow[usize::from(head)];
        self.shadow[usize::from(head)].token = NO_TOKEN;
        self.free.push(head);
        if shadow.count & CHAIN != 0 {
            let mut id = shadow.next;
            for _ in 1..shadow.count & !CHAIN {
                self.free.push(id);
                id = self.shadow[usize::from(id)].next;
            }
        }
        shadow.token
    }
}

impl<const IN_ORDER: bool> DriverRing for Driver<IN_ORDER> {
    #[inline(always)]
    fn size(&self) -> u16 {
        self.ring.size()
    }

    #[inline(always)]
    fn free_descs(&self) -> usize {
        self.free.len
    }

    #[inline(always)]
    fn prefetch_free(&self, count: usize) {
        // Four descriptors to a line: in steady state they are free in the order of the table.
        for nth in (0..count.min(self.free.len)).step_by(4) {
            prefetch_write(self.ring.desc_line(self.free.peek(nth)));
        }
    }

    #[inline(always)]
    fn push(&mut self, token: u32, piece: Piece, write: bool) {
        debug_assert!(token != NO_TOKEN);
        let head = self.free.pop();
        let flags = if write {
            DescFlags::WRITE
        } else {
            DescFlags::empty()
        };
        self.ring.set_desc(
            head,
            Desc {
                addr: piece.addr,
                len: piece.len,
                flags,
                next: 0,
            },
        );
        self.shadow[usize::from(head)] = Shadow::single(token);
        if write {
            self.heed_lens();
        }
        self.offer(head);
    }

    #[inline(always)]
    fn push_many(&mut self, tokens: &[u32], write: bool, mut piece: impl FnMut(usize) -> Piece) {
        debug_assert!(tokens.len() <= self.free.len);
        self.prefetch_free(tokens.len());
        let flags = if write {
            DescFlags::WRITE
        } else {
            DescFlags::empty()
        };
        if write {
            self.heed_lens();
        }
        let (ring, from, first) = (self.ring, self.free.head, self.avail_idx);
        let (ids, shadow) = (&*self.free.ids, &mut *self.shadow);
        for (nth, &token) in tokens.iter().enumerate() {
            debug_assert!(token != NO_TOKEN);
            let at = from.wrapping_add(nth) & (ids.len() - 1);
            #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
            let id = if IN_ORDER { at as u16 } else { ids[at] };
            let Piece { addr, len } = piece(nth);
            ring.set_desc(
                id,
                Desc {
                    addr,
                    len,
                    flags,
                    next: 0,
                },
            );
            shadow[usize::from(id)] = Shadow::single(token);
            #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
            ring.update_avail_entry(first.wrapping_add(nth as u16), id);
        }
        self.free.head = from.wrapping_add(tokens.len());
        self.free.len -= tokens.len();
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let count = tokens.len() as u16;
        self.avail_idx = first.wrapping_add(count);
    }

    fn push_chain(&mut self, token: u32, pieces: &[Piece]) -> bool {
        debug_assert!(token != NO_TOKEN && !pieces.is_empty());
        match self.tables {
            Some((table, device_table))
                if pieces.len() > 1 && pieces.len() <= INDIRECT_DESCS && self.free.len > 0 =>
            {
                self.push_indirect(token, pieces, table, device_table);
            }
            _ if pieces.len() <= self.free.len.min(MAX_CHAIN) => {
                self.push_direct(token, pieces.iter().copied(), DescFlags::empty());
            }
            _ => return false,
        }
        true
    }

    fn push_request(&mut self, token: u32, request: &[Piece], answer: Piece) -> bool {
        debug_assert!(token != NO_TOKEN);
        if request.len() >= self.free_descs().min(MAX_CHAIN) {
            return false;
        }
        let all: Vec<_> = request.iter().copied().chain([answer]).collect();
        self.push_direct(token, all.into_iter(), DescFlags::WRITE);
        true
    }

    fn max_pieces(&self) -> usize {
        let direct = usize::from(self.ring.size()).min(MAX_CHAIN);
        direct.max(if self.tables.is_some() {
            INDIRECT_DESCS
        } else {
            0
        })
    }

    #[inline(always)]
    fn publish(&mut self) {
        // Release, against the device's acquiring load of avail.idx: without it the device could see the new index before the
        // descriptors and entries that it covers.
        self.ring
            .avail_idx()
            .store(self.avail_idx, Ordering::Release);
    }

    #[inline(always)]
    fn needs_kick(&mut self) -> bool {
        let (new, old) = (self.avail_idx, self.kicked_idx);
        if new == old {
            return false;
        }
        self.kicked_idx = new;
        // Full fence, against the one in the device's want_kicks: our store of avail.idx must be visible before we look whether the device
        // sleeps. Else it could go to sleep on the old index while we read its old "do not kick": a lost wake-up.
        fence(Ordering::SeqCst);
        if self.features.event_idx {
            need_event(self.ring.avail_event().load(Ordering::Relaxed), new, old)
        } else {
            self.ring.used_flags().load(Ordering::Relaxed) & SUPPRESS == 0
        }
    }

    #[inline(always)]
    fn next_avail(&self) -> u16 {
        self.avail_idx
    }

    #[inline(always)]
    fn used_ready(&mut self, wanted: usize) -> Result<usize, RingFault> {
        let seen = self.used_seen.wrapping_sub(self.used_idx);
        if usize::from(seen) >= wanted {
            return Ok(usize::from(seen));
        }
        if IN_ORDER {
            return self.look_next();
        }
        // Acquire, against the device's releasing store: the elements below the index, and what it wrote to the buffers, are there.
        self.used_seen = self.ring.used_idx().load(Ordering::Acquire);
        let ahead = self.used_seen.wrapping_sub(self.used_idx);
        if ahead > self.ring.size() {
            self.used_seen = self.used_idx;
            return Err(RingFault::Index {
                ring: "used",
                ahead,
                size: self.ring.size(),
            });
        }
        Ok(usize::from(ahead))
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
            return (self.free.len < self.shadow.len()).then(|| self.take_next());
        }
        // On from the last one: who takes all of them looks at each once.
        let from = self.outstanding;
        let head = (from..self.shadow.len())
            .chain(0..from)
            .find(|&id| self.shadow[id].token != NO_TOKEN)?;
        self.outstanding = head;
        let chain = self.shadow[head].count & CHAIN != 0;
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let token = self.release(head as u16);
        Some(Used {
            token,
            len: 0,
            chain,
        })
    }

    fn vectors(&self) -> Option<&'static str> {
        self.batch.vectors().filter(|_| IN_ORDER)
    }

    fn want_calls(&mut self, on: bool) -> bool {
        if self.features.event_idx {
            // Off: an index that was passed long ago. The device reaches it once in 65536 chains, and then a call too many is harmless.
            let event = if on {
                self.used_idx
            } else {
                self.used_idx.wrapping_sub(self.ring.size()).wrapping_sub(1)
            };
            self.ring.used_event().store(event, Ordering::Relaxed);
        } else {
            self.ring
                .avail_flags()
                .store(if on { 0 } else { SUPPRESS }, Ordering::Relaxed);
        }
        if !on {
            return false;
        }
        // Full fence, against the one in the device's needs_call: our wish must be visible before we look for used chains a last time.
        // Else the device could publish one, read the old "do not call", and leave us asleep.
        fence(Ordering::SeqCst);
        self.ring.used_idx().load(Ordering::Acquire) != self.used_idx
    }

    fn device_base(&mut self) -> Result<u32, RingFault> {
        self.used_ready(usize::MAX)?;
        Ok(self.used_seen.into())
    }
}
