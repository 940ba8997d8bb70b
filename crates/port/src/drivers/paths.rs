//! The variants of the virtio-net data path, chosen once when a queue is attached.

use std::sync::Arc;

use vring_mem::guest::GuestMemory;
use vring_mem::{Burst, Mempool};
use vring_net::device::{DeviceRx, DeviceTx};
use vring_net::driver::{DriverMemory, DriverRx, DriverTx};
use vring_net::{Counters, Features, HeaderLayout, Tally};
use vring_ring::split::{SplitDevice, SplitDriver};
use vring_ring::{DeviceRing, DriverRing, RingFault, RingFeatures};

use crate::queue::{Path, RxPath, TxPath};

/// What a ring needs to know of the features.
pub(super) fn ring_features(features: Features) -> RingFeatures {
    RingFeatures {
        event_idx: features.contains(Features::EVENT_IDX),
        indirect: features.contains(Features::INDIRECT_DESC),
        in_order: false,
    }
}

/// Receives on the driver's side.
pub(super) fn driver_rx(
    ring: SplitDriver,
    memory: DriverMemory,
    layout: HeaderLayout,
) -> Box<dyn RxPath> {
    if layout.mergeable {
        Box::new(DriverRx::<_, true>::new(ring, memory, layout))
    } else {
        Box::new(DriverRx::<_, false>::new(ring, memory, layout))
    }
}

/// Transmits on the driver's side.
pub(super) fn driver_tx(
    ring: SplitDriver,
    memory: DriverMemory,
    layout: HeaderLayout,
    spare_header: u64,
) -> Box<dyn TxPath> {
    Box::new(DriverTx::new(ring, memory, layout, spare_header))
}

/// Receives on the device's side.
pub(super) fn device_rx(
    ring: SplitDevice,
    memory: Arc<GuestMemory>,
    pool: Arc<Mempool>,
    layout: HeaderLayout,
) -> Box<dyn RxPath> {
    Box::new(DeviceRx::new(ring, memory, pool, layout))
}

/// Transmits on the device's side.
pub(super) fn device_tx(
    ring: SplitDevice,
    memory: Arc<GuestMemory>,
    pool: Arc<Mempool>,
    layout: HeaderLayout,
) -> Box<dyn TxPath> {
    Box::new(DeviceTx::new(ring, memory, pool, layout))
}

impl<R: DriverRing, const MRG: bool> Path for DriverRx<R, MRG> {
    fn abandon(&mut self, counters: &Counters) {
        DriverRx::abandon(self, counters);
    }
}

impl<R: DriverRing, const MRG: bool> RxPath for DriverRx<R, MRG> {
    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        DriverRx::rx(self, burst, counters)
    }

    fn want_wake(&mut self, on: bool) -> bool {
        self.want_calls(on)
    }
}

impl<R: DriverRing> Path for DriverTx<R> {
    fn abandon(&mut self, counters: &Counters) {
        DriverTx::abandon(self, counters);
    }
}

impl<R: DriverRing> TxPath for DriverTx<R> {
    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        DriverTx::tx(self, burst, counters)
    }

    fn reclaim(&mut self) -> Result<(), RingFault> {
        DriverTx::reclaim(self)
    }
}

impl<R: DeviceRing> Path for DeviceRx<R> {
    fn base(&self) -> u32 {
        DeviceRx::base(self)
    }
}

impl<R: DeviceRing> RxPath for DeviceRx<R> {
    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        DeviceRx::rx(self, burst, counters)
    }

    fn want_wake(&mut self, on: bool) -> bool {
        self.want_kicks(on)
    }
}

impl<R: DeviceRing> Path for DeviceTx<R> {
    fn base(&self) -> u32 {
        DeviceTx::base(self)
    }
}

impl<R: DeviceRing> TxPath for DeviceTx<R> {
    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        DeviceTx::tx(self, burst, counters)
    }
}
