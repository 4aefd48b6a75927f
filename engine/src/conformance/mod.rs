//! The suite that every engine has to pass.
//!
//! [`check`] takes a [`Harness`], which says how engines of one kind are made and which
//! liberties of the contract they take, and holds them to the rest of it:
//!
//! | part | what | how |
//! |---|---|---|
//! | [points](run) | one behaviour each, by name | a fresh engine per behaviour |
//! | [differential](run) | any order of single-threaded operations | against [`Model`], shrunk on failure |
//! | [concurrent](run) | operations on few keys from several threads | recorded, then [`history::check`] |
//!
//! An engine that keeps everything is held to everything. One that [may evict](Liberties) may
//! miss what was put, and nothing else: a wrong, old or dead value breaks the contract always.
//!
//! ```
//! # fn main() -> Result<(), larder_engine::Error> {
//! use larder_engine::conformance::{Harness, Liberties, Place};
//!
//! /// Engines that live in memory: nothing is left when they go.
//! struct InMemory;
//!
//! impl Harness for InMemory {
//!     fn liberties(&self) -> Liberties {
//!         Liberties { admits_len: 1 << 20, ..Liberties::default() }
//!     }
//!
//!     fn place(&self) -> Box<dyn Place> {
//!         Box::new(|clock| {
//!             // Ok(Box::new(MyEngine::with_clock(clock)))
//! #           let _: std::sync::Arc<larder_engine::ManualClock> = clock;
//! #           Err(larder_engine::Error::Closed)
//!         })
//!     }
//! }
//!
//! # let report =
//! larder_engine::conformance::run(&InMemory, &Default::default());
//! # assert!(!report.failures.is_empty());
//! # Ok(()) }
//! ```

mod concurrent;
mod differential;
pub mod history;
mod life;
mod model;
mod points;
mod random;
mod report;
mod time;
mod trial;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::ManualClock;
use crate::engine::Engine;
use crate::error::Result;

pub use model::{Entry, Model};
pub use random::{Random, expand};
pub use report::{Failure, Report};

/// How engines of one kind are made, and what they promise beyond the least.
pub trait Harness {
    /// What the engines made here may do that others may not.
    fn liberties(&self) -> Liberties;

    /// A new place with nothing in it.
    fn place(&self) -> Box<dyn Place>;
}

/// Where one engine at a time lives: a temporary directory, say. Memory needs none, and a
/// closure that makes an engine will do.
pub trait Place {
    /// Opens the engine that lives here. After the first has been closed or dropped, this is
    /// called again where [`Liberties::keeps`] says that something is left to find.
    ///
    /// # Errors
    /// Whatever the engine says; the suite reports it as a failure.
    fn open(&self, clock: Arc<ManualClock>) -> Result<Box<dyn Engine>>;
}

impl<F> Place for F
where
    F: Fn(Arc<ManualClock>) -> Result<Box<dyn Engine>>,
{
    fn open(&self, clock: Arc<ManualClock>) -> Result<Box<dyn Engine>> {
        self(clock)
    }
}

/// What an engine may do, and how it was set up. The default is the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liberties {
    /// It may miss what was put, because its budget is smaller than what the suite puts. With
    /// a budget of 64 MiB or more say `false`, and it has to keep everything.
    pub may_evict: bool,
    /// What is still there when its place is opened again.
    pub keeps: Keeps,
    /// What [`Ttl::Default`](crate::Ttl::Default) stands for.
    pub default_ttl: Option<Duration>,
    /// Values up to this many bytes have to be admitted.
    pub admits_len: usize,
    /// Values of this many bytes and more have to be refused as too large. `None`: none.
    pub refuses_len: Option<usize>,
}

impl Default for Liberties {
    fn default() -> Self {
        Self {
            may_evict: false,
            keeps: Keeps::Nothing,
            default_ttl: None,
            admits_len: 5 << 20,
            refuses_len: None,
        }
    }
}

/// What an engine leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Keeps {
    /// Nothing: its place is never opened twice.
    #[default]
    Nothing,
    /// Everything, if it was closed.
    WhatWasClosed,
    /// Everything, even if it was only dropped.
    Everything,
}

/// How much is tried, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Same seed, same operations; the order of threads is the machine's.
    pub seed: u64,
    /// Random sequences that are compared with the model.
    pub sequences: usize,
    /// Operations in each of them.
    pub steps: usize,
    /// Concurrent histories that are recorded and checked.
    pub rounds: usize,
    /// Threads that make a history.
    pub threads: usize,
    /// Whether to stop at the first behaviour that is broken.
    pub first_only: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0x1A4D_E400,
            sequences: 8,
            steps: 600,
            rounds: 12,
            threads: 4,
            first_only: false,
        }
    }
}

/// Runs the suite with the default plan.
///
/// # Panics
/// If the engine breaks the contract; the message lists each behaviour that it broke, how,
/// and the seed.
pub fn check(harness: &dyn Harness) {
    run(harness, &Plan::default()).assert();
}

/// Runs the suite, and says what was kept, what was broken, and what did not apply.
pub fn run(harness: &dyn Harness, plan: &Plan) -> Report {
    let mut report = Report::new(plan);
    let points = [points::ALL, time::ALL, whole::ALL, life::ALL];
    for &(name, behaviour) in points.into_iter().flatten() {
        report.record(name, || behaviour(&mut trial::Trial::new(harness)?));
    }
    report.record("any_sequence_is_what_the_model_says", || differential::run(harness, plan));
    report.record("any_history_is_linearizable", || concurrent::run(harness, plan));
    report
}
