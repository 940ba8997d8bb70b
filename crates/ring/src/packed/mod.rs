//! The packed virtqueue (2.8): one ring of descriptors that both sides write, and a word each that says when to be told.
//!
//! A line of four descriptors goes from the driver to the device and back, and that is all that crosses between their cores. Both halves
//! publish in bursts: everything is written but the flags of the burst's first descriptor, and these last. The other side walks in ring
//! order, so it sees nothing of a burst or all of it, and does not take lines away from a side that still writes them.

mod device;
mod driver;
mod layout;
mod record;
mod shared;
#[cfg(all(test, not(feature = "loom")))]
pub(crate) mod tests;

pub use device::{Device, PackedDevice, PackedDeviceInOrder};
pub use driver::{Driver, PackedDriver, PackedDriverInOrder};
pub(crate) use record::resume;

pub use layout::{MAX_PACKED_SIZE, PackedLayout, check_packed_size};
