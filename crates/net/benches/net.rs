//! A burst from the driver half to the device half and the other way, on one core: what a packet costs apart from travelling.

#[path = "../tests/common/link.rs"]
mod link;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use link::Link;
use vring_mem::{Burst, Mempool, MempoolConfig};
use vring_net::Features;

const FEATURES: Features = Features::VERSION_1
    .union(Features::MRG_RXBUF)
    .union(Features::EVENT_IDX);
const BURSTS: [usize; 4] = [1, 8, 32, 64];
const LENS: [u32; 2] = [64, 1518];

fn link(size: u16) -> Link {
    let pool = || Mempool::new(&MempoolConfig::default()).expect("memory");
    Link::new(size, FEATURES, [pool(), pool()])
}

/// Fills a burst with packets of that length.
fn fill(pool: &std::sync::Arc<Mempool>, burst: &mut Burst, count: usize, len: u32) {
    let (addrs, lens, flags) = burst.arrays_mut();
    assert_eq!(pool.alloc_bulk(&mut addrs[..count]), count);
    lens[..count].fill(len);
    flags[..count].fill(0);
    burst.set_len(count);
}

/// The driver transmits (no copy), the device receives (one copy).
fn up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("driver to device");
    for len in LENS {
        let link = link(256);
        let (mut tx, mut rx) = link.up();
        let (mut out, mut back) = (Burst::new(64), Burst::new(64));
        for count in BURSTS {
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(format!("{len} bytes"), count), |bencher| {
                bencher.iter(|| {
                    fill(&link.driver_pool, &mut out, count, len);
                    let sent = tx.tx(&mut out, &link.counters).expect("an honest device");
                    let got = rx.rx(&mut back, &link.counters).expect("an honest driver");
                    assert_eq!((sent.packets, got.packets), (count, count));
                    link.device_pool.free_burst(&mut back);
                });
            });
        }
    }
    group.finish();
}

/// The device transmits (one copy), the driver receives (no copy).
fn down(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("device to driver");
    for len in LENS {
        let link = link(256);
        let (mut tx, mut rx) = link.down::<true>();
        let (mut out, mut back) = (Burst::new(64), Burst::new(64));
        for count in BURSTS {
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(format!("{len} bytes"), count), |bencher| {
                bencher.iter(|| {
                    fill(&link.device_pool, &mut out, count, len);
                    let sent = tx.tx(&mut out, &link.counters).expect("an honest driver");
                    let got = rx.rx(&mut back, &link.counters).expect("an honest device");
                    assert_eq!((sent.packets, got.packets), (count, count));
                    link.driver_pool.free_burst(&mut back);
                });
            });
        }
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(20)
}

criterion_group! {
    name = benches;
    config = quick();
    targets = up, down
}
criterion_main!(benches);
