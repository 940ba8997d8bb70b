//! Peers that are made of bytes. Each program reads a byte string as what a peer does (how the ring is made, what is written where, when a burst
//! runs) and checks what must hold whatever that was: no panic, no endless loop, every fault has a name, every buffer comes back.
//!
//! A byte string is the fuzzer's input, a case of a property test, or a file of the corpus: all three run the same programs. What the tests
//! find worth keeping lies in `corpus/`.

mod bytes;
mod device;
mod driver;
mod vhost_user;

pub use device::device;
pub use driver::driver;
pub use vhost_user::vhost_user;

use std::sync::Arc;

use bytes::Bytes;
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_net::{Features, HeaderLayout};
use vring_ring::RingFeatures;

/// Times that a queue is started again after a fault, as a peer that comes back would.
const STARTS: usize = 4;

/// How a ring is made, from the first bytes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    packed: bool,
    mergeable: bool,
    ring: RingFeatures,
    size: u16,
}

impl Shape {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let bits = bytes.u8();
        let bit = |n: u8| bits >> n & 1 == 1;
        let packed = bit(0);
        let size = u16::from(bytes.u8() % 64) + 1;
        Self {
            packed,
            mergeable: bit(1),
            ring: RingFeatures {
                event_idx: bit(2),
                indirect: bit(3),
                in_order: bit(4),
            },
            size: if packed {
                size
            } else {
                size.next_power_of_two().max(2)
            },
        }
    }

    fn layout(self) -> HeaderLayout {
        let mut features = Features::VERSION_1;
        features.set(Features::MRG_RXBUF, self.mergeable);
        HeaderLayout::of(features)
    }
}

/// A mempool that is small enough to run dry.
fn pool() -> Arc<Mempool> {
    let config = MempoolConfig {
        count: 96,
        pages: Pages::Base,
        ..MempoolConfig::default()
    };
    Mempool::new(&config).expect("memory for a small mempool")
}

/// Fills an empty burst with packets of nothing in particular: how many, as far as there are buffers, and how long is in the next bytes.
fn fill(pool: &Arc<Mempool>, burst: &mut Burst, bytes: &mut Bytes<'_>) {
    let (count, len) = (usize::from(bytes.u8() % 32), u32::from(bytes.u16() % 2048));
    let mut addrs = vec![0; count];
    let got = pool.alloc_bulk(&mut addrs);
    for &addr in &addrs[..got] {
        burst.push(addr, len, 0);
    }
}

/// What must hold at the end, whatever happened.
fn all_free(pool: &Mempool) {
    assert_eq!(
        pool.free_count(),
        pool.count() as usize,
        "buffers are missing"
    );
}

#[cfg(test)]
mod tests;
