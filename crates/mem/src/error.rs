//! What can go wrong with memory.

use std::io;

use crate::Pages;

/// A failure to get or use memory.
#[derive(Debug, thiserror::Error)]
pub enum MemError {
    /// No hugepages of the size that was demanded are free.
    #[error(
        "expected {len} bytes on {pages} hugepages, but the kernel has not that many free ({source}); reserve them \
         (write a number to {reserve}), or ask for pages 'auto' or '4K'"
    )]
    NoHugepages {
        /// The page size that was demanded.
        pages: Pages,
        /// Bytes asked for.
        len: usize,
        /// The file of sysfs that reserves such pages.
        reserve: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// More memory was asked for than the machine has free.
    #[error(
        "expected at most {available} bytes (the memory available now), asked for {len}; use fewer or smaller buffers"
    )]
    Exhausted {
        /// Bytes asked for.
        len: usize,
        /// Bytes available.
        available: usize,
    },
    /// The kernel has no such memory for this process.
    #[error(
        "expected {len} bytes of memory, the kernel refused ({source}); use fewer or smaller buffers, or raise the process's limits"
    )]
    Refused {
        /// Bytes asked for.
        len: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A mempool option is out of its range.
    #[error("expected {what} from {min} to {max}, got {got}")]
    Range {
        /// The option.
        what: &'static str,
        /// Lowest value.
        min: usize,
        /// Highest value.
        max: usize,
        /// What came.
        got: usize,
    },
    /// The pool would not fit a 32-bit packet address.
    #[error(
        "expected a mempool of at most 4 GiB, got {count} buffers of {stride} bytes; use fewer or smaller buffers"
    )]
    TooLarge {
        /// Buffers.
        count: usize,
        /// Bytes from a buffer to the next.
        stride: usize,
    },
    /// A system call failed.
    #[error("{call} failed: {source}")]
    System {
        /// The system call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl MemError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoHugepages { .. } => "ERR_VRING_NO_HUGEPAGES",
            Self::Exhausted { .. } | Self::Refused { .. } => "ERR_VRING_NO_MEMORY",
            Self::Range { .. } | Self::TooLarge { .. } => "ERR_VRING_OUT_OF_RANGE",
            Self::System { .. } => "ERR_VRING_SYSTEM",
        }
    }

    pub(crate) fn system(call: &'static str, errno: rustix::io::Errno) -> Self {
        Self::System {
            call,
            source: errno.into(),
        }
    }
}
