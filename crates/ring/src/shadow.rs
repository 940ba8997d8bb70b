//! What the driver's half remembers of its ring, out of the device's reach.

/// No chain goes by this id.
pub(crate) const NO_TOKEN: u32 = u32::MAX;

/// In [`Shadow::count`]: came by `push_chain`.
pub(crate) const CHAIN: u16 = 1 << 15;

/// Most pieces of a direct chain: a count that leaves [`CHAIN`] alone. No packet has nearly as many.
pub(crate) const MAX_CHAIN: usize = (CHAIN - 1) as usize;

/// What we remember of a chain by its id: in a split ring that is its first descriptor. Vector code knows the layout.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Shadow {
    /// What came with the chain, or [`NO_TOKEN`].
    pub(crate) token: u32,
    /// Descriptors of that chain, and [`CHAIN`].
    pub(crate) count: u16,
    /// Split rings: the chain's next descriptor.
    pub(crate) next: u16,
}

impl Shadow {
    /// No chain.
    pub(crate) const FREE: Self = Self {
        token: NO_TOKEN,
        count: 0,
        next: 0,
    };

    /// One buffer.
    #[inline(always)]
    pub(crate) const fn single(token: u32) -> Self {
        Self {
            token,
            count: 1,
            next: 0,
        }
    }
}

/// Free ids, first in, first out: a device that works in order gives them back in order, so descriptors are written line after line.
#[derive(Debug)]
pub(crate) struct FreeList {
    /// As many as the next power of two, so that positions can be masked.
    pub(crate) ids: Box<[u16]>,
    pub(crate) head: usize,
    pub(crate) len: usize,
}

impl FreeList {
    /// All ids below `size` are free.
    pub(crate) fn new(size: u16) -> Self {
        let room = size.next_power_of_two();
        Self {
            ids: (0..room).collect(),
            head: 0,
            len: usize::from(size),
        }
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self) -> u16 {
        debug_assert!(self.len > 0);
        let mask = self.ids.len() - 1;
        let id = self.ids[self.head & mask];
        self.head = self.head.wrapping_add(1);
        self.len -= 1;
        id
    }

    #[inline(always)]
    pub(crate) fn peek(&self, nth: usize) -> u16 {
        self.ids[self.head.wrapping_add(nth) & (self.ids.len() - 1)]
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, id: u16) {
        let mask = self.ids.len() - 1;
        self.ids[self.head.wrapping_add(self.len) & mask] = id;
        self.len += 1;
    }
}
