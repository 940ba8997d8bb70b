//! Receives: copies frames out of the ring.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::copy::copy;
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};
use vring_net::soft::partial_checksum;
use vring_net::{Counters, DropReason, ETH_HEADER, Tally};
use vring_netdev::{ReceivedFrame, RxRing};
use vring_ring::RingFault;

use crate::queue::{Mode, Path, RxPath};

/// Bytes of the two Ethernet addresses, behind which a VLAN tag stands.
const ADDRESSES: usize = 12;
/// Bytes that are looked at for where a checksum is.
const HEAD: usize = 256;

/// See the module.
pub(super) struct PacketRx {
    ring: RxRing,
    pool: Arc<Mempool>,
    /// The kernel's count of drops was read since the last frame.
    counted: bool,
}

impl PacketRx {
    pub(super) fn new(ring: RxRing, pool: &Arc<Mempool>) -> Self {
        Self {
            ring,
            pool: pool.clone(),
            counted: true,
        }
    }

    #[cold]
    fn count_drops(&mut self, counters: &Counters) {
        self.counted = true;
        match self.ring.socket().take_drops() {
            Ok(0) | Err(_) => (),
            Ok(drops) => counters.drop(DropReason::RxMissed, drops.into()),
        }
    }

    /// Copies a frame into the burst, which has room; its bytes. `None` when the mempool has too few buffers.
    fn receive(&self, frame: &ReceivedFrame, burst: &mut Burst) -> Option<usize> {
        let len = frame.len as usize;
        let tag = frame.vlan.map(|tci| {
            let [high, low] = tci.to_be_bytes();
            [0x81, 0x00, high, low]
        });
        let whole = len + tag.map_or(0, |tag| tag.len());
        let room = self.pool.data_room() as usize;
        let mut all = [NO_SEG; MAX_SEGS];
        let addrs = all.get_mut(..whole.div_ceil(room))?;
        let got = self.pool.alloc_bulk(addrs);
        if got < addrs.len() {
            self.pool.free_bulk(&addrs[..got]);
            return None;
        }
        let target = Target {
            pool: &self.pool,
            addrs,
        };
        match &tag {
            None => target.write(0, frame.data, len),
            Some(tag) => {
                target.write(0, frame.data, ADDRESSES);
                target.write(ADDRESSES, tag.as_ptr(), tag.len());
                let rest = frame.data.wrapping_add(ADDRESSES);
                target.write(ADDRESSES + tag.len(), rest, len - ADDRESSES);
            }
        }
        target.link(whole);
        let mut packet_flags = if addrs.len() > 1 { flags::MULTI } else { 0 };
        let csum = if frame.checksum_missing {
            checksum_of(&self.pool, addrs[0], whole)
        } else {
            None
        };
        if csum.is_some() {
            packet_flags |= flags::CSUM_PARTIAL;
        }
        let at = burst.len();
        burst.push(addrs[0], u32::try_from(whole).unwrap_or(0), packet_flags);
        if let Some(word) = csum {
            burst.meta_mut().csum[at] = word;
        }
        Some(whole)
    }
}

/// Where the checksum is that was left to us. The head is copied: the mempool is shared, and what is looked at must not change meanwhile.
fn checksum_of(pool: &Mempool, addr: u32, len: usize) -> Option<u32> {
    let mut head = [0; HEAD];
    let count = len.min(HEAD).min(pool.data_room() as usize);
    // SAFETY: `count` bytes of a buffer that was just written, to memory of our own.
    unsafe { copy(head.as_mut_ptr(), pool.ptr(addr), count) };
    partial_checksum(&head[..count], len)
}

/// Fresh buffers, as one run of bytes.
struct Target<'a> {
    pool: &'a Mempool,
    addrs: &'a [u32],
}

impl Target<'_> {
    /// Writes bytes at a position; the buffers are enough for all that is written.
    fn write(&self, at: usize, from: *const u8, len: usize) {
        let room = self.pool.data_room() as usize;
        let mut done = 0;
        while done < len {
            let (nth, offset) = ((at + done) / room, (at + done) % room);
            let count = (room - offset).min(len - done);
            let to = self.pool.ptr(self.addrs[nth]).wrapping_add(offset);
            // SAFETY: `offset + count` is at most a fresh buffer's room, and the buffer is ours; `from` has `len` bytes: of a frame that is
            // ours until it is released, or of a tag.
            unsafe { copy(to, from.wrapping_add(done), count) };
            done += count;
        }
    }

    fn link(&self, len: usize) {
        let room = self.pool.data_room() as usize;
        if self.addrs.len() < 2 {
            return;
        }
        for (nth, &addr) in self.addrs.iter().enumerate() {
            let bytes = room.min(len - nth * room);
            let segment = Segment {
                addr,
                len: u32::try_from(bytes).unwrap_or(0),
            };
            let next = self.addrs.get(nth + 1).copied().unwrap_or(NO_SEG);
            self.pool.link(segment, next);
        }
    }
}

impl Path for PacketRx {
    fn mode(&self) -> Mode {
        Mode::new(
            "packet socket, TPACKET_V2",
            "one copy out of the kernel's ring",
        )
    }
}

impl RxPath for PacketRx {
    fn gives(&self) -> u32 {
        flags::CSUM_PARTIAL
    }

    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let mut tally = Tally::default();
        // What the most segments hold, with a tag put in.
        let longest = self.pool.data_room() * u32::try_from(MAX_SEGS).unwrap_or(1) - 4;
        while !burst.is_full() {
            let Some(frame) = self.ring.peek() else {
                if !self.counted {
                    self.count_drops(counters);
                }
                break;
            };
            if frame.len < frame.full_len || frame.len > longest {
                counters.drop(DropReason::RxOversize, 1);
            } else if frame.len < ETH_HEADER {
                counters.drop(DropReason::RxRunt, 1);
            } else if let Some(bytes) = self.receive(&frame, burst) {
                tally.packets += 1;
                tally.bytes += bytes as u64;
            } else {
                counters.no_buffer();
                break;
            }
            self.ring.release();
            self.counted = false;
            if frame.losing {
                self.count_drops(counters);
            }
        }
        Ok(tally)
    }

    /// The socket is readable while there is a frame: no race to look for.
    fn want_wake(&mut self, _on: bool) -> bool {
        false
    }
}
