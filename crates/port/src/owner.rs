//! Who has a queue.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::PortError;
use crate::queue::{Queue, Side};

/// Nobody's number.
pub(crate) const NOBODY: u64 = 0;

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(NOBODY + 1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One user of queues: a native thread or a JavaScript thread. It and all its copies stay on the thread that made it (it is neither `Send`
/// nor `Sync`): whoever has a queue as an owner is its one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    number: u64,
    thread: PhantomData<*const ()>,
}

impl Owner {
    /// One that is like no other.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        Self {
            number: next(),
            thread: PhantomData,
        }
    }

    /// Its number: never 0, never another's.
    #[must_use]
    #[inline(always)]
    pub fn number(self) -> u64 {
        self.number
    }
}

/// A queue that is on its way to a thread: nobody has it until that thread takes it. Dropped instead, it leaves the queue to anybody.
#[derive(Debug)]
pub struct Ticket<P: Side + ?Sized> {
    queue: Arc<Queue<P>>,
    number: u64,
}

impl<P: Side + ?Sized> Ticket<P> {
    /// For a queue that `from` has.
    pub(crate) fn new(queue: &Arc<Queue<P>>, from: u64) -> Result<Self, PortError> {
        let number = next();
        queue.pass(from, number)?;
        Ok(Self {
            queue: queue.clone(),
            number,
        })
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue<P>> {
        &self.queue
    }

    /// Makes `to` the one user of the queue.
    ///
    /// # Errors
    /// [`PortError::Closed`].
    pub fn take(self, to: Owner) -> Result<(), PortError> {
        self.queue.pass(self.number, to.number())
    }
}

impl<P: Side + ?Sized> Drop for Ticket<P> {
    fn drop(&mut self) {
        // Of a queue that was taken, or closed, there is nothing to give back.
        let _taken = self.queue.pass(self.number, NOBODY);
    }
}
