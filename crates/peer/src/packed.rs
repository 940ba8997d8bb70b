//! A packed ring, word by word.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{NEXT, Ram};

/// Made available: equal to the driver's wrap counter, while [`USED`] is not.
pub const AVAIL: u16 = 1 << 7;
/// Used: both are equal to the device's wrap counter.
pub const USED: u16 = 1 << 15;

/// Flags of an event suppression word: tell me always, never, or of the descriptor that is named.
pub const EVENTS_ON: u16 = 0;
/// See [`EVENTS_ON`].
pub const EVENTS_OFF: u16 = 1;
/// See [`EVENTS_ON`].
pub const EVENTS_AT: u16 = 2;

/// A descriptor as it lies in memory, also of an indirect table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PackedDesc {
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// Buffer id.
    pub id: u16,
    /// Flags of any kind.
    pub flags: u16,
}

impl PackedDesc {
    /// One piece without any flag.
    #[must_use]
    pub fn new(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            ..Self::default()
        }
    }

    /// With these flags besides.
    #[must_use]
    pub fn flags(self, flags: u16) -> Self {
        Self {
            flags: self.flags | flags,
            ..self
        }
    }

    /// The sixteen bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.id.to_le_bytes());
        bytes[14..].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }
}

/// Where one side stands in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Descriptor.
    pub slot: u16,
    /// Wrap counter.
    pub wrap: bool,
}

impl Place {
    /// Where both sides begin.
    pub const START: Self = Self {
        slot: 0,
        wrap: true,
    };

    /// `count` descriptors further in a ring of `size`.
    #[must_use]
    pub fn after(self, count: u16, size: u16) -> Self {
        let slot = u32::from(self.slot) + u32::from(count);
        let rounds = slot / u32::from(size);
        Self {
            slot: u16::try_from(slot % u32::from(size)).expect("below the size"),
            wrap: self.wrap ^ (rounds % 2 == 1),
        }
    }

    /// As the event words and vhost-user's base have it.
    #[must_use]
    pub fn word(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }

    /// The flags that make a descriptor here available.
    #[must_use]
    pub fn avail(self) -> u16 {
        if self.wrap { AVAIL } else { USED }
    }

    /// The flags that make a descriptor here used.
    #[must_use]
    pub fn used(self) -> u16 {
        if self.wrap { AVAIL | USED } else { 0 }
    }
}

/// One mapping of a packed ring. Slots are taken modulo its size; nothing else is checked.
#[derive(Debug, Clone, Copy)]
pub struct RawPacked {
    desc: NonNull<u8>,
    driver_event: NonNull<u8>,
    device_event: NonNull<u8>,
    size: u16,
}

// SAFETY: addresses of memory that is shared anyway; all access is atomic.
unsafe impl Send for RawPacked {}
// SAFETY: as for Send.
unsafe impl Sync for RawPacked {}

impl RawPacked {
    /// # Safety
    /// The three areas are aligned by 16, 4 and 4 bytes, hold a ring of `size` descriptors, and stay mapped for as long as a copy
    /// of this value is used.
    #[must_use]
    pub unsafe fn new(
        desc: NonNull<u8>,
        driver_event: NonNull<u8>,
        device_event: NonNull<u8>,
        size: u16,
    ) -> Self {
        Self {
            desc,
            driver_event,
            device_event,
            size,
        }
    }

    /// Bytes that [`RawPacked::guest`] lays a ring out in.
    #[must_use]
    pub fn bytes(size: u16) -> u64 {
        16 * u64::from(size) + 8
    }

    /// A ring at this address as the guest sees it; the memory must outlive it.
    #[must_use]
    pub fn guest(ram: &Ram, addr: u64, size: u16) -> Self {
        let [desc, driver, device] = Self::areas(addr, size);
        let at = |addr| ram.ours(addr, 1);
        // SAFETY: the areas are aligned by their layout and inside the memory, whose last byte is looked at here.
        unsafe {
            let _last = ram.ours(addr, Self::bytes(size));
            Self::new(at(desc), at(driver), at(device), size)
        }
    }

    /// Guest addresses of the three areas of a ring at `addr`.
    #[must_use]
    pub fn areas(addr: u64, size: u16) -> [u64; 3] {
        let events = addr + 16 * u64::from(size);
        [addr, events, events + 4]
    }

    /// Descriptors.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    fn words(&self, slot: u16) -> [&AtomicU64; 2] {
        // SAFETY: inside the ring, aligned by 16.
        unsafe {
            let at = self.desc.as_ptr().add(16 * usize::from(slot % self.size));
            let at = at.cast::<u64>();
            [AtomicU64::from_ptr(at), AtomicU64::from_ptr(at.add(1))]
        }
    }

    /// A descriptor or used element.
    #[must_use]
    pub fn desc(&self, slot: u16) -> PackedDesc {
        let [addr, rest] = self.words(slot);
        let bytes = rest.load(Ordering::Acquire).to_le_bytes();
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        PackedDesc {
            addr: addr.load(Ordering::Relaxed),
            len: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            id: half(4),
            flags: half(6),
        }
    }

    /// Writes a descriptor or used element as it is.
    pub fn set_desc(&self, slot: u16, desc: PackedDesc) {
        let rest = u64::from(desc.len) | u64::from(desc.id) << 32 | u64::from(desc.flags) << 48;
        let [addr, word] = self.words(slot);
        addr.store(desc.addr, Ordering::Relaxed);
        word.store(rest, Ordering::Release);
    }

    fn event(&self, area: NonNull<u8>) -> &AtomicU32 {
        // SAFETY: aligned by 4 and mapped, by the promise of new; there is no other area that is passed.
        unsafe { AtomicU32::from_ptr(area.as_ptr().cast()) }
    }

    /// What the driver asked for: place and flags.
    #[must_use]
    pub fn driver_event(&self) -> (u16, u16) {
        halves(self.event(self.driver_event).load(Ordering::Acquire))
    }

    /// Writes what the driver asks for.
    pub fn set_driver_event(&self, at: u16, flags: u16) {
        let word = u32::from(at) | u32::from(flags) << 16;
        self.event(self.driver_event).store(word, Ordering::Release);
    }

    /// What the device asked for: place and flags.
    #[must_use]
    pub fn device_event(&self) -> (u16, u16) {
        halves(self.event(self.device_event).load(Ordering::Acquire))
    }

    /// Writes what the device asks for.
    pub fn set_device_event(&self, at: u16, flags: u16) {
        let word = u32::from(at) | u32::from(flags) << 16;
        self.event(self.device_event).store(word, Ordering::Release);
    }

    /// As a driver: makes a chain available at `at`, its first descriptor last, and moves on.
    pub fn offer(&self, at: &mut Place, id: u16, chain: &[PackedDesc]) {
        let places: Vec<(Place, PackedDesc)> = chain
            .iter()
            .map(|&desc| {
                let here = *at;
                *at = at.after(1, self.size);
                (here, desc)
            })
            .collect();
        for (nth, &(place, desc)) in places.iter().enumerate().rev() {
            let next = if nth + 1 < chain.len() { NEXT } else { 0 };
            let desc = PackedDesc { id, ..desc }.flags(place.avail() | next);
            self.set_desc(place.slot, desc);
        }
    }

    /// As a device: the chain that is available at `at`, if there is one; moves behind it.
    #[must_use]
    pub fn take(&self, at: &mut Place) -> Option<Vec<PackedDesc>> {
        let mut chain = Vec::new();
        loop {
            let desc = self.desc(at.slot);
            if chain.is_empty() && desc.flags & (AVAIL | USED) != at.avail() {
                return None;
            }
            *at = at.after(1, self.size);
            chain.push(desc);
            if desc.flags & NEXT == 0 || chain.len() == usize::from(self.size) {
                return Some(chain);
            }
        }
    }

    /// As a device: gives the chain `id` back at `at`, and skips as many descriptors as it, or the batch that it ends, has.
    pub fn give(&self, at: &mut Place, id: u16, len: u32, skip: u16) {
        let addr = self.desc(at.slot).addr;
        let flags = at.used();
        let used = PackedDesc {
            addr,
            len,
            id,
            flags,
        };
        self.set_desc(at.slot, used);
        *at = at.after(skip, self.size);
    }
}

fn halves(word: u32) -> (u16, u16) {
    let bytes = word.to_le_bytes();
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    (half(0), half(2))
}
