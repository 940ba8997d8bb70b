//! Both halves of one virtio-net device in one process, over real guest memory: for honest traffic and for benches.

use std::sync::Arc;

use vring_mem::guest::{Access, GuestMemory, GuestRegion};
use vring_mem::{Mempool, Pages, Region};
use vring_net::device::{DeviceRx, DeviceTx};
use vring_net::driver::{DriverMemory, DriverRx, DriverTx};
use vring_net::{Counters, Features, HeaderLayout, MAX_HEADER};
use vring_ring::split::{SplitDevice, SplitDriver};
use vring_ring::{RingFeatures, SplitLayout};

const POOL: u64 = 0x10_0000_0000;
const RING: u64 = 0x20_0000_0000;

/// One direction of the device: its ring, and the memory that both sides see.
pub struct Link {
    pub driver_pool: Arc<Mempool>,
    pub device_pool: Arc<Mempool>,
    pub counters: Counters,
    region: Arc<Region>,
    memory: Arc<GuestMemory>,
    ring: SplitLayout,
    size: u16,
    features: Features,
}

fn map(addr: u64, region: &Region) -> Arc<GuestRegion> {
    let fd = region.fd().try_clone_to_owned().unwrap();
    Arc::new(GuestRegion::map(addr, addr, region.len() as u64, 0, fd).unwrap())
}

#[allow(dead_code, reason = "tests and benches use some of it each")]
impl Link {
    pub fn new(size: u16, features: Features, pools: [Arc<Mempool>; 2]) -> Self {
        let [driver_pool, device_pool] = pools;
        let ring = SplitLayout::new(size, true);
        let region = Region::create("link", ring.total + MAX_HEADER, Pages::Base).unwrap();
        let regions = vec![map(POOL, driver_pool.region()), map(RING, &region)];
        Self {
            memory: Arc::new(GuestMemory::new(regions).unwrap()),
            driver_pool,
            device_pool,
            counters: Counters::default(),
            region,
            ring,
            size,
            features,
        }
    }

    fn rings(&self) -> (SplitDriver, SplitDevice, DriverMemory, HeaderLayout) {
        let features = RingFeatures {
            event_idx: self.features.contains(Features::EVENT_IDX),
            indirect: self.features.contains(Features::INDIRECT_DESC),
            in_order: false,
        };
        let driver = SplitDriver::new(&self.region, 0, RING, self.size, &self.ring, features);
        let at = |part: usize| {
            self.memory
                .translate(RING + part as u64, 1, Access::WRITE)
                .unwrap()
        };
        let (desc, avail, used) = (at(self.ring.desc), at(self.ring.avail), at(self.ring.used));
        // SAFETY: the layout lies inside the region, whose map the device half holds.
        let device = unsafe { SplitDevice::new(desc, avail, used, self.size, features) };
        let memory = DriverMemory {
            pool: self.driver_pool.clone(),
            device_base: POOL,
        };
        (driver, device, memory, HeaderLayout::of(self.features))
    }

    /// The driver transmits, the device receives.
    pub fn up(&self) -> (DriverTx<SplitDriver>, DeviceRx<SplitDevice>) {
        self.up_with()
    }

    /// The same with a header that says something, or without.
    pub fn up_with<const OFF: bool>(
        &self,
    ) -> (DriverTx<SplitDriver, OFF>, DeviceRx<SplitDevice, OFF>) {
        let (driver, device, memory, layout) = self.rings();
        let spare = RING + self.ring.total as u64;
        let tx = DriverTx::new(driver, memory, layout, spare);
        let pool = self.device_pool.clone();
        (tx, DeviceRx::new(device, self.memory.clone(), pool, layout))
    }

    /// The device transmits, the driver receives.
    pub fn down<const MRG: bool>(&self) -> (DeviceTx<SplitDevice>, DriverRx<SplitDriver, MRG>) {
        self.down_with()
    }

    /// The same with a header that says something, or without.
    pub fn down_with<const MRG: bool, const OFF: bool>(
        &self,
    ) -> (DeviceTx<SplitDevice, OFF>, DriverRx<SplitDriver, MRG, OFF>) {
        let (driver, device, memory, layout) = self.rings();
        let rx = DriverRx::new(driver, memory, layout);
        let pool = self.device_pool.clone();
        (DeviceTx::new(device, self.memory.clone(), pool, layout), rx)
    }
}
