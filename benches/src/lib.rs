//! Benchmarks of larder, and of its rivals beside it.
//!
//! | module | what |
//! |---|---|
//! | [`disk`], [`memory`] | workloads over all engines, in interleaved repeats |
//! | [`reopen`] | what opening takes after a close, a kill and a crash |
//! | [`data`] | keys, values, orders |
//! | [`timed`] | threads, medians |
//! | [`report`], [`machine`] | tables and JSON |
//!
//! `docs/benchmarks.md` says how to run them, what they measure and what they found.

pub mod data;
pub mod disk;
pub mod machine;
pub mod memory;
pub mod reopen;
pub mod report;
pub mod timed;
