//! What software does for a queue: behind its path on receive, before it on transmit.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::{Burst, Mempool};
use vring_net::soft::{Lower, RxConfig, SoftRx, SoftTx};
use vring_net::{Counters, Tally};
use vring_ring::RingFault;

use super::{Path, RxPath, TxPath};

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
    fn detached(&mut self, counters: &Counters);
}

/// Behind a receive path.
#[derive(Debug)]
pub struct Behind {
    soft: SoftRx,
    /// What the path's packets may have.
    gives: u32,
    /// There is something to do for them.
    works: bool,
}

impl Soft<dyn RxPath> for Behind {
    fn new(pool: &Arc<Mempool>) -> Self {
        Self {
            soft: SoftRx::new(pool.clone(), &RxConfig::default()),
            gives: 0,
            works: false,
        }
    }

    fn attached(&mut self, path: &dyn RxPath) {
        self.gives = path.gives();
        self.works = !self.soft.is_idle(self.gives);
    }

    fn detached(&mut self, _counters: &Counters) {}
}

impl Behind {
    /// What is to be done from now on.
    pub(super) fn configure(&mut self, pool: &Arc<Mempool>, config: &RxConfig) {
        self.soft = SoftRx::new(pool.clone(), config);
        self.works = !self.soft.is_idle(self.gives);
    }

    /// Receives, and counts what is left when software has looked.
    #[inline(always)]
    pub(super) fn rx(
        &mut self,
        path: &mut dyn RxPath,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        if !self.works {
            return path.rx(burst, counters);
        }
        self.rx_and_work(path, burst, counters)
    }

    #[inline(never)]
    fn rx_and_work(
        &mut self,
        path: &mut dyn RxPath,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        let first = burst.len();
        let mut tally = path.rx(burst, counters)?;
        let filtered = self.soft.run(burst, first, counters);
        tally.packets -= filtered.packets;
        tally.bytes -= filtered.bytes;
        Ok(tally)
    }
}

/// Before a transmit path.
#[derive(Debug)]
pub struct Before {
    soft: SoftTx,
    /// What the path does itself.
    takes: u32,
}

impl Soft<dyn TxPath> for Before {
    fn new(pool: &Arc<Mempool>) -> Self {
        Self {
            soft: SoftTx::new(pool.clone()),
            takes: flags::META,
        }
    }

    fn attached(&mut self, path: &dyn TxPath) {
        self.takes = path.takes();
    }

    fn detached(&mut self, counters: &Counters) {
        self.soft.abandon(counters);
    }
}

impl Before {
    /// Sends. All flags of a burst are looked at together: the usual burst asks for nothing.
    #[inline(always)]
    pub(super) fn tx(
        &mut self,
        path: &mut dyn TxPath,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        let all = burst.packets().2.iter().fold(0, |all, flags| all | flags);
        if SoftTx::needs(all, self.takes) || !self.soft.is_empty() {
            return self.prepare_and_tx(path, burst, counters);
        }
        path.tx(burst, counters)
    }

    #[inline(never)]
    fn prepare_and_tx(
        &mut self,
        path: &mut dyn TxPath,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        self.soft.tx(&mut Through(path), burst, counters)
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
