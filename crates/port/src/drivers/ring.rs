//! `net_ring`: bounded rings in memory, one for each receive queue. Alone, a port receives on each queue what it sends on the queue of the
//! same number. With `peer=`, two ports are connected crosswise. Packets move by their address: nothing is copied.

use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use vring_mem::burst::Packet;
use vring_mem::burst::flags;
use vring_mem::{Burst, Mempool};
use vring_net::{Counters, DropReason, Tally};
use vring_ring::RingFault;

use super::{MAX_QUEUES, Opened, check_queues, random_mac};
use crate::event::eventfd;
use crate::port::{Driver, Shared};
use crate::queue::{DescStatus, Mode, Path, RxPath, TxPath};
use crate::{Device, LinkStatus, PortConfig, PortError, PortInfo};

/// The open ports of this driver, for a peer that comes later.
static OPEN: Mutex<BTreeMap<String, Arc<End>>> = Mutex::new(BTreeMap::new());

/// What a port gives to its peer.
struct End {
    shared: Arc<Shared>,
    /// What it receives from, by receive queue.
    rings: Vec<Arc<PacketRing>>,
    peer: Mutex<Option<String>>,
}

impl End {
    /// Sends from now on what `other` receives.
    fn send_to(&self, other: &Self) {
        for (queue, ring) in self.shared.tx.iter().zip(&other.rings) {
            let path = RingTx {
                pool: self.shared.pool.clone(),
                ring: ring.clone(),
            };
            queue.attach(Box::new(path), Some(ring.wake.clone()));
        }
        self.shared.set_link(LinkStatus::UP);
    }

    fn stop_sending(&self) {
        self.shared.tx.iter().for_each(|queue| queue.detach());
        self.shared.set_link(LinkStatus::DOWN);
    }

    fn set_peer(&self, name: Option<String>) -> Option<String> {
        std::mem::replace(
            &mut *self.peer.lock().unwrap_or_else(PoisonError::into_inner),
            name,
        )
    }
}

struct RingDriver {
    end: Arc<End>,
    mac: [u8; 6],
    size: usize,
}

pub(super) fn open(device: &Device, config: &PortConfig) -> Opened {
    check_queues(device, config, MAX_QUEUES, MAX_QUEUES, 0)?;
    let size = device.number("size", 1024, 2, 65536)?;
    if !size.is_power_of_two() {
        return Err(device.bad(
            "size",
            "a power of two from 2 to 65536".into(),
            &size.to_string(),
        ));
    }
    let shared = Shared::new(&device.name, config)?;
    let rings = shared
        .rx
        .iter()
        .map(|_| PacketRing::new(size).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    for (queue, ring) in shared.rx.iter().zip(&rings) {
        queue.set_wake_source(Some(ring.wake.clone()))?;
        queue.attach(
            Box::new(RingRx {
                pool: config.pool.clone(),
                ring: ring.clone(),
            }),
            None,
        );
    }
    let end = Arc::new(End {
        shared: shared.clone(),
        rings,
        peer: Mutex::default(),
    });
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    match device.get("peer") {
        None => end.send_to(&end),
        Some(name) => {
            let peer = open.get(name).ok_or_else(|| {
                device.bad("peer", "the name of an open net_ring port".into(), name)
            })?;
            if peer.shared.pool.id() != config.pool.id() {
                return Err(PortError::WrongMempool {
                    queue: shared.name.clone(),
                    expected: peer.shared.pool.name().into(),
                    got: config.pool.name().into(),
                });
            }
            end.set_peer(Some(name.to_owned()));
            if peer.set_peer(Some(device.name.clone())).is_some() {
                return Err(device.bad("peer", "a port that has no peer yet".into(), name));
            }
            end.send_to(peer);
            peer.send_to(&end);
        }
    }
    open.insert(device.name.clone(), end.clone());
    Ok((
        shared,
        Box::new(RingDriver {
            end,
            mac: random_mac(),
            size,
        }),
    ))
}

impl Driver for RingDriver {
    fn info(&self) -> PortInfo {
        let peer = self
            .end
            .peer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        PortInfo {
            driver: "net_ring",
            max_rx_queues: MAX_QUEUES,
            max_tx_queues: MAX_QUEUES,
            details: [
                ("size", self.size.to_string()),
                ("peer", peer.unwrap_or_else(|| "itself".into())),
            ]
            .into(),
            ..Default::default()
        }
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Whoever sends to our rings stops before the rings are emptied.
    fn close(&self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.end.shared.name);
        self.end.stop_sending();
        if let Some(peer) = self
            .end
            .set_peer(None)
            .and_then(|name| open.get(&name).cloned())
        {
            peer.set_peer(None);
            peer.stop_sending();
        }
    }
}

/// One index on a pair of cache lines of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Index(AtomicUsize);

/// Packets with their metadata, from one producer to one consumer.
struct PacketRing {
    slots: Box<[UnsafeCell<Packet>]>,
    /// Written by the producer.
    tail: Index,
    /// Written by the consumer.
    head: Index,
    /// The consumer sleeps, or is about to.
    waiting: AtomicBool,
    wake: Arc<OwnedFd>,
}

// SAFETY: a slot is written by the producer before it moves the tail over it, and read by the consumer before it moves the head over it;
// the queues on both sides have one user each.
unsafe impl Sync for PacketRing {}

impl PacketRing {
    fn new(size: usize) -> Result<Self, PortError> {
        let slots = (0..size).map(|_| UnsafeCell::default()).collect();
        let wake = Arc::new(eventfd()?);
        Ok(Self {
            slots,
            tail: Index::default(),
            head: Index::default(),
            waiting: AtomicBool::new(false),
            wake,
        })
    }

    /// Takes packets of the burst from the front: how many, and their bytes.
    fn push(&self, burst: &Burst) -> (usize, u64) {
        let (addrs, lens, _) = burst.packets();
        let tail = self.tail.0.load(Ordering::Relaxed);
        // Acquire, against the consumer's releasing store: it has read the slots below.
        let used = tail.wrapping_sub(self.head.0.load(Ordering::Acquire));
        let count = addrs.len().min(self.slots.len() - used);
        for i in 0..count {
            let slot = &self.slots[tail.wrapping_add(i) & (self.slots.len() - 1)];
            // SAFETY: between head + size and tail: the consumer does not look here until tail is stored.
            unsafe { slot.get().write(burst.packet(i)) };
        }
        // Release, against the consumer's acquiring load: the slots are written.
        self.tail
            .0
            .store(tail.wrapping_add(count), Ordering::Release);
        (count, lens[..count].iter().map(|&len| u64::from(len)).sum())
    }

    /// Appends packets to the burst: how many, and their bytes.
    fn pop(&self, burst: &mut Burst) -> (usize, u64) {
        let head = self.head.0.load(Ordering::Relaxed);
        let filled = self.tail.0.load(Ordering::Acquire).wrapping_sub(head);
        let first = burst.len();
        let count = filled.min(burst.capacity() - first);
        let mut bytes = 0;
        for i in 0..count {
            let slot = &self.slots[head.wrapping_add(i) & (self.slots.len() - 1)];
            // SAFETY: between head and tail: the producer does not write here until head is stored.
            let packet = unsafe { slot.get().read() };
            burst.set_packet(first + i, &packet);
            bytes += u64::from(packet.len);
        }
        self.head
            .0
            .store(head.wrapping_add(count), Ordering::Release);
        burst.set_len(first + count);
        (count, bytes)
    }

    fn size(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Packets in it.
    fn filled(&self) -> u32 {
        let tail = self.tail.0.load(Ordering::Acquire);
        let filled = tail.wrapping_sub(self.head.0.load(Ordering::Acquire));
        u32::try_from(filled).unwrap_or(u32::MAX)
    }

    fn is_empty(&self) -> bool {
        self.tail.0.load(Ordering::Acquire) == self.head.0.load(Ordering::Relaxed)
    }
}

fn packet_ring_mode() -> Mode {
    Mode::new("addresses", "both ends share a mempool: nothing is copied")
}

struct RingRx {
    pool: Arc<Mempool>,
    ring: Arc<PacketRing>,
}

impl Path for RingRx {
    fn abandon(&mut self, counters: &Counters) {
        let mut burst = Burst::new(64);
        while self.ring.pop(&mut burst).0 > 0 {
            counters.drop(DropReason::RxUnread, burst.len() as u64);
            self.pool.free_burst(&mut burst);
        }
    }

    fn mode(&self) -> Mode {
        packet_ring_mode()
    }

    fn size(&self) -> u32 {
        self.ring.size()
    }

    fn desc_status(&mut self, offset: u32) -> Option<DescStatus> {
        Some(if offset < self.ring.filled() {
            DescStatus::Done
        } else {
            DescStatus::Available
        })
    }

    fn used_count(&mut self) -> Option<u32> {
        Some(self.ring.filled())
    }
}

impl RxPath for RingRx {
    /// What was sent comes as it is.
    fn gives(&self) -> u32 {
        flags::META
    }

    fn rx(&mut self, burst: &mut Burst, _counters: &Counters) -> Result<Tally, RingFault> {
        let (packets, bytes) = self.ring.pop(burst);
        Ok(Tally {
            packets,
            bytes,
            ..Default::default()
        })
    }

    fn want_wake(&mut self, on: bool) -> bool {
        self.ring.waiting.store(on, Ordering::Relaxed);
        // Full fence, against the one in RingTx::tx: our wish must be visible before we look at the ring a last time. Else the producer
        // could add a packet, read that nobody waits, and leave us asleep.
        fence(Ordering::SeqCst);
        on && !self.ring.is_empty()
    }
}

struct RingTx {
    pool: Arc<Mempool>,
    ring: Arc<PacketRing>,
}

impl Path for RingTx {
    fn mode(&self) -> Mode {
        packet_ring_mode()
    }

    fn size(&self) -> u32 {
        self.ring.size()
    }

    fn desc_status(&mut self, offset: u32) -> Option<DescStatus> {
        let free = self.ring.size() - self.ring.filled();
        Some(if offset < free {
            DescStatus::Done
        } else {
            DescStatus::Available
        })
    }

    fn used_count(&mut self) -> Option<u32> {
        Some(self.ring.filled())
    }
}

impl TxPath for RingTx {
    /// The receiver sees what the packet asks for.
    fn takes(&self) -> u32 {
        flags::META
    }

    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        let refused = drop_bad(&self.pool, burst, counters);
        let (packets, bytes) = self.ring.push(burst);
        burst.remove_front(packets);
        // Full fence, against the one in RingRx::want_wake.
        fence(Ordering::SeqCst);
        let notify = packets > 0 && self.ring.waiting.load(Ordering::Relaxed);
        Ok(Tally {
            packets,
            refused,
            bytes,
            notify,
        })
    }
}

/// What a receiver gets is always whole: packets that do not fit the mempool are dropped here, and the others close up.
fn drop_bad(pool: &Arc<Mempool>, burst: &mut Burst, counters: &Counters) -> usize {
    let (addrs, lens, flags) = burst.packets();
    let good = |i: usize| {
        lens[i] >= vring_net::ETH_HEADER && pool.segments(addrs[i], lens[i], flags[i]).is_ok()
    };
    let Some(first_bad) = (0..addrs.len()).find(|&i| !good(i)) else {
        return 0;
    };
    let (kept, bad): (Vec<_>, Vec<_>) = (first_bad..addrs.len()).partition(|&i| good(i));
    let kept: Vec<_> = kept.into_iter().map(|i| burst.packet(i)).collect();
    for &i in &bad {
        pool.free_packet(addrs[i], flags[i]);
    }
    burst.set_len(first_bad);
    for packet in &kept {
        burst.push_packet(packet);
    }
    counters.drop(DropReason::TxBadPacket, bad.len() as u64);
    bad.len()
}
