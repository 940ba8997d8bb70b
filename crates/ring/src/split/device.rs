//! The device's half of a split virtqueue.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use vring_mem::copy::prefetch_read;
use vring_mem::guest::GuestMemory;

use crate::indirect::{table_desc, table_len};
use crate::shared::{SUPPRESS, SplitRing, load_desc, need_event};
use crate::sync::fence;
use crate::{Area, Desc, DescFlags, DeviceRing, Head, RingFault, RingFeatures};

/// The device's half.
pub type SplitDevice = Device<false>;

/// The device's half where `VIRTIO_F_IN_ORDER` was negotiated: a run of chains that were only read is given back by one used element (2.6.9).
pub type SplitDeviceInOrder = Device<true>;

/// See the two types. Indexes run freely through all of 16 bits and are masked where they meet the ring.
#[derive(Debug)]
pub struct Device<const IN_ORDER: bool> {
    ring: SplitRing,
    /// The next available entry to take.
    avail_idx: u16,
    /// The driver's index when we last looked.
    avail_seen: u16,
    /// Where the next used element goes.
    used_idx: u16,
    /// `used_idx` when the driver was last told, or could have been.
    called_idx: u16,
    /// In order: where the used element goes of a batch that may still grow, and the chain that it ends with so far.
    batch: Option<(u16, u16)>,
    features: RingFeatures,
}

impl<const IN_ORDER: bool> Device<IN_ORDER> {
    /// Takes a ring up where its used index stands: 0 in a new ring, and behind the last chain that was given back in one that another
    /// device left, be it by dying. Between bursts this half holds nothing back, so the next available entry is the same number; the base
    /// that a front end sends says the same or, from front ends that do not keep count, nothing.
    ///
    /// # Panics
    /// When this is not the type for the features.
    ///
    /// # Safety
    /// The areas are aligned by 16, 2 and 4 bytes, writable for a ring of `size` descriptors, a power of two from 2 to 32768, and stay
    /// mapped for as long as this value lives.
    #[must_use]
    pub unsafe fn new(
        desc: NonNull<u8>,
        avail: NonNull<u8>,
        used: NonNull<u8>,
        size: u16,
        features: RingFeatures,
    ) -> Self {
        assert_eq!(features.in_order, IN_ORDER);
        // SAFETY: the caller's promise.
        let ring = unsafe { SplitRing::new(desc, avail, used, size) };
        let base = ring.used_idx().load(Ordering::Acquire);
        let mut device = Self {
            ring,
            avail_idx: base,
            avail_seen: base,
            used_idx: base,
            called_idx: base,
            batch: None,
            features,
        };
        device.want_kicks(false);
        device
    }

    /// What was completed as a batch does not grow any more.
    #[inline(always)]
    fn close_batch(&mut self) {
        if IN_ORDER && let Some((index, id)) = self.batch.take() {
            self.ring.update_used_elem(index, id, 0);
        }
    }

    fn walk_indirect(
        &self,
        table: Desc,
        memory: &GuestMemory,
        each: &mut dyn FnMut(Desc) -> Result<(), RingFault>,
    ) -> Result<(), RingFault> {
        let count = table_len(table, self.features)?;
        let mut index = 0;
        for _ in 0..count {
            // SAFETY: 16 bytes of guest memory, aligned; memory is borrowed, so it stays mapped.
            let desc = table_desc(table, index, memory, |at| unsafe { load_desc(at) })?;
            each(desc)?;
            if !desc.flags.contains(DescFlags::NEXT) {
                return Ok(());
            }
            index = desc.next;
            if u32::from(index) >= count {
                return Err(RingFault::DescIndex { index, size: count });
            }
        }
        Err(RingFault::ChainTooLong { max: count })
    }
}

impl<const IN_ORDER: bool> DeviceRing for Device<IN_ORDER> {
    #[inline(always)]
    fn size(&self) -> u16 {
        self.ring.size()
    }

    #[inline(always)]
    fn ready(&mut self, wanted: usize) -> Result<usize, RingFault> {
        let seen = self.avail_seen.wrapping_sub(self.avail_idx);
        if usize::from(seen) >= wanted {
            return Ok(usize::from(seen));
        }
        // Acquire, against the driver's releasing store: the entries and descriptors below the index are there.
        self.avail_seen = self.ring.avail_idx().load(Ordering::Acquire);
        let ahead = self.avail_seen.wrapping_sub(self.avail_idx);
        if ahead > self.ring.size() {
            self.avail_seen = self.avail_idx;
            return Err(RingFault::Index {
                ring: "avail",
                ahead,
                size: self.ring.size(),
            });
        }
        Ok(usize::from(ahead))
    }

    #[inline(always)]
    fn peek(&self, nth: usize) -> Result<Head, RingFault> {
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let id = self
            .ring
            .avail_entry(self.avail_idx.wrapping_add(nth as u16))
            .load(Ordering::Relaxed);
        if id >= self.ring.size() {
            return Err(RingFault::DescIndex {
                index: id,
                size: self.ring.size().into(),
            });
        }
        Ok(Head {
            id,
            desc: self.ring.desc(id),
        })
    }

    #[inline(always)]
    fn peek_many(
        &self,
        count: usize,
        mut each: impl FnMut(usize, Head) -> bool,
    ) -> Result<usize, RingFault> {
        let (ring, from) = (self.ring, self.avail_idx);
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let entry = |nth: usize| {
            ring.avail_entry(from.wrapping_add(nth as u16))
                .load(Ordering::Relaxed)
        };
        // All lines are asked for before the first is waited for: the driver's core has them. Two descriptors on, because a line has four.
        for nth in (0..count).step_by(2) {
            prefetch_read(ring.desc_line(entry(nth)));
        }
        for nth in 0..count {
            let id = entry(nth);
            if id >= ring.size() {
                return if nth == 0 {
                    Err(RingFault::DescIndex {
                        index: id,
                        size: ring.size().into(),
                    })
                } else {
                    Ok(nth)
                };
            }
            if !each(
                nth,
                Head {
                    id,
                    desc: ring.desc(id),
                },
            ) {
                return Ok(nth);
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
        // A chain that is longer than the ring runs in a circle.
        for _ in 0..self.ring.size() {
            if desc.flags.contains(DescFlags::INDIRECT) {
                return self.walk_indirect(desc, memory, each);
            }
            each(desc)?;
            if !desc.flags.contains(DescFlags::NEXT) {
                return Ok(());
            }
            if desc.next >= self.ring.size() {
                return Err(RingFault::DescIndex {
                    index: desc.next,
                    size: self.ring.size().into(),
                });
            }
            desc = self.ring.desc(desc.next);
        }
        Err(RingFault::ChainTooLong {
            max: self.ring.size().into(),
        })
    }

    #[inline(always)]
    fn complete(&mut self, id: u16, len: u32) {
        self.close_batch();
        self.ring.update_used_elem(self.used_idx, id, len);
        self.used_idx = self.used_idx.wrapping_add(1);
        self.avail_idx = self.avail_idx.wrapping_add(1);
    }

    #[inline(always)]
    fn complete_many(&mut self, count: usize, mut each: impl FnMut(usize) -> (u16, u32)) {
        self.close_batch();
        let (ring, from) = (self.ring, self.used_idx);
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        for nth in 0..count {
            let (id, len) = each(nth);
            ring.update_used_elem(from.wrapping_add(nth as u16), id, len);
        }
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let count = count as u16;
        self.used_idx = self.used_idx.wrapping_add(count);
        self.avail_idx = self.avail_idx.wrapping_add(count);
    }

    #[inline(always)]
    fn complete_read_many(&mut self, count: usize, mut each: impl FnMut(usize) -> u16) {
        if !IN_ORDER {
            return self.complete_many(count, |nth| (each(nth), 0));
        }
        if count == 0 {
            return;
        }
        let (index, _) = self.batch.unwrap_or((self.used_idx, 0));
        self.batch = Some((index, each(count - 1)));
        #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size")]
        let count = count as u16;
        self.used_idx = self.used_idx.wrapping_add(count);
        self.avail_idx = self.avail_idx.wrapping_add(count);
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.close_batch();
        // Release, against the driver's acquiring load of used.idx: the elements, and the bytes that we wrote to its buffers, come first.
        self.ring.used_idx().store(self.used_idx, Ordering::Release);
    }

    #[inline(always)]
    fn needs_call(&mut self) -> bool {
        let (new, old) = (self.used_idx, self.called_idx);
        if new == old {
            return false;
        }
        self.called_idx = new;
        // Full fence, against the one in the driver's want_calls: our store of used.idx must be visible before we look whether the driver
        // sleeps. Else it could go to sleep on the old index while we read its old "do not call": a lost wake-up.
        fence(Ordering::SeqCst);
        if self.features.event_idx {
            need_event(self.ring.used_event().load(Ordering::Relaxed), new, old)
        } else {
            self.ring.avail_flags().load(Ordering::Relaxed) & SUPPRESS == 0
        }
    }

    fn want_kicks(&mut self, on: bool) -> bool {
        if self.features.event_idx {
            // Off: an index that was passed long ago. The driver reaches it once in 65536 chains, and then a kick too many is harmless.
            let event = if on {
                self.avail_idx
            } else {
                self.avail_idx
                    .wrapping_sub(self.ring.size())
                    .wrapping_sub(1)
            };
            self.ring.avail_event().store(event, Ordering::Relaxed);
        } else {
            self.ring
                .used_flags()
                .store(if on { 0 } else { SUPPRESS }, Ordering::Relaxed);
        }
        if !on {
            return false;
        }
        // Full fence, against the one in the driver's needs_kick: our wish must be visible before we look for chains a last time. Else the
        // driver could publish one, read the old "do not kick", and leave us asleep.
        fence(Ordering::SeqCst);
        self.ring.avail_idx().load(Ordering::Acquire) != self.avail_idx
    }

    fn base(&self) -> u32 {
        self.avail_idx.into()
    }

    fn used_place(&self) -> (Area, u64, u64) {
        let slot = self.ring.slot(self.used_idx) as u64;
        (Area::Device, 4 + 8 * slot, 8)
    }

    fn index_place(&self) -> Option<(Area, u64, u64)> {
        Some((Area::Device, 2, 2))
    }

    fn event_word(&self) -> (Area, u64, u64) {
        if self.features.event_idx {
            (Area::Device, 4 + 8 * u64::from(self.ring.size()), 2)
        } else {
            (Area::Device, 0, 2)
        }
    }
}
