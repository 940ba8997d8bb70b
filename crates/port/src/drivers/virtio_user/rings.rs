//! The rings of a port: where they lie, and the driver's halves that its queues get. The same for every back end.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vring_mem::{Pages, Region};
use vring_net::driver::DriverMemory;
use vring_net::{Features, HeaderLayout, MAX_HEADER};
use vring_vhost::VringAddresses;

use super::Options;
use crate::PortError;
use crate::drivers::kind::{DriverKind, RingLayout, check_size, first_base};
use crate::drivers::paths::{driver_rx, driver_tx};
use crate::event::eventfd;
use crate::port::Shared;
use crate::queue::{Halt, Path};

/// See the module. One region has them all, and behind them a header of zeros for packets without headroom.
pub(super) struct Rings {
    pub(super) region: Arc<Region>,
    pub(super) rings: Vec<Ring>,
    spare_header: usize,
    features: Features,
}

/// One ring: even ones receive, odd ones transmit.
pub(super) struct Ring {
    pub(super) index: u16,
    /// Descriptors.
    pub(super) size: u16,
    /// Written to when buffers were added.
    pub(super) kick: Arc<OwnedFd>,
    /// Readable when buffers were used.
    pub(super) call: Arc<OwnedFd>,
    offset: usize,
    layout: RingLayout,
}

impl Rings {
    /// Rings for the features that were agreed on, of zeros.
    ///
    /// # Errors
    /// A size that these rings cannot have, no memory, no descriptors.
    pub(super) fn new(options: &Options, features: Features) -> Result<Self, PortError> {
        let mut offset = 0;
        let rings: Vec<Ring> = (0..2 * options.pairs)
            .map(|index| {
                let transmits = index % 2 == 1;
                let size = if transmits {
                    options.tx_size
                } else {
                    options.rx_size
                };
                // Asked for a packed ring, it may have got a split one.
                check_size(&options.name, features, size.into())?;
                let layout = RingLayout::new(features, size, transmits);
                let ring = Ring {
                    index,
                    size,
                    kick: Arc::new(eventfd()?),
                    call: Arc::new(eventfd()?),
                    offset,
                    layout,
                };
                offset = (offset + layout.total()).next_multiple_of(4096);
                Ok(ring)
            })
            .collect::<Result<_, PortError>>()?;
        let region = Region::create("vring-rings", offset + MAX_HEADER, Pages::Base)?;
        Ok(Self {
            region,
            rings,
            spare_header: offset,
            features,
        })
    }

    /// Where the areas of a ring are, as the back end knows them.
    pub(super) fn addresses(&self, ring: &Ring) -> VringAddresses {
        let at = device_address(&self.region) + ring.offset as u64;
        let [desc, avail, used] = ring.layout.areas().map(|area| at + area as u64);
        VringAddresses {
            desc,
            avail,
            used,
            log: None,
        }
    }

    /// What was agreed on when they were made.
    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// Descriptors of the largest.
    pub(super) fn largest(&self) -> u16 {
        self.rings.iter().map(|ring| ring.size).max().unwrap_or(0)
    }

    /// Where a back end goes on that comes in the place of one that is gone, ring by ring. `None` if it left nonsense in one.
    pub(super) fn bases(&self, shared: &Shared) -> Option<Vec<u32>> {
        let base = |ring: &Ring| {
            let pair = usize::from(ring.index / 2);
            let (rx, tx) = (shared.rx.get(pair), shared.tx.get(pair));
            let found = if ring.index % 2 == 1 {
                tx.map(|queue| queue.with_path(Path::device_base))
            } else {
                rx.map(|queue| queue.with_path(Path::device_base))
            };
            // Nothing happens in rings without a queue.
            found.map_or_else(|| Some(first_base(self.features)), Option::flatten)
        };
        self.rings.iter().map(base).collect()
    }

    /// Makes the driver's halves and gives them to the port's queues. Rings without a queue stay empty.
    pub(super) fn attach(&self, shared: &Shared) -> Result<(), PortError> {
        let layout = HeaderLayout::of(self.features);
        let base = device_address(&self.region);
        let memory = DriverMemory {
            pool: shared.pool.clone(),
            device_base: device_address(shared.pool.region()),
        };
        for ring in &self.rings {
            let driver = DriverKind::new(
                &self.region,
                ring.offset,
                base,
                ring.size,
                &ring.layout,
                self.features,
            );
            let pair = usize::from(ring.index / 2);
            if ring.index % 2 == 1 {
                if let Some(queue) = shared.tx.get(pair) {
                    // Nobody sleeps on it: for what it counts.
                    queue.set_wake_source(Some(ring.call.clone()))?;
                    let spare = base + self.spare_header as u64;
                    let path = driver_tx(driver, memory.clone(), layout, spare, None);
                    queue.attach(path, Some(ring.kick.clone()));
                }
            } else if let Some(queue) = shared.rx.get(pair) {
                queue.set_wake_source(Some(ring.call.clone()))?;
                let path = driver_rx(driver, memory.clone(), layout, None);
                queue.attach(path, Some(ring.kick.clone()));
            }
        }
        Ok(())
    }
}

/// Lets all queues stand still while no back end serves their rings, or move again.
pub(super) fn halt(shared: &Shared, on: bool) {
    shared
        .rx
        .iter()
        .for_each(|queue| queue.halt(Halt::PEER, on));
    shared
        .tx
        .iter()
        .for_each(|queue| queue.halt(Halt::PEER, on));
}

/// Takes the driver's halves away: the buffers in the rings are ours again. Only when the back end has let go of them.
pub(super) fn detach(shared: &Shared) {
    shared.rx.iter().for_each(|queue| queue.detach());
    shared.tx.iter().for_each(|queue| queue.detach());
}

/// The back end knows our memory by the addresses that it has here, as DPDK's do: a pointer is all that a descriptor needs.
pub(super) fn device_address(region: &Region) -> u64 {
    region.base() as u64
}
