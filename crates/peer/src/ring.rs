//! A split ring, word by word.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::Ram;

/// The chain goes on in `next`.
pub const NEXT: u16 = 1;
/// The device writes.
pub const WRITE: u16 = 2;
/// A table of descriptors.
pub const INDIRECT: u16 = 4;

/// A descriptor as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawDesc {
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// [`NEXT`], [`WRITE`], [`INDIRECT`], or anything.
    pub flags: u16,
    /// Next descriptor.
    pub next: u16,
}

impl RawDesc {
    /// One piece without any flag.
    #[must_use]
    pub fn new(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            ..Self::default()
        }
    }

    /// With these flags.
    #[must_use]
    pub fn flags(self, flags: u16) -> Self {
        Self { flags, ..self }
    }

    /// Going on in `next`.
    #[must_use]
    pub fn next(self, next: u16) -> Self {
        Self {
            flags: self.flags | NEXT,
            next,
            ..self
        }
    }

    /// The sixteen bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// One mapping of a split ring. Indexes into it are taken modulo its size; nothing else is checked.
#[derive(Debug, Clone, Copy)]
pub struct RawRing {
    desc: NonNull<u8>,
    avail: NonNull<u8>,
    used: NonNull<u8>,
    size: u16,
}

// SAFETY: addresses of memory that is shared anyway; all access is atomic.
unsafe impl Send for RawRing {}
// SAFETY: as for Send.
unsafe impl Sync for RawRing {}

impl RawRing {
    /// # Safety
    /// The three areas are aligned by 16, 2 and 4 bytes, hold a ring of `size` descriptors, and stay mapped for as long as a copy
    /// of this value is used.
    #[must_use]
    pub unsafe fn new(desc: NonNull<u8>, avail: NonNull<u8>, used: NonNull<u8>, size: u16) -> Self {
        Self {
            desc,
            avail,
            used,
            size,
        }
    }

    /// Bytes that [`RawRing::guest`] lays a ring out in.
    #[must_use]
    pub fn bytes(size: u16) -> u64 {
        32 * u64::from(size) + 64
    }

    /// A ring at this address as the guest sees it; the memory must outlive it.
    #[must_use]
    pub fn guest(ram: &Ram, addr: u64, size: u16) -> Self {
        let [desc, avail, used] = Self::areas(addr, size);
        let at = |addr| ram.ours(addr, 1);
        // SAFETY: the areas are aligned by their layout and inside the memory, whose last byte is looked at here.
        unsafe {
            let _last = ram.ours(addr, Self::bytes(size));
            Self::new(at(desc), at(avail), at(used), size)
        }
    }

    /// Guest addresses of the three areas of a ring at `addr`.
    #[must_use]
    pub fn areas(addr: u64, size: u16) -> [u64; 3] {
        let n = u64::from(size);
        let avail = addr + 16 * n;
        [addr, avail, (avail + 6 + 2 * n).next_multiple_of(16)]
    }

    /// Descriptors.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index % self.size)
    }

    fn word(&self, area: NonNull<u8>, offset: usize) -> &AtomicU16 {
        // SAFETY: the offsets below lie inside their areas, by the promise of new.
        unsafe { AtomicU16::from_ptr(area.as_ptr().add(offset).cast()) }
    }

    fn get(&self, area: NonNull<u8>, offset: usize) -> u16 {
        self.word(area, offset).load(Ordering::Acquire)
    }

    fn set(&self, area: NonNull<u8>, offset: usize, value: u16) {
        self.word(area, offset).store(value, Ordering::Release);
    }

    /// A descriptor.
    #[must_use]
    pub fn desc(&self, index: u16) -> RawDesc {
        // SAFETY: inside the table, aligned by 16.
        let (addr, rest) = unsafe {
            let at = self.desc.as_ptr().add(16 * self.slot(index)).cast::<u64>();
            (
                AtomicU64::from_ptr(at).load(Ordering::Relaxed),
                AtomicU64::from_ptr(at.add(1)).load(Ordering::Relaxed),
            )
        };
        let bytes = rest.to_le_bytes();
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        RawDesc {
            addr,
            len: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            flags: half(4),
            next: half(6),
        }
    }

    /// Writes a descriptor.
    pub fn set_desc(&self, index: u16, desc: RawDesc) {
        let rest = u64::from(desc.len) | u64::from(desc.flags) << 32 | u64::from(desc.next) << 48;
        // SAFETY: as in desc.
        unsafe {
            let at = self.desc.as_ptr().add(16 * self.slot(index)).cast::<u64>();
            AtomicU64::from_ptr(at).store(desc.addr, Ordering::Relaxed);
            AtomicU64::from_ptr(at.add(1)).store(rest, Ordering::Relaxed);
        }
    }

    /// The driver's index.
    #[must_use]
    pub fn avail_idx(&self) -> u16 {
        self.get(self.avail, 2)
    }

    /// Writes the driver's index.
    pub fn set_avail_idx(&self, index: u16) {
        self.set(self.avail, 2, index);
    }

    /// The driver's entry at an index.
    #[must_use]
    pub fn avail_entry(&self, index: u16) -> u16 {
        self.get(self.avail, 4 + 2 * self.slot(index))
    }

    /// Writes the driver's entry at an index.
    pub fn set_avail_entry(&self, index: u16, head: u16) {
        self.set(self.avail, 4 + 2 * self.slot(index), head);
    }

    /// Writes the driver's flags: bit 0 suppresses calls.
    pub fn set_avail_flags(&self, flags: u16) {
        self.set(self.avail, 0, flags);
    }

    /// Writes the used index at which the driver wants a call.
    pub fn set_used_event(&self, index: u16) {
        self.set(self.avail, 4 + 2 * usize::from(self.size), index);
    }

    /// The device's index.
    #[must_use]
    pub fn used_idx(&self) -> u16 {
        self.get(self.used, 2)
    }

    /// Writes the device's index.
    pub fn set_used_idx(&self, index: u16) {
        self.set(self.used, 2, index);
    }

    fn elem_word(&self, index: u16, offset: usize) -> &AtomicU32 {
        // SAFETY: inside the used ring, aligned by 4.
        unsafe {
            let at = self.used.as_ptr().add(4 + 8 * self.slot(index) + offset);
            AtomicU32::from_ptr(at.cast())
        }
    }

    /// The device's element at an index: id and length.
    #[must_use]
    pub fn used_elem(&self, index: u16) -> (u32, u32) {
        let part = |offset| self.elem_word(index, offset).load(Ordering::Relaxed);
        (part(0), part(4))
    }

    /// Writes the device's element at an index.
    pub fn set_used_elem(&self, index: u16, id: u32, len: u32) {
        self.elem_word(index, 0).store(id, Ordering::Relaxed);
        self.elem_word(index, 4).store(len, Ordering::Relaxed);
    }

    /// Writes the device's flags: bit 0 suppresses kicks.
    pub fn set_used_flags(&self, flags: u16) {
        self.set(self.used, 0, flags);
    }

    /// Writes the available index at which the device wants a kick.
    pub fn set_avail_event(&self, index: u16) {
        self.set(self.used, 4 + 8 * usize::from(self.size), index);
    }

    /// As a driver: makes the chain that begins at `head` available.
    pub fn offer(&self, head: u16) {
        let index = self.avail_idx();
        self.set_avail_entry(index, head);
        self.set_avail_idx(index.wrapping_add(1));
    }

    /// As a device: gives a chain back.
    pub fn give(&self, id: u32, len: u32) {
        let index = self.used_idx();
        self.set_used_elem(index, id, len);
        self.set_used_idx(index.wrapping_add(1));
    }
}
