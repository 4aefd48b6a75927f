//! See `larder_fuzz::format::record_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::format::record_decode(data));
