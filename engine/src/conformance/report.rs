//! What a run of the suite has found.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Plan;
use crate::error::Error;

/// What became of one behaviour: kept, or why not.
pub(super) type Verdict<T = ()> = Result<T, Stop>;

/// Why a behaviour was not shown to be kept.
#[derive(Debug)]
pub(super) enum Stop {
    /// The engine did something else; this is what.
    Broken(String),
    /// The engine is not of the kind that could.
    DoesNotApply(&'static str),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Broken(format!("failed: {error}"))
    }
}

/// Ends a behaviour as broken unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::conformance::report::Stop::Broken(format!($($what)+)));
        }
    };
}
pub(super) use ensure;

/// What was kept, broken, and left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the engine may have failed"]
pub struct Report {
    /// The seed of everything random.
    pub seed: u64,
    first_only: bool,
    /// Behaviours that were kept.
    pub kept: Vec<&'static str>,
    /// Behaviours that were broken.
    pub failures: Vec<Failure>,
    /// Behaviours that this kind of engine cannot have, and why.
    pub left_out: Vec<(&'static str, &'static str)>,
}

/// One behaviour that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The behaviour.
    pub behaviour: &'static str,
    /// What the engine did instead.
    pub what: String,
}

impl Report {
    pub(super) const fn new(plan: &Plan) -> Self {
        Self {
            seed: plan.seed,
            first_only: plan.first_only,
            kept: Vec::new(),
            failures: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Runs one behaviour; a panic of the engine is a failure like any other.
    pub(super) fn record(&mut self, behaviour: &'static str, body: impl FnOnce() -> Verdict) {
        if self.first_only && !self.failures.is_empty() {
            self.left_out.push((behaviour, "another was broken before"));
            return;
        }
        let verdict = catch_unwind(AssertUnwindSafe(body))
            .unwrap_or_else(|panic| Err(Stop::Broken(format!("panicked: {}", text_of(&*panic)))));
        match verdict {
            Ok(()) => self.kept.push(behaviour),
            Err(Stop::Broken(what)) => self.failures.push(Failure { behaviour, what }),
            Err(Stop::DoesNotApply(why)) => self.left_out.push((behaviour, why)),
        }
    }

    /// Passes if nothing was broken.
    ///
    /// # Panics
    /// With this report as the message, if something was.
    pub fn assert(&self) {
        assert!(self.failures.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kept, broken) = (self.kept.len(), self.failures.len());
        writeln!(out, "{kept} behaviours kept, {broken} broken (seed {:#x})", self.seed)?;
        for failure in &self.failures {
            writeln!(out, "  broken: {}: {}", failure.behaviour, failure.what)?;
        }
        for (behaviour, why) in &self.left_out {
            writeln!(out, "  left out: {behaviour}: {why}")?;
        }
        Ok(())
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no message)")
}
