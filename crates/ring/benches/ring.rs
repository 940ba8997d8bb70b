//! What the ring itself costs, by burst and by size: both halves on one core, so no line travels between caches.

mod bed;

use std::time::Duration;

use bed::{Bed, Kept, Kind, Packed, Split};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A burst through the whole ring: push and publish, peek, complete and publish, pop.
fn round_trip_of<K: Kind>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(K::NAME);
    for (size, write) in [(256u16, true), (256, false), (4096, true)] {
        let mut bed = Bed::<K>::new(size, true, write);
        let kind = if write { "written" } else { "read" };
        for burst in [1usize, 8, 32, 64, 256] {
            group.throughput(Throughput::Elements(burst as u64));
            let id = BenchmarkId::new(format!("{size}/{kind}"), burst);
            group.bench_with_input(id, &burst, |bencher, &burst| {
                bencher.iter(|| {
                    bed.push(burst);
                    bed.serve(burst);
                    bed.pop(burst);
                });
            });
        }
    }
    group.finish();
}

fn round_trip(criterion: &mut Criterion) {
    round_trip_of::<Split<false>>(criterion);
    round_trip_of::<Split<true>>(criterion);
    round_trip_of::<Packed<false>>(criterion);
    round_trip_of::<Packed<true>>(criterion);
}

/// The three steps apart, in bursts of 32, each over a ring's worth of bursts.
fn steps_of<K: Kind>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("{}, step of 32", K::NAME));
    group.throughput(Throughput::Elements(256));
    let each = |f: &mut dyn FnMut()| (0..8).for_each(|_| f());
    let timed = |f: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        f();
        start.elapsed()
    };
    for step in ["push+publish", "peek+complete+publish", "pop"] {
        let mut bed = Bed::<K>::new(256, true, true);
        group.bench_function(step, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let times = [
                        timed(&mut || each(&mut || bed.push(32))),
                        timed(&mut || each(&mut || bed.serve(32))),
                        timed(&mut || each(&mut || bed.pop(32))),
                    ];
                    spent += match step {
                        "push+publish" => times[0],
                        "pop" => times[2],
                        _ => times[1],
                    };
                }
                spent
            });
        });
    }
    group.finish();
}

fn steps(criterion: &mut Criterion) {
    steps_of::<Split<false>>(criterion);
    steps_of::<Packed<false>>(criterion);
    steps_of::<Kept<Packed<false>>>(criterion);
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
    targets = round_trip, steps
}
criterion_main!(benches);
