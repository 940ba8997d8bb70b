//! See `vring_fuzz::driver`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vring_fuzz::driver(data));
