//! Benchmarks of larder, and of its rivals beside it.
//!
//! | module | what |
//! |---|---|
//! | [`disk`], [`mix`], [`large`], [`durable`] | speeds of stores |
//! | [`memory`] | speeds of caches in memory |
//! | [`memo`] | speeds of functions whose results are kept, and of keys |
//! | [`space`], [`heap`], [`stall`], [`reopen`] | bytes, memory, waits, opening |
//! | [`processes`] | stores that several processes have open at once |
//! | [`amplification`], [`trace`] | bytes written for bytes put, over a recorded trace |
//! | [`arrays`] | arrays, beside mapped files, NumPy, joblib and safetensors |
//! | [`all`] | everything, in some minutes |
//! | [`data`], [`stores`] | keys, values, orders; stores that hold them |
//! | [`rounds`], [`timed`] | interleaved repeats; threads, medians |
//! | [`report`], [`sheet`], [`machine`], [`plot`] | tables, JSON, pictures |
//!
//! `docs/benchmarks.md` says how to run them, what they measure and what they found.

pub mod all;
pub mod amplification;
pub mod arrays;
pub mod data;
pub mod disk;
pub mod durable;
pub mod heap;
pub mod large;
pub mod machine;
pub mod memo;
pub mod memory;
pub mod mix;
pub mod plot;
pub mod processes;
pub mod reopen;
pub mod report;
pub mod rounds;
pub mod sheet;
pub mod space;
pub mod stall;
pub mod stores;
pub mod timed;
pub mod trace;
