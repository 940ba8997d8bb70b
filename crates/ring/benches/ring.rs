//! What the ring itself costs, by burst and by size: both halves on one core, so no line travels between caches.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vring_mem::guest::{GuestMemory, GuestRegion};
use vring_mem::{Pages, Region};
use vring_ring::split::{SplitDevice, SplitDriver};
use vring_ring::{DeviceRing, DriverRing, Piece, RingFeatures, SplitLayout};

const BASE: u64 = 0x1_0000_0000;

/// Both halves of a ring, and the memory under them.
struct Bed {
    driver: SplitDriver,
    device: SplitDevice,
    tokens: Vec<u32>,
    lens: Vec<u32>,
    _memory: Arc<GuestMemory>,
}

impl Bed {
    fn new(size: u16, event_idx: bool) -> Self {
        let layout = SplitLayout::new(size, false);
        let region = Region::create("ring-bench", layout.total, Pages::Base).expect("memory");
        let features = RingFeatures {
            event_idx,
            indirect: false,
            in_order: false,
        };
        let driver = SplitDriver::new(&region, 0, BASE, size, &layout, features);
        let fd = region.fd().try_clone_to_owned().expect("a descriptor");
        let guest = GuestRegion::map(BASE, BASE, region.len() as u64, 0, fd).expect("a map");
        let memory = Arc::new(GuestMemory::new(vec![Arc::new(guest)]).expect("one region"));
        let at = |part: usize| memory.translate(BASE + part as u64, 1).expect("inside");
        let (desc, avail, used) = (at(layout.desc), at(layout.avail), at(layout.used));
        // SAFETY: the layout lies inside the region, whose map `_memory` keeps as long as the device half.
        let device = unsafe { SplitDevice::new(desc, avail, used, size, features) };
        Self {
            driver,
            device,
            tokens: (0..256).collect(),
            lens: vec![0; 256],
            _memory: memory,
        }
    }

    fn push(&mut self, burst: usize) {
        self.driver
            .push_many(&self.tokens[..burst], true, |nth| Piece {
                addr: BASE + nth as u64,
                len: 2060,
            });
        self.driver.publish();
        black_box(self.driver.needs_kick());
    }

    fn serve(&mut self, burst: usize) {
        let ready = self
            .device
            .ready(burst)
            .expect("an honest driver")
            .min(burst);
        let mut ids = [0u16; 256];
        let looked = self.device.peek_many(ready, |nth, head| {
            ids[nth] = head.id;
            black_box(head.desc.len) > 0
        });
        let count = looked.expect("an honest driver");
        self.device.complete_many(count, |nth| (ids[nth], 72));
        self.device.publish();
        black_box(self.device.needs_call());
    }

    fn pop(&mut self, burst: usize) {
        let ready = self.driver.used_ready(burst).expect("an honest device");
        let count = ready.min(burst);
        let (tokens, lens) = (&mut self.tokens[..count], &mut self.lens[..count]);
        let count = self.driver.pop_many(tokens, lens);
        assert_eq!(count, Ok(burst));
    }
}

/// A burst through the whole ring: push and publish, peek, complete and publish, pop.
fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round trip");
    for (size, event_idx) in [(256u16, false), (256, true), (4096, true)] {
        let mut bed = Bed::new(size, event_idx);
        let kind = if event_idx { "event_idx" } else { "flags" };
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

/// The three steps apart, in bursts of 32, each over a ring's worth of bursts.
fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step of 32");
    group.throughput(Throughput::Elements(256));
    let each = |f: &mut dyn FnMut()| (0..8).for_each(|_| f());
    let timed = |f: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        f();
        start.elapsed()
    };
    for step in ["push+publish", "peek+complete+publish", "pop"] {
        let mut bed = Bed::new(256, true);
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
