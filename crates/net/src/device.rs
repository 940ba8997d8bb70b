//! The device's half: one copy between guest memory and the mempool, in each direction.

mod pieces;
mod rx;
mod tx;

pub use rx::DeviceRx;
pub use tx::DeviceTx;

/// Packets that are looked at ahead of being copied, so that their lines travel while others are worked on.
const LOOK_AHEAD: usize = 32;
