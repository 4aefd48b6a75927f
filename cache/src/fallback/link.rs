//! One engine of a fallback: whether it is open, whether it is tried, and what it is owed.
//!
//! # Invariants
//! 1. An engine that was opened stays: it is never opened again, so the numbers of its tags and the
//!    versions of its values stay what they were.
//! 2. One that is not the first is empty when it is opened: it is cleared before anyone sees it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use larder_engine::{Clock, Engine, Error, Health, Result};

use crate::event::{Event, Events};
use crate::health::{Breaker, Circuit, Patience, overall};
use crate::stale::Stale;
use crate::stats::Counter;
use crate::sync::Mutex;

/// What opens an engine.
pub(super) type Opener = Box<dyn Fn() -> Result<Arc<dyn Engine>> + Send + Sync>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The engine failed, or cannot be opened.
    Failed(Error),
    /// It is not tried now.
    NotTried,
    /// What was asked cannot be, of any engine.
    Callers(Error),
}

/// What an operation does, which decides what counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    /// A write of which a success proves little: a full disk removes.
    Removal,
}

pub(super) struct Link {
    pub(super) name: Arc<str>,
    pub(super) stale: Stale,
    pub(super) failures: Counter,
    opener: Opener,
    is_first: bool,
    engine: OnceLock<Arc<dyn Engine>>,
    /// Held by who opens it.
    opening: Mutex<()>,
    reads: Breaker,
    writes: Breaker,
    /// What the observer knows, and what was wrong last.
    told: Mutex<(Circuit, Option<String>)>,
    retries: u32,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
}

/// What all links of a fallback have in common.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) patience: Patience,
    pub(super) retries: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: Arc<Events>,
}

impl Link {
    pub(super) fn new(name: Arc<str>, opener: Opener, is_first: bool, common: &Common) -> Self {
        Self {
            name,
            stale: Stale::default(),
            failures: Counter::default(),
            opener,
            is_first,
            engine: OnceLock::new(),
            opening: Mutex::new(()),
            reads: Breaker::new(common.patience),
            writes: Breaker::new(common.patience),
            told: Mutex::default(),
            retries: common.retries,
            clock: Arc::clone(&common.clock),
            events: Arc::clone(&common.events),
        }
    }

    /// The engine, if it was opened.
    #[inline]
    pub(super) fn engine(&self) -> Option<&Arc<dyn Engine>> {
        self.engine.get()
    }

    pub(super) fn circuit(&self) -> Circuit {
        match (self.reads.circuit(), self.writes.circuit()) {
            (Circuit::Closed, Circuit::Closed) => Circuit::Closed,
            (Circuit::HalfOpen, _) | (_, Circuit::HalfOpen) => Circuit::HalfOpen,
            _ => Circuit::Open,
        }
    }

    /// Whether it is open and nothing speaks against it.
    pub(super) fn is_well(&self) -> bool {
        self.engine().is_some() && self.circuit() == Circuit::Closed
    }

    /// Whether it is open and its lookups go well.
    pub(super) fn is_readable(&self) -> bool {
        self.engine().is_some() && self.reads.circuit() == Circuit::Closed
    }

    /// Whether it could take a value now.
    pub(super) fn may_serve(&self) -> bool {
        let opens = self.engine().is_some() || self.writes.is_ready(|| self.clock.now_ms());
        opens && !self.stale.bypassed() && self.circuit() == Circuit::Closed
    }

    pub(super) fn health(&self) -> Health {
        match self.engine() {
            None => Health::Offline,
            Some(_) => overall(self.reads.health(), self.writes.health()),
        }
    }

    /// What was wrong last, if anything is.
    pub(super) fn why(&self) -> Option<String> {
        self.told.lock().1.clone()
    }

    /// Whether something could be tried that was not of late.
    pub(super) fn is_due(&self) -> bool {
        let now_ms = || self.clock.now_ms();
        self.writes.is_ready(now_ms) && (self.engine().is_none() || self.stale.any())
    }

    /// Opens the engine, unless it is, or a pause is on.
    pub(super) fn open(&self) -> Result<&Arc<dyn Engine>, Trouble> {
        if let Some(engine) = self.engine() {
            return Ok(engine);
        }
        let _alone = self.opening.lock();
        if let Some(engine) = self.engine() {
            return Ok(engine);
        }
        let Some(permit) = self.writes.ask(|| self.clock.now_ms()) else {
            return Err(Trouble::NotTried);
        };
        self.tell(None);
        let opened = (self.opener)().and_then(|engine| {
            if !self.is_first {
                engine.clear()?;
            }
            Ok(engine)
        });
        match opened {
            Ok(engine) => {
                self.writes.ok(permit);
                let engine = self.engine.get_or_init(|| engine);
                self.tell(None);
                Ok(engine)
            }
            Err(error) => {
                // There is nothing else to be tried on it.
                self.writes.failed_for_good(permit, self.clock.now_ms());
                Err(self.failed("be opened", error))
            }
        }
    }

    /// Tries an operation, if that is let through, and takes note of how it went.
    pub(super) fn attempt<T>(
        &self,
        kind: Kind,
        op: &'static str,
        call: impl Fn(&dyn Engine) -> Result<T>,
    ) -> Result<T, Trouble> {
        let Some(engine) = self.engine() else { return Err(Trouble::NotTried) };
        let breaker = if kind == Kind::Read { &self.reads } else { &self.writes };
        let Some(permit) = breaker.ask(|| self.clock.now_ms()) else {
            return Err(Trouble::NotTried);
        };
        if permit.is_probe() {
            self.tell(None);
        }
        let mut left = self.retries;
        let error = loop {
            match call(&**engine) {
                Ok(answer) => {
                    if kind == Kind::Removal {
                        breaker.unproven(permit, self.clock.now_ms());
                    } else if breaker.ok(permit) {
                        self.tell(None);
                    }
                    return Ok(answer);
                }
                Err(error) if is_callers(&error) => {
                    // It says nothing about the engine.
                    breaker.unproven(permit, self.clock.now_ms());
                    return Err(Trouble::Callers(error));
                }
                Err(error) if error.is_transient() && left > 0 => left -= 1,
                Err(error) => break error,
            }
        };
        let now_ms = self.clock.now_ms();
        if error.is_transient() {
            breaker.failed(permit, now_ms);
        } else {
            breaker.failed_for_good(permit, now_ms);
        }
        Err(self.failed(op, error))
    }

    fn failed(&self, op: &'static str, error: Error) -> Trouble {
        self.failures.add(1);
        let why = crate::error::chain(&error);
        self.events.push(|| Event::Failed { op, why: format!("{}: {why}", self.name) });
        self.tell(Some(why));
        Trouble::Failed(error)
    }

    /// Notes what the circuit is now; and what was wrong, unless nothing new is known.
    fn tell(&self, why: Option<String>) {
        let mut told = self.told.lock();
        let circuit = self.circuit();
        if why.is_some() {
            told.1 = why;
        } else if circuit == Circuit::Closed {
            told.1 = None;
        }
        if told.0 != circuit {
            told.0 = circuit;
            let (name, why) = (Arc::clone(&self.name), told.1.clone());
            self.events.push(|| Event::Circuit { engine: name, to: circuit, why });
        }
    }

    /// Notes that the engine lacks what became of `key`.
    pub(super) fn mask(&self, key: &[u8]) {
        // One that was never opened will be empty, unless it is the first.
        if (self.is_first || self.engine().is_some()) && self.stale.mask(key) {
            self.events.push(|| Event::Bypassed);
        }
    }

    /// Notes that the engine was not told of an invalidation.
    pub(super) fn owe(&self, tag: &[u8]) {
        if (self.is_first || self.engine().is_some()) && self.stale.owe(tag) {
            self.events.push(|| Event::Bypassed);
        }
    }

    /// Notes that the engine holds what was cleared.
    pub(super) fn bypass(&self) {
        if (self.is_first || self.engine().is_some()) && self.stale.bypass() {
            self.events.push(|| Event::Bypassed);
        }
    }

    /// Removes `key`, or notes that it is still to be removed. Whether it had a value that counted.
    /// Hold the key's stripe.
    pub(super) fn remove(&self, key: &[u8]) -> Result<bool, Error> {
        let hidden = self.stale.hides(key);
        let removed = if self.stale.bypassed() {
            Err(Trouble::NotTried)
        } else {
            self.attempt(Kind::Removal, "remove a value", |engine| engine.remove(key))
        };
        match removed {
            Ok(removed) => {
                self.stale.unmask(key);
                Ok(removed && !hidden)
            }
            Err(Trouble::Callers(error)) => Err(error),
            Err(_) => {
                self.mask(key);
                Ok(false)
            }
        }
    }

    /// Makes good what is owed to the engine. Whether nothing is left. `alone` locks a key.
    pub(super) fn settle<G>(&self, alone: impl Fn(&[u8]) -> G) -> bool {
        if self.stale.bypassed() {
            // Nothing is put into it meanwhile (`put` looks).
            if self.attempt(Kind::Removal, "clear", |engine| engine.clear()).is_err() {
                return false;
            }
            if self.stale.cleared() {
                self.events.push(|| Event::Cleared);
            }
        }
        while let Some(tag) = self.stale.owed() {
            let invalidate = |engine: &dyn Engine| match engine.tagged() {
                Some(tagged) => tagged.invalidate_tag(&tag),
                None => Ok(()),
            };
            if self.attempt(Kind::Write, "invalidate a tag", invalidate).is_err() {
                return false;
            }
            self.stale.settled(&tag);
        }
        loop {
            let keys = self.stale.sample(SETTLED_AT_ONCE);
            if keys.is_empty() {
                return !self.stale.any();
            }
            for key in keys {
                let _alone = alone(&key);
                if self.stale.masks(&key) && (self.remove(&key).is_err() || self.stale.masks(&key))
                {
                    return false;
                }
            }
        }
    }
}

/// Keys that are looked up at once to be settled.
const SETTLED_AT_ONCE: usize = 256;

/// Whether an error says something about what was asked, and nothing about the engine.
fn is_callers(error: &Error) -> bool {
    matches!(
        error,
        Error::KeyTooLong { .. }
            | Error::TooManyTags { .. }
            | Error::NotANumber { .. }
            | Error::Overflow { .. }
            | Error::Config { .. }
            | Error::Array(_)
            | Error::Blocked { .. }
    )
}

impl fmt::Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Link")
            .field("name", &self.name)
            .field("engine", &self.engine.get())
            .field("circuit", &self.circuit())
            .finish_non_exhaustive()
    }
}
