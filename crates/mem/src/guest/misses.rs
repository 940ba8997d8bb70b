//! What data paths found untranslated: asked for by the control thread, which alone talks to the front end.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::Access;

/// The smallest piece that an IOMMU translates.
const PAGE: u64 = 4096;
/// The most pages that are asked for at a time, by all queues of a device.
const MAX_ASKED: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The control thread has not asked yet.
    Wanted,
    /// The front end was asked.
    Asked,
    /// It said that there is nothing.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Miss {
    page: u64,
    access: Access,
    state: State,
    /// Which question this is. A page that was told, taken back and mapped again is another one: the answer to the first means nothing then.
    number: u64,
}

/// See the module. A data path never waits here: while the control thread has the list, it asks again with its next burst.
#[derive(Debug)]
pub struct Misses {
    list: Mutex<Vec<Miss>>,
    /// Questions so far.
    asked: AtomicU64,
    wake: Arc<OwnedFd>,
}

impl Misses {
    /// None yet. `wake`, an eventfd that never blocks, is written when there is something to ask for.
    #[must_use]
    pub fn new(wake: Arc<OwnedFd>) -> Self {
        Self {
            list: Mutex::default(),
            asked: AtomicU64::new(0),
            wake,
        }
    }

    /// Asks for the page of an address, unless that was done. Whether it is new.
    pub fn want(&self, iova: u64, access: Access) -> bool {
        let Some(mut list) = self.try_list() else {
            return false;
        };
        let page = iova & !(PAGE - 1);
        let known = |miss: &Miss| miss.page == page && miss.access.contains(access);
        if list.iter().any(known) {
            return false;
        }
        if list.len() >= MAX_ASKED {
            // What was refused only waits to be met at the front of a ring, and can be asked for again.
            let Some(at) = list.iter().position(|miss| miss.state == State::Refused) else {
                return false;
            };
            list.swap_remove(at);
        }
        list.push(Miss {
            page,
            access,
            state: State::Wanted,
            number: self.asked.fetch_add(1, Ordering::Relaxed),
        });
        let _full_is_readable = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        true
    }

    /// Whether the front end has said that there is nothing at this address for this access.
    #[must_use]
    pub fn is_refused(&self, iova: u64, access: Access) -> bool {
        let page = iova & !(PAGE - 1);
        self.try_list().is_some_and(|list| {
            list.iter().any(|miss| {
                miss.state == State::Refused && miss.page == page && access.contains(miss.access)
            })
        })
    }

    /// For the control thread: what is wanted, one after the other with the question's number, as long as `ask` takes it.
    pub fn ask(&self, mut ask: impl FnMut(u64, Access, u64) -> bool) {
        let mut list = self.list();
        for miss in list.iter_mut().filter(|miss| miss.state == State::Wanted) {
            if !ask(miss.page, miss.access, miss.number) {
                return;
            }
            miss.state = State::Asked;
        }
    }

    /// For the control thread: the front end is through with one question. Refused, it is not asked again until something is told about the
    /// page.
    pub fn answered(&self, number: u64, refused: bool) {
        let mut list = self.list();
        let asked = |miss: &Miss| (miss.number, miss.state) == (number, State::Asked);
        let Some(at) = list.iter().position(asked) else {
            return;
        };
        if refused {
            list[at].state = State::Refused;
        } else {
            list.swap_remove(at);
        }
    }

    /// For the control thread: `size` bytes from `iova` on are translated for this access, or not any more.
    pub fn told(&self, iova: u64, size: u64, access: Access) {
        let last = if size == 0 {
            u64::MAX
        } else {
            iova.saturating_add(size - 1)
        };
        let first = if size == 0 { 0 } else { iova };
        self.list().retain(|miss| {
            let outside = miss.page > last || miss.page.saturating_add(PAGE - 1) < first;
            outside || !access.contains(miss.access)
        });
    }

    /// For the control thread: nobody waits any more.
    pub fn clear(&self) {
        self.list().clear();
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Miss>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_list(&self) -> Option<std::sync::MutexGuard<'_, Vec<Miss>>> {
        match self.list.try_lock() {
            Ok(list) => Some(list),
            Err(TryLockError::Poisoned(list)) => Some(list.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}
