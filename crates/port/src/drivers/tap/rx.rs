//! Receives: each frame is read straight into buffers of the mempool.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use vring_mem::burst::{Packet, flags};
use vring_mem::mempool::{NO_SEG, Segment};
use vring_mem::{Burst, Mempool};
use vring_net::{Counters, DropReason, ETH_HEADER, Header, Tally, decode};
use vring_netdev::Pieces;
use vring_ring::RingFault;

use super::HEADER;
use crate::queue::{Mode, Path, RxPath};

/// The longest frame: the largest MTU, with an Ethernet header and two VLAN tags.
const LONGEST: usize = crate::MAX_MTU as usize + 22;
/// The same for a packet that is still to be cut: the largest of IP's.
const LONGEST_UNCUT: usize = 65_535 + 22;

/// See the module.
pub(super) struct TapRx {
    file: Arc<OwnedFd>,
    pool: Arc<Mempool>,
    /// The header, the buffers, and one byte that is written only when a frame is longer than they are.
    pieces: Pieces,
    /// Free buffers that the next frame is read into, in the order of the pieces.
    buffers: Vec<u32>,
    /// As many as the longest frame needs.
    wanted: usize,
    /// What the header may say, as bits of [`flags::META`].
    gives: u32,
    /// Memory of the first and the last piece; nothing points into it but those.
    ends: Box<[u8; HEADER + 1]>,
}

/// What came of one read.
enum Frame {
    Received(usize),
    Dropped(DropReason),
    None,
}

impl TapRx {
    pub(super) fn new(file: &Arc<OwnedFd>, pool: &Arc<Mempool>, gives: u32) -> Self {
        let longest = if gives & flags::GSO == 0 {
            LONGEST
        } else {
            LONGEST_UNCUT
        };
        Self {
            file: file.clone(),
            pool: pool.clone(),
            pieces: Pieces::default(),
            buffers: Vec::new(),
            wanted: longest.div_ceil(pool.data_room() as usize),
            gives,
            ends: Box::new([0; HEADER + 1]),
        }
    }

    /// Completes the buffers; false when the mempool has too few.
    fn refill(&mut self) -> bool {
        let have = self.buffers.len();
        if have == self.wanted {
            return true;
        }
        self.buffers.resize(self.wanted, 0);
        let got = self.pool.alloc_bulk(&mut self.buffers[have..]);
        self.buffers.truncate(have + got);
        if have + got < self.wanted {
            return false;
        }
        let ends = self.ends.as_mut_ptr();
        let room = self.pool.data_room() as usize;
        self.pieces.clear();
        self.pieces.push(ends, HEADER);
        for &addr in &self.buffers {
            self.pieces.push(self.pool.ptr(addr), room);
        }
        self.pieces.push(ends.wrapping_add(HEADER), 1);
        true
    }

    /// Reads one frame into the buffers.
    fn read(&mut self) -> Frame {
        let room = self.wanted * self.pool.data_room() as usize;
        // SAFETY: the ends are ours; each buffer is a fresh one of the mempool's with `data_room` bytes from its address, and ours too.
        match unsafe { self.pieces.read(&*self.file) } {
            Ok(len) if len < HEADER + ETH_HEADER as usize => Frame::Dropped(DropReason::RxRunt),
            Ok(len) if len - HEADER > room => Frame::Dropped(DropReason::RxOversize),
            Ok(len) => Frame::Received(len - HEADER),
            Err(Errno::INTR) => self.read(),
            // Nothing there, or the device is off or gone: the control thread sees to that.
            Err(_) => Frame::None,
        }
    }

    /// Makes a packet of the first `len` bytes in the buffers; what they lie in is not ours any more. False when the header lies.
    fn take(&mut self, len: usize, burst: &mut Burst) -> bool {
        let room = self.pool.data_room() as usize;
        let used = len.div_ceil(room);
        if used > 1 {
            for nth in 0..used {
                let bytes = room.min(len - nth * room);
                let next = self.buffers[..used].get(nth + 1).copied().unwrap_or(NO_SEG);
                let segment = Segment {
                    addr: self.buffers[nth],
                    len: u32::try_from(bytes).unwrap_or(0),
                };
                self.pool.link(segment, next);
            }
        }
        let mut packet = Packet {
            addr: self.buffers[0],
            len: u32::try_from(len).unwrap_or(0),
            flags: if used > 1 { flags::MULTI } else { 0 },
            ..Packet::default()
        };
        let honest = decode(&self.header(), self.gives, &self.pool, &mut packet);
        if honest {
            burst.push_packet(&packet);
            self.buffers.drain(..used);
        }
        honest
    }

    /// What the kernel wrote into the first piece.
    fn header(&self) -> Header {
        let mut header = Header::default();
        header[..HEADER].copy_from_slice(&self.ends[..HEADER]);
        header
    }
}

impl Path for TapRx {
    fn mode(&self) -> Mode {
        Mode::new("tap, one readv a frame", "the kernel has no ring for it")
    }
}

impl RxPath for TapRx {
    fn gives(&self) -> u32 {
        self.gives
    }

    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let mut tally = Tally::default();
        while !burst.is_full() {
            if !self.refill() {
                counters.no_buffer();
                break;
            }
            match self.read() {
                Frame::Received(len) if self.take(len, burst) => {
                    tally.packets += 1;
                    tally.bytes += len as u64;
                }
                Frame::Received(_) => counters.drop(DropReason::RxBadOffload, 1),
                Frame::Dropped(reason) => counters.drop(reason, 1),
                Frame::None => break,
            }
        }
        Ok(tally)
    }

    /// The file is readable while there is a frame: no race to look for.
    fn want_wake(&mut self, _on: bool) -> bool {
        false
    }
}

impl Drop for TapRx {
    fn drop(&mut self) {
        self.pool.free_bulk(&self.buffers);
    }
}
