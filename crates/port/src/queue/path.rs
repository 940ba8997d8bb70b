//! What a queue can be attached to: one way of receiving or sending.

use std::sync::Arc;

use vring_mem::Burst;
use vring_mem::guest::GuestMemory;
use vring_net::{Counters, Tally};
use vring_ring::RingFault;

/// Which of its ways of moving packets a driver chose for a queue, and why: for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mode {
    /// The way, as `split, mergeable`.
    pub name: String,
    /// What decided for it.
    pub why: String,
}

impl Mode {
    /// From both texts.
    #[must_use]
    pub fn new(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            why: why.into(),
        }
    }
}

/// What a descriptor is doing, as `rte_eth_rx_descriptor_status` and `rte_eth_tx_descriptor_status` tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescStatus {
    /// Receive: the other side has it and has not filled it. Transmit: it has a packet that is not sent yet.
    Available,
    /// The other side is through with it and this side has not looked yet.
    Done,
    /// Neither: nothing stands in it.
    Unavailable,
}

/// What a queue is attached to. What it holds of the mempool goes back when it is dropped.
pub trait Path: Send {
    /// The peer is gone: counts the packets that it was given and did not confirm.
    fn abandon(&mut self, counters: &Counters) {
        let _holds_none = counters;
    }

    /// Where a vring goes on when it is started again (vhost-user's `VRING_BASE`).
    fn base(&self) -> u32 {
        0
    }

    /// The same of a ring whose device half is elsewhere: where a device goes on that comes in the place of one that is gone. `None` where
    /// nobody can say.
    fn device_base(&mut self) -> Option<u32> {
        None
    }

    /// Goes on in this memory: the same, with other translations.
    fn set_memory(&mut self, memory: &Arc<GuestMemory>) {
        let _it_has_no_peer_behind_an_iommu = memory;
    }

    /// Which way of moving packets this is.
    fn mode(&self) -> Mode {
        Mode::new("plain", "this driver has one way")
    }

    /// Descriptors of its ring, 0 where there is none.
    fn size(&self) -> u32 {
        0
    }

    /// What the descriptor `offset` places from the one that is next in turn is doing. `None` where there is no ring; `offset` is less than
    /// [`Path::size`].
    fn desc_status(&mut self, offset: u32) -> Option<DescStatus> {
        let _no_ring = offset;
        None
    }

    /// Packets that wait in the ring: received and not taken, or given to the other side and not through. `None` where nobody can say.
    fn used_count(&mut self) -> Option<u32> {
        None
    }
}

/// Receives.
pub trait RxPath: Path {
    /// Bits of [`vring_mem::burst::flags::META`] that its packets may have.
    fn gives(&self) -> u32 {
        0
    }
    /// Appends packets to the burst until it is full or there are no more. Never blocks.
    ///
    /// # Errors
    /// The peer broke the rules: the path is not used again.
    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault>;
    /// Asks the peer for notifications, or for none. Returns true when packets came in meanwhile: do not sleep.
    fn want_wake(&mut self, on: bool) -> bool;
    /// Nothing will ever come again.
    fn finished(&self) -> bool {
        false
    }
}

/// Transmits.
pub trait TxPath: Path {
    /// Bits of [`vring_mem::burst::flags::META`] that this path handles itself. What else a packet asks for is done in software before it
    /// comes here.
    fn takes(&self) -> u32 {
        0
    }
    /// Takes packets from the front of the burst; what it does not take stays. Never blocks.
    ///
    /// # Errors
    /// The peer broke the rules: the path is not used again.
    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault>;
    /// Gives back buffers of packets that are through, without sending.
    ///
    /// # Errors
    /// The peer broke the rules: the path is not used again.
    fn reclaim(&mut self) -> Result<(), RingFault> {
        Ok(())
    }
}
