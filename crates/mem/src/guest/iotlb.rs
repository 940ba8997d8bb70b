//! A cache of an IOMMU's translations, as a front end tells them (vhost-user specification, IOMMU support). Only the control thread has it;
//! data paths get a [`GuestMemory`] made from it.

use std::collections::BTreeMap;

use super::{Access, GuestMemory, Misses, RegionView};

use std::sync::Arc;

/// The most translations that are kept: a piece more for each region's border inside one. A page each, they cover the buffers of four queues of
/// 1024 descriptors.
pub const MAX_TRANSLATIONS: usize = 4096;

/// Where one piece is, and what the device may do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// First I/O virtual address behind it.
    end: u64,
    /// First address in this process.
    host: *mut u8,
    access: Access,
}

// SAFETY: an address that is not followed here, see GuestMemory::translated.
unsafe impl Send for Entry {}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Updated {
    /// All that it says was known.
    Nothing,
    /// There is more than before: whoever uses the map before this is not wrong, but knows less.
    Added,
    /// Something else was known of these addresses: the map before this must not be used any longer.
    Replaced,
}

/// See the module. It belongs to one memory map: with another, it is made anew.
#[derive(Debug, Default)]
pub struct Iotlb {
    /// By first I/O virtual address, free of overlap.
    entries: BTreeMap<u64, Entry>,
    /// Where the last entry was put out for want of room.
    hand: u64,
}

impl Iotlb {
    /// How many translations are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Learns that `size` bytes from `iova` are those at the front-end address `user` of `map`. What was known of these addresses is
    /// forgotten; told again of the very same bytes, the device may do what either says. `keep` says of a range of addresses that it is not to
    /// be put out when there is no more room.
    ///
    /// # Errors
    /// What is wrong with the numbers; nothing has changed then.
    pub fn update(
        &mut self,
        (iova, size): (u64, u64),
        user: u64,
        access: Access,
        map: &GuestMemory,
        keep: impl Fn(u64, u64) -> bool,
    ) -> Result<Updated, String> {
        let bad =
            |what: &str| format!("expected {what}, got {size:#x} bytes at {iova:#x} ({user:#x})");
        let end = iova
            .checked_add(size)
            .filter(|_| size > 0)
            .ok_or_else(|| bad("a range of I/O virtual addresses"))?;
        if access.is_empty() {
            return Err(bad("reading, writing or both"));
        }
        let mut pieces = Vec::new();
        let (mut at, mut from) = (iova, user);
        while at < end {
            let view = map
                .user_view(from)
                .ok_or_else(|| bad("addresses inside the shared memory"))?;
            let here = (end - at).min(view.end - from);
            let host = view
                .translate(from, here)
                .ok_or_else(|| bad("mapped memory"))?;
            let entry = Entry {
                end: at + here,
                host: host.as_ptr(),
                access,
            };
            pieces.push((at, entry));
            if pieces.len() > MAX_TRANSLATIONS / 2 {
                return Err(bad("memory in fewer regions"));
            }
            at += here;
            // No overflow: regions end below 2^64, and where one ends there may be another.
            from += here;
        }
        let same = |entries: &BTreeMap<u64, Entry>, &(at, entry): &(u64, Entry)| {
            let known = entries.get(&at);
            known
                .filter(|known| (known.end, known.host) == (entry.end, entry.host))
                .copied()
        };
        let mut updated = Updated::Nothing;
        for (at, mut entry) in pieces {
            if let Some(known) = same(&self.entries, &(at, entry)) {
                if known.access.contains(access) {
                    continue;
                }
                entry.access |= known.access;
            } else if self.invalidate(at, entry.end - at) {
                updated = Updated::Replaced;
            }
            if updated == Updated::Nothing {
                updated = Updated::Added;
            }
            if self.entries.len() >= MAX_TRANSLATIONS {
                self.put_one_out(&keep);
            }
            self.entries.insert(at, entry);
        }
        Ok(updated)
    }

    /// Forgets all that has a byte in the `size` from `iova` on; a size of 0 is how some tell of the whole address space. Whether anything was
    /// known.
    pub fn invalidate(&mut self, iova: u64, size: u64) -> bool {
        let last = match size.checked_sub(1) {
            Some(more) => iova.saturating_add(more),
            None => u64::MAX,
        };
        let first = if size == 0 { 0 } else { iova };
        // One that begins before may reach in.
        let before = self.entries.range(..first).next_back();
        let before = before
            .filter(|(_, entry)| entry.end > first)
            .map(|(&at, _)| at);
        let known: Vec<u64> = before
            .into_iter()
            .chain(self.entries.range(first..=last).map(|(&at, _)| at))
            .collect();
        for at in &known {
            self.entries.remove(at);
        }
        !known.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Makes room, going round by address: what came last is rarely hit, and neither is anything twice in a row.
    fn put_one_out(&mut self, keep: &impl Fn(u64, u64) -> bool) {
        let round = self
            .entries
            .range(self.hand..)
            .chain(self.entries.range(..self.hand));
        let victim = round
            .map(|(&at, entry)| (at, entry.end))
            .find(|&(at, end)| !keep(at, end));
        // Ring areas alone never fill it: 256 rings have a few pieces each.
        if let Some((at, end)) = victim.or_else(|| {
            self.entries
                .first_key_value()
                .map(|(&at, entry)| (at, entry.end))
        }) {
            self.entries.remove(&at);
            self.hand = end;
        }
    }

    /// The map for data paths: the memory of `map` by I/O virtual addresses. Unknown ones are asked for in `misses`.
    #[must_use]
    pub fn translated(&self, map: &GuestMemory, misses: Arc<Misses>) -> GuestMemory {
        let table = |access| {
            let mut views: Vec<RegionView> = Vec::new();
            for (&start, entry) in &self.entries {
                if !entry.access.contains(access) {
                    continue;
                }
                let follows = views.last_mut().filter(|last| {
                    let len = usize::try_from(last.end - last.start).unwrap_or(usize::MAX);
                    last.end == start && last.host.wrapping_add(len) == entry.host
                });
                match follows {
                    Some(last) => last.end = entry.end,
                    None => views.push(RegionView {
                        start,
                        end: entry.end,
                        host: entry.host,
                    }),
                }
            }
            views.into_boxed_slice()
        };
        map.with_tables(table(Access::READ), table(Access::WRITE), misses)
    }
}
