//! The N-API binding of vring. Private: `ts/` is the API that people see.
//!
//! What is called once or rarely is a `#[napi]` function or class. What is called for each burst is a raw native function that is bound
//! to its queue ([`hot`]): a `#[napi]` method costs ten times as much.

mod burst;
mod capture;
mod configure;
mod devargs;
mod device;
mod error;
mod hot;
mod isolate;
mod lcore;
mod mempool;
mod messages;
mod pci;
mod poll;
mod port;
mod probe;
mod queue;
mod shown;
mod token;
mod traffic;

use napi_derive::napi;

/// The version of the addon, which must be that of the package around it.
#[napi(catch_unwind)]
#[must_use]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
