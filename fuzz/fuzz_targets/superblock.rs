//! See `larder_fuzz::format::superblock`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::format::superblock(data));
