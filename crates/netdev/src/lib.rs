//! The kernel's network devices, for ports that exchange packets with the kernel: taps, macvtaps and packet sockets, and what
//! rtnetlink says about a link and does to it.
//!
//! Everything here is control path. A device is opened in a [`Namespace`], which may be another than the process's; the process
//! itself never changes its own. Descriptors are owned and close with their owner.

mod error;
mod frame;
mod given;
mod macvtap;
mod monitor;
mod namespace;
mod netlink;
mod packet;
mod program;
mod reception;
mod ring;
mod sys;
mod tap;
#[cfg(test)]
mod tests;

pub use error::NetdevError;
pub use frame::Pieces;
pub use given::{Given, check as check_given, take as take_given};
pub use macvtap::Macvtap;
pub use monitor::{LinkChange, LinkMonitor};
pub use namespace::Namespace;
pub use netlink::{Link, LinkCounters, Netlink};
pub use packet::{Fanout, PacketSocket, set_packet_header, take_drops};
pub use program::{Program, vlan_program};
pub use reception::{Membership, Memberships};
pub use ring::{ReceivedFrame, RingShape, RxRing, TxRing};
pub use tap::{
    Offloads, Tap, TapConfig, place_of, set_address, set_address_filter, set_carrier,
    set_header_size, set_offloads,
};
