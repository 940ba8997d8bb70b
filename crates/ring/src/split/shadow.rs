//! What the driver's half remembers of its ring, out of the device's reach.

/// No chain starts at this descriptor.
pub(super) const NO_TOKEN: u32 = u32::MAX;

/// In [`Shadow::count`]: came by `push_chain`.
pub(super) const CHAIN: u16 = 1 << 15;

/// Most pieces of a direct chain: a count that leaves [`CHAIN`] alone. No packet has nearly as many.
pub(super) const MAX_CHAIN: usize = (CHAIN - 1) as usize;

/// What we remember of a descriptor, out of the device's reach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shadow {
    /// What came with the chain that starts here, or [`NO_TOKEN`].
    pub(super) token: u32,
    /// Descriptors of that chain, and [`CHAIN`].
    pub(super) count: u16,
    /// The chain's next descriptor.
    pub(super) next: u16,
}

/// Free descriptors, first in, first out: a device that works in order gives them back in order, so the table is written
/// line after line.
#[derive(Debug)]
pub(super) struct FreeList {
    pub(super) ids: Box<[u16]>,
    pub(super) head: usize,
    pub(super) len: usize,
}

impl FreeList {
    pub(super) fn new(size: u16) -> Self {
        Self {
            ids: (0..size).collect(),
            head: 0,
            len: usize::from(size),
        }
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) -> u16 {
        debug_assert!(self.len > 0);
        let mask = self.ids.len() - 1;
        let id = self.ids[self.head & mask];
        self.head = self.head.wrapping_add(1);
        self.len -= 1;
        id
    }

    #[inline(always)]
    pub(super) fn peek(&self, nth: usize) -> u16 {
        self.ids[self.head.wrapping_add(nth) & (self.ids.len() - 1)]
    }

    #[inline(always)]
    pub(super) fn push(&mut self, id: u16) {
        let mask = self.ids.len() - 1;
        self.ids[self.head.wrapping_add(self.len) & mask] = id;
        self.len += 1;
    }
}
