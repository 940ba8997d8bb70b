//! The device's half against a driver that writes anything.

use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vring_mem::guest::{Access, GuestMemory, GuestRegion};
use vring_mem::{Burst, Mempool};
use vring_net::Counters;
use vring_net::device::{DeviceRx, DeviceTx};
use vring_ring::packed::{PackedDevice, PackedDeviceInOrder};
use vring_ring::split::{SplitDevice, SplitDeviceInOrder};
use vring_ring::{DeviceRing, RingFault};

use crate::bytes::Bytes;
use crate::{STARTS, Shape, all_free, fill, pool};

/// Guest memory: rings at the front, buffers and tables behind.
const GUEST: u64 = 0x1_0000;
const LEN: u64 = 0x2_0000;
const BUFFERS: u64 = 0x4000;

/// One memory and what is at its front.
struct Guest {
    memory: Arc<GuestMemory>,
    pool: Arc<Mempool>,
    counters: Counters,
    shape: Shape,
}

impl Guest {
    fn new(shape: Shape) -> Self {
        let fd = memfd_create("vring-fuzz", MemfdFlags::CLOEXEC).expect("memfd_create");
        ftruncate(&fd, LEN).expect("ftruncate");
        let region = GuestRegion::map(GUEST, GUEST, LEN, 0, fd).expect("a region");
        let memory = GuestMemory::new(vec![Arc::new(region)]).expect("one region");
        Self {
            memory: Arc::new(memory),
            pool: pool(),
            counters: Counters::default(),
            shape,
        }
    }

    fn at(&self, offset: u64) -> NonNull<u8> {
        self.memory
            .translate(GUEST + offset % (LEN - 8), 8, Access::WRITE)
            .expect("inside the region")
    }

    /// Where descriptors, driver's and device's area lie: each has room for a ring of 64.
    fn areas(&self) -> [NonNull<u8>; 3] {
        [0, 0x1000, 0x2000].map(|offset| self.at(offset))
    }

    fn word(&self, offset: u64) -> u64 {
        // SAFETY: `at` leaves room for eight bytes inside the mapping; nobody else runs.
        unsafe { self.at(offset).cast::<u64>().read_unaligned() }
    }

    fn write(&self, offset: u64, word: u64) {
        // SAFETY: as in word.
        unsafe { self.at(offset).cast::<u64>().write_unaligned(word) };
    }

    fn run<R: DeviceRing>(&self, make: impl Fn() -> Result<R, RingFault>, bytes: &mut Bytes<'_>) {
        let receives = bytes.u8() & 1 == 1;
        for _ in 0..STARTS {
            let Ok(ring) = make() else { break };
            let (memory, pool, layout) =
                (self.memory.clone(), self.pool.clone(), self.shape.layout());
            if receives {
                self.receive(DeviceRx::new(ring, memory, pool, layout), bytes);
            } else {
                self.transmit(DeviceTx::new(ring, memory, pool, layout), bytes);
            }
        }
    }

    fn receive<R: DeviceRing>(&self, mut rx: DeviceRx<R>, bytes: &mut Bytes<'_>) {
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
            rx.want_kicks(bytes.u8() & 1 == 1);
        }
    }

    fn transmit<R: DeviceRing>(&self, mut tx: DeviceTx<R>, bytes: &mut Bytes<'_>) {
        let mut burst = Burst::new(32);
        while !bytes.is_empty() {
            if !self.act(bytes) {
                continue;
            }
            fill(&self.pool, &mut burst, bytes);
            let result = tx.tx(&mut burst, &self.counters);
            self.pool.free_burst(&mut burst);
            if result.is_err() {
                return;
            }
        }
    }

    /// Writes what the next bytes say; true when it is a burst's turn.
    fn act(&self, bytes: &mut Bytes<'_>) -> bool {
        let size = u64::from(self.shape.size);
        match bytes.u8() % 6 {
            // Any word, anywhere.
            0 => self.write(u64::from(bytes.u32()), bytes.u64()),
            // A descriptor that is nearly right: in the ring or in a table behind it.
            1 | 2 => {
                let slot = u64::from(bytes.u8());
                let table = slot & 0x80 != 0;
                let at = if table {
                    BUFFERS + 16 * (slot & 0x7f)
                } else {
                    16 * (slot % size)
                };
                let addr = GUEST + BUFFERS + 16 * u64::from(bytes.u16() % 0x1c00);
                let rest = u64::from(bytes.u16()) | bytes.u64() << 32;
                self.write(at, addr);
                self.write(at + 8, rest);
            }
            // The next entry of a split ring and its index, or the flags of a packed descriptor.
            3 | 4 => {
                let (index, value) = (u64::from(bytes.u8()), u64::from(bytes.u16()));
                if self.shape.packed {
                    let at = 16 * (index % size) + 8;
                    self.write(at, self.word(at) & !(0xffff << 48) | value << 48);
                } else {
                    let at = 0x1000 + 4 + 2 * (index % size);
                    self.write(at, self.word(at) & !0xffff | value);
                    self.write(0x1000, (index + 1) << 16);
                }
            }
            _ => return true,
        }
        false
    }
}

/// A driver of these bytes, and our device's half at the other end of its ring.
pub fn device(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let shape = Shape::read(&mut bytes);
    let base = bytes.u32();
    let guest = Guest::new(shape);
    let [desc, driver, device] = guest.areas();
    let (size, ring) = (shape.size, shape.ring);
    // SAFETY: three aligned areas of the mapping, which `guest` holds, each with room for a ring of 64.
    unsafe {
        match (shape.packed, ring.in_order) {
            (false, false) => guest.run(
                || Ok(SplitDevice::new(desc, driver, device, size, ring)),
                &mut bytes,
            ),
            (false, true) => guest.run(
                || Ok(SplitDeviceInOrder::new(desc, driver, device, size, ring)),
                &mut bytes,
            ),
            (true, false) => guest.run(
                || PackedDevice::new(desc, driver, device, size, base, ring),
                &mut bytes,
            ),
            (true, true) => guest.run(
                || PackedDeviceInOrder::new(desc, driver, device, size, base, ring),
                &mut bytes,
            ),
        }
    }
    all_free(&guest.pool);
}
