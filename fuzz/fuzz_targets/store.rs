//! See `larder_fuzz::store::store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::store::store(data));
