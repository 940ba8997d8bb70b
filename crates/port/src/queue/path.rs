//! What a queue can be attached to: one way of receiving or sending.

use vring_mem::Burst;
use vring_net::{Counters, Tally};
use vring_ring::RingFault;

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
}

/// Receives.
pub trait RxPath: Path {
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
