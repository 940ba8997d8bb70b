//! Where a sender's packets come from: made by number, or played from a recording.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::copy::copy;
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};
use vring_port::Recording;

use super::frame::{Covers, Frame, FrameSpec};
use super::signature::Signature;
use super::{Size, TrafficOptions};
use crate::ForwardError;

/// Entries of the order in which sizes follow each other, at most: weights are used as they are up to here.
const MAX_ORDER: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) enum Source {
    Made(Made),
    Played(Played),
}

impl Source {
    pub(super) fn new(
        options: &TrafficOptions,
        spec: &FrameSpec,
        pool: &Mempool,
        first_flow: u16,
    ) -> Result<Self, ForwardError> {
        let source = match &options.recording {
            Some(recording) => Self::Played(Played {
                recording: recording.clone(),
                next: 0,
                round: 0,
            }),
            None => Self::Made(Made::new(options, spec, first_flow)?),
        };
        let most = pool.data_room() as usize * MAX_SEGS;
        let longest = source.longest();
        if longest > most {
            return Err(ForwardError::Range {
                what: "bytes of a packet in these buffers",
                min: 1,
                max: most,
                got: longest,
            });
        }
        Ok(source)
    }

    fn longest(&self) -> usize {
        match self {
            Self::Made(made) => made.frames.iter().map(Frame::len).max().unwrap_or(0),
            Self::Played(played) => played.recording.longest(),
        }
    }

    /// Bits that the mean packet takes on an Ethernet, with preamble, check sequence and the gap behind it.
    pub(super) fn mean_bits(&self) -> f64 {
        let bytes = match self {
            Self::Made(made) => {
                let all: usize = made.order.iter().map(|&i| made.frames[i].len()).sum();
                all as f64 / made.order.len() as f64
            }
            Self::Played(played) => played.recording.mean_len(),
        };
        (bytes + 24.0) * 8.0
    }

    /// When the next packet came, in nanoseconds since the first; a recording that is played again follows itself at the mean distance of
    /// its packets. Packets that are made have no such time.
    #[inline]
    pub(super) fn recorded_time(&self) -> u64 {
        match self {
            Self::Made(_) => 0,
            Self::Played(played) => played.time(),
        }
    }

    /// Appends the next packet to the burst, in that buffer and others if it is long. Without enough of those nothing is done, and the
    /// buffer stays the caller's.
    #[inline]
    pub(super) fn write(
        &mut self,
        pool: &Arc<Mempool>,
        burst: &mut Burst,
        buffer: u32,
        now: u64,
    ) -> bool {
        let written = match self {
            Self::Made(made) => made.write(pool, burst, buffer, now),
            Self::Played(played) => put(pool, burst, buffer, played.recording.packet(played.next)),
        };
        if written {
            match self {
                Self::Made(made) => made.advance(),
                Self::Played(played) => played.advance(),
            }
        }
        written
    }
}

/// Packets with a signature, of several sizes and flows that take turns.
#[derive(Debug)]
pub(super) struct Made {
    frames: Vec<Frame>,
    covers: Covers,
    /// Indexes of `frames`, in the order in which sizes follow each other.
    order: Vec<usize>,
    first_flow: u16,
    flows: u16,
    /// The next packet's place in the order of sizes, in its round of flows, and the round.
    turn: usize,
    flow: u16,
    round: u64,
}

impl Made {
    fn new(
        options: &TrafficOptions,
        spec: &FrameSpec,
        first_flow: u16,
    ) -> Result<Self, ForwardError> {
        let frame = |size: &Size| Frame::new(spec, size.bytes);
        Ok(Self {
            frames: options.sizes.iter().map(frame).collect::<Result<_, _>>()?,
            covers: Covers::of(spec),
            order: order(&options.sizes)?,
            first_flow,
            flows: options.flows,
            turn: 0,
            flow: 0,
            round: 0,
        })
    }

    #[inline]
    fn write(&self, pool: &Arc<Mempool>, burst: &mut Burst, buffer: u32, now: u64) -> bool {
        let frame = &self.frames[self.order[self.turn]];
        let signature = Signature {
            flow: self.first_flow + self.flow,
            sequence: self.round,
            time: now,
        };
        if frame.len() > pool.data_room() as usize {
            return put(
                pool,
                burst,
                buffer,
                &frame.bytes(self.flow, self.covers, signature),
            );
        }
        // SAFETY: a fresh buffer has that much room, and it is ours.
        unsafe { frame.write(pool.ptr(buffer), self.flow, self.covers, signature) };
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_FRAME")]
        burst.push(buffer, frame.len() as u32, 0);
        true
    }

    #[inline]
    fn advance(&mut self) {
        self.turn += 1;
        if self.turn == self.order.len() {
            self.turn = 0;
        }
        self.flow += 1;
        if self.flow == self.flows {
            self.flow = 0;
            self.round += 1;
        }
    }
}

/// A recording, over and over.
#[derive(Debug)]
pub(super) struct Played {
    recording: Arc<Recording>,
    next: usize,
    round: u64,
}

impl Played {
    fn time(&self) -> u64 {
        let last = self.recording.time(self.recording.len() - 1);
        let gap = last / (self.recording.len() as u64 - 1).max(1);
        self.round
            .saturating_mul(last + gap.max(1))
            .saturating_add(self.recording.time(self.next))
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.recording.len() {
            self.next = 0;
            self.round += 1;
        }
    }
}

/// Appends these bytes as a packet in as many buffers as it needs, of which the first is there.
fn put(pool: &Arc<Mempool>, burst: &mut Burst, first: u32, bytes: &[u8]) -> bool {
    let room = pool.data_room() as usize;
    let mut buffers = [first; MAX_SEGS];
    let buffers = &mut buffers[..bytes.len().div_ceil(room)];
    let got = pool.alloc_bulk(&mut buffers[1..]);
    if got + 1 < buffers.len() {
        pool.free_bulk(&buffers[1..=got]);
        return false;
    }
    for (i, (&addr, piece)) in buffers.iter().zip(bytes.chunks(room)).enumerate() {
        // SAFETY: a fresh buffer has `room` bytes, and it is ours.
        unsafe { copy(pool.ptr(addr), piece.as_ptr(), piece.len()) };
        #[expect(clippy::cast_possible_truncation, reason = "at most a buffer's room")]
        let len = piece.len() as u32;
        if buffers.len() > 1 {
            pool.link(
                Segment { addr, len },
                buffers.get(i + 1).copied().unwrap_or(NO_SEG),
            );
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a packet has at most 64 KiB"
    )]
    burst.push(
        first,
        bytes.len() as u32,
        if buffers.len() > 1 { flags::MULTI } else { 0 },
    );
    true
}

/// An order in which the sizes follow each other, each as often as its weight says, and as evenly as it can be: the size that is most behind
/// its share comes next.
fn order(sizes: &[Size]) -> Result<Vec<usize>, ForwardError> {
    let total: usize = sizes.iter().map(|size| size.weight).sum();
    if total == 0 || total > MAX_ORDER {
        return Err(ForwardError::Range {
            what: "the sum of the weights of sizes",
            min: 1,
            max: MAX_ORDER,
            got: total,
        });
    }
    let mut credit = vec![0; sizes.len()];
    let next = |_| {
        for (credit, size) in credit.iter_mut().zip(sizes) {
            *credit += isize::try_from(size.weight).unwrap_or(isize::MAX);
        }
        let (next, most) = credit
            .iter_mut()
            .enumerate()
            .max_by_key(|(i, credit)| (**credit, std::cmp::Reverse(*i)))
            .expect("the total is not zero");
        *most -= isize::try_from(total).unwrap_or(isize::MAX);
        next
    };
    Ok((0..total).map(next).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_each_other_evenly_by_their_weights() {
        let size = |bytes, weight| Size { bytes, weight };
        let imix = order(&[size(60, 7), size(590, 4), size(1514, 1)]).unwrap();
        assert_eq!(imix, [0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 1, 0]);
        assert!(order(&[size(60, 0)]).is_err() && order(&[size(60, MAX_ORDER + 1)]).is_err());
    }
}
