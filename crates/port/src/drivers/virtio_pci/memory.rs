//! The memory that a device finds its queues in: rings, the commands' buffer, and a header of zeros, none of which lies on two pages.

use std::sync::Arc;

use vring_mem::{MemError, Pages, Region};
use vring_net::{Features, MAX_HEADER};
use vring_pci::virtio::QueueSetup;
use vring_pci::{Device, Mapping};

use crate::PortError;
use crate::drivers::kind::{DriverKind, RingLayout};

/// Bytes for a command and its answer.
pub(super) const COMMAND_ROOM: usize = 4096;
/// Rings begin on such pages: legacy devices are told their number alone.
const ALIGN: usize = 4096;

/// A queue that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Its number for the device.
    pub(super) index: u16,
    pub(super) size: u16,
    /// Whether it sends chains, for which there are indirect tables.
    pub(super) chains: bool,
}

/// Where everything lies, by offset.
#[derive(Debug)]
struct Places {
    rings: Vec<Ring>,
    commands: usize,
    spare_header: usize,
    total: usize,
}

#[derive(Debug)]
struct Ring {
    plan: Plan,
    offset: usize,
    layout: RingLayout,
}

impl Places {
    /// For pages of `page` bytes; `None` when a ring is larger than a page.
    fn new(plans: &[Plan], features: Features, legacy: bool, page: usize) -> Option<Self> {
        let mut end = 0;
        let mut place = |len: usize| {
            let mut at = usize::next_multiple_of(end, ALIGN);
            if at / page != (at + len - 1) / page {
                at = at.next_multiple_of(page);
            }
            end = at + len;
            at
        };
        let layout = |plan: &Plan, tables| {
            if legacy {
                RingLayout::legacy(plan.size, tables)
            } else {
                RingLayout::new(features, plan.size, tables)
            }
        };
        let rings = plans
            .iter()
            .map(|plan| {
                let mut best = layout(plan, plan.chains);
                if best.total() > page {
                    best = layout(plan, false);
                }
                (best.total() <= page).then(|| Ring {
                    plan: *plan,
                    offset: place(best.total()),
                    layout: best,
                })
            })
            .collect::<Option<_>>()?;
        Some(Self {
            rings,
            commands: place(COMMAND_ROOM),
            spare_header: place(MAX_HEADER),
            total: end,
        })
    }
}

/// See the module. Made once for a port; a device that is started again gets the same.
#[derive(Debug)]
pub(super) struct Memory {
    region: Arc<Region>,
    mapping: Mapping,
    places: Places,
    features: Features,
}

impl Memory {
    /// Sets memory aside and lets the device reach it.
    ///
    /// # Errors
    /// A ring that is too large for a page; no memory; no hugepages where they are needed.
    pub(super) fn new(
        name: &str,
        device: &Device,
        plans: &[Plan],
        features: Features,
        legacy: bool,
    ) -> Result<Self, PortError> {
        let page = if device.has_iommu() {
            usize::MAX
        } else {
            Pages::Huge2M.size()
        };
        let places = Places::new(plans, features, legacy, page).ok_or_else(|| {
            let got = plans.iter().map(|plan| plan.size).max().unwrap_or(0);
            PortError::QueueSize {
                name: name.to_owned(),
                expected: "small enough for its ring to lie on one hugepage",
                got: got.into(),
            }
        })?;
        let region = if device.has_iommu() {
            Region::create("vring-rings", places.total, Pages::Base)
        } else {
            Region::create("vring-rings", places.total, Pages::Huge2M).or_else(|error: MemError| {
                Region::create("vring-rings", places.total, Pages::Huge1G).map_err(|_| error)
            })
        }?;
        let mapping = device.map(&region)?;
        Ok(Self {
            region,
            mapping,
            places,
            features,
        })
    }

    /// Whether these are the queues that it was made for.
    pub(super) fn suits(&self, plans: &[Plan], features: Features) -> bool {
        let same =
            |ring: &Ring, plan: &Plan| (ring.plan.index, ring.plan.size) == (plan.index, plan.size);
        let rings = &self.places.rings;
        self.features == features
            && rings.len() == plans.len()
            && rings.iter().zip(plans).all(|(ring, plan)| same(ring, plan))
    }

    /// Makes the `nth` ring anew, with what the device is to be told of it.
    pub(super) fn ring(&self, nth: usize, vector: Option<u16>) -> (DriverKind, QueueSetup) {
        let Ring {
            plan,
            offset,
            layout,
        } = &self.places.rings[nth];
        let at = self.mapping.at(*offset);
        let base = at.wrapping_sub(*offset as u64);
        let ring = DriverKind::new(
            &self.region,
            *offset,
            base,
            plan.size,
            layout,
            self.features,
        );
        let [desc, driver, device] = layout.areas().map(|area| at + area as u64);
        let setup = QueueSetup {
            index: plan.index,
            size: plan.size,
            desc,
            driver,
            device,
            vector,
        };
        (ring, setup)
    }

    /// Descriptors of the `nth` ring, 0 where there is none.
    pub(super) fn size(&self, nth: usize) -> u16 {
        self.places.rings.get(nth).map_or(0, |ring| ring.plan.size)
    }

    /// The header of zeros, for the device.
    pub(super) fn spare_header(&self) -> u64 {
        self.mapping.at(self.places.spare_header)
    }

    /// Room for commands, here and for the device.
    pub(super) fn commands(&self) -> (Arc<Region>, usize, u64) {
        let offset = self.places.commands;
        (self.region.clone(), offset, self.mapping.at(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(count: u16, size: u16) -> Vec<Plan> {
        let plan = |index| Plan {
            index,
            size,
            chains: index % 2 == 1,
        };
        (0..count).map(plan).collect()
    }

    /// Nothing lies on two pages, nothing overlaps, and a ring whose tables are too much goes without.
    #[test]
    fn whole_pages() {
        const PAGE: usize = 2 << 20;
        for (legacy, features) in [
            (true, Features::empty()),
            (false, Features::VERSION_1),
            (false, Features::VERSION_1 | Features::RING_PACKED),
        ] {
            for (count, size) in [(3, 256), (9, 1024), (257, 512), (4, 32768)] {
                let plans = plans(count, size);
                let places = Places::new(&plans, features, legacy, PAGE).unwrap();
                let mut ends = 0;
                let rings = places
                    .rings
                    .iter()
                    .map(|ring| (ring.offset, ring.layout.total()));
                for (at, len) in rings.chain([
                    (places.commands, COMMAND_ROOM),
                    (places.spare_header, MAX_HEADER),
                ]) {
                    assert!(at >= ends && at.is_multiple_of(ALIGN));
                    assert_eq!(at / PAGE, (at + len - 1) / PAGE);
                    ends = at + len;
                }
                assert_eq!(ends, places.total);
            }
        }
    }
}
