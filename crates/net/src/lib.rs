//! virtio-net over a virtqueue: features, the header, and receive and transmit in bursts for both halves.
//!
//! Written after the virtio specification 1.2, chapter 5.1. The driver's half ([`driver`]) copies nothing: its buffers are posted from the
//! mempool. The device's half ([`device`]) copies once between guest memory and the mempool. No system call is made here: a burst says
//! in its [`Tally`] whether the peer wants to be notified, and the port does it.

pub mod config;
pub mod control;
mod counters;
pub mod device;
pub mod driver;
pub mod features;
mod header;
mod offload;
mod rarp;
pub mod soft;

pub use config::{BadConfig, NetConfig};
pub use counters::{Counters, DropReason, Tally};
pub use features::Features;
pub use header::{HeaderLayout, MAX_HEADER};
pub use offload::{Direction, Header, decode, encode};
pub use rarp::rarp_request;

/// Bytes of an Ethernet header: what is shorter is no packet.
pub const ETH_HEADER: u32 = 14;
