//! Memory of vring: shared regions, the packet mempool, bursts and the guest memory map.
//!
//! Everything above this crate speaks of a packet as an *address*: the byte position of its first byte in the region of its
//! [`Mempool`], together with a length. See [`burst`] for the shape that crosses into JavaScript.

mod audit;
pub mod burst;
mod cache;
pub mod copy;
mod error;
mod geometry;
pub mod guest;
pub mod mempool;
pub mod region;
mod sigbus;

pub use burst::Burst;
pub use error::MemError;
pub use mempool::{Mempool, MempoolConfig};
pub use region::{Pages, Region};

/// Size of a cache line in bytes, on every processor that this crate is tuned for.
pub const CACHE_LINE: usize = 64;
