//! A driver's ring whose buffers lie on pages that are anywhere in the device's address space: for devices that reach memory by its physical
//! addresses. What needs no table goes past this.

use std::sync::Arc;

use crate::shadow::MAX_CHAIN;
use crate::{DriverRing, Piece, RingFault, Used};

/// Where the pages of a region are for the device.
#[derive(Debug, Clone)]
pub struct PageTable {
    pages: Arc<[u64]>,
    shift: u32,
}

impl PageTable {
    /// The bit by which addresses are known that the table translates: below it is the offset in the region. Others are the device's already.
    pub const BASE: u64 = 1 << 63;

    /// Of pages of `1 << shift` bytes each, in the region's order, of at most 4 GiB in all.
    #[must_use]
    pub fn new(pages: Arc<[u64]>, shift: u32) -> Self {
        debug_assert!(pages.iter().all(|page| page & Self::BASE == 0));
        Self { pages, shift }
    }

    /// The device's address of the byte at `offset` of the region.
    ///
    /// # Panics
    /// When there is no such byte.
    #[must_use]
    #[inline(always)]
    pub fn at(&self, offset: u64) -> u64 {
        let within = offset & ((1 << self.shift) - 1);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "pages of a region that has 32-bit addresses"
        )]
        let page = self.pages[(offset >> self.shift) as usize];
        page + within
    }

    /// The device's piece for one of the region. It never goes on behind its page: there lies memory that is somebody else's.
    ///
    /// # Panics
    /// When the piece does not begin in the region.
    #[inline(always)]
    fn translate(&self, piece: Piece) -> Piece {
        let offset = piece.addr & !Self::BASE;
        let left = (1u64 << self.shift) - (offset & ((1 << self.shift) - 1));
        #[expect(clippy::cast_possible_truncation, reason = "a minimum with a u32")]
        let len = u64::from(piece.len).min(left) as u32;
        let addr = self.at(offset);
        Piece { addr, len }
    }

    /// Likewise for a piece that may be the device's already.
    fn translate_any(&self, piece: Piece) -> Piece {
        if piece.addr & Self::BASE == 0 {
            piece
        } else {
            self.translate(piece)
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Paged<R> {
    ring: R,
    table: PageTable,
    /// The pieces of a chain, for as long as it is pushed.
    pieces: Vec<Piece>,
}

impl<R: DriverRing> Paged<R> {
    /// A ring that gets pieces by their offsets in a region, see [`PageTable::BASE`].
    #[must_use]
    pub fn new(ring: R, table: PageTable) -> Self {
        Self {
            ring,
            table,
            pieces: Vec::with_capacity(MAX_CHAIN + 1),
        }
    }

    /// The device's pieces for these.
    fn translate(&mut self, pieces: &[Piece]) {
        self.pieces.clear();
        let translated = pieces.iter().map(|&piece| self.table.translate_any(piece));
        self.pieces.extend(translated);
    }
}

impl<R: DriverRing> DriverRing for Paged<R> {
    #[inline(always)]
    fn size(&self) -> u16 {
        self.ring.size()
    }

    #[inline(always)]
    fn free_descs(&self) -> usize {
        self.ring.free_descs()
    }

    #[inline(always)]
    fn prefetch_free(&self, count: usize) {
        self.ring.prefetch_free(count);
    }

    #[inline(always)]
    fn push(&mut self, token: u32, piece: Piece, write: bool) {
        let piece = self.table.translate_any(piece);
        self.ring.push(token, piece, write);
    }

    /// All of the region's: nothing else is pushed by the burst.
    #[inline(always)]
    fn push_many(&mut self, tokens: &[u32], write: bool, mut piece: impl FnMut(usize) -> Piece) {
        let table = &self.table;
        self.ring
            .push_many(tokens, write, |nth| table.translate(piece(nth)));
    }

    fn push_chain(&mut self, token: u32, pieces: &[Piece]) -> bool {
        self.translate(pieces);
        self.ring.push_chain(token, &self.pieces)
    }

    fn push_request(&mut self, token: u32, request: &[Piece], answer: Piece) -> bool {
        self.translate(request);
        let answer = self.table.translate_any(answer);
        self.ring.push_request(token, &self.pieces, answer)
    }

    fn max_pieces(&self) -> usize {
        self.ring.max_pieces()
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.ring.publish();
    }

    fn vectors(&self) -> Option<&'static str> {
        self.ring.vectors()
    }

    #[inline(always)]
    fn needs_kick(&mut self) -> bool {
        self.ring.needs_kick()
    }

    #[inline(always)]
    fn next_avail(&self) -> u16 {
        self.ring.next_avail()
    }

    #[inline(always)]
    fn used_ready(&mut self, wanted: usize) -> Result<usize, RingFault> {
        self.ring.used_ready(wanted)
    }

    #[inline(always)]
    fn pop_used(&mut self) -> Result<Used, RingFault> {
        self.ring.pop_used()
    }

    #[inline(always)]
    fn pop_many(&mut self, tokens: &mut [u32], lens: &mut [u32]) -> Result<usize, RingFault> {
        self.ring.pop_many(tokens, lens)
    }

    fn take_outstanding(&mut self) -> Option<Used> {
        self.ring.take_outstanding()
    }

    fn want_calls(&mut self, on: bool) -> bool {
        self.ring.want_calls(on)
    }

    fn device_base(&mut self) -> Result<u32, RingFault> {
        self.ring.device_base()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces go to their page, end with it, and what is the device's already stays what it is.
    #[test]
    fn translates() {
        let table = PageTable::new(Arc::new([0x4000_0000, 0x0020_0000]), 21);
        let at = |addr, len| table.translate_any(Piece { addr, len });
        let in_region = |offset: u64| PageTable::BASE | offset;
        let piece = |addr, len| Piece { addr, len };
        assert_eq!(at(in_region(128), 60), piece(0x4000_0080, 60));
        assert_eq!(at(in_region(0x20_0000), 1), piece(0x0020_0000, 1));
        assert_eq!(at(in_region(0x1f_fff0), 100), piece(0x401f_fff0, 16));
        assert_eq!(at(0x1234, 12), piece(0x1234, 12));
    }
}
