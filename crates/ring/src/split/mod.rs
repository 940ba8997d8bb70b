//! The split virtqueue (2.7).

mod device;
mod driver;
mod record;
#[cfg(all(test, not(feature = "loom")))]
pub(crate) mod tests;

pub(crate) use record::resume;

pub use device::{Device, SplitDevice, SplitDeviceInOrder};
pub use driver::{Driver, SplitDriver, SplitDriverInOrder};
