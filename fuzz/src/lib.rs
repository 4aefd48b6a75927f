//! What the fuzz targets do. None of it needs the fuzzer, so that plain tests can run the
//! corpus through the same code.

pub mod format;
pub mod store;
