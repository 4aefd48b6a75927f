//! See `larder_fuzz::format::dump`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::format::dump(data));
