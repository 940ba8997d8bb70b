//! What the ring costs in instructions: a number that no other load on the machine can change.
//!
//! `cargo bench -p vring-ring --bench instructions --no-run`, then the binary under `valgrind --tool=callgrind --collect-atstart=no
//! --toggle-collect='*::push'` (or `serve`, `pop`) with a kind (`split`, `split-in-order`, `packed`, `packed-in-order`, or one of these and
//! `-recorded` for in-flight records) and `read` or `written`:
//! the total divided by 32768 is the cost of a packet in bursts of 32.

mod bed;

use bed::{Bed, Kept, Kind, Packed, Split};

fn run<K: Kind>(write: bool) {
    let mut bed = Bed::<K>::new(256, true, write);
    for _ in 0..1024 {
        bed.push(32);
        bed.serve(32);
        bed.pop(32);
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let write = args.iter().any(|arg| arg == "written");
    match args.get(1).map(String::as_str) {
        Some("split-in-order") => run::<Split<true>>(write),
        Some("split-recorded") => run::<Kept<Split<false>>>(write),
        Some("split-in-order-recorded") => run::<Kept<Split<true>>>(write),
        Some("packed-recorded") => run::<Kept<Packed<false>>>(write),
        Some("packed-in-order-recorded") => run::<Kept<Packed<true>>>(write),
        Some("packed") => run::<Packed<false>>(write),
        Some("packed-in-order") => run::<Packed<true>>(write),
        _ => run::<Split<false>>(write),
    }
}
