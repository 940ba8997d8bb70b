//! Transmits: each packet is written from where it lies.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use vring_mem::burst::Packet;
use vring_mem::{Burst, Mempool};
use vring_net::{Counters, DropReason, ETH_HEADER, Tally, encode};
use vring_netdev::Pieces;
use vring_ring::RingFault;

use super::HEADER;
use crate::queue::{Mode, Path, TxPath};

/// See the module.
pub(super) struct TapTx {
    file: Arc<OwnedFd>,
    pool: Arc<Mempool>,
    pieces: Pieces,
    /// What the header can say, as bits of [`vring_mem::burst::flags::META`].
    takes: u32,
    /// The header of the packet in hand.
    header: Box<[u8; HEADER]>,
}

/// What became of a packet.
enum Outcome {
    Sent,
    /// The kernel takes nothing now.
    Full,
    Refused(DropReason),
}

impl TapTx {
    pub(super) fn new(file: &Arc<OwnedFd>, pool: &Arc<Mempool>, takes: u32) -> Self {
        Self {
            file: file.clone(),
            pool: pool.clone(),
            pieces: Pieces::default(),
            takes,
            header: Box::new([0; HEADER]),
        }
    }

    fn send(&mut self, packet: &Packet) -> Outcome {
        let Ok(segments) = self.pool.segments(packet.addr, packet.len, packet.flags) else {
            return Outcome::Refused(DropReason::TxBadPacket);
        };
        let Some(header) = encode(packet, self.takes).filter(|_| packet.len >= ETH_HEADER) else {
            return Outcome::Refused(DropReason::TxBadPacket);
        };
        self.header.copy_from_slice(&header[..HEADER]);
        self.pieces.clear();
        self.pieces.push(self.header.as_mut_ptr(), HEADER);
        for segment in segments {
            self.pieces
                .push(self.pool.ptr(segment.addr), segment.len as usize);
        }
        loop {
            // SAFETY: the header is ours; `segments` found each segment inside a buffer of the mempool's, which is mapped while we hold it.
            return match unsafe { self.pieces.write(&*self.file) } {
                Ok(_) => Outcome::Sent,
                Err(Errno::INTR) => continue,
                Err(Errno::MSGSIZE) => Outcome::Refused(DropReason::TxTooBig),
                Err(Errno::INVAL | Errno::FAULT) => Outcome::Refused(DropReason::TxBadPacket),
                // No room, or the device is off or gone: the packet stays with its owner, as on any link that is down.
                Err(_) => Outcome::Full,
            };
        }
    }
}

impl Path for TapTx {
    fn mode(&self) -> Mode {
        Mode::new("tap, one writev a frame", "the kernel has no ring for it")
    }
}

impl TxPath for TapTx {
    fn takes(&self) -> u32 {
        self.takes
    }

    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let mut tally = Tally::default();
        for nth in 0..burst.len() {
            let packet = burst.packet(nth);
            match self.send(&packet) {
                Outcome::Sent => {
                    tally.packets += 1;
                    tally.bytes += u64::from(packet.len);
                }
                Outcome::Full => break,
                Outcome::Refused(reason) => {
                    counters.drop(reason, 1);
                    tally.refused += 1;
                }
            }
            self.pool.free_packet(packet.addr, packet.flags);
        }
        burst.remove_front(tally.packets + tally.refused);
        Ok(tally)
    }
}
