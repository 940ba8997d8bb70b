//! What the pool promises: every buffer is in one place, and comes back.

use proptest::prelude::*;

use super::*;

fn pool(count: usize, buffer_size: usize) -> Arc<Mempool> {
    Mempool::new(&MempoolConfig {
        count,
        buffer_size,
        pages: Pages::Base,
        ..Default::default()
    })
    .unwrap()
}

/// All buffers can be had, each once, and the count is as before when they are back.
#[test]
fn alloc_all_and_back() {
    let pool = pool(1000, 2176);
    let mut out = vec![0; 1200];
    let got = pool.alloc_bulk(&mut out);
    assert_eq!(got, 1000);
    assert_eq!(pool.free_count(), 0);
    assert_eq!(pool.alloc_bulk(&mut [0]), 0);
    let mut seen: Vec<u32> = out[..got].iter().map(|&a| pool.buffer_of(a)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1000);
    for chunk in out[..got].chunks(32) {
        pool.free_bulk(chunk);
    }
    assert_eq!(pool.free_count(), 1000);
}

/// The cache of a thread that ends goes back to the pool.
#[test]
fn thread_end_returns_cache() {
    let pool = pool(600, 512);
    let theirs = pool.clone();
    std::thread::spawn(move || {
        let mut out = [0; 32];
        assert_eq!(theirs.alloc_bulk(&mut out), 32);
        theirs.free_bulk(&out);
        assert!(theirs.free_count() == 600);
    })
    .join()
    .unwrap();
    assert_eq!(pool.lock_free().len(), 600);
    assert!(lock(&pool.caches).is_empty());
}

/// What a thread keeps at hand is free, but nobody else's, until it gives it back.
#[test]
fn flushed_caches_are_anybodys() {
    let pool = pool(600, 512);
    let mut out = [0; 8];
    assert_eq!(pool.alloc_bulk(&mut out), 8);
    pool.free_bulk(&out);
    let all_that_another_gets = || {
        let theirs = pool.clone();
        std::thread::spawn(move || {
            let mut out = vec![0; 600];
            let got = theirs.alloc_bulk(&mut out);
            theirs.free_bulk(&out[..got]);
            got
        })
        .join()
        .unwrap()
    };
    assert!(all_that_another_gets() < 600);
    pool.flush_thread_cache();
    assert_eq!(all_that_another_gets(), 600);
    assert_eq!(pool.free_count(), 600);
}

/// A buffer that is freed twice is found out in a debug build.
#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "freed twice")]
fn double_free_is_found() {
    let pool = pool(8, 512);
    let mut out = [0; 1];
    pool.alloc_bulk(&mut out);
    pool.free_bulk(&out);
    pool.free_bulk(&out);
}

/// A buffer that stands in a burst twice is found out when the second of the two is freed.
#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "freed twice")]
fn one_buffer_in_two_places_is_found() {
    let pool = pool(8, 512);
    let mut out = [0; 1];
    pool.alloc_bulk(&mut out);
    let mut burst = Burst::new(4);
    assert!(burst.push(out[0], 60, 0) && burst.push(out[0] + 20, 40, 0));
    pool.free_burst(&mut burst);
}

/// A buffer that is used after it was freed, and got by another meanwhile, is found out when both give it back: the second of them fails,
/// also on another thread and with the caches of threads between.
#[test]
#[cfg(debug_assertions)]
fn use_after_free_is_found() {
    let pool = pool(1, 512);
    let mut first = [0; 1];
    pool.alloc_bulk(&mut first);
    pool.free_bulk(&first);
    let mut second = [0; 1];
    assert_eq!(pool.alloc_bulk(&mut second), 1);
    assert_eq!(first, second);
    pool.free_bulk(&first);
    let other = pool.clone();
    assert!(
        std::thread::spawn(move || other.free_bulk(&second))
            .join()
            .is_err()
    );
}

/// No buffer lies on two hugepages, and there are as many as were asked for all the same.
#[test]
fn buffers_lie_on_one_page() {
    const PAGE: u32 = 2 << 20;
    let config = MempoolConfig {
        count: 4096,
        pages: Pages::Huge2M,
        ..MempoolConfig::default()
    };
    let pool = match Mempool::new(&config) {
        Err(MemError::NoHugepages { .. }) => return,
        made => made.unwrap(),
    };
    let mut all = vec![0; 5000];
    let got = pool.alloc_bulk(&mut all);
    assert_eq!((got, pool.count()), (4096, 4096));
    assert!(pool.places() > pool.count());
    for &addr in &all[..got] {
        let first = addr - HEADROOM;
        assert_eq!(first / PAGE, (first + pool.buffer_size() - 1) / PAGE);
    }
    pool.free_bulk(&all[..got]);
    assert_eq!(pool.free_count(), 4096);
}

/// A packet of several segments is walked, checked and freed whole; one that loops is refused.
#[test]
fn chains() {
    let pool = pool(8, 512);
    let mut bufs = [0; 3];
    assert_eq!(pool.alloc_bulk(&mut bufs), 3);
    pool.link(
        Segment {
            addr: bufs[0],
            len: 100,
        },
        bufs[1],
    );
    pool.link(
        Segment {
            addr: bufs[1],
            len: 50,
        },
        bufs[2],
    );
    pool.link(
        Segment {
            addr: bufs[2],
            len: 1,
        },
        NO_SEG,
    );
    let lens: Vec<u32> = pool
        .segments(bufs[0], 151, flags::MULTI)
        .unwrap()
        .map(|s| s.len)
        .collect();
    assert_eq!(lens, [100, 50, 1]);
    assert!(matches!(
        pool.segments(bufs[0], 150, flags::MULTI),
        Err(BadPacket::Chain { .. })
    ));
    pool.link(
        Segment {
            addr: bufs[2],
            len: 0,
        },
        bufs[2],
    );
    assert!(pool.segments(bufs[0], 150, flags::MULTI).is_err());
    pool.link(
        Segment {
            addr: bufs[2],
            len: 1,
        },
        NO_SEG,
    );
    pool.free_packet(bufs[0], flags::MULTI);
    assert_eq!(pool.free_count(), 8);
}

/// Options out of range are named.
#[test]
fn bad_options() {
    let error = Mempool::new(&MempoolConfig {
        buffer_size: 100,
        ..Default::default()
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected bufferSize from 256 to 65535, got 100"
    );
    let error = Mempool::new(&MempoolConfig {
        count: 1 << 24,
        ..Default::default()
    })
    .unwrap_err();
    assert_eq!(error.code(), "ERR_VRING_OUT_OF_RANGE");
}

proptest! {
    /// The multiplication finds the same buffer as a division, for every address.
    #[test]
    fn buffer_of_is_a_division(addr: u32, size in 256usize..65536) {
        let pool = pool(1, size);
        prop_assert_eq!(pool.buffer_of(addr), addr / pool.stride());
    }

    /// `checked` says yes exactly for what lies inside one buffer.
    #[test]
    fn checked_is_exact(addr in 0u32..20_000, len in 0u32..3_000, room in 0u32..200) {
        let pool = pool(8, 2176);
        let (buffer, offset) = (addr / pool.stride(), addr % pool.stride());
        let inside = buffer < 8 && offset >= room && offset + len <= 2176;
        prop_assert_eq!(pool.checked(addr, len, room), inside);
    }
}
