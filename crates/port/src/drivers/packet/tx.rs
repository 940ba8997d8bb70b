//! Transmits: copies packets into the ring; one system call has the kernel send a burst.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vring_mem::copy::copy;
use vring_mem::{Burst, Mempool};
use vring_net::{Counters, DropReason, ETH_HEADER, Tally};
use vring_netdev::TxRing;
use vring_ring::RingFault;

use crate::queue::{Mode, Path, TxPath};

/// What stands before a frame's payload: an Ethernet header and a VLAN tag.
const BEFORE_PAYLOAD: u32 = 18;

/// See the module.
pub(super) struct PacketTx {
    ring: TxRing,
    pool: Arc<Mempool>,
    room: u32,
    /// The device's.
    mtu: Arc<AtomicU32>,
    /// The kernel has not taken all that stands in the ring.
    waits: bool,
}

/// What became of a packet.
enum Outcome {
    Sent,
    Full,
    Refused(DropReason),
}

impl PacketTx {
    pub(super) fn new(ring: TxRing, pool: &Arc<Mempool>, room: u32, mtu: Arc<AtomicU32>) -> Self {
        Self {
            ring,
            pool: pool.clone(),
            room,
            mtu,
            waits: false,
        }
    }

    fn push(&mut self, addr: u32, len: u32, packet_flags: u32, most: u32) -> Outcome {
        let Ok(segments) = self.pool.segments(addr, len, packet_flags) else {
            return Outcome::Refused(DropReason::TxBadPacket);
        };
        if len < ETH_HEADER {
            return Outcome::Refused(DropReason::TxBadPacket);
        }
        if len > most {
            return Outcome::Refused(DropReason::TxTooBig);
        }
        let Some(mut to) = self.ring.slot() else {
            return Outcome::Full;
        };
        for segment in segments {
            // SAFETY: `segments` found each segment inside a buffer; all together are `len` bytes, for which the slot has room.
            unsafe { copy(to, self.pool.ptr(segment.addr), segment.len as usize) };
            to = to.wrapping_add(segment.len as usize);
        }
        self.ring.submit(len);
        Outcome::Sent
    }

    fn flush(&mut self) {
        self.waits = !self.ring.flush();
    }
}

impl Path for PacketTx {
    fn abandon(&mut self, counters: &Counters) {
        match self.ring.waiting() {
            0 => (),
            waiting => counters.drop(DropReason::TxUnconfirmed, waiting.into()),
        }
    }

    fn mode(&self) -> Mode {
        Mode::new(
            "packet socket, TPACKET_V2",
            "one copy into the kernel's ring",
        )
    }
}

impl TxPath for PacketTx {
    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let mut tally = Tally::default();
        let most = self
            .room
            .min(self.mtu.load(Ordering::Relaxed) + BEFORE_PAYLOAD);
        let (addrs, lens, all_flags) = burst.packets();
        for ((&addr, &len), &packet_flags) in addrs.iter().zip(lens).zip(all_flags) {
            match self.push(addr, len, packet_flags, most) {
                Outcome::Sent => {
                    tally.packets += 1;
                    tally.bytes += u64::from(len);
                }
                Outcome::Full => break,
                Outcome::Refused(reason) => {
                    counters.drop(reason, 1);
                    tally.refused += 1;
                }
            }
            self.pool.free_packet(addr, packet_flags);
        }
        burst.remove_front(tally.packets + tally.refused);
        if tally.packets > 0 || self.waits {
            self.flush();
        }
        Ok(tally)
    }

    fn reclaim(&mut self) -> Result<(), RingFault> {
        if self.waits {
            self.flush();
        }
        Ok(())
    }
}
