//! What a queue has counted.

use std::collections::BTreeMap;

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
    /// Drops by name; only those that happened.
    pub drops: BTreeMap<&'static str, u64>,
    /// Packets received, or taken to be sent, by size and by kind of address, in the order of [`KIND_NAMES`](super::KIND_NAMES): while that was
    /// asked for.
    pub kinds: [u64; KINDS],
}

impl QueueStats {
    pub(super) fn read(counters: &Counters, kinds: &Kinds) -> Self {
        let drops = DropReason::ALL
            .iter()
            .map(|&r| (r.name(), counters.dropped(r)))
            .filter(|&(_, n)| n != 0)
            .collect();
        Self {
            packets: counters.packets(),
            bytes: counters.bytes(),
            nombuf: counters.nombuf(),
            notifications: counters.notifications(),
            drops,
            kinds: kinds.read(),
        }
    }

    pub(super) fn since(mut self, start: &Self) -> Self {
        self.packets -= start.packets;
        self.bytes -= start.bytes;
        self.nombuf -= start.nombuf;
        self.notifications -= start.notifications;
        for (now, then) in self.kinds.iter_mut().zip(start.kinds) {
            *now -= then;
        }
        for (name, n) in &start.drops {
            if let Some(now) = self.drops.get_mut(name) {
                *now -= n;
            }
        }
        self.drops.retain(|_, n| *n != 0);
        self
    }
}
