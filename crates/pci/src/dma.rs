//! Where memory of ours is for a device.

use vring_ring::PageTable;

/// The addresses by which a device knows a region.
#[derive(Debug, Clone)]
pub enum Mapping {
    /// The region's first byte is there, and the others follow: behind an IOMMU, or where hugepages happen to follow each other.
    Linear(u64),
    /// Each page is somewhere else.
    Paged(PageTable),
}

impl Mapping {
    /// The device's address of the byte at `offset`, good up to the end of that byte's page.
    #[must_use]
    pub fn at(&self, offset: usize) -> u64 {
        match self {
            Self::Linear(base) => base + offset as u64,
            Self::Paged(table) => table.at(offset as u64),
        }
    }

    /// What a ring is told of the region's first byte: with a table, the address by which that knows it.
    #[must_use]
    pub fn base(&self) -> u64 {
        match self {
            Self::Linear(base) => *base,
            Self::Paged(_) => PageTable::BASE,
        }
    }

    /// The table, where there has to be one.
    #[must_use]
    pub fn table(&self) -> Option<&PageTable> {
        match self {
            Self::Linear(_) => None,
            Self::Paged(table) => Some(table),
        }
    }
}
