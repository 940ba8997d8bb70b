//! What a queue has counted.

use std::collections::BTreeMap;

use vring_net::{Counters, DropReason};

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
}

impl QueueStats {
    pub(super) fn read(counters: &Counters) -> Self {
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
        }
    }

    pub(super) fn since(mut self, start: &Self) -> Self {
        self.packets -= start.packets;
        self.bytes -= start.bytes;
        self.nombuf -= start.nombuf;
        self.notifications -= start.notifications;
        for (name, n) in &start.drops {
            if let Some(now) = self.drops.get_mut(name) {
                *now -= n;
            }
        }
        self.drops.retain(|_, n| *n != 0);
        self
    }
}
