//! What software does for a queue: behind its path on receive, before it on transmit.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::{Burst, Mempool};
use vring_net::soft::{Lower, RxConfig, SoftRx, SoftTx};
use vring_net::{Counters, DropReason, Tally};
use vring_ring::RingFault;

use super::kinds::{Kinds, Seen};
use super::{Path, RxPath, TxPath};
use crate::capture::{Staged, Tap};

/// A direction: what software can do for its queues.
pub trait Side: Path {
    /// The software and its state.
    type Soft: Soft<Self>;
}

impl Side for dyn RxPath {
    type Soft = Behind;
}

impl Side for dyn TxPath {
    type Soft = Before;
}

/// The software of a queue, told of the path that the queue is attached to.
pub trait Soft<P: ?Sized>: Send {
    /// For packets of this mempool, with nothing to do.
    fn new(pool: &Arc<Mempool>) -> Self;
    /// The queue has this path now.
    fn attached(&mut self, path: &P);
    /// The queue has no path any more: what waited for it is given back.
    fn detached(&mut self, pool: &Arc<Mempool>, counters: &Counters);
    /// Changes who sees packets.
    fn watch(&mut self, change: impl FnOnce(&mut Watchers));
}

/// Who sees the packets of a queue pass.
#[derive(Debug, Default)]
pub struct Watchers {
    /// Where they are counted by size and kind.
    pub(super) kinds: Option<Arc<Kinds>>,
    /// Where they are copied to.
    pub(super) taps: Vec<Arc<Tap>>,
}

impl Watchers {
    fn is_empty(&self) -> bool {
        self.kinds.is_none() && self.taps.is_empty()
    }
}

/// Behind a receive path.
#[derive(Debug)]
pub struct Behind {
    soft: SoftRx,
    /// What the path's packets may have.
    gives: u32,
    watchers: Watchers,
    /// There is something to do for them.
    works: bool,
    /// What the port itself has for the application to receive, before all else.
    own: Burst,
}

/// Most packets of the port itself that wait to be received.
const MOST_OWN: usize = 4;

impl Soft<dyn RxPath> for Behind {
    fn new(pool: &Arc<Mempool>) -> Self {
        Self {
            soft: SoftRx::new(pool.clone(), &RxConfig::default()),
            gives: 0,
            watchers: Watchers::default(),
            works: false,
            own: Burst::new(MOST_OWN),
        }
    }

    fn attached(&mut self, path: &dyn RxPath) {
        self.gives = path.gives();
        self.settle();
    }

    fn detached(&mut self, pool: &Arc<Mempool>, counters: &Counters) {
        if !self.own.is_empty() {
            counters.drop(DropReason::RxUnread, self.own.len() as u64);
            pool.free_burst(&mut self.own);
        }
    }

    fn watch(&mut self, change: impl FnOnce(&mut Watchers)) {
        change(&mut self.watchers);
        self.settle();
    }
}

impl Behind {
    /// What is to be done from now on.
    pub(super) fn configure(&mut self, pool: &Arc<Mempool>, config: &RxConfig) {
        self.soft = SoftRx::new(pool.clone(), config);
        self.settle();
    }

    /// One flag for all that is seldom: the usual burst is looked at by its path alone.
    fn settle(&mut self) {
        self.works = self.has_own() || !self.watchers.is_empty() || !self.soft.is_idle(self.gives);
    }

    /// Lets the application receive a packet in one buffer, from the port itself. False when too many wait already.
    pub(super) fn put(&mut self, addr: u32, len: u32) -> bool {
        let taken = self.own.push(addr, len, 0);
        self.settle();
        taken
    }

    /// A packet of the port itself waits.
    pub(super) fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// By themselves: packets from the ring may follow in the next burst.
    fn rx_own(&mut self, burst: &mut Burst) -> Tally {
        let mut tally = Tally::default();
        let (addrs, lens, _) = self.own.packets();
        for (&addr, &len) in addrs.iter().zip(lens) {
            if !burst.push(addr, len, 0) {
                break;
            }
            tally.packets += 1;
            tally.bytes += u64::from(len);
        }
        self.own.remove_front(tally.packets);
        self.settle();
        tally
    }

    /// Receives, and counts what is left when software has looked.
    #[inline(always)]
    pub(super) fn rx(
        &mut self,
        path: &mut dyn RxPath,
        pool: &Mempool,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        if !self.works {
            return path.rx(burst, counters);
        }
        self.rx_and_work(path, pool, burst, counters)
    }

    #[inline(never)]
    fn rx_and_work(
        &mut self,
        path: &mut dyn RxPath,
        pool: &Mempool,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        let first = burst.len();
        let tally = if self.has_own() {
            self.rx_own(burst)
        } else {
            let mut tally = path.rx(burst, counters)?;
            let filtered = self.soft.run(burst, first, counters);
            tally.packets -= filtered.packets;
            tally.bytes -= filtered.bytes;
            tally
        };
        if let Some(kinds) = &self.watchers.kinds {
            kinds.count(pool, burst, first);
        }
        for tap in &self.watchers.taps {
            tap.received(pool, burst, first);
        }
        Ok(tally)
    }
}

/// Before a transmit path.
#[derive(Debug)]
pub struct Before {
    soft: SoftTx,
    /// What the path does itself.
    takes: u32,
    watchers: Watchers,
    /// What each tap has of a burst until it is known which packets were taken.
    staged: Vec<Staged>,
    /// There are watchers: what a burst looks at.
    watched: bool,
}

impl Soft<dyn TxPath> for Before {
    fn new(pool: &Arc<Mempool>) -> Self {
        Self {
            soft: SoftTx::new(pool.clone()),
            takes: flags::META,
            watchers: Watchers::default(),
            staged: Vec::new(),
            watched: false,
        }
    }

    fn attached(&mut self, path: &dyn TxPath) {
        self.takes = path.takes();
    }

    fn detached(&mut self, _pool: &Arc<Mempool>, counters: &Counters) {
        self.soft.abandon(counters);
    }

    fn watch(&mut self, change: impl FnOnce(&mut Watchers)) {
        change(&mut self.watchers);
        self.watched = !self.watchers.is_empty();
    }
}

impl Before {
    /// Sends. All flags of a burst are looked at together: the usual burst asks for nothing.
    #[inline(always)]
    pub(super) fn tx(
        &mut self,
        path: &mut dyn TxPath,
        pool: &Mempool,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        let all = burst.packets().2.iter().fold(0, |all, flags| all | flags);
        if SoftTx::needs(all, self.takes) || !self.soft.is_empty() || self.watched {
            return self.prepare_and_tx(path, pool, burst, counters);
        }
        path.tx(burst, counters)
    }

    #[inline(never)]
    fn prepare_and_tx(
        &mut self,
        path: &mut dyn TxPath,
        pool: &Mempool,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        if !self.watched {
            return self.soft.tx(&mut Through(path), burst, counters);
        }
        let before = burst.len();
        let seen = self
            .watchers
            .kinds
            .as_ref()
            .map(|kinds| (kinds, Seen::look(pool, burst)));
        self.staged.clear();
        self.staged.extend(
            self.watchers
                .taps
                .iter()
                .map(|tap| tap.stage(pool, burst, 0)),
        );
        let result = self.soft.tx(&mut Through(path), burst, counters);
        let taken = before - burst.len();
        if let Some((kinds, seen)) = seen {
            kinds.count_taken(&seen, taken);
        }
        for (tap, staged) in self.watchers.taps.iter().zip(&self.staged) {
            tap.taken(staged, taken);
        }
        result
    }

    /// Sends what waits, and gives back buffers of packets that are through.
    pub(super) fn reclaim(
        &mut self,
        path: &mut dyn TxPath,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        path.reclaim()?;
        self.soft.flush(&mut Through(path), counters)
    }
}

/// A path as the software sees it.
struct Through<'a>(&'a mut dyn TxPath);

impl Lower for Through<'_> {
    fn takes(&self) -> u32 {
        self.0.takes()
    }

    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        self.0.tx(burst, counters)
    }

    fn reclaim(&mut self) -> Result<(), RingFault> {
        self.0.reclaim()
    }
}
