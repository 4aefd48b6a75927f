//! See `larder_fuzz::format::index_image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::format::index_image(data));
