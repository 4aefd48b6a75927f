//! See `larder_fuzz::format::npy_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::format::npy_header(data));
