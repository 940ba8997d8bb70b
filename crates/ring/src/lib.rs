//! Virtqueues, the driver's half and the device's half, in bursts. No I/O, no port, no system call.
//!
//! Written after the virtio specification 1.2, chapters 2.6 (virtqueues), 2.7 (split) and 2.8 (packed). The two traits are the seam between a
//! ring's format and what is carried over it: code above is generic over them and compiled once per format.
//!
//! The memory of a ring is shared with a peer that may be hostile. It is read by relaxed or acquiring atomic loads into locals, then checked,
//! then used; whatever this side needs to remember lies in private memory.

mod fault;
mod indirect;
pub mod inflight;
mod layout;
#[cfg(all(test, feature = "loom"))]
mod model;
pub mod packed;
mod paged;
mod shadow;
mod shared;
pub mod split;
mod sync;
#[cfg(all(test, not(feature = "loom")))]
mod tests;

pub use fault::RingFault;
pub use layout::{LEGACY_ALIGN, MAX_SPLIT_SIZE, SplitLayout, check_split_size};
pub use paged::{PageTable, Paged};

use vring_mem::guest::{GuestMemory, RingLog};

#[cfg(not(target_endian = "little"))]
compile_error!(
    "vring reads and writes the little-endian structures of virtio 1 as they lie in memory"
);

bitflags::bitflags! {
    /// `flags` of a descriptor (2.7.5, 2.8.1).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DescFlags: u16 {
        /// Goes on in `next`.
        const NEXT = 1;
        /// Written by the device, else read by it.
        const WRITE = 2;
        /// Holds a table of descriptors.
        const INDIRECT = 4;
    }
}

/// One descriptor, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desc {
    /// Where, in the driver's address space.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// See [`DescFlags`]; may hold unknown bits.
    pub flags: DescFlags,
    /// The descriptor that follows, with [`DescFlags::NEXT`]. In a packed ring that is the next one.
    pub next: u16,
}

/// What was negotiated that a ring needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingFeatures {
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
    /// `VIRTIO_F_IN_ORDER`: needs the types for it, as the others need it not to be.
    pub in_order: bool,
}

/// One contiguous piece of a chain on the driver's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where, in the driver's address space.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
}

/// A chain that the device gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What the driver passed along with the chain.
    pub token: u32,
    /// Bytes that the device says it wrote. Not checked against the chain's length. In order, 0 for what it only reads.
    pub len: u32,
    /// It was pushed by [`DriverRing::push_chain`].
    pub chain: bool,
}

/// The driver's half: makes buffers available, takes used ones back.
///
/// Order within a burst: `push…` any number of times, `publish` once, `needs_kick` once.
pub trait DriverRing: Send {
    /// Descriptors of the ring.
    fn size(&self) -> u16;
    /// Descriptors that can be pushed now.
    fn free_descs(&self) -> usize;
    /// Asks for the lines of the next `count` free descriptors, which are about to be written. The device has read them last.
    fn prefetch_free(&self, count: usize);
    /// Makes one buffer available: of the device's to write, or to read. Needs one free descriptor. `token` must not be `u32::MAX`.
    fn push(&mut self, token: u32, piece: Piece, write: bool);
    /// Makes buffers available, one for each token, all for the device to write, or all to read. Needs as many free descriptors.
    fn push_many(&mut self, tokens: &[u32], write: bool, piece: impl FnMut(usize) -> Piece);
    /// Makes a chain available for the device to read, in an indirect table where that was negotiated and fits. False if it does not fit
    /// now; nothing has changed then.
    fn push_chain(&mut self, token: u32, pieces: &[Piece]) -> bool;
    /// Makes a chain available that the device reads up to its last piece, the answer, which it writes. Never in an indirect table. False if it
    /// does not fit now; nothing has changed then.
    fn push_request(&mut self, token: u32, request: &[Piece], answer: Piece) -> bool;
    /// Most pieces that a chain can have in this ring when it is empty.
    fn max_pieces(&self) -> usize;
    /// Shows the device what was pushed.
    fn publish(&mut self);
    /// Whether the device wants to be told of what was published since the last call.
    fn needs_kick(&mut self) -> bool;
    /// Where the next chain goes, as a notification says it that carries data (`VIRTIO_F_NOTIFICATION_DATA`, 2.9): split, the available index;
    /// packed, the slot, with the wrap counter in bit 15.
    fn next_avail(&self) -> u16;
    /// The whole notification of queue `queue` for a transport that carries data in it (4.1.5.2), after `publish`. An eventfd carries none.
    fn notification(&self, queue: u16) -> u32 {
        u32::from(queue) | u32::from(self.next_avail()) << 16
    }
    /// Chains that can be popped, looking at the device's index again only if there are fewer than `wanted`.
    ///
    /// # Errors
    /// The device's index makes no sense.
    fn used_ready(&mut self, wanted: usize) -> Result<usize, RingFault>;
    /// Takes the first used chain.
    ///
    /// # Errors
    /// The device named a chain that it does not have.
    fn pop_used(&mut self) -> Result<Used, RingFault>;
    /// Takes used buffers, up to the shorter of the two slices and no chain: their tokens and how many bytes the device says it wrote to each.
    /// Below what `used_ready` said.
    ///
    /// # Errors
    /// The very first names a chain that the device does not have. A lie further back is met when it is the first.
    fn pop_many(&mut self, tokens: &mut [u32], lens: &mut [u32]) -> Result<usize, RingFault>;
    /// Takes a chain back that the device still has: only after the device has stopped.
    fn take_outstanding(&mut self) -> Option<Used>;
    /// By which instructions it takes several used buffers at a time, if this processor has them; else one after the other.
    fn vectors(&self) -> Option<&'static str> {
        None
    }
    /// Asks for calls, or for none. Returns true if used chains came in while asking: the caller must not sleep then.
    fn want_calls(&mut self, on: bool) -> bool;
    /// Where a device goes on that comes in the place of one that is gone, as far as can be seen from here: the base of the vring (vhost-user's
    /// `VRING_BASE`). What is beyond that was not given back.
    ///
    /// # Errors
    /// The device that is gone left what makes no sense.
    fn device_base(&mut self) -> Result<u32, RingFault>;
}

/// Of the areas of a ring, one that the device writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The descriptor area: a packed ring itself.
    Desc,
    /// The driver area: the available ring, when another device's chains in flight are put back into it ([`inflight::resume`]).
    Driver,
    /// The device area: the used ring; packed: device event suppression.
    Device,
}

impl Area {
    /// Its guest-physical address, for the log.
    #[must_use]
    pub const fn address(self, log: &RingLog) -> u64 {
        match self {
            Self::Desc => log.desc,
            Self::Driver => log.avail,
            Self::Device => log.used,
        }
    }
}

/// A chain that the driver made available, by its first descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the device gives back in the used ring.
    pub id: u16,
    /// The first descriptor.
    pub desc: Desc,
}

/// The device's half: takes what the driver made available, gives it back used.
///
/// Order within a burst: `ready`, `peek` any of them, `complete` as many as are taken in the same order, `publish` once, `needs_call` once.
pub trait DeviceRing: Send {
    /// Descriptors of the ring.
    fn size(&self) -> u16;
    /// Chains that wait, looking at the driver's index again only if there are fewer than `wanted`.
    ///
    /// # Errors
    /// The driver's index makes no sense.
    fn ready(&mut self, wanted: usize) -> Result<usize, RingFault>;
    /// The chain `nth` from the front, below what `ready` said.
    ///
    /// # Errors
    /// The driver named a descriptor that does not exist.
    fn peek(&self, nth: usize) -> Result<Head, RingFault>;
    /// Looks at the first `count` chains, below what `ready` said, until `each` returns false. How many it said yes to.
    ///
    /// # Errors
    /// The very first names a descriptor that does not exist. A lie further back is met when it is the first.
    fn peek_many(
        &self,
        count: usize,
        each: impl FnMut(usize, Head) -> bool,
    ) -> Result<usize, RingFault>;
    /// Walks all descriptors of a chain, indirect ones resolved. The walk ends, whatever the driver wrote.
    ///
    /// # Errors
    /// A chain that is too long, leaves the ring, or nests tables; or what `each` returns.
    fn walk(
        &self,
        head: Head,
        memory: &GuestMemory,
        each: &mut dyn FnMut(Desc) -> Result<(), RingFault>,
    ) -> Result<(), RingFault>;
    /// Gives the next chain back with `len` bytes written to it.
    fn complete(&mut self, id: u16, len: u32);
    /// Gives the next `count` chains back: `each` says the id and the bytes written.
    fn complete_many(&mut self, count: usize, each: impl FnMut(usize) -> (u16, u32));
    /// As [`DeviceRing::complete_many`], for chains that hold nothing for the device to write: `each` says the id. In order, that is one store.
    fn complete_read_many(&mut self, count: usize, each: impl FnMut(usize) -> u16);
    /// Shows the driver what was completed.
    fn publish(&mut self);
    /// Whether the driver wants to be told of what was published since the last call.
    fn needs_call(&mut self) -> bool;
    /// Asks for kicks, or for none. Returns true if chains came in while asking: the caller must not sleep then.
    fn want_kicks(&mut self, on: bool) -> bool;
    /// Where a device would go on: the base of the vring (vhost-user's `VRING_BASE`).
    fn base(&self) -> u32;
    /// Where the next [`DeviceRing::complete`] writes: area, offset in it, bytes. For the log of a migration, so it is to be marked when that has
    /// been published.
    fn used_place(&self) -> (Area, u64, u64);
    /// Where [`DeviceRing::publish`] writes besides, in the same terms.
    fn index_place(&self) -> Option<(Area, u64, u64)>;
    /// Where `want_kicks` writes, in the same terms. A new half has written there too.
    fn event_word(&self) -> (Area, u64, u64);
}
