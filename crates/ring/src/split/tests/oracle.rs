//! Against rings that others wrote: rust-vmm's device queue for our driver half, and its mock driver for our device half.

use proptest::prelude::*;
use virtio_queue::desc::{RawDescriptor, split};
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vring_mem::guest::GuestMemory;

use super::*;
use crate::DescFlags;

type Mmap = GuestMemoryMmap<()>;

/// Maps the bed's region once more, for the other implementation.
fn theirs(bed: &Bed) -> Mmap {
    let file = std::fs::File::from(bed.region.fd().try_clone_to_owned().unwrap());
    let range = (
        GuestAddress(BASE),
        bed.region.len(),
        Some(FileOffset::new(file, 0)),
    );
    Mmap::from_ranges_with_files([range]).unwrap()
}

fn queue(bed: &Bed, features: RingFeatures) -> Queue {
    let mut queue = Queue::new(bed.size).unwrap();
    let at = |part: usize| GuestAddress(BASE + part as u64);
    queue.set_size(bed.size);
    queue
        .try_set_desc_table_address(at(bed.layout.desc))
        .unwrap();
    queue
        .try_set_avail_ring_address(at(bed.layout.avail))
        .unwrap();
    queue
        .try_set_used_ring_address(at(bed.layout.used))
        .unwrap();
    queue.set_event_idx(features.event_idx);
    queue.set_ready(true);
    queue
}

/// A chain as both sides describe it: token or head, and address, length and direction of each piece.
type Pieces = Vec<(u64, u32, bool)>;

/// Takes all chains that wait.
fn take(queue: &mut Queue, memory: &Mmap) -> Vec<(u16, Pieces)> {
    let mut chains = Vec::new();
    while let Some(chain) = queue.pop_descriptor_chain(memory) {
        let head = chain.head_index();
        let pieces = chain.map(|d| (d.addr().0, d.len(), d.is_write_only()));
        chains.push((head, pieces.collect()));
    }
    chains
}

/// Batches of chains: how many pieces each has, and whether the device writes it (single ones only).
fn batches() -> impl Strategy<Value = Vec<Vec<(usize, bool)>>> {
    let chain = (1usize..20, any::<bool>());
    proptest::collection::vec(proptest::collection::vec(chain, 1..12), 1..12)
}

/// Pushes one batch as far as it fits, and says what the device should find, by token.
fn push(driver: &mut SplitDriver, batch: &[(usize, bool)], token: &mut u32) -> Vec<(u32, Pieces)> {
    let mut pushed = Vec::new();
    for &(count, write) in batch {
        let pieces: Vec<Piece> = (0..count)
            .map(|i| Piece {
                addr: BASE + u64::from(*token) * 64 + i as u64,
                len: *token + 60,
            })
            .collect();
        let write = write && count == 1;
        if write && driver.free_descs() > 0 {
            driver.push(*token, pieces[0], true);
        } else if write || !driver.push_chain(*token, &pieces) {
            continue;
        }
        pushed.push((
            *token,
            pieces.iter().map(|p| (p.addr, p.len, write)).collect(),
        ));
        *token += 1;
    }
    pushed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What our driver half pushes is what rust-vmm's device takes, and what that gives back, in any order, is what ours gets.
    /// The device kicks in when it asked to be, and our half is called when it asked to be.
    #[test]
    fn our_driver_and_their_device(
        power in 1u32..=9,
        kind in 0usize..4,
        wrap: bool,
        batches in batches(),
    ) {
        let bed = Bed::new(1 << power);
        let mut driver = bed.driver(FEATURES[kind]);
        let start = if wrap { 65_520 } else { 0 };
        run_to(&mut driver, &mut bed.device(FEATURES[kind]), start);
        let memory = theirs(&bed);
        let mut queue = queue(&bed, FEATURES[kind]);
        queue.set_next_avail(start);
        queue.set_next_used(start);
        let mut token = 0;
        for batch in &batches {
            let pending = queue.enable_notification(&memory).unwrap();
            prop_assert!(!pending);
            let pushed = push(&mut driver, batch, &mut token);
            driver.publish();
            prop_assert_eq!(driver.needs_kick(), !pushed.is_empty());
            queue.disable_notification(&memory).unwrap();
            prop_assert!(!driver.want_calls(true));

            let taken = take(&mut queue, &memory);
            let pieces = |chains: &[(u32, Pieces)]| chains.iter().map(|c| c.1.clone()).collect::<Vec<_>>();
            let seen: Vec<Pieces> = taken.iter().map(|c| c.1.clone()).collect();
            prop_assert_eq!(seen, pieces(&pushed));
            // Out of order: the last that came goes back first.
            for (nth, (head, _)) in taken.iter().enumerate().rev() {
                queue.add_used(&memory, *head, u32::try_from(nth).unwrap()).unwrap();
            }
            // `needs_notification` remembers the last time that it was asked, so it is asked only about news.
            if !taken.is_empty() {
                prop_assert!(queue.needs_notification(&memory).unwrap());
            }
            driver.want_calls(false);

            prop_assert_eq!(driver.used_ready(1).unwrap(), pushed.len());
            for (nth, (token, _)) in pushed.iter().enumerate().rev() {
                let used = driver.pop_used().unwrap();
                prop_assert_eq!((used.token, used.len as usize), (*token, nth));
            }
            prop_assert_eq!(driver.free_descs(), usize::from(bed.size));
        }
    }

    /// Chains that rust-vmm's mock driver lays out, our device half walks as they were meant, and its used elements stand where
    /// the mock looks for them.
    #[test]
    fn their_driver_and_our_device(
        lens in proptest::collection::vec(proptest::collection::vec(1u32..2000, 1..6), 1..10),
    ) {
        let size = 64;
        let memory = Mmap::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let mock = MockSplitQueue::create(&memory, GuestAddress(0), size);
        let mut descs = Vec::new();
        for chain in &lens {
            for (i, &len) in chain.iter().enumerate() {
                let next = u16::try_from(descs.len() + 1).unwrap();
                let more = i + 1 < chain.len();
                let flags = u16::from(more) | u16::from(i % 2 == 1) << 1;
                let desc = split::Descriptor::new(0x8000 + u64::from(next), len, flags, if more { next } else { 0 });
                descs.push(RawDescriptor::from(desc));
            }
        }
        mock.add_desc_chains(&descs, 0).unwrap();

        let host = |addr: GuestAddress| {
            let at = vm_memory::GuestMemoryBackend::get_host_address(&memory, addr).unwrap();
            std::ptr::NonNull::new(at).unwrap()
        };
        // SAFETY: the mock laid the ring out inside `memory`, which lives longer.
        let mut device = unsafe {
            let (desc, avail, used) = (mock.desc_table_addr(), mock.avail_addr(), mock.used_addr());
            SplitDevice::new(host(desc), host(avail), host(used), size, FEATURES[0])
        };
        let nothing = GuestMemory::default();
        prop_assert_eq!(device.ready(1).unwrap(), lens.len());
        let mut addr = 0x8000;
        for (nth, chain) in lens.iter().enumerate() {
            let head = device.peek(0).unwrap();
            let mut seen = Vec::new();
            device.walk(head, &nothing, &mut |desc| { seen.push(desc); Ok(()) }).unwrap();
            for (i, (desc, &len)) in seen.iter().zip(chain).enumerate() {
                addr += 1;
                prop_assert_eq!((desc.addr, desc.len), (addr, len));
                prop_assert_eq!(desc.flags.contains(DescFlags::WRITE), i % 2 == 1);
            }
            prop_assert_eq!(seen.len(), chain.len());
            device.complete(head.id, 1000 + u32::try_from(nth).unwrap());
            device.publish();
            prop_assert_eq!(usize::from(u16::from_le(mock.used().idx().load())), nth + 1);
            let elem = mock.used().ring().ref_at(nth).unwrap().load();
            prop_assert_eq!((elem.id(), elem.len()), (head.id.into(), 1000 + u32::try_from(nth).unwrap()));
        }
    }
}
