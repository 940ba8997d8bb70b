//! Lcores and forwarding engines.
//!
//! An [`Lcore`] is a native thread, pinned to a processor, that runs an engine over its streams until it is stopped or has reached its limit. An
//! engine is a function over one burst: see [`Engine`]. All of them behave as testpmd's modes of the same name.

mod engine;
mod error;
mod inet;
mod lcore;
mod stats;
pub mod traffic;

pub use engine::{Engine, EngineOptions, Measure, Noise, PacketTemplate, Retry, Stream};
pub use error::ForwardError;
pub use lcore::Lcore;
pub use stats::{BurstSpread, LatencyStats, StreamStats, cycles_per_second};
pub use traffic::Traffic;
