//! The other end of a virtqueue, for tests and benches: it reads and writes the words of a split or packed ring by hand, so it
//! can be as honest or as hostile as a test wants.
//!
//! It shares no code with the ring crate on purpose: offsets and meanings are written down a second time from the virtio
//! specification 1.2, chapters 2.7 and 2.8, so that a mistake in one of them shows.

pub mod packed;
mod ram;
mod ring;

pub use packed::RawPacked;
pub use ram::Ram;
pub use ring::{INDIRECT, NEXT, RawDesc, RawRing, WRITE};
