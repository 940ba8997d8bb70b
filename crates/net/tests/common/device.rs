//! Our device half, with a driver that is written by hand.

use std::sync::Arc;

use vring_mem::{Burst, Mempool};
use vring_net::device::{DeviceRx, DeviceTx};
use vring_net::{Counters, Features, Tally};
use vring_peer::{INDIRECT, Ram, RawDesc, RawRing};
use vring_ring::split::{SplitDevice, SplitDeviceInOrder};
use vring_ring::{RingFault, RingFeatures};

use super::{all_free, layout, pool, take_all};

/// Three regions: the second begins where the first ends, the third lies apart.
pub const FIRST: (u64, u64) = (0x1_0000, 0x4_0000);
pub const SECOND: (u64, u64) = (0x5_0000, 0x1_0000);
pub const APART: (u64, u64) = (0x10_0000, 0x1_0000);
/// Where the first and the second region meet.
pub const BORDER: u64 = SECOND.0;
/// The first byte that is in no region.
pub const END: u64 = APART.0 + APART.1;
/// For buffers.
pub const BUFFERS: u64 = 0x3_0000;
/// For indirect tables.
pub const TABLES: u64 = 0x2_8000;

/// See the module.
pub struct Guest {
    pub ram: Ram,
    pub raw: RawRing,
    pub pool: Arc<Mempool>,
    pub counters: Counters,
    features: Features,
}

impl Guest {
    pub fn new(size: u16, features: Features) -> Self {
        let ram = Ram::new(&[FIRST, SECOND, APART]);
        Self {
            raw: RawRing::guest(&ram, FIRST.0, size),
            ram,
            pool: pool(1024),
            counters: Counters::default(),
            features,
        }
    }

    /// Where the device half goes on in the ring, as after a restart.
    pub fn ring(&self) -> SplitDevice {
        let size = self.raw.size();
        let [desc, avail, used] =
            RawRing::areas(FIRST.0, size).map(|addr| self.ram.theirs(addr, 1));
        let features = RingFeatures {
            event_idx: self.features.contains(Features::EVENT_IDX),
            indirect: self.features.contains(Features::INDIRECT_DESC),
            in_order: false,
        };
        // SAFETY: the areas lie in the memory, which the receiving and transmitting halves below hold.
        unsafe { SplitDevice::new(desc, avail, used, size, features) }
    }

    /// The same for a driver that wants its chains back in order.
    pub fn ring_in_order(&self) -> SplitDeviceInOrder {
        let size = self.raw.size();
        let [desc, avail, used] =
            RawRing::areas(FIRST.0, size).map(|addr| self.ram.theirs(addr, 1));
        let features = RingFeatures {
            event_idx: self.features.contains(Features::EVENT_IDX),
            indirect: self.features.contains(Features::INDIRECT_DESC),
            in_order: true,
        };
        // SAFETY: as in ring.
        unsafe { SplitDeviceInOrder::new(desc, avail, used, size, features) }
    }

    pub fn rx(&self) -> DeviceRx<SplitDevice> {
        let (memory, pool) = (self.ram.memory().clone(), self.pool.clone());
        DeviceRx::new(self.ring(), memory, pool, layout(self.features))
    }

    pub fn rx_with_offloads(&self) -> DeviceRx<SplitDevice, true> {
        let (memory, pool) = (self.ram.memory().clone(), self.pool.clone());
        DeviceRx::new(self.ring(), memory, pool, layout(self.features))
    }

    pub fn tx(&self) -> DeviceTx<SplitDevice> {
        let (memory, pool) = (self.ram.memory().clone(), self.pool.clone());
        DeviceTx::new(self.ring(), memory, pool, layout(self.features))
    }

    /// Lays a chain out from descriptor `at` on and offers it. Flags of the pieces are kept.
    pub fn chain(&self, at: u16, pieces: &[RawDesc]) {
        for (i, &piece) in (0u16..).zip(pieces) {
            let last = usize::from(i) + 1 == pieces.len();
            let desc = if last { piece } else { piece.next(at + i + 1) };
            self.raw.set_desc(at + i, desc);
        }
        self.raw.offer(at);
    }

    /// Offers descriptor `at` as an indirect table of `len` bytes with these descriptors, as they are.
    pub fn table(&self, at: u16, len: u32, descs: &[RawDesc]) {
        for (i, desc) in descs.iter().enumerate() {
            self.ram.write(TABLES + 16 * i as u64, &desc.bytes());
        }
        self.raw
            .set_desc(at, RawDesc::new(TABLES, len).flags(INDIRECT));
        self.raw.offer(at);
    }

    /// Writes a header and these bytes to `addr`, and says in how many bytes.
    pub fn packet(&self, addr: u64, data: &[u8]) -> u32 {
        let mut bytes = vec![0; super::HEADER as usize];
        bytes.extend_from_slice(data);
        self.ram.write(addr, &bytes);
        u32::try_from(bytes.len()).unwrap()
    }

    /// One receive call; its packets.
    pub fn receive(&self, rx: &mut DeviceRx<SplitDevice>) -> Result<Vec<Vec<u8>>, RingFault> {
        let mut burst = Burst::new(32);
        let result = rx.rx(&mut burst, &self.counters);
        let packets = take_all(&self.pool, &mut burst);
        assert_eq!(result.map_or(0, |tally| tally.packets), packets.len());
        result.map(|_| packets)
    }

    /// Receives what `attack` sets up: the fault comes, again when asked again, after the packet before it; no buffer is lost.
    pub fn rx_faults(&self, attack: impl FnOnce(&Self)) -> RingFault {
        let mut rx = self.rx();
        let good = super::pattern(9, 60);
        let last = self.raw.size() - 1;
        self.raw.set_desc(
            last,
            RawDesc::new(BUFFERS + 0x8000, self.packet(BUFFERS + 0x8000, &good)),
        );
        self.raw.offer(last);
        attack(self);
        let first = self.receive(&mut rx);
        let fault = match first {
            // An index that makes no sense hides the packet before it too.
            Err(fault) => fault,
            Ok(packets) => {
                assert_eq!(packets, [good]);
                assert_eq!(self.raw.used_idx(), 1);
                self.receive(&mut rx).unwrap_err()
            }
        };
        assert_eq!(self.receive(&mut rx), Err(fault));
        drop(rx);
        all_free(&self.pool);
        fault
    }

    /// Transmits packets of these lengths into what `attack` sets up. The fault comes, again when asked again; what was not sent is
    /// still the burst's.
    pub fn tx_faults(&self, lens: &[usize], attack: impl FnOnce(&Self)) -> RingFault {
        let mut tx = self.tx();
        attack(self);
        let mut burst = super::burst_of(&self.pool, lens);
        let fault = tx.tx(&mut burst, &self.counters).unwrap_err();
        assert_eq!(burst.len(), lens.len());
        assert_eq!(tx.tx(&mut burst, &self.counters), Err(fault));
        drop(tx);
        self.pool.free_burst(&mut burst);
        all_free(&self.pool);
        fault
    }

    pub fn send(
        &self,
        tx: &mut DeviceTx<SplitDevice>,
        burst: &mut Burst,
    ) -> Result<Tally, RingFault> {
        tx.tx(burst, &self.counters)
    }
}
