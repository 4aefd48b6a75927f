//! See `larder_fuzz::format::array_descriptor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::format::array_descriptor(data));
