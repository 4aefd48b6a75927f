//! One engine on trial, and the questions that behaviours ask it again and again.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::report::{Stop, Verdict, ensure};
use super::{Harness, Keeps, Liberties, Place};
use crate::clock::{Clock, ManualClock};
use crate::engine::{Engine, Outcome, Put, Ttl};
use crate::value::Value;

/// When every trial starts: some day of 2023.
pub(super) const START_MS: u64 = 1_700_000_000_000;

/// Options of a value that outlasts every trial, whatever the engine's default.
pub(super) const LASTING: Put<'static> = Put {
    ttl: Ttl::Never,
    durability: crate::Durability::None,
    codec: crate::CodecId::RAW,
    tags: &[],
    cost: crate::Cost::NONE,
    when_short: None,
};

/// How an engine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Close,
    Drop,
}

/// A fresh engine, its clock and its place.
pub(super) struct Trial {
    pub(super) clock: Arc<ManualClock>,
    pub(super) liberties: Liberties,
    place: Box<dyn Place>,
    engine: Option<Box<dyn Engine>>,
}

impl Trial {
    pub(super) fn new(harness: &dyn Harness) -> Verdict<Self> {
        let clock = Arc::new(ManualClock::at(START_MS));
        let place = harness.place();
        let engine = place
            .open(clock.clone())
            .map_err(|error| Stop::Broken(format!("opening a new place failed: {error}")))?;
        Ok(Self { clock, liberties: harness.liberties(), place, engine: Some(engine) })
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        self.engine.as_deref().expect("reopened whenever it was taken")
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Whether the engine says that it keeps what ends like this.
    pub(super) fn keeps_after(&self, end: End) -> bool {
        self.liberties.keeps
            >= match end {
                End::Close => Keeps::WhatWasClosed,
                End::Drop => Keeps::Everything,
            }
    }

    /// Ends the engine and opens its place again. What it does not say that it keeps may be
    /// missing from then on, as if evicted; it may not be older.
    pub(super) fn reopen(&mut self, end: End) -> Verdict {
        if self.liberties.keeps == Keeps::Nothing {
            return Err(Stop::DoesNotApply("nothing is left behind by such an engine"));
        }
        self.liberties.may_evict |= !self.keeps_after(end);
        let engine = self.engine.take();
        if end == End::Close {
            engine.as_deref().map_or(Ok(()), Engine::close)?;
        }
        drop(engine);
        let again = self.place.open(self.clock.clone());
        self.engine =
            Some(again.map_err(|error| Stop::Broken(format!("reopening failed: {error}")))?);
        Ok(())
    }

    /// Stores a lasting value; its version.
    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> Verdict<u64> {
        self.put_with(key, value, &LASTING)
    }

    /// Stores a value that the engine has no reason to refuse; its version.
    pub(super) fn put_with(&self, key: &[u8], value: &[u8], options: &Put) -> Verdict<u64> {
        let outcome = self
            .engine()
            .put(key, value, options)
            .map_err(|error| Stop::Broken(format!("put {} failed: {error}", show(key))))?;
        match outcome {
            Outcome::Admitted { version } => Ok(version),
            Outcome::Rejected(why) => Err(Stop::Broken(format!(
                "put {} of {} bytes was refused: {why:?}",
                show(key),
                value.len()
            ))),
            Outcome::Conflict { .. } => {
                Err(Stop::Broken(format!("put {} met a conflict: it has no condition", show(key))))
            }
            Outcome::Blocked => Err(Stop::Broken(format!("put {} was not to wait", show(key)))),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Verdict<Option<Value>> {
        let value = self.engine().get(key);
        value.map_err(|error| Stop::Broken(format!("get {} failed: {error}", show(key))))
    }

    /// The key has this value, and every way of asking says so; or it was evicted.
    pub(super) fn holds(&self, key: &[u8], value: &[u8]) -> Verdict {
        let found = self.get(key)?;
        let Some(found) = found else {
            ensure!(self.liberties.may_evict, "{} is missing", show(key));
            return Ok(());
        };
        ensure!(*found == *value, "{} has {} instead of {}", show(key), show(&found), show(value));
        let version = self.engine().version(key)?;
        ensure!(
            version == Some(found.meta().version) || self.evicted(version.is_none()),
            "{} has version {version:?}, its value says {}",
            show(key),
            found.meta().version
        );
        let contains = self.engine().contains(key)?;
        ensure!(contains || self.liberties.may_evict, "{} is there, contains says no", show(key));
        Ok(())
    }

    /// The key has no value, and every way of asking says so.
    pub(super) fn lacks(&self, key: &[u8]) -> Verdict {
        let found = self.get(key)?;
        ensure!(
            found.is_none(),
            "{} should be absent, has {}",
            show(key),
            show(&found.unwrap_or_else(|| Vec::new().into()))
        );
        let version = self.engine().version(key)?;
        ensure!(version.is_none(), "{} is absent, has version {version:?}", show(key));
        let contains = self.engine().contains(key)?;
        ensure!(!contains, "{} is absent, contains says it is there", show(key));
        let listed = self.engine().iter().flatten().any(|(listed, _)| listed == key);
        ensure!(!listed, "{} is absent, iteration yields it", show(key));
        Ok(())
    }

    /// A miss of something that was put is excused.
    pub(super) fn evicted(&self, missed: bool) -> bool {
        missed && self.liberties.may_evict
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Trial").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Bytes for people: printable ones as they are, the rest as hex, long ones cut.
pub(super) fn show(bytes: &[u8]) -> String {
    const MOST: usize = 24;
    let mut out = String::from("\"");
    for &byte in bytes.iter().take(MOST) {
        if byte == b' ' || byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    if bytes.len() > MOST {
        let _ = write!(out, "… ({} bytes)", bytes.len());
    }
    out
}
