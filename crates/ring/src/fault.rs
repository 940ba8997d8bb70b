//! What a peer can do wrong in a ring. Each poisons the queue it happened on, and nothing else.

use vring_mem::guest::{Access, GuestMemory};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingFault {
    /// The index of the other side is further ahead than the ring is long.
    #[error("expected the peer's {ring} index at most {size} ahead, found it {ahead} ahead")]
    Index {
        /// `avail` or `used`.
        ring: &'static str,
        /// How far ahead it is.
        ahead: u16,
        /// Descriptors of the ring; in order, chains in flight.
        size: u16,
    },
    /// A packed ring is to be taken up where it has no descriptor.
    #[error("expected a base inside a ring of {size} descriptors, got {base:#x}")]
    Base {
        /// Slots and wrap counters, in vhost-user's packing.
        base: u32,
        /// Descriptors of the ring.
        size: u16,
    },
    /// A descriptor that the ring does not have.
    #[error("expected a descriptor below {size}, got {index}")]
    DescIndex {
        /// Its index.
        index: u16,
        /// Descriptors of the table.
        size: u32,
    },
    /// A used element names a chain that the device was not given.
    #[error("expected the id of a chain in flight, got {id} of {size} descriptors")]
    UsedId {
        /// What it named.
        id: u32,
        /// Descriptors of the ring.
        size: u16,
    },
    /// A used element says that other many bytes were written than its buffers can hold.
    #[error("expected {min} to {max} bytes written, got {len}")]
    UsedLength {
        /// What it said.
        len: u32,
        /// Fewest.
        min: u32,
        /// Most.
        max: u32,
    },
    /// A mergeable packet claims more buffers than the ring has, or none.
    #[error("expected a packet in 1 to {size} buffers, got {count}")]
    BufferCount {
        /// What it claims.
        count: u16,
        /// Descriptors of the ring.
        size: u16,
    },
    /// A chain that does not end.
    #[error("expected a chain of at most {max} descriptors")]
    ChainTooLong {
        /// The bound.
        max: u32,
    },
    /// An indirect descriptor where none may be, or a table of a size that is none.
    #[error(
        "expected an indirect table of whole descriptors, not nested and negotiated, got {len} bytes"
    )]
    Indirect {
        /// Bytes of the table.
        len: u32,
    },
    /// An address that is in no region of the memory map.
    #[error("expected an address in guest memory, got {len} bytes at {addr:#x}")]
    Address {
        /// The address.
        addr: u64,
        /// Bytes.
        len: u32,
    },
    /// An I/O virtual address whose translation is not known yet. Nobody broke a rule: the chain stays where it is until it is known.
    #[error(
        "expected a translation of {len} bytes at I/O virtual address {addr:#x}, which is not known yet"
    )]
    Miss {
        /// The address.
        addr: u64,
        /// Bytes, or fewer than are missing.
        len: u32,
        /// What for.
        access: Access,
    },
    /// A buffer to be written where one to be read belongs, or the other way round.
    #[error("expected descriptors that the device {expected}, got the opposite")]
    Direction {
        /// `reads` or `writes`.
        expected: &'static str,
    },
    /// A posted buffer that does not even take a header.
    #[error("expected a posted buffer of at least {min} bytes, got {len}")]
    ShortBuffer {
        /// Bytes of it.
        len: u64,
        /// Fewest.
        min: u32,
    },
    /// What an in-flight record says cannot be.
    #[error("expected an in-flight record with {what}")]
    Record {
        /// What was expected.
        what: &'static str,
    },
    /// The memory that the peer shared is gone: it truncated the file.
    #[error("expected guest memory behind the ring; the peer took it away")]
    MemoryGone,
}

impl RingFault {
    /// Why bytes of a chain are not to be had in this memory. Behind an IOMMU they may only have to be asked for.
    #[cold]
    #[must_use]
    pub fn no_memory(memory: &GuestMemory, addr: u64, len: u32, access: Access) -> Self {
        // What goes beyond the address space nobody can translate.
        let possible = addr.checked_add(u64::from(len).max(1)).is_some();
        match memory.misses() {
            Some(misses) if possible && !misses.is_refused(addr, access) => {
                Self::Miss { addr, len, access }
            }
            _ => Self::Address { addr, len },
        }
    }

    /// The stable code of this fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "ERR_VRING_RING_FAULT"
    }
}
