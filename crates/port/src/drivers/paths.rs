//! The variants of the virtio-net data path, chosen once when a queue is attached.

use std::sync::Arc;

use vring_mem::guest::GuestMemory;
use vring_mem::{Burst, Mempool};
use vring_net::device::{DeviceRx, DeviceTx};
use vring_net::driver::{DriverMemory, DriverRx, DriverTx};
use vring_net::{Counters, HeaderLayout, Tally};
use vring_ring::{DeviceRing, DriverRing, PageTable, Paged, RingFault};
use vring_vhost::VringConfig;

use super::kind::{DeviceKind, DriverKind, Named};
use crate::queue::{DescStatus, Mode, Path, RxPath, TxPath};

/// Goes on with the ring of whatever kind it is: the code is compiled for each.
macro_rules! with_ring {
    (DriverKind, $of:expr, $ring:ident => $make:expr) => {
        with_ring!($of, $ring => $make; DriverKind: Split SplitInOrder Packed PackedInOrder)
    };
    (DeviceKind, $of:expr, $ring:ident => $make:expr) => {
        with_ring!($of, $ring => $make; DeviceKind: Split SplitInOrder Packed PackedInOrder
            SplitRecorded SplitInOrderRecorded PackedRecorded PackedInOrderRecorded)
    };
    ($of:expr, $ring:ident => $make:expr; $kinds:ident: $($kind:ident)*) => {
        match $of { $($kinds::$kind($ring) => $make,)* }
    };
}

/// Receives on the driver's side; with a table, on pages that the device finds by it.
pub(super) fn driver_rx(
    ring: DriverKind,
    memory: DriverMemory,
    layout: HeaderLayout,
    table: Option<&PageTable>,
) -> Box<dyn RxPath> {
    with_ring!(DriverKind, ring, ring => match table {
        None => rx_on(ring, memory, layout),
        Some(table) => rx_on(Paged::new(ring, table.clone()), memory, layout),
    })
}

fn rx_on<R: DriverRing + Named + 'static>(
    ring: R,
    memory: DriverMemory,
    layout: HeaderLayout,
) -> Box<dyn RxPath> {
    match (layout.mergeable, layout.to_driver.gives != 0) {
        (true, true) => Box::new(DriverRx::<_, true, true>::new(ring, memory, layout)),
        (true, false) => Box::new(DriverRx::<_, true, false>::new(ring, memory, layout)),
        (false, true) => Box::new(DriverRx::<_, false, true>::new(ring, memory, layout)),
        (false, false) => Box::new(DriverRx::<_, false, false>::new(ring, memory, layout)),
    }
}

/// Transmits on the driver's side; with a table likewise.
pub(super) fn driver_tx(
    ring: DriverKind,
    memory: DriverMemory,
    layout: HeaderLayout,
    spare_header: u64,
    table: Option<&PageTable>,
) -> Box<dyn TxPath> {
    with_ring!(DriverKind, ring, ring => match table {
        None => tx_on(ring, memory, layout, spare_header),
        Some(table) => tx_on(Paged::new(ring, table.clone()), memory, layout, spare_header),
    })
}

fn tx_on<R: DriverRing + Named + 'static>(
    ring: R,
    memory: DriverMemory,
    layout: HeaderLayout,
    spare_header: u64,
) -> Box<dyn TxPath> {
    if layout.to_device.takes != 0 {
        Box::new(DriverTx::<_, true>::new(ring, memory, layout, spare_header))
    } else {
        Box::new(DriverTx::<_, false>::new(
            ring,
            memory,
            layout,
            spare_header,
        ))
    }
}

/// Receives on the device's side.
pub(super) fn device_rx(
    ring: DeviceKind,
    config: &VringConfig,
    pool: Arc<Mempool>,
    layout: HeaderLayout,
) -> Box<dyn RxPath> {
    let (memory, log) = (config.memory.clone(), config.log);
    with_ring!(DeviceKind, ring, ring => if layout.to_device.gives != 0 {
        Box::new(DeviceRx::<_, true>::new(ring, memory, pool, layout).with_ring_log(log))
    } else {
        Box::new(DeviceRx::<_, false>::new(ring, memory, pool, layout).with_ring_log(log))
    })
}

/// Transmits on the device's side.
pub(super) fn device_tx(
    ring: DeviceKind,
    config: &VringConfig,
    pool: Arc<Mempool>,
    layout: HeaderLayout,
) -> Box<dyn TxPath> {
    let (memory, log) = (config.memory.clone(), config.log);
    with_ring!(DeviceKind, ring, ring => if layout.to_driver.takes != 0 {
        Box::new(DeviceTx::<_, true>::new(ring, memory, pool, layout).with_ring_log(log))
    } else {
        Box::new(DeviceTx::<_, false>::new(ring, memory, pool, layout).with_ring_log(log))
    })
}

/// A path by its ring, and what decided for it.
fn mode<R: Named>(mergeable: bool) -> Mode {
    let name = if mergeable {
        format!("{}, mergeable", R::NAME)
    } else {
        R::NAME.to_owned()
    };
    let decisive = [
        ("RING_PACKED", R::NAME.starts_with("packed")),
        ("IN_ORDER", R::NAME.ends_with("in order")),
        ("MRG_RXBUF", mergeable),
    ];
    let agreed = |on: bool| {
        let names = decisive.iter().filter(|(_, agreed)| *agreed == on);
        names.map(|&(name, _)| name).collect::<Vec<_>>().join(", ")
    };
    let why = match (agreed(true), agreed(false)) {
        (yes, no) if yes.is_empty() => format!("not agreed on: {no}"),
        (yes, no) if no.is_empty() => format!("agreed on: {yes}"),
        (yes, no) => format!("agreed on: {yes}; not on: {no}"),
    };
    Mode::new(name, why)
}

/// What a descriptor does that lies `offset` behind the next, of which `done` are used, and `held` are with the device or used.
fn status(offset: u32, done: usize, held: usize) -> DescStatus {
    let offset = offset as usize;
    if offset < done {
        DescStatus::Done
    } else if offset < held {
        DescStatus::Available
    } else {
        DescStatus::Unavailable
    }
}

/// Packets that wait to be taken; a fault is told by the next burst.
fn waiting<R: DriverRing>(ring: &mut R) -> usize {
    ring.used_ready(usize::MAX).unwrap_or(0)
}

/// Where a device goes on that comes in the place of one that is gone, unless that one left nonsense.
fn device_base<R: DriverRing>(ring: &mut R) -> Option<u32> {
    ring.device_base().ok()
}

/// Descriptors that the device has, or has given back unseen.
fn held<R: DriverRing>(ring: &R) -> usize {
    usize::from(ring.size()) - ring.free_descs()
}

impl<R: DriverRing + Named, const MRG: bool, const OFF: bool> Path for DriverRx<R, MRG, OFF> {
    fn abandon(&mut self, counters: &Counters) {
        DriverRx::abandon(self, counters);
    }

    fn mode(&self) -> Mode {
        let Mode { name, why } = mode::<R>(MRG);
        match self.ring().vectors() {
            Some(vectors) => Mode::new(
                format!("{name}, {vectors}"),
                format!("{why}; this processor has {vectors}"),
            ),
            None => Mode { name, why },
        }
    }

    fn size(&self) -> u32 {
        self.ring().size().into()
    }

    fn device_base(&mut self) -> Option<u32> {
        device_base(self.ring_mut())
    }

    fn desc_status(&mut self, offset: u32) -> Option<DescStatus> {
        let done = waiting(self.ring_mut());
        Some(status(offset, done, held(self.ring())))
    }

    fn used_count(&mut self) -> Option<u32> {
        u32::try_from(waiting(self.ring_mut())).ok()
    }
}

impl<R: DriverRing + Named, const MRG: bool, const OFF: bool> RxPath for DriverRx<R, MRG, OFF> {
    fn gives(&self) -> u32 {
        DriverRx::gives(self)
    }

    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        DriverRx::rx(self, burst, counters)
    }

    fn want_wake(&mut self, on: bool) -> bool {
        self.want_calls(on)
    }
}

impl<R: DriverRing + Named, const OFF: bool> Path for DriverTx<R, OFF> {
    fn abandon(&mut self, counters: &Counters) {
        DriverTx::abandon(self, counters);
    }

    fn mode(&self) -> Mode {
        mode::<R>(self.is_mergeable())
    }

    fn size(&self) -> u32 {
        self.ring().size().into()
    }

    fn device_base(&mut self) -> Option<u32> {
        device_base(self.ring_mut())
    }

    /// Free descriptors are as good as those that the device is through with.
    fn desc_status(&mut self, offset: u32) -> Option<DescStatus> {
        let busy = held(self.ring()).saturating_sub(waiting(self.ring_mut()));
        Some(if (offset as usize) < busy {
            DescStatus::Available
        } else {
            DescStatus::Done
        })
    }

    fn used_count(&mut self) -> Option<u32> {
        u32::try_from(held(self.ring())).ok()
    }
}

impl<R: DriverRing + Named, const OFF: bool> TxPath for DriverTx<R, OFF> {
    fn takes(&self) -> u32 {
        DriverTx::takes(self)
    }

    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        DriverTx::tx(self, burst, counters)
    }

    fn reclaim(&mut self) -> Result<(), RingFault> {
        DriverTx::reclaim(self)
    }
}

/// Chains that the driver made available; a fault is told by the next burst.
fn ready<R: DeviceRing>(ring: &mut R) -> usize {
    ring.ready(usize::MAX).unwrap_or(0)
}

impl<R: DeviceRing + Named, const OFF: bool> Path for DeviceRx<R, OFF> {
    fn base(&self) -> u32 {
        DeviceRx::base(self)
    }

    fn set_memory(&mut self, memory: &Arc<GuestMemory>) {
        DeviceRx::set_memory(self, memory);
    }

    fn mode(&self) -> Mode {
        mode::<R>(self.is_mergeable())
    }

    fn size(&self) -> u32 {
        self.ring().size().into()
    }

    /// What the driver has not made available it may still fill.
    fn desc_status(&mut self, offset: u32) -> Option<DescStatus> {
        let size = usize::from(self.ring().size());
        Some(status(offset, ready(self.ring_mut()), size))
    }

    fn used_count(&mut self) -> Option<u32> {
        u32::try_from(ready(self.ring_mut())).ok()
    }
}

impl<R: DeviceRing + Named, const OFF: bool> RxPath for DeviceRx<R, OFF> {
    fn gives(&self) -> u32 {
        DeviceRx::gives(self)
    }

    fn rx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        DeviceRx::rx(self, burst, counters)
    }

    fn want_wake(&mut self, on: bool) -> bool {
        self.want_kicks(on)
    }
}

impl<R: DeviceRing + Named, const OFF: bool> Path for DeviceTx<R, OFF> {
    fn base(&self) -> u32 {
        DeviceTx::base(self)
    }

    fn set_memory(&mut self, memory: &Arc<GuestMemory>) {
        DeviceTx::set_memory(self, memory);
    }

    fn mode(&self) -> Mode {
        mode::<R>(self.is_mergeable())
    }

    fn size(&self) -> u32 {
        self.ring().size().into()
    }

    /// Where the driver posted room a packet can go at once; the rest holds packets that it has not taken yet.
    fn desc_status(&mut self, offset: u32) -> Option<DescStatus> {
        let room = ready(self.ring_mut());
        Some(if (offset as usize) < room {
            DescStatus::Done
        } else {
            DescStatus::Available
        })
    }

    fn used_count(&mut self) -> Option<u32> {
        let size = usize::from(self.ring().size());
        u32::try_from(size.saturating_sub(ready(self.ring_mut()))).ok()
    }
}

impl<R: DeviceRing + Named, const OFF: bool> TxPath for DeviceTx<R, OFF> {
    fn takes(&self) -> u32 {
        DeviceTx::takes(self)
    }

    fn tx(&mut self, burst: &mut Burst, counters: &Counters) -> Result<Tally, RingFault> {
        DeviceTx::tx(self, burst, counters)
    }
}
