//! The driver's half: receives into buffers of the mempool that it posted, transmits buffers where they lie.

mod rx;
mod tx;

use std::sync::Arc;

use vring_mem::Mempool;
use vring_ring::Piece;

pub use rx::DriverRx;
pub use tx::DriverTx;

/// Buffers that are posted or taken back at a time.
const BATCH: usize = 64;

/// The mempool's memory as the device sees it.
#[derive(Debug, Clone)]
pub struct DriverMemory {
    /// The mempool.
    pub pool: Arc<Mempool>,
    /// The device's address of the region's first byte.
    pub device_base: u64,
}

impl DriverMemory {
    #[inline(always)]
    fn piece(&self, addr: u32, len: u32) -> Piece {
        Piece {
            addr: self.device_base + u64::from(addr),
            len,
        }
    }
}
