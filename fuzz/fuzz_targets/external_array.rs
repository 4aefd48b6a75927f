//! See `larder_fuzz::format::external_array`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::format::external_array(data));
