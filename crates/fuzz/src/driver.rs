//! The driver's half against a device that writes anything.

use std::ptr::NonNull;
use std::sync::Arc;

use vring_mem::{Burst, Mempool, Pages, Region};
use vring_net::driver::{DriverMemory, DriverRx, DriverTx};
use vring_net::{Counters, MAX_HEADER};
use vring_ring::packed::{PackedDriver, PackedDriverInOrder, PackedLayout};
use vring_ring::split::{SplitDriver, SplitDriverInOrder};
use vring_ring::{DriverRing, SplitLayout};

use crate::bytes::Bytes;
use crate::{STARTS, Shape, all_free, fill, pool};

/// The device's addresses of the mempool and of the rings.
const POOL: u64 = 0x10_0000_0000;
const RING: u64 = 0x20_0000_0000;

struct Host {
    region: Arc<Region>,
    pool: Arc<Mempool>,
    counters: Counters,
    shape: Shape,
    /// Bytes of the region that are the ring's.
    total: usize,
    /// Where the device writes what it used.
    used: usize,
}

impl Host {
    fn memory(&self) -> DriverMemory {
        DriverMemory {
            pool: self.pool.clone(),
            device_base: POOL,
        }
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        NonNull::new(self.region.base().wrapping_add(offset % (self.total - 8))).expect("mapped")
    }

    fn word(&self, offset: usize) -> u64 {
        // SAFETY: `at` leaves room for eight bytes inside the region; nobody else runs.
        unsafe { self.at(offset).cast::<u64>().read_unaligned() }
    }

    fn write(&self, offset: usize, word: u64) {
        // SAFETY: as in word.
        unsafe { self.at(offset).cast::<u64>().write_unaligned(word) };
    }

    fn run<R: DriverRing>(&self, make: impl Fn() -> R, bytes: &mut Bytes<'_>) {
        let receives = bytes.u8() & 1 == 1;
        for _ in 0..STARTS {
            let (memory, layout) = (self.memory(), self.shape.layout());
            match (receives, self.shape.mergeable) {
                (true, true) => {
                    self.receive::<R, true>(DriverRx::new(make(), memory, layout), bytes);
                }
                (true, false) => {
                    self.receive::<R, false>(DriverRx::new(make(), memory, layout), bytes);
                }
                (false, _) => {
                    let spare = RING + self.total as u64;
                    self.transmit(DriverTx::new(make(), memory, layout, spare), bytes);
                }
            }
        }
    }

    fn receive<R: DriverRing, const MRG: bool>(
        &self,
        mut rx: DriverRx<R, MRG>,
        bytes: &mut Bytes<'_>,
    ) {
        let mut burst = Burst::new(32);
        while !bytes.is_empty() {
            if !self.act(bytes) {
                continue;
            }
            let result = rx.rx(&mut burst, &self.counters);
            self.pool.free_burst(&mut burst);
            if result.is_err() {
                return;
            }
            rx.want_calls(bytes.u8() & 1 == 1);
        }
    }

    fn transmit<R: DriverRing>(&self, mut tx: DriverTx<R>, bytes: &mut Bytes<'_>) {
        let mut burst = Burst::new(32);
        while !bytes.is_empty() {
            if !self.act(bytes) {
                continue;
            }
            fill(&self.pool, &mut burst, bytes);
            let result = tx.tx(&mut burst, &self.counters);
            self.pool.free_burst(&mut burst);
            if result.is_err() || tx.reclaim().is_err() {
                return;
            }
        }
    }

    /// Writes what the next bytes say; true when it is a burst's turn.
    fn act(&self, bytes: &mut Bytes<'_>) -> bool {
        let size = usize::from(self.shape.size);
        match bytes.u8() % 6 {
            // Any word, anywhere in the ring.
            0 => self.write(bytes.u32() as usize, bytes.u64()),
            // The next used element, nearly right.
            1..=3 => {
                let (index, id) = (usize::from(bytes.u8()), u64::from(bytes.u8()));
                let (len, flags) = (u64::from(bytes.u16()), u64::from(bytes.u16()));
                if self.shape.packed {
                    self.write(16 * (index % size) + 8, len | id << 32 | flags << 48);
                } else {
                    self.write(self.used + 4 + 8 * (index % size), id | len << 32);
                    let head = self.word(self.used) & !0xffff_0000;
                    self.write(self.used, head | ((index as u64 + 1) & 0xffff) << 16);
                }
            }
            // The header in a buffer that some descriptor points to.
            4 => {
                let addr = self.word(16 * (usize::from(bytes.u8()) % size));
                let end = self.pool.region().len() as u64 - 16;
                let header = [bytes.u64(), bytes.u64()];
                if let Some(at) = addr.checked_sub(POOL).filter(|&at| at < end) {
                    let at = u32::try_from(at).expect("a small mempool");
                    // SAFETY: sixteen bytes inside the mempool's region; nobody else runs.
                    unsafe {
                        self.pool.ptr(at).cast::<[u64; 2]>().write_unaligned(header);
                    };
                }
            }
            _ => return true,
        }
        false
    }
}

/// A device of these bytes, and our driver's half at the other end of its ring.
pub fn driver(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let shape = Shape::read(&mut bytes);
    let (size, ring) = (shape.size, shape.ring);
    let (split, packed) = (SplitLayout::new(size, true), PackedLayout::new(size, true));
    let (total, used) = if shape.packed {
        (packed.total, packed.device_event)
    } else {
        (split.total, split.used)
    };
    let region = Region::create("fuzz-ring", total + MAX_HEADER, Pages::Base).expect("memory");
    let host = Host {
        region,
        pool: pool(),
        counters: Counters::default(),
        shape,
        total,
        used,
    };
    let at = &host.region;
    match (shape.packed, ring.in_order) {
        (false, false) => host.run(
            || SplitDriver::new(at, 0, RING, size, &split, ring),
            &mut bytes,
        ),
        (false, true) => host.run(
            || SplitDriverInOrder::new(at, 0, RING, size, &split, ring),
            &mut bytes,
        ),
        (true, false) => host.run(
            || PackedDriver::new(at, 0, RING, size, &packed, ring),
            &mut bytes,
        ),
        (true, true) => host.run(
            || PackedDriverInOrder::new(at, 0, RING, size, &packed, ring),
            &mut bytes,
        ),
    }
    all_free(&host.pool);
}
