//! One stream's packets: which comes next, when it is due, and its way into the transmit queue.

use std::sync::Arc;

use vring_mem::burst::flags;
use vring_mem::copy::{copy, prefetch_write};
use vring_mem::mempool::{MAX_SEGS, NO_SEG, Segment};
use vring_mem::{Burst, Mempool};
use vring_port::{Owner, PortError, TxQueue};

use super::frame::{Covers, Frame, FrameSpec};
use super::signature::Signature;
use super::{Size, TrafficOptions};
use crate::ForwardError;

/// A sender that fell behind by more than this many nanoseconds of packets does not send them in one go: they are counted as late.
const MAX_BEHIND: f64 = 1e7;
/// Entries of the order in which sizes follow each other, at most: weights are used as they are up to here.
const MAX_ORDER: usize = 4096;

/// What one sender has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Packets that the transmit queue took.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were due, but could not be sent in time.
    pub late: u64,
    /// The first of its flows.
    pub first_flow: u16,
    /// Its flows: packet `n` belongs to flow `first_flow + n % flows`.
    pub flows: u16,
}

impl Sent {
    /// How many packets of that flow were sent.
    #[must_use]
    pub fn of_flow(&self, flow: u16) -> u64 {
        let Some(nth) = flow
            .checked_sub(self.first_flow)
            .filter(|&nth| nth < self.flows)
        else {
            return 0;
        };
        let flows = u64::from(self.flows);
        self.packets / flows + u64::from(self.packets % flows > nth.into())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sender {
    tx: Arc<TxQueue>,
    frames: Vec<Frame>,
    covers: Covers,
    /// Indexes of `frames`, in the order in which sizes follow each other.
    order: Vec<usize>,
    pub(super) sent: Sent,
    /// What is in `burst` was made already: packets made, and the next one's place in its round of flows and in the order of sizes.
    made: u64,
    flow: u16,
    round: u64,
    turn: usize,
    /// Packets a nanosecond; none to send whatever the queue takes.
    rate: Option<f64>,
    /// No packet is made after so many, and after so many nanoseconds.
    limit: u64,
    until: u64,
    burst: Burst,
}

impl Sender {
    pub(super) fn new(
        options: &TrafficOptions,
        spec: &FrameSpec,
        tx: Arc<TxQueue>,
        first_flow: u16,
    ) -> Result<Self, ForwardError> {
        let frame = |size: &Size| Frame::new(spec, size.bytes);
        let room = tx.pool().data_room() as usize;
        let frames = options
            .sizes
            .iter()
            .map(frame)
            .collect::<Result<Vec<_>, _>>()?;
        let most = room * MAX_SEGS;
        if let Some(frame) = frames.iter().find(|frame| frame.len() > most) {
            return Err(ForwardError::Range {
                what: "bytes of a packet in these buffers",
                min: 60,
                max: most,
                got: frame.len(),
            });
        }
        let order = order(&options.sizes)?;
        let mean_bits = order
            .iter()
            .map(|&i| wire_bits(frames[i].len()))
            .sum::<f64>()
            / order.len() as f64;
        Ok(Self {
            burst: Burst::new(options.burst),
            covers: Covers::of(spec),
            rate: options.rate.map(|rate| rate.packets(mean_bits) / 1e9),
            frames,
            order,
            tx,
            sent: Sent {
                first_flow,
                flows: options.flows,
                ..Sent::default()
            },
            made: 0,
            flow: 0,
            round: 0,
            turn: 0,
            limit: options.limit.unwrap_or(u64::MAX),
            until: options.duration.unwrap_or(u64::MAX),
        })
    }

    /// Whether the last packet was taken by the queue.
    pub(super) fn is_done(&self, now: u64) -> bool {
        self.burst.is_empty() && (self.made >= self.limit || now >= self.until)
    }

    /// Sends what is due at `now`, up to a burst; how many packets.
    #[inline]
    pub(super) fn turn(&mut self, owner: Owner, now: u64) -> Result<usize, PortError> {
        let due = self.due(now);
        if due > 0 {
            self.make(due, now);
        }
        if self.burst.is_empty() {
            return Ok(0);
        }
        let lens = self.burst.packets().1;
        let before: u64 = lens.iter().map(|&len| u64::from(len)).sum();
        let taken = self.tx.burst(owner, &mut self.burst)?;
        let after: u64 = self
            .burst
            .packets()
            .1
            .iter()
            .map(|&len| u64::from(len))
            .sum();
        self.sent.packets += taken as u64;
        self.sent.bytes += before - after;
        Ok(taken)
    }

    /// How many packets to make now, beside those that wait in the burst.
    #[inline]
    fn due(&mut self, now: u64) -> usize {
        let room = self.burst.capacity() - self.burst.len();
        if now >= self.until || room == 0 {
            return 0;
        }
        let left = usize::try_from(self.limit - self.made)
            .unwrap_or(usize::MAX)
            .min(room);
        let Some(rate) = self.rate else { return left };
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits are years of nanoseconds"
        )]
        let (time, gone) = (now as f64, (self.made + self.sent.late) as f64);
        let behind = time * rate - gone;
        if behind < 0.0 {
            return 0;
        }
        if behind > MAX_BEHIND * rate + self.burst.capacity() as f64 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive number of packets"
            )]
            let late = (behind - MAX_BEHIND * rate) as u64;
            self.sent.late += late;
        }
        // The first packet is due at once, the next when its time has come.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number, saturates"
        )]
        let packets = behind as usize + 1;
        packets.min(left)
    }

    /// Makes up to `count` packets, as far as there are buffers.
    #[inline]
    fn make(&mut self, count: usize, now: u64) {
        let pool = self.tx.pool().clone();
        let room = pool.data_room() as usize;
        let at = self.burst.len();
        let mut fresh = [0; vring_mem::burst::MAX_BURST];
        let got = pool.alloc_bulk(&mut fresh[..count]);
        for &addr in &fresh[..got] {
            prefetch_write(pool.ptr(addr));
        }
        let mut used = 0;
        while used < got {
            let frame = &self.frames[self.order[self.turn]];
            let signature = Signature {
                flow: self.sent.first_flow + self.flow,
                sequence: self.round,
                time: now,
            };
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_FRAME")]
            let len = frame.len() as u32;
            if frame.len() <= room {
                // SAFETY: a fresh buffer has that much room, and it is ours.
                unsafe { frame.write(pool.ptr(fresh[used]), self.flow, self.covers, signature) };
                self.burst.push(fresh[used], len, 0);
            } else if !chain(
                &pool,
                &mut self.burst,
                fresh[used],
                &frame.bytes(self.flow, self.covers, signature),
            ) {
                break;
            }
            used += 1;
            self.advance();
        }
        pool.free_bulk(&fresh[used..got]);
        self.made += (self.burst.len() - at) as u64;
    }

    #[inline]
    fn advance(&mut self) {
        self.turn += 1;
        if self.turn == self.order.len() {
            self.turn = 0;
        }
        self.flow += 1;
        if self.flow == self.sent.flows {
            self.flow = 0;
            self.round += 1;
        }
    }

    /// Gives up the packets that the queue did not take; its last ones come back to the pool.
    pub(super) fn finish(&mut self, owner: Owner) -> Result<(), PortError> {
        self.tx.pool().free_burst(&mut self.burst);
        self.tx.reclaim(owner)
    }
}

/// Writes a packet into as many buffers as it needs, the first of which is there. Without enough buffers nothing is done, and the first one
/// stays the caller's.
#[cold]
fn chain(pool: &Arc<Mempool>, burst: &mut Burst, first: u32, bytes: &[u8]) -> bool {
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
        pool.link(
            Segment { addr, len },
            buffers.get(i + 1).copied().unwrap_or(NO_SEG),
        );
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_FRAME")]
    burst.push(first, bytes.len() as u32, flags::MULTI);
    true
}

/// Bits that a packet takes on an Ethernet: with preamble, check sequence and the gap behind it.
pub(super) fn wire_bits(bytes: usize) -> f64 {
    (bytes + 24) as f64 * 8.0
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
mod tests;
