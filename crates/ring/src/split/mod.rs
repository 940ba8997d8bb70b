//! The split virtqueue (2.7).

mod device;
mod driver;
mod shadow;
#[cfg(test)]
mod tests;

pub use device::SplitDevice;
pub use driver::SplitDriver;
