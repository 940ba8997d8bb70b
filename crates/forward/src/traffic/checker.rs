//! What came back: which packets, how often, in which order, how late, and whether they are what was sent.

use hdrhistogram::Histogram;
use vring_mem::copy::copy;
use vring_mem::mempool::Segment;
use vring_mem::{Burst, Mempool};

use super::frame::PATTERN;
use super::sequence::{Arrival, Flow, Missing};
use super::signature::{self, Found, Signature};

/// Most packets of a kind of trouble that are named; all are counted.
const MAX_NAMED: usize = 1000;
/// Most ranges of missing packets that are kept. Beyond, they are only counted.
const MAX_RANGES: u64 = 100_000;
/// Bytes looked at for headers and signature.
const HEAD: usize = 128;
/// Ages above are counted as this: ten minutes.
const MAX_AGE: u64 = 600_000_000_000;

/// A packet of a flow.
pub type Name = (u16, u64);

/// What one checker has seen.
#[derive(Debug, Clone)]
pub struct Received {
    /// Packets, also foreign ones.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets of ours that came for the first time, whole.
    pub unique: u64,
    /// … of which so many came after a newer one of their flow.
    pub reordered: u64,
    /// Packets that came again.
    pub duplicated: u64,
    /// Packets so far behind the newest of their flow that it is not known whether they came before.
    pub stale: u64,
    /// Packets of ours whose bytes are not what was sent. Each is missing in its flow, too.
    pub damaged: u64,
    /// Packets that are not ours.
    pub foreign: u64,
    /// Packets that came again, the first of them.
    pub duplicates: Vec<Name>,
    /// Packets that came late, the first of them.
    pub late: Vec<Name>,
    /// Nanoseconds from making a packet to its arrival.
    pub latency: Histogram<u64>,
    /// Mean change of the latency from packet to packet, as RFC 3550 (section 6.4.1) smooths it.
    pub jitter: f64,
    flows: Vec<Option<Box<Flow>>>,
    missing: Missing,
    last_age: Option<u64>,
}

impl Default for Received {
    fn default() -> Self {
        let latency =
            Histogram::new_with_bounds(1, MAX_AGE, 3).expect("the bounds and the digits are right");
        Self {
            packets: 0,
            bytes: 0,
            unique: 0,
            reordered: 0,
            duplicated: 0,
            stale: 0,
            damaged: 0,
            foreign: 0,
            duplicates: Vec::new(),
            late: Vec::new(),
            latency,
            jitter: 0.0,
            flows: Vec::new(),
            missing: Missing::default(),
            last_age: None,
        }
    }
}

impl Received {
    /// Counts the packets of a burst: those of a recording are foreign, whatever is in them.
    pub(super) fn count(&mut self, burst: &Burst) {
        let lens = burst.packets().1;
        self.packets += lens.len() as u64;
        self.foreign += lens.len() as u64;
        self.bytes += lens.iter().map(|&len| u64::from(len)).sum::<u64>();
    }

    /// Looks at all packets of a burst, which came at `now`.
    #[inline]
    pub(super) fn look(&mut self, pool: &Mempool, burst: &Burst, now: u64) {
        let (addrs, lens, all_flags) = burst.packets();
        self.packets += addrs.len() as u64;
        for ((&addr, &len), &flags) in addrs.iter().zip(lens).zip(all_flags) {
            self.bytes += u64::from(len);
            match read(pool, addr, len, flags) {
                Found::Signature(signature) => self.note(signature, now),
                Found::Damaged => self.damaged += 1,
                Found::Foreign => self.foreign += 1,
            }
        }
    }

    #[inline]
    fn note(&mut self, signature: Signature, now: u64) {
        let flow = usize::from(signature.flow);
        if flow >= self.flows.len() {
            self.flows.resize(flow + 1, None);
        }
        match self.flows[flow]
            .get_or_insert_default()
            .note(signature.sequence)
        {
            Arrival::Next => self.unique += 1,
            arrival => self.note_trouble(signature, arrival),
        }
        let age = signature.age(now);
        self.latency.saturating_record(age);
        if let Some(last) = self.last_age.replace(age) {
            #[expect(clippy::cast_precision_loss, reason = "below ten minutes")]
            let change = age.abs_diff(last) as f64;
            self.jitter += (change - self.jitter) / 16.0;
        }
    }

    #[cold]
    fn note_trouble(&mut self, signature: Signature, arrival: Arrival) {
        let (flow, sequence) = (signature.flow, signature.sequence);
        let name = |list: &mut Vec<Name>| {
            if list.len() < MAX_NAMED {
                list.push((flow, sequence));
            }
        };
        match arrival {
            Arrival::Next => {}
            Arrival::Ahead { from } => {
                self.unique += 1;
                if self.missing.ranges() < MAX_RANGES {
                    self.missing.open(flow, from, sequence);
                }
            }
            Arrival::Late => {
                self.unique += 1;
                self.reordered += 1;
                self.missing.close(flow, sequence);
                name(&mut self.late);
            }
            Arrival::Double => {
                self.duplicated += 1;
                name(&mut self.duplicates);
            }
            Arrival::Stale => self.stale += 1,
        }
    }

    /// Ranges of packets that did not come, in order: flow, first, and the one after the last. `sent` says how many of a flow were sent.
    #[must_use]
    pub fn missing(&self, sent: impl Iterator<Item = (u16, u64)>) -> Vec<(u16, u64, u64)> {
        let mut all = self.missing.clone();
        for (flow, count) in sent {
            let next = self
                .flows
                .get(usize::from(flow))
                .and_then(Option::as_ref)
                .map_or(0, |flow| flow.next());
            all.open(flow, next, count);
        }
        all.iter().take(MAX_NAMED).collect()
    }
}

/// What a packet is.
#[inline]
fn read(pool: &Mempool, addr: u32, len: u32, flags: u32) -> Found {
    let Ok(mut segments) = pool.segments(addr, len, flags) else {
        return Found::Foreign;
    };
    let Some(first) = segments.next() else {
        return Found::Foreign;
    };
    let mut head = [0; HEAD];
    let shown = HEAD.min(first.len as usize);
    // SAFETY: the segment lies inside its buffer; the copy is what is looked at, so it does not matter whether a peer writes meanwhile.
    unsafe { copy(head.as_mut_ptr(), pool.ptr(first.addr), shown) };
    let Some(at) = payload_at(&head[..shown]) else {
        return Found::Foreign;
    };
    let Some(marks) = head[..shown].get(at..) else {
        return Found::Foreign;
    };
    #[expect(clippy::cast_possible_truncation, reason = "below HEAD")]
    let found = Signature::decode(marks, len.saturating_sub(at as u32));
    if !matches!(found, Found::Signature(_)) {
        return found;
    }
    let behind = at + signature::BYTES;
    let rest = Segment {
        addr: first.addr,
        len: first.len,
    };
    let whole = matches_pattern(pool, rest, behind, 0) && {
        let mut seen = first.len as usize - behind;
        segments.all(|segment| {
            let from = seen;
            seen += segment.len as usize;
            matches_pattern(pool, segment, 0, from)
        })
    };
    if whole { found } else { Found::Damaged }
}

/// Whether the bytes of a segment from `skip` on are those of the pattern from `from` on.
#[inline]
fn matches_pattern(pool: &Mempool, segment: Segment, skip: usize, from: usize) -> bool {
    const PIECE: usize = 256;
    let end = segment.len as usize;
    let (mut at, mut expected) = (skip, &PATTERN[..]);
    let Some(tail) = expected.get(from..) else {
        return false;
    };
    expected = tail;
    while at < end {
        let mut piece = [0; PIECE];
        let len = PIECE.min(end - at);
        // SAFETY: the segment lies inside its buffer, and a copy is looked at.
        unsafe { copy(piece.as_mut_ptr(), pool.ptr(segment.addr).add(at), len) };
        let Some((now, later)) = expected.split_at_checked(len) else {
            return false;
        };
        if piece[..len] != *now {
            return false;
        }
        (at, expected) = (at + len, later);
    }
    true
}

/// Where the payload of UDP, TCP or an echo begins.
#[inline]
fn payload_at(head: &[u8]) -> Option<usize> {
    let be16 = |at: usize| Some(u16::from_be_bytes(*head.get(at..)?.first_chunk()?));
    let mut at = 12;
    while matches!(be16(at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    let (protocol, l4) = match be16(at)? {
        0x0800 => (
            *head.get(at + 11)?,
            at + 2 + usize::from(head.get(at + 2)? & 15) * 4,
        ),
        0x86dd => (*head.get(at + 8)?, at + 42),
        _ => return None,
    };
    match protocol {
        17 | 1 | 58 => Some(l4 + 8),
        6 => Some(l4 + usize::from(head.get(l4 + 12)? >> 4) * 4),
        _ => None,
    }
}
