//! See `vring_fuzz::device`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vring_fuzz::device(data));
