//! The laboratory: what a cache of which size and policy would have done with a real load.
//!
//! | module | what |
//! |---|---|
//! | [`trace`] | recorded requests of many formats, read as a stream |
//! | [`generate`] | made-up loads, each with one habit of real ones |
//! | [`Writer`] | traces written as a stream |
//! | [`survey`](mod@survey) | how many objects a trace has, and how large they are |
//! | [`links`] | when each object is asked for again |
//! | [`Policy`] | the policies of a cache and the optima, under one name |
//! | [`run`](mod@run) | many caches over one trace, side by side |
//! | [`mrc`] | miss-ratio curves from a sample |
//! | [`plot`] | pictures of miss ratios |
//!
//! # Invariants
//! 1. No trace is ever in memory as a whole. What a pass keeps is bounded by the number of
//!    different objects.
//! 2. Files are hostile: they are read or refused, with the place.
//!
//! Not here: the policies and what drives them (`larder_engine::memory::simulate`), which a
//! live cache uses as well.

#![forbid(unsafe_code)]

mod error;
pub mod generate;
pub mod links;
pub mod mrc;
pub mod plot;
mod policy;
pub mod run;
pub mod survey;
pub mod trace;
mod write;

pub use error::{Error, Place, Result};
pub use policy::Policy;
pub use write::Writer;
