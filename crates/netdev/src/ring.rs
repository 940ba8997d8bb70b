//! The rings of a packet socket (`TPACKET_V2`): frames in memory that the kernel shares, without a system call for each.
//!
//! ```text
//! mapping = receive blocks · transmit blocks      block = whole frames      frame = status u32 · lengths · … · data
//! ```
//!
//! A frame is the kernel's or ours, by its status word. Each ring has one user; the mapping lives as long as either.

use std::ffi::c_int;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::SendFlags;

use crate::{NetdevError, PacketSocket, sys};

/// Where the fields of a frame's header stand, and where what is sent begins.
mod at {
    pub const LEN: usize = 4;
    pub const SNAPLEN: usize = 8;
    pub const MAC: usize = 12;
    pub const VLAN_TCI: usize = 24;
    pub const TX_DATA: usize = 32;
}

/// Bits of a frame's status.
mod status {
    pub const KERNEL: u32 = 0;
    pub const USER: u32 = 1 << 0;
    pub const LOSING: u32 = 1 << 2;
    pub const CHECKSUM_NOT_READY: u32 = 1 << 3;
    pub const VLAN_VALID: u32 = 1 << 4;
    pub const SEND_REQUEST: u32 = 1 << 0;
    pub const SENDING: u32 = 1 << 1;
}

/// The shape of both rings of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingShape {
    /// Bytes of a block, a multiple of the page.
    pub block_size: u32,
    /// Bytes of a frame with its header, a multiple of 16, at most a block.
    pub frame_size: u32,
    /// Frames of a ring: whole blocks of them.
    pub frames: u32,
}

impl RingShape {
    fn per_block(self) -> u32 {
        self.block_size / self.frame_size
    }

    /// Longest packet that can be sent.
    #[must_use]
    pub fn tx_room(self) -> u32 {
        self.frame_size - 32
    }

    fn bytes(self) -> usize {
        self.frames.div_ceil(self.per_block()) as usize * self.block_size as usize
    }

    fn offset(self, frame: u32) -> usize {
        let (block, rest) = (frame / self.per_block(), frame % self.per_block());
        block as usize * self.block_size as usize + rest as usize * self.frame_size as usize
    }
}

/// The kernel's `struct tpacket_req`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Request {
    block_size: u32,
    blocks: u32,
    frame_size: u32,
    frames: u32,
}

/// The memory of both rings.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
    socket: PacketSocket,
}

// SAFETY: plain memory behind a pointer that never changes; who reads and writes which frame is decided by the frames' status words.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are what mmap gave, and nobody else unmaps them.
        let _our_own = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// One ring: a position that goes round.
#[derive(Debug)]
struct Ring {
    mapping: Arc<Mapping>,
    shape: RingShape,
    start: usize,
    next: u32,
}

impl Ring {
    /// The frame that is `ahead` places from the next one.
    fn frame(&self, ahead: u32) -> *mut u8 {
        let frame = (self.next + ahead) % self.shape.frames;
        let offset = self.start + self.shape.offset(frame);
        self.mapping.base.as_ptr().wrapping_add(offset)
    }

    fn status(frame: *mut u8) -> &'static AtomicU32 {
        // SAFETY: callers pass a frame of the mapping, aligned to 16 bytes, and do not keep what they get beyond their own borrow of the ring.
        unsafe { AtomicU32::from_ptr(frame.cast()) }
    }

    fn advance(&mut self) {
        self.next = (self.next + 1) % self.shape.frames;
    }
}

/// A frame that came.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedFrame {
    /// Its first byte. Good until [`RxRing::release`].
    pub data: *const u8,
    /// Bytes of it that are there.
    pub len: u32,
    /// Bytes that it had: more, when it did not fit.
    pub full_len: u32,
    /// The VLAN tag, which is not in the bytes.
    pub vlan: Option<u16>,
    /// Its checksum was left to somebody else.
    pub checksum_missing: bool,
    /// The kernel dropped some for want of room since its counters were last looked at.
    pub losing: bool,
}

/// Receives.
#[derive(Debug)]
pub struct RxRing(Ring);

impl RxRing {
    /// The next frame, if there is one.
    #[must_use]
    pub fn peek(&self) -> Option<ReceivedFrame> {
        let frame = self.0.frame(0);
        // Acquire, against the kernel's barrier before it hands the frame over: what it wrote is seen.
        let status = Ring::status(frame).load(Ordering::Acquire);
        if status & status::USER == 0 {
            return None;
        }
        // SAFETY: the header lies in the frame, which is ours while the status says so.
        let (full_len, len, mac, tci) = unsafe {
            (
                frame.add(at::LEN).cast::<u32>().read_volatile(),
                frame.add(at::SNAPLEN).cast::<u32>().read_volatile(),
                frame.add(at::MAC).cast::<u16>().read_volatile(),
                frame.add(at::VLAN_TCI).cast::<u16>().read_volatile(),
            )
        };
        let room = self.0.shape.frame_size.saturating_sub(mac.into());
        Some(ReceivedFrame {
            data: frame.wrapping_add(mac.into()),
            len: len.min(room),
            full_len,
            vlan: (status & status::VLAN_VALID != 0).then_some(tci),
            checksum_missing: status & status::CHECKSUM_NOT_READY != 0,
            losing: status & status::LOSING != 0,
        })
    }

    /// Gives the next frame back to the kernel.
    pub fn release(&mut self) {
        // Release: what we read of the frame was read before.
        Ring::status(self.0.frame(0)).store(status::KERNEL, Ordering::Release);
        self.0.advance();
    }

    /// The socket, to be told what it receives.
    #[must_use]
    pub fn socket(&self) -> &PacketSocket {
        &self.0.mapping.socket
    }
}

impl AsFd for RxRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.mapping.socket.as_fd()
    }
}

/// Transmits.
#[derive(Debug)]
pub struct TxRing(Ring);

impl TxRing {
    /// Where the next packet goes, at most [`RingShape::tx_room`] bytes. `None` while the kernel has all frames.
    #[must_use]
    pub fn slot(&self) -> Option<*mut u8> {
        let frame = self.0.frame(0);
        // Acquire: the kernel has read the frame before it gave it back.
        let status = Ring::status(frame).load(Ordering::Acquire);
        let taken = status & (status::SEND_REQUEST | status::SENDING) != 0;
        (!taken).then(|| frame.wrapping_add(at::TX_DATA))
    }

    /// Hands the next frame over, with that many bytes.
    pub fn submit(&mut self, len: u32) {
        let frame = self.0.frame(0);
        // SAFETY: inside the header of a frame that is ours.
        unsafe { frame.add(at::LEN).cast::<u32>().write_volatile(len) };
        // Release: the packet is written before the kernel may read it.
        Ring::status(frame).store(status::SEND_REQUEST, Ordering::Release);
        self.0.advance();
    }

    /// Has the kernel send what was handed over. False when some of it waits: for room, or for the device to be switched on.
    #[must_use]
    pub fn flush(&self) -> bool {
        let socket = &self.0.mapping.socket;
        rustix::net::send(socket, &[], SendFlags::DONTWAIT).is_ok()
    }

    /// Packets that were handed over and not sent yet.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let mine = status::SEND_REQUEST | status::SENDING;
        let waits =
            |ahead: &u32| Ring::status(self.0.frame(*ahead)).load(Ordering::Relaxed) & mine != 0;
        let count = (0..self.0.shape.frames).filter(waits).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

impl PacketSocket {
    /// Gives the socket its rings and binds it; one that does not receive only sends.
    ///
    /// # Errors
    /// [`NetdevError::System`]: `EINVAL` for a shape that the kernel does not take, `ENOMEM`.
    pub fn with_rings(
        self,
        shape: RingShape,
        receives: bool,
    ) -> Result<(RxRing, TxRing), NetdevError> {
        let frames = shape.per_block() * shape.frames.div_ceil(shape.per_block().max(1));
        let shape = RingShape { frames, ..shape };
        let request = Request {
            block_size: shape.block_size,
            blocks: frames / shape.per_block(),
            frame_size: shape.frame_size,
            frames,
        };
        const TPACKET_V2: c_int = 1;
        self.set(libc::PACKET_VERSION, TPACKET_V2)?;
        // A frame that the device does not take is passed over, and does not block those behind it.
        self.set(libc::PACKET_LOSS, 1)?;
        for option in [libc::PACKET_RX_RING, libc::PACKET_TX_RING] {
            sys::set_packet_option(self.as_fd(), option, request)
                .map_err(|errno| self.failed("making its rings", errno))?;
        }
        let len = 2 * shape.bytes();
        let base = map(&self, len).map_err(|errno| self.failed("mapping its rings", errno))?;
        let mapping = Arc::new(Mapping {
            base,
            len,
            socket: self,
        });
        mapping.socket.bind_for(receives)?;
        let ring = |start| Ring {
            mapping: mapping.clone(),
            shape,
            start,
            next: 0,
        };
        Ok((RxRing(ring(0)), TxRing(ring(shape.bytes()))))
    }
}

fn map(socket: &PacketSocket, len: usize) -> Result<NonNull<u8>, Errno> {
    // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases nothing in this process.
    let base = unsafe {
        mmap(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::POPULATE,
            socket,
            0,
        )
    }?;
    NonNull::new(base.cast()).ok_or(Errno::NOMEM)
}
