//! What a queue counts: packets, bytes, and every drop under a name.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a packet that was received or accepted did not go on. Each has a counter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// The peer sent less than an Ethernet header.
    RxRunt,
    /// The peer sent more than a packet can have.
    RxOversize,
    /// A record of a capture that cannot be a packet, or within which the capture ends.
    RxTruncated,
    /// The kernel had no room for it: nobody polled in time.
    RxMissed,
    /// Received into the ring, but the port went down before anyone took it.
    RxUnread,
    /// What its header says of checksums and segments cannot be true of the packet.
    RxBadOffload,
    /// The application does not want packets to that address, or of that VLAN.
    RxFiltered,
    /// Received and handed out, but neither sent nor freed by the script that had it.
    RxUnhandled,
    /// What stands in the burst does not fit its mempool: a script's mistake.
    TxBadPacket,
    /// No buffer of the peer's is large enough, or it has more than the device may send.
    TxTooBig,
    /// Accepted, but the peer went away before it said that it took it.
    TxUnconfirmed,
    /// The file that it was to be written to cannot be written.
    TxWriteFailed,
    /// The port has no file to write it to.
    TxNoFile,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 13] = [
        Self::RxRunt,
        Self::RxOversize,
        Self::RxTruncated,
        Self::RxMissed,
        Self::RxUnread,
        Self::RxBadOffload,
        Self::RxFiltered,
        Self::RxUnhandled,
        Self::TxBadPacket,
        Self::TxTooBig,
        Self::TxUnconfirmed,
        Self::TxWriteFailed,
        Self::TxNoFile,
    ];

    /// The name that statistics show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RxRunt => "rx_runt",
            Self::RxOversize => "rx_oversize",
            Self::RxTruncated => "rx_truncated",
            Self::RxMissed => "rx_missed",
            Self::RxUnread => "rx_unread",
            Self::RxBadOffload => "rx_bad_offload",
            Self::RxFiltered => "rx_filtered",
            Self::RxUnhandled => "rx_unhandled",
            Self::TxBadPacket => "tx_bad_packet",
            Self::TxTooBig => "tx_too_big",
            Self::TxUnconfirmed => "tx_unconfirmed",
            Self::TxWriteFailed => "tx_write_failed",
            Self::TxNoFile => "tx_no_file",
        }
    }
}

/// The counters of one queue, written by the one thread that has the queue, read by anyone.
///
/// Aligned so that two queues never share a line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    /// Times that no buffer was free for what the peer has: it waits in the ring, nothing is lost.
    nombuf: AtomicU64,
    /// Notifications sent to the peer.
    notifications: AtomicU64,
    /// Pages of I/O virtual addresses whose translation had to be asked for. What waits for it stays in the ring.
    iotlb_misses: AtomicU64,
    drops: [AtomicU64; DropReason::ALL.len()],
}

/// One writer only: no locked instruction is needed.
#[inline(always)]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

impl Counters {
    /// Counts what a burst moved.
    #[inline(always)]
    pub fn count(&self, tally: &Tally) {
        if tally.packets != 0 {
            add(&self.packets, tally.packets as u64);
            add(&self.bytes, tally.bytes);
        }
        if tally.notify {
            add(&self.notifications, 1);
        }
    }

    /// Counts dropped packets.
    #[cold]
    pub fn drop(&self, reason: DropReason, n: u64) {
        add(&self.drops[reason as usize], n);
    }

    /// Counts a moment without a free buffer.
    #[cold]
    pub fn no_buffer(&self) {
        add(&self.nombuf, 1);
    }

    /// Counts pages whose translation is asked for.
    #[cold]
    pub fn iotlb_missed(&self, n: u64) {
        add(&self.iotlb_misses, n);
    }

    /// Pages whose translation had to be asked for.
    #[must_use]
    pub fn iotlb_misses(&self) -> u64 {
        self.iotlb_misses.load(Ordering::Relaxed)
    }

    /// Packets moved.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Bytes moved, without virtio-net headers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Times that no buffer was free.
    #[must_use]
    pub fn nombuf(&self) -> u64 {
        self.nombuf.load(Ordering::Relaxed)
    }

    /// Notifications sent.
    #[must_use]
    pub fn notifications(&self) -> u64 {
        self.notifications.load(Ordering::Relaxed)
    }

    /// Packets dropped for that reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }
}

/// What one burst did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Packets moved.
    pub packets: usize,
    /// Packets taken from the burst to be sent, but dropped under a name.
    pub refused: usize,
    /// Bytes of the packets moved.
    pub bytes: u64,
    /// The peer asked to be notified.
    pub notify: bool,
}

impl Tally {
    /// Adds what another burst did.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.refused += other.refused;
        self.bytes += other.bytes;
        self.notify |= other.notify;
    }
}
