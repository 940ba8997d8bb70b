//! What a path cannot do itself, done in software: checksums, VLAN tags, segmentation, filters, hashes.
//!
//! [`SoftTx`] stands before a transmit path and [`SoftRx`] behind a receive path, whatever the driver. Both work on a burst's metadata
//! ([`vring_mem::burst::flags`]): what a packet asks for and the path does not take is done here.
//!
//! The bytes of a packet may lie in memory that a peer can write. Headers are therefore copied once, checked as a copy and used as a copy; a
//! payload that changes meanwhile harms its own checksum only. Nothing is read or written outside of the packet's own segments.

mod bytes;
mod csum;
mod filter;
mod gso;
mod headers;
mod partial;
mod renew;
mod rx;
mod toeplitz;
mod tx;
mod vlan;

pub use filter::VlanSet;
pub use partial::partial_checksum;
pub use rx::{Checksum, Filtered, RxConfig, SoftRx};
pub use toeplitz::{HashReport, HashTypes, RssConfig, Toeplitz};
pub use tx::{Lower, SoftTx};

pub use bytes::View;
pub use headers::{Headers, Ip, parse as parse_headers};
pub use renew::{Layer4, Renew, renew};

#[cfg(test)]
mod tests;
