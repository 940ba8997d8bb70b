//! Our driver half, with a device that is written by hand.

use std::ptr::NonNull;
use std::sync::Arc;

use vring_mem::{Burst, Mempool, Pages, Region};
use vring_net::driver::{DriverMemory, DriverRx, DriverTx};
use vring_net::{Counters, Features, MAX_HEADER};
use vring_peer::{RawDesc, RawRing};
use vring_ring::split::SplitDriver;
use vring_ring::{RingFault, RingFeatures, SplitLayout};

use super::{layout, pool, take_all};

/// The device's address of the mempool's first byte.
pub const POOL: u64 = 0x10_0000_0000;
/// The device's address of the ring's region.
pub const RING: u64 = 0x20_0000_0000;

/// See the module.
pub struct Host {
    pub pool: Arc<Mempool>,
    pub counters: Counters,
    pub raw: RawRing,
    region: Arc<Region>,
    ring: SplitLayout,
    features: Features,
}

impl Host {
    pub fn new(size: u16, features: Features, buffers: usize) -> Self {
        let ring = SplitLayout::new(size, true);
        let region = Region::create("hand", ring.total + MAX_HEADER, Pages::Base).unwrap();
        let at = |part: usize| NonNull::new(region.base().wrapping_add(part)).unwrap();
        // SAFETY: the layout lies inside the region, which `self` holds.
        let raw = unsafe { RawRing::new(at(ring.desc), at(ring.avail), at(ring.used), size) };
        Self {
            pool: pool(buffers),
            counters: Counters::default(),
            raw,
            region,
            ring,
            features,
        }
    }

    fn driver(&self) -> SplitDriver {
        let features = RingFeatures {
            event_idx: self.features.contains(Features::EVENT_IDX),
            indirect: self.features.contains(Features::INDIRECT_DESC),
            in_order: false,
        };
        SplitDriver::new(&self.region, 0, RING, self.raw.size(), &self.ring, features)
    }

    fn memory(&self) -> DriverMemory {
        DriverMemory {
            pool: self.pool.clone(),
            device_base: POOL,
        }
    }

    pub fn rx<const MRG: bool>(&self) -> DriverRx<SplitDriver, MRG> {
        DriverRx::new(self.driver(), self.memory(), layout(self.features))
    }

    pub fn rx_with_offloads(&self) -> DriverRx<SplitDriver, true, true> {
        DriverRx::new(self.driver(), self.memory(), layout(self.features))
    }

    pub fn tx(&self) -> DriverTx<SplitDriver> {
        let spare = RING + self.ring.total as u64;
        DriverTx::new(self.driver(), self.memory(), layout(self.features), spare)
    }

    /// Where a piece of the mempool is here.
    pub fn at(&self, desc: RawDesc) -> *mut u8 {
        let offset = u32::try_from(desc.addr - POOL).unwrap();
        assert!((offset as usize + desc.len as usize) <= self.pool.region().len());
        self.pool.ptr(offset)
    }

    /// Writes a header that claims `count` buffers, and `data` behind it, into the posted buffer `id`.
    pub fn fill(&self, id: u16, count: u16, data: &[u8]) -> u32 {
        let mut bytes = vec![0; 10];
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(data);
        let at = self.at(self.raw.desc(id));
        for (i, &byte) in bytes.iter().enumerate() {
            // SAFETY: a posted buffer has room for header and data.
            unsafe { at.add(i).write_volatile(byte) };
        }
        u32::try_from(bytes.len()).unwrap()
    }

    /// Writes a header that claims `count` buffers to where descriptor `id` points, if that is in the mempool.
    pub fn fill_any(&self, id: u16, count: u16) {
        let desc = self.raw.desc(id);
        let end = POOL + self.pool.region().len() as u64;
        if (POOL..end - 64).contains(&desc.addr) && desc.len >= super::HEADER {
            self.fill(id, count, &[]);
        }
    }

    /// Delivers a packet in the posted buffer `id`.
    pub fn deliver(&self, id: u16, data: &[u8]) {
        let len = self.fill(id, 1, data);
        self.raw.give(id.into(), len);
    }

    /// One receive call; its packets.
    pub fn receive<const MRG: bool>(
        &self,
        rx: &mut DriverRx<SplitDriver, MRG>,
    ) -> Result<Vec<Vec<u8>>, RingFault> {
        let mut burst = Burst::new(32);
        let result = rx.rx(&mut burst, &self.counters);
        let packets = take_all(&self.pool, &mut burst);
        assert_eq!(result.map_or(0, |tally| tally.packets), packets.len());
        result.map(|_| packets)
    }
}
