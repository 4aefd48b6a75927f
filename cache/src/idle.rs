//! Values that go when nobody has used them for some time.
//!
//! Memory alone counts uses itself, exactly and for nothing. A store knows one deadline of a record, so
//! that is moved: whoever finds that a value would end within the idle time from now moves its end to
//! that and an eighth behind it. So a value ends no earlier than the idle time after its last use,
//! and no later than an eighth more, and its record is written anew at most once in an eighth of
//! it however often it is used.
//!
//! ```text
//!     use          use                    the end, as it was and as it is moved
//!   ───┼────────────┼────────────────────────|──────────────|
//!      '── idle time + 1/8 ──────────────────'              |
//!                   '── idle time + 1/8 ────────────────────'
//! ```
//!
//! # Which values
//! Those that were put without a time to live of their own. In a store they have a tag that says so, as
//! a fixed deadline must never be moved: [`MARK`], which no tag of anybody's is stored as (`Core::stored_tag`:
//! what begins with that tag and 0 goes on with that tag).

use std::time::Duration;

use larder_engine::clock::NEVER;
use larder_engine::{Engine, Error as EngineError, Expected, Put};

use crate::builder::Builder;
#[cfg(doc)]
use crate::cache::Cache;
use crate::change::until;
use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::key::tag;

/// The tag of values whose deadline uses move.
pub(crate) const MARK: &[u8] = &[tag::NAMESPACE, 0, tag::IDLE];

/// The share of the idle time in which a value's record is written at most once.
const SHARE: u64 = 8;

/// How long values live that nobody uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) ms: u64,
    /// What the store knows the mark by; 0 without one.
    id: u64,
}

impl Idle {
    /// Over a store, which has to be able to change deadlines and to hold tags; or over none.
    pub(crate) fn over(time: Duration, engine: Option<&dyn Engine>) -> Result<Self> {
        let ms = u64::try_from(time.as_millis()).unwrap_or(NEVER);
        let Some(engine) = engine else { return Ok(Self { ms, id: 0 }) };
        if engine.atomic().is_none() {
            return Err(Error::Unsupported { what: "expiry that can be changed" });
        }
        let tagged = engine.tagged().ok_or(Error::Unsupported { what: "tags" })?;
        let failed = |source: EngineError| Error::Engine { op: "take a tag", source };
        Ok(Self { ms, id: tagged.tag_id(MARK).map_err(failed)? })
    }

    /// The end of a value that is used now.
    pub(crate) const fn end(&self, now_ms: u64) -> u64 {
        let share = if self.ms / SHARE == 0 { 1 } else { self.ms / SHARE };
        now_ms.saturating_add(self.ms).saturating_add(share)
    }

    /// Takes the mark out of the tags that the store has of a value. Whether it was there.
    pub(crate) fn unmark(&self, tags: &mut Vec<u64>) -> bool {
        let count = tags.len();
        tags.retain(|id| *id != self.id);
        tags.len() != count
    }
}

impl<K, V, C> Builder<K, V, C> {
    /// How long values live that nobody uses, if they were put without a time to live of their own. Every
    /// call that returns the value, or changes it, is a use; [`Cache::contains`], [`Cache::iter`] and what
    /// lists keys are none.
    ///
    /// Memory alone is exact. Over a store a value goes between this time after its last use and an
    /// eighth more, in both tiers, also when the store is opened again; for that its record is
    /// written anew at most once in an eighth of the time, by a use, and carries one tag, so that
    /// 14 are left for yours. Writing it anew is storing it anew to [`Info`](crate::Info) and
    /// [`Cache::get_max_age`]. [`Cache::touch`] sets the end, and over a store uses go on moving it.
    ///
    /// Not together with [`ttl`](Self::ttl) and what says how values near and past their time are treated.
    /// The store has to hold tags, and to change deadlines.
    ///
    /// ```
    /// use larder::{Cache, ManualClock};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let clock = Arc::new(ManualClock::at(0));
    /// let builder = Cache::<u32, char>::builder().clock(clock.clone());
    /// let sessions = builder.time_to_idle(Duration::from_secs(60)).build()?;
    /// assert!(sessions.insert(7, 'a')?.is_admitted());
    /// clock.advance(59_999);
    /// assert_eq!(sessions.get(&7)?, Some('a'));
    /// clock.advance(59_999);
    /// assert_eq!(sessions.get(&7)?, Some('a'));
    /// clock.advance(60_000);
    /// assert_eq!(sessions.get(&7)?, None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn time_to_idle(mut self, time: Duration) -> Self {
        self.idle = Some(time);
        self
    }

    /// What cannot be beside a time to idle.
    pub(crate) fn validate_idle(&self) -> Result<()> {
        let Some(idle) = self.idle else { return Ok(()) };
        let is_simple = self.freshness.is_simple() && self.freshness.jitter == 0.0;
        let accepted = match () {
            () if idle.as_millis() == 0 => "at least 1 ms; leave it out for values that stay",
            () if self.ttl.is_some() => {
                "either this or ttl; a value can have a time of its own with Put::ttl"
            }
            () if !is_simple => "without serve_stale, refresh_ahead, refresh_early and jitter",
            () => return Ok(()),
        };
        Err(Error::Config { option: "time_to_idle", value: format!("{idle:?}"), accepted })
    }
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// Whether a use of this value has to move its end.
    #[inline]
    pub(crate) fn is_due(&self, entry: &Entry<V>) -> bool {
        match &self.options.idle {
            Some(idle) if entry.life.is_idle && entry.life.expires_at_ms != NEVER => {
                entry.life.expires_at_ms < self.now_ms().saturating_add(idle.ms)
            }
            _ => false,
        }
    }

    /// Moves the end of a value that was found, if that is due and it is still the one.
    pub(crate) fn used(&self, key: &[u8], entry: &Entry<V>) {
        let (Some(idle), Some(lower)) = (&self.options.idle, &self.lower) else { return };
        if !self.is_due(entry) {
            return;
        }
        if entry.is_unflushed() {
            let given = entry.tags.as_ref().map_or_else(Vec::new, |tags| tags.given());
            let put = Put { tags: &given, ..Put::default() };
            let expected = Expected::Version(entry.version);
            // Whoever was first has moved it as well, or has replaced it.
            drop(self.insert_if(key, entry.value.clone(), &put, expected));
            return;
        }
        let moved = self.change(key, |key| {
            if self.current(key)? == Some(entry.version) {
                lower.touch(key, until(idle.end(self.now_ms())))?;
                // The next who asks gets it from the store, with its new end.
                self.memory.remove(&**key);
            }
            Ok(())
        });
        // A store that fails lets it end sooner, no more.
        drop(moved);
    }
}
