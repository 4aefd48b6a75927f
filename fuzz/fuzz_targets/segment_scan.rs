//! See `larder_fuzz::format::segment_scan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::format::segment_scan(data));
