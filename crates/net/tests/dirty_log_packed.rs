//! The log of a migration over packed rings: packets, used descriptors and the event word, and no page besides.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::device::{BORDER, END, FIRST, Guest, SECOND};
use common::{HEADER, MERGEABLE, all_free, layout, pattern, put};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vring_mem::Burst;
use vring_mem::guest::{DirtyLog, GuestMemory, LOG_PAGE, RingLog};
use vring_net::device::{DeviceRx, DeviceTx};
use vring_peer::WRITE;
use vring_peer::packed::{PackedDesc, Place, RawPacked};
use vring_ring::packed::{PackedDevice, PackedDeviceInOrder};
use vring_ring::{DeviceRing, RingFeatures};

/// Where buffers lie: over the border of two regions.
const BUFFERS: u64 = 0x2_8000;
const BUFFERS_END: u64 = SECOND.0 + SECOND.1;

type Pages = BTreeSet<u64>;

/// A ring of a guest, and a log whose file the test keeps.
struct Rig {
    guest: Guest,
    raw: RawPacked,
    areas: [u64; 3],
    size: u16,
    file: std::os::fd::OwnedFd,
    memory: Arc<GuestMemory>,
    at: Place,
}

impl Rig {
    fn new(size: u16) -> Self {
        // The guest's own split ring is not used.
        let guest = Guest::new(2, MERGEABLE);
        let file = memfd_create("dirty-log", MemfdFlags::CLOEXEC).unwrap();
        let len = END / LOG_PAGE / 8 + 1;
        ftruncate(&file, len).unwrap();
        let log = DirtyLog::map(file.try_clone().unwrap(), 0, len).unwrap();
        Self {
            raw: RawPacked::guest(&guest.ram, FIRST.0, size),
            areas: RawPacked::areas(FIRST.0, size),
            size,
            memory: Arc::new(guest.ram.memory().with_log(Some(Arc::new(log)))),
            file,
            guest,
            at: Place::START,
        }
    }

    fn log(&self) -> RingLog {
        let [desc, avail, used] = self.areas;
        RingLog { desc, avail, used }
    }

    /// The marks that were made since the last time.
    fn take(&self) -> Pages {
        let mut bytes = [0; 4096];
        let len = rustix::io::pread(&self.file, &mut bytes, 0).unwrap();
        rustix::io::pwrite(&self.file, &vec![0; len], 0).unwrap();
        let bit = |page: u64| bytes[usize::try_from(page / 8).unwrap()] & 1 << (page % 8) != 0;
        (0..8 * len as u64).filter(|&page| bit(page)).collect()
    }

    fn pages(&self) -> Vec<(u64, Vec<u8>)> {
        let page = usize::try_from(LOG_PAGE).unwrap();
        (FIRST.0 / LOG_PAGE..BUFFERS_END / LOG_PAGE)
            .map(|number| (number, self.guest.ram.read(number * LOG_PAGE, page)))
            .collect()
    }

    /// The driver offers chains of these pieces as far as the ring, which has nothing in it, and the memory for buffers go; how many.
    fn offer(&mut self, chains: &[Vec<u32>], write: bool, in_order: bool) -> usize {
        let (mut addr, mut left) = (BUFFERS, self.size);
        for (nth, chain) in chains.iter().enumerate() {
            let (count, bytes): (_, u32) =
                (u16::try_from(chain.len()).unwrap(), chain.iter().sum());
            if count > left || addr + u64::from(bytes) > BUFFERS_END {
                return nth;
            }
            left -= count;
            let descs: Vec<_> = chain
                .iter()
                .map(|&len| {
                    let desc = PackedDesc::new(addr, len).flags(if write { WRITE } else { 0 });
                    addr += u64::from(len);
                    desc
                })
                .collect();
            let nth = u16::try_from(nth).unwrap();
            let id = if in_order { self.at.slot } else { nth };
            self.raw.offer(&mut self.at, id, &descs);
            addr += 3000;
        }
        chains.len()
    }

    fn fill(&self, fill: u8) {
        for (from, to) in [(BUFFERS, BORDER), (BORDER, BUFFERS_END)] {
            let len = usize::try_from(to - from).unwrap();
            self.guest.ram.write(from, &vec![fill; len]);
        }
    }
}

/// What a device does, burst by burst.
#[derive(Debug, Clone)]
struct Plan {
    size: u16,
    /// Bursts: the chains of each.
    bursts: Vec<Vec<Vec<u32>>>,
    send: bool,
    in_order: bool,
}

/// The pages that changed and those in the log, of each burst.
fn run<R: DeviceRing>(plan: &Plan, rig: &mut Rig, ring: R, fill: u8) -> Vec<(Pages, Pages)> {
    let (log, memory, pool) = (rig.log(), rig.memory.clone(), rig.guest.pool.clone());
    let layout = layout(MERGEABLE);
    let event = BTreeSet::from([rig.areas[2] / LOG_PAGE]);
    enum Half<R: DeviceRing> {
        Tx(DeviceTx<R>),
        Rx(DeviceRx<R>),
    }
    let mut half = if plan.send {
        Half::Tx(DeviceTx::new(ring, memory, pool, layout).with_ring_log(Some(log)))
    } else {
        Half::Rx(DeviceRx::new(ring, memory, pool, layout).with_ring_log(Some(log)))
    };
    assert_eq!(rig.take(), event, "a new half");
    let mut seen = Vec::new();
    for chains in &plan.bursts {
        rig.fill(fill);
        let offered = rig.offer(chains, plan.send, plan.in_order);
        let mut burst = Burst::new(512);
        let before = rig.pages();
        match &mut half {
            Half::Tx(tx) => {
                // A packet that fills each chain, or flows over into the next one.
                for (nth, chain) in (0..).zip(&chains[..offered]) {
                    let len = chain.iter().sum::<u32>() as usize;
                    assert!(put(
                        &rig.guest.pool,
                        &mut burst,
                        &pattern(nth, len.max(14)),
                        usize::MAX
                    ));
                }
                tx.tx(&mut burst, &rig.guest.counters).unwrap();
            }
            Half::Rx(rx) => {
                let tally = rx.rx(&mut burst, &rig.guest.counters).unwrap();
                assert_eq!(tally.packets, offered);
            }
        }
        let changed = before.into_iter().zip(rig.pages());
        let changed = changed.filter(|(old, new)| old != new);
        seen.push((changed.map(|((page, _), _)| page).collect(), rig.take()));
        rig.guest.pool.free_burst(&mut burst);
        // Chains that a sender had no packet for stay: they are taken before the driver goes on.
        if let Half::Tx(tx) = &mut half {
            while tx.ring_mut().ready(1).unwrap() > 0 {
                let id = tx.ring_mut().peek(0).unwrap().id;
                tx.ring_mut().complete(id, 0);
            }
            tx.ring_mut().publish();
        }
    }
    drop(half);
    all_free(&rig.guest.pool);
    seen
}

fn run_over(plan: &Plan, fill: u8) -> Vec<(Pages, Pages)> {
    let mut rig = Rig::new(plan.size);
    let [desc, driver, device] = rig.areas.map(|addr| rig.guest.ram.theirs(addr, 1));
    let (size, base) = (plan.size, 0x8000_8000);
    let features = RingFeatures {
        in_order: plan.in_order,
        ..RingFeatures::default()
    };
    // SAFETY: the areas lie in the memory, which the halves hold.
    unsafe {
        if plan.in_order {
            let ring = PackedDeviceInOrder::new(desc, driver, device, size, base, features);
            run(plan, &mut rig, ring.unwrap(), fill)
        } else {
            let ring = PackedDevice::new(desc, driver, device, size, base, features);
            run(plan, &mut rig, ring.unwrap(), fill)
        }
    }
}

/// Chains whose first piece takes a header and, for a receiving device, the least of a packet.
fn chain() -> impl Strategy<Value = Vec<u32>> {
    (1u32..1500, prop::collection::vec(1u32..40, 0..4))
        .prop_map(|(first, more)| [&[HEADER + 14 + first], &more[..]].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Burst after burst, round and round the ring, in both directions and orders. Twice, over different bytes: what is written changes one of
    /// the two.
    #[test]
    fn a_device_logs_exactly_what_it_writes(
        size in prop::sample::select(vec![5u16, 64, 600, 1000]),
        bursts in prop::collection::vec(prop::collection::vec(chain(), 1..60), 1..12),
        send: bool,
        in_order: bool,
    ) {
        let plan = Plan { size, bursts, send, in_order };
        let (first, second) = (run_over(&plan, 0xaa), run_over(&plan, 0x55));
        for (nth, ((changed, log), (other, again))) in first.into_iter().zip(second).enumerate() {
            prop_assert_eq!(&log, &again, "burst {}", nth);
            prop_assert_eq!(log, &changed | &other, "burst {}", nth);
        }
    }
}
