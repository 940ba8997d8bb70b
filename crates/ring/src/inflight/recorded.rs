//! A device's half that keeps a record.

use vring_mem::guest::GuestMemory;

use super::Record;
use crate::{Area, Desc, DeviceRing, Head, RingFault};

/// What a half writes down while it works.
#[derive(Debug)]
pub struct Book {
    pub(crate) record: Record,
    /// Packed: entries of chains that were completed and not published. They are the first ones: when a burst is published all are free again.
    pub(crate) taken: u16,
    pub(crate) counter: u64,
}

impl Book {
    pub(crate) fn new(record: Record) -> Self {
        Self {
            record,
            taken: 0,
            counter: 0,
        }
    }
}

/// A half that can keep a record.
pub trait Recordable: DeviceRing {
    /// Begins a record where the half stands, with nothing in flight.
    fn begin(&self, record: Record) -> Book;
    /// The first `count` chains are about to be completed.
    fn note(&self, book: &mut Book, count: usize);
    /// [`DeviceRing::publish`], with what the record says of it.
    fn publish_noted(&mut self, book: &mut Book);
}

/// See the module. A type of its own, so that halves without a record pay nothing for it.
#[derive(Debug)]
pub struct Recorded<R> {
    ring: R,
    book: Book,
}

impl<R: Recordable> Recorded<R> {
    /// A half, and the record in which it begins now: [`super::resume`] has read what another device had to say there.
    #[must_use]
    pub fn new(ring: R, record: Record) -> Self {
        let book = ring.begin(record);
        Self { ring, book }
    }
}

impl<R: Recordable> DeviceRing for Recorded<R> {
    #[inline(always)]
    fn size(&self) -> u16 {
        self.ring.size()
    }

    #[inline(always)]
    fn ready(&mut self, wanted: usize) -> Result<usize, RingFault> {
        self.ring.ready(wanted)
    }

    #[inline(always)]
    fn peek(&self, nth: usize) -> Result<Head, RingFault> {
        self.ring.peek(nth)
    }

    #[inline(always)]
    fn peek_many(
        &self,
        count: usize,
        each: impl FnMut(usize, Head) -> bool,
    ) -> Result<usize, RingFault> {
        self.ring.peek_many(count, each)
    }

    fn walk(
        &self,
        head: Head,
        memory: &GuestMemory,
        each: &mut dyn FnMut(Desc) -> Result<(), RingFault>,
    ) -> Result<(), RingFault> {
        self.ring.walk(head, memory, each)
    }

    #[inline(always)]
    fn complete(&mut self, id: u16, len: u32) {
        self.ring.note(&mut self.book, 1);
        self.ring.complete(id, len);
    }

    #[inline(always)]
    fn complete_many(&mut self, count: usize, each: impl FnMut(usize) -> (u16, u32)) {
        self.ring.note(&mut self.book, count);
        self.ring.complete_many(count, each);
    }

    #[inline(always)]
    fn complete_read_many(&mut self, count: usize, each: impl FnMut(usize) -> u16) {
        self.ring.note(&mut self.book, count);
        self.ring.complete_read_many(count, each);
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.ring.publish_noted(&mut self.book);
    }

    #[inline(always)]
    fn needs_call(&mut self) -> bool {
        self.ring.needs_call()
    }

    fn want_kicks(&mut self, on: bool) -> bool {
        self.ring.want_kicks(on)
    }

    fn base(&self) -> u32 {
        self.ring.base()
    }

    fn used_place(&self) -> (Area, u64, u64) {
        self.ring.used_place()
    }

    fn index_place(&self) -> Option<(Area, u64, u64)> {
        self.ring.index_place()
    }

    fn event_word(&self) -> (Area, u64, u64) {
        self.ring.event_word()
    }
}
