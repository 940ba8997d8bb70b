//! What a queue has counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use vring_net::{Counters, DropReason};

use super::kinds::{KINDS, Kinds};

/// A snapshot of a queue's counters, since the last reset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueStats {
    /// Packets.
    pub packets: u64,
    /// Bytes, without virtio-net headers.
    pub bytes: u64,
    /// Times that no buffer was free for a waiting packet.
    pub nombuf: u64,
    /// Notifications sent to the peer.
    pub notifications: u64,
    /// Notifications that came from the peer: of one that signals an eventfd.
    pub notified: u64,
    /// Pages of I/O virtual addresses whose translation was asked for.
    pub iotlb_misses: u64,
    /// Drops by name; only those that happened.
    pub drops: BTreeMap<&'static str, u64>,
    /// Packets received, or taken to be sent, by size and by kind of address, in the order of [`KIND_NAMES`](super::KIND_NAMES): while that was
    /// asked for.
    pub kinds: [u64; KINDS],
}

/// What others count for a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outside {
    /// Notifications of the peer's.
    pub(super) notified: u64,
    /// Packets that the kernel dropped.
    pub(super) missed: u64,
}

/// Tells how many packets were dropped since it was asked last.
pub(crate) type TakeMissed = Box<dyn FnMut() -> u64 + Send>;

/// Packets that the kernel drops before a queue could take them, and counts itself.
#[derive(Default)]
pub(super) struct Missed(Mutex<(Option<TakeMissed>, u64)>);

impl Missed {
    /// Who counts them from now on.
    pub(super) fn set(&self, source: Option<TakeMissed>) {
        let mut missed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = missed.0.as_mut().map_or(0, |take| take());
        *missed = (source, missed.1 + last);
    }

    pub(super) fn count(&self) -> u64 {
        let mut missed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        missed.1 += missed.0.as_mut().map_or(0, |take| take());
        missed.1
    }
}

impl QueueStats {
    pub(super) fn read(counters: &Counters, kinds: &Kinds, outside: Outside) -> Self {
        let drops = DropReason::ALL
            .iter()
            .map(|&r| match r {
                DropReason::RxMissed => (r.name(), counters.dropped(r) + outside.missed),
                _ => (r.name(), counters.dropped(r)),
            })
            .filter(|&(_, n)| n != 0)
            .collect();
        Self {
            packets: counters.packets(),
            bytes: counters.bytes(),
            nombuf: counters.nombuf(),
            notifications: counters.notifications(),
            notified: outside.notified,
            iotlb_misses: counters.iotlb_misses(),
            drops,
            kinds: kinds.read(),
        }
    }

    pub(super) fn since(mut self, start: &Self) -> Self {
        self.packets -= start.packets;
        self.bytes -= start.bytes;
        self.nombuf -= start.nombuf;
        self.notifications -= start.notifications;
        self.notified -= start.notified;
        for (now, then) in self.kinds.iter_mut().zip(start.kinds) {
            *now -= then;
        }
        self.iotlb_misses -= start.iotlb_misses;
        for (name, n) in &start.drops {
            if let Some(now) = self.drops.get_mut(name) {
                *now -= n;
            }
        }
        self.drops.retain(|_, n| *n != 0);
        self
    }
}
