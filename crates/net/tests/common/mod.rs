//! What the tests of this crate share: mempools, and the ends of a queue that are written by hand.
#![allow(dead_code, missing_docs)]

pub mod device;
pub mod driver;
pub mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vring_mem::burst::flags;
use vring_mem::mempool::{NO_SEG, Segment};
use vring_mem::{Burst, Mempool, MempoolConfig, Pages};
use vring_net::{DropReason, Features, HeaderLayout};

pub const PLAIN: Features = Features::VERSION_1.union(Features::INDIRECT_DESC);
pub const MERGEABLE: Features = PLAIN.union(Features::MRG_RXBUF);
/// Bytes of the header with either.
pub const HEADER: u32 = 12;

pub fn layout(features: Features) -> HeaderLayout {
    HeaderLayout::of(features)
}

pub fn pool(count: usize) -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap()
}

/// A packet whose bytes follow from its number.
pub fn pattern(number: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(number) << 20 | len as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// Puts a packet into the burst, over as many buffers as it takes or, with `most`, over pieces of at most so many bytes. False when
/// there is no room or no buffer.
pub fn put(pool: &Arc<Mempool>, burst: &mut Burst, data: &[u8], most: usize) -> bool {
    let chunks: Vec<&[u8]> = data.chunks(most.min(pool.data_room() as usize)).collect();
    let mut buffers = vec![0; chunks.len()];
    if burst.is_full() {
        return false;
    }
    let got = pool.alloc_bulk(&mut buffers);
    if got < buffers.len() {
        pool.free_bulk(&buffers[..got]);
        return false;
    }
    for (i, (&addr, chunk)) in buffers.iter().zip(&chunks).enumerate() {
        // SAFETY: a fresh buffer has room for the chunk.
        unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), pool.ptr(addr), chunk.len()) };
        if chunks.len() > 1 {
            let next = buffers.get(i + 1).copied().unwrap_or(NO_SEG);
            let len = u32::try_from(chunk.len()).unwrap();
            pool.link(Segment { addr, len }, next);
        }
    }
    let multi = if chunks.len() > 1 { flags::MULTI } else { 0 };
    burst.push(buffers[0], u32::try_from(data.len()).unwrap(), multi)
}

/// A burst with one small packet for each of these lengths.
pub fn burst_of(pool: &Arc<Mempool>, lens: &[usize]) -> Burst {
    let mut burst = Burst::new(lens.len().max(32));
    for (number, &len) in (0..).zip(lens) {
        assert!(put(pool, &mut burst, &pattern(number, len), usize::MAX));
    }
    burst
}

/// The bytes of all packets of a burst, which is empty afterwards and its buffers free.
pub fn take_all(pool: &Arc<Mempool>, burst: &mut Burst) -> Vec<Vec<u8>> {
    let (addrs, lens, all_flags) = burst.packets();
    let packets = (0..addrs.len()).map(|i| {
        let segments = pool.segments(addrs[i], lens[i], all_flags[i]).unwrap();
        segments
            .flat_map(|s| {
                // SAFETY: `segments` checked that it lies inside a buffer; nobody writes there now.
                unsafe { std::slice::from_raw_parts(pool.ptr(s.addr), s.len as usize) }.to_vec()
            })
            .collect()
    });
    let packets = packets.collect();
    pool.free_burst(burst);
    packets
}

pub fn all_free(pool: &Mempool) {
    assert_eq!(
        pool.free_count(),
        pool.count() as usize,
        "buffers are missing"
    );
}

pub fn drops(counters: &vring_net::Counters) -> Vec<(&'static str, u64)> {
    let all = DropReason::ALL
        .iter()
        .map(|&r| (r.name(), counters.dropped(r)));
    all.filter(|&(_, n)| n > 0).collect()
}

/// Runs `attack` again and again on another thread for as long as `test` runs, also when that panics.
pub fn meanwhile(mut attack: impl FnMut() + Send, test: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                attack();
            }
        });
        test();
    });
}
