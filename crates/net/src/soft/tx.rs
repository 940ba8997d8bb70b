//! Before a transmit path: does what packets ask for and the path does not take.

use std::sync::Arc;

use vring_mem::burst::{Packet, flags};
use vring_mem::{Burst, Mempool};
use vring_ring::RingFault;

use super::gso::{Cutter, Next};
use super::vlan::{self, Inserted};
use super::{View, csum};
use crate::{Counters, DropReason, Tally};

/// Pieces of a cut packet that are made at a time.
const PIECES: usize = 64;

/// Flags that ask for something to be done. The others tell something, which need not be told.
const ASKS: u32 = flags::META & !(flags::CSUM_GOOD | flags::CSUM_BAD | flags::HASH);

/// The transmit path below.
pub trait Lower {
    /// What it does itself: bits of [`flags::META`].
    fn takes(&self) -> u32;
    /// Takes packets from the front of the burst; what it does not take stays. Looks at nothing behind the burst's length.
    ///
    /// # Errors
    /// The peer broke the rules.
    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault>;
    /// Gives back buffers of packets that are through.
    ///
    /// # Errors
    /// The peer broke the rules.
    fn reclaim(&mut self) -> Result<(), RingFault>;
}

/// See the module. One for each transmit queue.
///
/// A packet to be cut is accepted as soon as all before it are sent; its pieces are made as far as the path has room for them. What is left
/// of it waits here, one packet and a burst of pieces at most, and goes first the next time. It waits likewise while the mempool is empty.
#[derive(Debug)]
pub struct SoftTx {
    pool: Arc<Mempool>,
    /// Pieces that the path had no room for.
    out: Burst,
    cutter: Option<Cutter>,
    /// The next identification of an IPv6 packet that is cut into fragments.
    fragment_id: u32,
}

/// Why [`SoftTx::prepare`] did not get to the end of the burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    End,
    /// At a packet to be cut.
    Cut,
    NoBuffer,
}

impl SoftTx {
    /// For packets of this mempool.
    #[must_use]
    pub fn new(pool: Arc<Mempool>) -> Self {
        Self {
            pool,
            out: Burst::new(PIECES),
            cutter: None,
            fragment_id: 1,
        }
    }

    /// Whether packets whose flags are these, or-ed together, ask for something that the path does not take.
    #[must_use]
    #[inline(always)]
    pub fn needs(all_flags: u32, takes: u32) -> bool {
        all_flags & ASKS & !takes != 0
    }

    /// Nothing waits: a burst that needs nothing may go to the path directly.
    #[must_use]
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.cutter.is_none() && self.out.is_empty()
    }

    /// Sends from the front of the burst, as [`Lower::tx`] does, but whatever the packets ask for. What it takes of the burst and what it
    /// counts are not the same number: a packet that is cut counts as its pieces, each when it is sent. Packets that stay in the burst may have
    /// been changed to what the path takes. One that is not what its flags say is dropped as `tx_bad_packet`.
    ///
    /// # Errors
    /// As [`Lower::tx`].
    pub fn tx(
        &mut self,
        path: &mut impl Lower,
        burst: &mut Burst,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        let mut tally = self.flush(path, counters)?;
        while self.is_empty() && !burst.is_empty() {
            let (ready, stop) = self.prepare(path.takes(), burst, counters, &mut tally);
            if ready > 0 {
                let sent = send_front(path, burst, ready, counters);
                match sent {
                    Ok((sent, 0)) => tally.add(&sent),
                    Ok((sent, _)) => {
                        tally.add(&sent);
                        break;
                    }
                    // What came before the fault is sent; the fault is met again next time.
                    Err(_) if tally.packets + tally.refused > 0 => break,
                    Err(fault) => return Err(fault),
                }
            }
            match stop {
                Stop::End => break,
                Stop::NoBuffer => {
                    counters.no_buffer();
                    break;
                }
                Stop::Cut => self.begin(burst, counters, &mut tally),
            }
            match self.flush(path, counters) {
                Ok(sent) => tally.add(&sent),
                Err(_) if tally.packets + tally.refused > 0 => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(tally)
    }

    /// Sends what waits, as far as the path has room.
    ///
    /// # Errors
    /// As [`Lower::tx`].
    pub fn flush(
        &mut self,
        path: &mut impl Lower,
        counters: &Counters,
    ) -> Result<Tally, RingFault> {
        let mut tally = Tally::default();
        while !self.is_empty() {
            if !self.make_pieces(path.takes()) && self.out.is_empty() {
                // Some of the buffers may be through already.
                path.reclaim()?;
                if !self.make_pieces(path.takes()) && self.out.is_empty() {
                    counters.no_buffer();
                    break;
                }
            }
            match path.tx(&mut self.out, counters) {
                Ok(sent) => tally.add(&sent),
                Err(_) if tally.packets + tally.refused > 0 => break,
                Err(fault) => return Err(fault),
            }
            if !self.out.is_empty() {
                break;
            }
        }
        Ok(tally)
    }

    /// The path is gone: what waited for it is dropped under a name.
    pub fn abandon(&mut self, counters: &Counters) {
        let lost = self.out.len() + usize::from(self.cutter.is_some());
        if lost > 0 {
            counters.drop(DropReason::TxUnconfirmed, lost as u64);
        }
        self.free();
    }

    /// Changes packets from the front of the burst to what the path takes: how many are ready, and why not more. Bad ones are dropped.
    fn prepare(
        &self,
        takes: u32,
        burst: &mut Burst,
        counters: &Counters,
        tally: &mut Tally,
    ) -> (usize, Stop) {
        let mut at = 0;
        while at < burst.len() {
            let asks = burst.packets().2[at] & ASKS & !takes;
            if asks & (flags::GSO | flags::GSO_ECN) != 0 {
                return (at, Stop::Cut);
            }
            if asks == 0 {
                at += 1;
                continue;
            }
            let mut packet = burst.packet(at);
            let result = self.change(&mut packet, asks);
            burst.set_packet(at, &packet);
            match result {
                Inserted::Done => at += 1,
                Inserted::NoBuffer => return (at, Stop::NoBuffer),
                Inserted::Bad => {
                    self.refuse(&packet, counters, tally);
                    let len = burst.len();
                    burst.move_down(at + 1, len, at);
                    burst.set_len(len - 1);
                }
            }
        }
        (at, Stop::End)
    }

    /// Completes the checksum, and inserts the tag.
    fn change(&self, packet: &mut Packet, asks: u32) -> Inserted {
        if asks & flags::CSUM_PARTIAL != 0 {
            let completed =
                View::new(&self.pool, packet).is_some_and(|view| csum::complete(&view, packet));
            if !completed {
                return Inserted::Bad;
            }
            packet.flags &= !flags::CSUM_PARTIAL;
        }
        if asks & flags::VLAN != 0 {
            return vlan::insert(&self.pool, packet);
        }
        Inserted::Done
    }

    /// Takes the packet at the front, to be cut.
    fn begin(&mut self, burst: &mut Burst, counters: &Counters, tally: &mut Tally) {
        let packet = burst.packet(0);
        burst.remove_front(1);
        match Cutter::new(&self.pool, packet, self.fragment_id) {
            Some(cutter) => {
                self.cutter = Some(cutter);
                self.fragment_id = self.fragment_id.wrapping_add(1);
            }
            None => self.refuse(&packet, counters, tally),
        }
    }

    fn refuse(&self, packet: &Packet, counters: &Counters, tally: &mut Tally) {
        counters.drop(DropReason::TxBadPacket, 1);
        tally.refused += 1;
        self.pool.free_packet(packet.addr, packet.flags);
    }

    /// Cuts as far as `out` has room. False when the mempool is empty.
    fn make_pieces(&mut self, takes: u32) -> bool {
        while let Some(cutter) = &mut self.cutter
            && !self.out.is_full()
        {
            match cutter.next(&self.pool, takes) {
                Next::Piece(mut packet) => {
                    if SoftTx::needs(packet.flags, takes) {
                        // In a fresh buffer there is headroom for it.
                        vlan::insert(&self.pool, &mut packet);
                    }
                    self.out.push_packet(&packet);
                }
                Next::NoBuffers => return false,
                Next::Done => {
                    if let Some(cutter) = self.cutter.take() {
                        let packet = cutter.into_packet();
                        self.pool.free_packet(packet.addr, packet.flags);
                    }
                }
            }
        }
        true
    }

    fn free(&mut self) {
        self.pool.free_burst(&mut self.out);
        if let Some(cutter) = self.cutter.take() {
            let packet = cutter.into_packet();
            self.pool.free_packet(packet.addr, packet.flags);
        }
    }
}

impl Drop for SoftTx {
    fn drop(&mut self) {
        self.free();
    }
}

/// Sends the first `count` packets of the burst: what the path says, and how many of them are left.
fn send_front(
    path: &mut impl Lower,
    burst: &mut Burst,
    count: usize,
    counters: &Counters,
) -> Result<(Tally, usize), RingFault> {
    let len = burst.len();
    burst.set_len(count);
    let result = path.tx(burst, counters);
    let left = burst.len();
    burst.move_down(count, len, left);
    burst.set_len(left + len - count);
    Ok((result?, left))
}
