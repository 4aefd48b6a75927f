//! How long operations take, where the builder asked for it; nothing at all without the feature
//! `histograms`.
//!
//! Threads record into stripes, each behind locks of its own, so that they rarely meet. All
//! stripes are added up by who asks.

#[cfg(feature = "histograms")]
use std::time::Instant;

use super::builder::Options;
use crate::error::Result;
#[cfg(feature = "histograms")]
use crate::latency::{Latencies, Recorders};

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Timed {
    GetHit,
    GetMiss,
    Put,
    Remove,
    Sync,
    Stall,
    Step,
}

/// When something began; nothing where nothing is timed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Started(#[cfg(feature = "histograms")] Option<Instant>);

/// The recorders of a store, if it has any.
#[derive(Debug)]
pub(super) struct Timings {
    #[cfg(feature = "histograms")]
    recorders: Option<Box<Recorders>>,
}

impl Timings {
    #[cfg_attr(not(feature = "histograms"), expect(unused_variables, reason = "as it says"))]
    pub(super) fn new(options: &Options) -> Self {
        Self {
            #[cfg(feature = "histograms")]
            recorders: options.histograms.then(Box::default),
        }
    }

    /// Looks at the clock.
    #[inline]
    #[cfg_attr(
        not(feature = "histograms"),
        expect(clippy::unused_self, reason = "nothing is timed")
    )]
    pub(super) fn start(&self) -> Started {
        Started(
            #[cfg(feature = "histograms")]
            self.recorders.is_some().then(Instant::now),
        )
    }

    /// Records what was started.
    #[inline]
    #[cfg_attr(
        not(feature = "histograms"),
        expect(clippy::unused_self, unused_variables, reason = "nothing is timed")
    )]
    pub(super) fn end(&self, what: Timed, started: Started) {
        #[cfg(feature = "histograms")]
        if let (Some(recorders), Some(began)) = (&self.recorders, started.0) {
            recorders.record(what, super::lanes::thread_number(), began.elapsed());
        }
    }

    /// Does something, and records how long it took if it could be done.
    #[inline]
    pub(super) fn time<R>(&self, what: Timed, f: impl FnOnce() -> Result<R>) -> Result<R> {
        let started = self.start();
        let done = f()?;
        self.end(what, started);
        Ok(done)
    }

    /// Does a lookup, and records how long it took.
    #[inline]
    pub(super) fn time_get<R>(
        &self,
        lookup: impl FnOnce() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let started = self.start();
        let got = lookup()?;
        self.end(if got.is_some() { Timed::GetHit } else { Timed::GetMiss }, started);
        Ok(got)
    }

    /// Records a stall that ends when the guard is dropped.
    #[inline]
    pub(super) fn stall(&self) -> Stall<'_> {
        Stall { timings: self, started: self.start() }
    }

    /// All that was recorded, if anything is.
    #[cfg(feature = "histograms")]
    pub(super) fn latencies(&self) -> Option<Latencies> {
        self.recorders.as_ref().map(|recorders| recorders.sum())
    }
}

/// A stall that is under way, or none.
#[derive(Debug)]
pub(super) struct Stall<'a> {
    timings: &'a Timings,
    started: Started,
}

impl Drop for Stall<'_> {
    #[inline]
    fn drop(&mut self) {
        self.timings.end(Timed::Stall, self.started);
    }
}
