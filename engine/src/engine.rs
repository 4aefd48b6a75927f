//! The contract that every engine keeps.
//!
//! `conformance` holds the suite that checks it (feature `conformance`).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder_format::CodecId;

use crate::batch::{BatchOutcome, WriteBatch};
use crate::clock::NEVER;
use crate::error::{Error, Result};
use crate::stats::{Health, Stats};
use crate::value::Value;

/// A place that keeps values under keys, both plain bytes.
///
/// # Consistency
/// All methods may be called from any thread at any time. Operations on one key are
/// linearizable, with one liberty: an engine with a budget may evict any entry at any time, so
/// that a `get` may miss what was put. It never returns what was not put under that very key,
/// what was replaced or removed before the call, or what has expired.
///
/// # Errors
/// [`Error`] says what could not be done. After an error of a write the key has
/// its old value, its new one, or none; after any error the engine can be used as before.
#[expect(clippy::missing_errors_doc, reason = "said once, on the trait")]
pub trait Engine: Send + Sync + fmt::Debug {
    /// A short name for people and statistics.
    fn name(&self) -> &'static str;

    /// The live value of `key`. Counts as a use for the eviction policy.
    fn get(&self, key: &[u8]) -> Result<Option<Value>>;

    /// The version of the live value of `key`, without reading the value and without counting
    /// as a use. See [`Meta::version`](crate::Meta::version).
    fn version(&self, key: &[u8]) -> Result<Option<u64>>;

    /// Whether `key` has a live value. Does not count as a use.
    fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.version(key)?.is_some())
    }

    /// Whether a later lookup of `key` could find anything, if nothing is put until then: not only
    /// what is found now, but also what an engine of parts holds in one that is away.
    fn may_hold(&self, key: &[u8]) -> Result<bool> {
        self.contains(key)
    }

    /// Stores `value` under `key`, replacing value, expiry and codec. A value that is refused
    /// leaves the old one as it was.
    fn put(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome>;

    /// Removes `key`. Whether it had a live value.
    fn remove(&self, key: &[u8]) -> Result<bool>;

    /// Removes everything that was put before the call, and says how many entries that were,
    /// expired ones included. A `put` at the same time may survive or not.
    fn clear(&self) -> Result<u64>;

    /// Number of entries, expired ones included until they are noticed.
    fn len(&self) -> u64;

    /// Whether there are no entries.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All live entries, in no order. An entry that is there, unchanged, from the first call
    /// of `next` to the last comes exactly once; one that comes or goes meanwhile may come or
    /// not. The iterator is never invalidated.
    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_>;

    /// Returns when everything put before survives the loss of power, as far as the engine
    /// can promise that at all; in memory it does nothing.
    fn sync(&self) -> Result<()>;

    /// Syncs and ends the engine: later calls fail with [`Error::Closed`].
    /// Dropping an engine without this loses nothing that survives the death of the process.
    fn close(&self) -> Result<()>;

    /// What the engine says about itself. Costs no more than reading counters.
    fn stats(&self) -> Stats;

    /// Changes what the engine may hold, in bytes, while it is in use. What does not fit any more leaves
    /// before this returns.
    ///
    /// # Errors
    /// [`Error::Config`] if it cannot be this, or cannot be changed.
    fn set_budget(&self, bytes: u64) -> Result<()> {
        Err(Error::Config {
            option: "budget",
            value: bytes.to_string(),
            accepted: "this engine has no budget that can change: set it up anew",
        })
    }

    /// Whether the engine can be relied on now, as far as it knows itself.
    fn health(&self) -> Health {
        Health::Healthy
    }

    /// The changes that the engine can make at one moment, if it can.
    fn atomic(&self) -> Option<&dyn Atomic> {
        None
    }

    /// The changes of several keys that the engine can make as one, if it can.
    fn batched(&self) -> Option<&dyn Batched> {
        None
    }

    /// What the engine can do with tags, if it knows what they are.
    fn tagged(&self) -> Option<&dyn Tagged> {
        None
    }

    /// What the engine tells of changes that others make, if there may be others.
    fn watched(&self) -> Option<&dyn Watched> {
        None
    }

    /// Whether a value stays until it is replaced, removed or has expired, so that what no longer
    /// fits is refused. An engine that says nothing may evict anything.
    fn keeps_all(&self) -> bool {
        false
    }

    /// The live values of `keys`, in their order: as one [`get`](Self::get) after the other, and
    /// quicker where the engine can look several up at once.
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }
}

/// An engine whose values others may change: other processes that share its store. Who keeps a copy of a
/// value finds out by this whether it may still be served.
pub trait Watched: Engine {
    /// What a copy of the value of `key`, with tags of these [numbers](Tagged::tag_id), is to be kept
    /// with; `None` if it had better not be kept, as somebody is changing it, or something that the engine
    /// does not tell apart from it.
    ///
    /// To be asked for before the value is read: whatever was changed after that shows.
    fn stamp(&self, key: &[u8], tags: &[u64]) -> Option<Stamp>;

    /// Whether a copy is what [`get`](Engine::get) would return, as far as changes go; not whether it has
    /// expired. Takes one load for the key, one for each tag, and one for [`clear`](Engine::clear).
    fn is_current(&self, stamp: &Stamp) -> bool;
}

/// What has to be as it was for a copy of a value to be current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The hash of the key, and how many changes there were.
    pub(crate) key: (u64, u64),
    /// The same of each tag.
    pub(crate) tags: Box<[(u64, u64)]>,
    /// Up to which number everything was cleared.
    pub(crate) cleared: u64,
}

impl Stamp {
    /// Whether one change of the key, and nothing else, has taken place since `before`: if that was the
    /// caller's own, what it wrote can be kept with this stamp.
    #[must_use]
    pub fn is_next_to(&self, before: &Self) -> bool {
        let next = (before.key.0, before.key.1.wrapping_add(1));
        self.key == next && self.tags == before.tags && self.cleared == before.cleared
    }
}

/// An engine in which values can be invalidated by their tags ([`Put::tags`]).
#[expect(clippy::missing_errors_doc, reason = "as of the engine")]
pub trait Tagged: Engine {
    /// Invalidates everything that was put under `tag` before, in time independent of how much
    /// that is. It survives what a removal survives.
    fn invalidate_tag(&self, tag: &[u8]) -> Result<()>;

    /// The keys that are live under `tag`, in no order. May look at every entry.
    fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// The number that the engine knows `tag` by; the same for as long as the store exists.
    fn tag_id(&self, tag: &[u8]) -> Result<u64>;

    /// All numbers that [`get_tagged`](Self::get_tagged) may give for `tag`, the one above among
    /// them.
    fn tag_ids(&self, tag: &[u8]) -> Result<Vec<u64>> {
        Ok(vec![self.tag_id(tag)?])
    }

    /// As [`Engine::get`], with the numbers of the value's tags.
    fn get_tagged(&self, key: &[u8]) -> Result<Option<WithTags>>;

    /// As [`Engine::get_many`], with the numbers of the values' tags.
    fn get_many_tagged(&self, keys: &[&[u8]]) -> Result<Vec<Option<WithTags>>> {
        keys.iter().map(|key| self.get_tagged(key)).collect()
    }
}

/// A value, and the numbers of its tags ([`Tagged::tag_id`]).
pub type WithTags = (Value, Vec<u64>);

/// What became of a `put`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a value may have been refused"]
pub enum Outcome {
    /// Stored, with this version.
    Admitted {
        /// The version, as [`Engine::version`] would say it.
        version: u64,
    },
    /// Not stored; the old value, if any, is as it was.
    Rejected(Rejection),
    /// Not stored, as the key is not as it was expected to be.
    Conflict {
        /// The version of its live value; `None` if it has none.
        version: Option<u64>,
    },
    /// Not stored: there was no room ready for it, or none within the time that it was given
    /// ([`WhenShort`]). The old value, if any, is as it was, and nothing was decided about the
    /// new one: room is being made, and it can be put again.
    Blocked,
}

impl Outcome {
    /// Whether the value was stored.
    #[must_use]
    pub const fn is_admitted(self) -> bool {
        matches!(self, Self::Admitted { .. })
    }
}

/// Why a value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// It weighs more than the engine may hold in all.
    TooLarge {
        /// Its weight in bytes.
        weight: u64,
        /// Most that the engine could hold.
        limit: u64,
    },
    /// The engine keeps everything, and its budget is used up: remove something, or give it a
    /// larger one.
    Full {
        /// Bytes that the budget would still have to allow.
        needed: u64,
        /// The budget in bytes.
        budget: u64,
    },
    /// The engine has written as much as it may for now.
    WriteBudget {
        /// Most bytes that it may write a second.
        per_second: u64,
    },
    /// The write budget is short, and too many of the values that were offered of late were
    /// worth more ([`Cost`]).
    NotWorthIt {
        /// The share, in percent, of the values offered of late that were worth more.
        better_percent: u8,
        /// The share, in percent, that is left of what may be written in a second.
        left_percent: u8,
    },
    /// What is pinned leaves no room for it: unpin something.
    Pinned {
        /// Its weight.
        weight: u64,
        /// What is pinned weighs, but for what it would have replaced.
        pinned: u64,
        /// Most that the engine could hold.
        limit: u64,
    },
    /// There was no room ready for it, and it was not to wait ([`WhenShort::Reject`]).
    NoRoom,
    /// The key was offered for the first time of late, and the engine takes only what is
    /// offered again.
    FirstSeen,
    /// The engine is switched off.
    Disabled,
}

impl Rejection {
    /// Whether the same value may be taken later without anything being changed by hand.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::WriteBudget { .. } | Self::NotWorthIt { .. } | Self::NoRoom | Self::FirstSeen => {
                true
            }
            Self::TooLarge { .. } | Self::Full { .. } | Self::Pinned { .. } | Self::Disabled => {
                false
            }
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { weight, limit } => {
                write!(out, "it weighs {weight} bytes, and {limit} are the most that could be held")
            }
            Self::Full { needed, budget } => write!(
                out,
                "{needed} bytes more do not fit the budget of {budget}: remove something, or raise it"
            ),
            Self::WriteBudget { per_second } => {
                write!(
                    out,
                    "no more than {per_second} bytes a second may be written: try again later"
                )
            }
            Self::NotWorthIt { better_percent, left_percent } => write!(
                out,
                "{better_percent} % of what was offered of late is worth more, and {left_percent} % of \
                 what may be written is left: try again later"
            ),
            Self::Pinned { weight, pinned, limit } => write!(
                out,
                "it weighs {weight} bytes, and {pinned} of {limit} are pinned: unpin something"
            ),
            Self::NoRoom => out.write_str("no room is ready: try again, or let it wait"),
            Self::FirstSeen => {
                out.write_str("it was offered for the first time of late: offer it again")
            }
            Self::Disabled => out.write_str("nothing is kept here: the engine is switched off"),
        }
    }
}

/// Options of a single `put`.
///
/// ```
/// use larder_engine::{Durability, Put, Ttl};
/// use std::time::Duration;
/// let put = Put { ttl: Ttl::After(Duration::from_secs(60)), ..Put::default() };
/// assert_eq!(put.durability, Durability::None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Put<'a> {
    /// When the value expires.
    pub ttl: Ttl,
    /// What the value must survive.
    pub durability: Durability,
    /// The codec that made the bytes, stored beside them.
    pub codec: CodecId,
    /// Tags that the value can be invalidated by, at most 15, where the engine can do that.
    pub tags: &'a [&'a [u8]],
    /// What is saved if the value need not be made again. Counts where the engine may write
    /// only so much a second, and for values that are put one by one.
    pub cost: Cost,
    /// What becomes of the value if there is no room ready for it; as the engine is set up if
    /// `None`. Does not count in batches and queues, which make room themselves.
    pub when_short: Option<WhenShort>,
}

/// What is saved by finding a value: the time that it takes to make it again, times the chance
/// that it is asked for again.
///
/// ```
/// use larder_engine::{Cost, Put};
/// use std::time::Duration;
///
/// let cost = Cost::of(Duration::from_millis(200)).with_chance(0.25);
/// assert_eq!(cost.saved(), Duration::from_millis(50));
/// let put = Put { cost, ..Put::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cost {
    saved_ns: u64,
}

impl Cost {
    /// Nothing is known; the least that there can be.
    pub const NONE: Self = Self { saved_ns: 0 };

    /// Of a value that takes this long to make, and is sure to be asked for.
    #[must_use]
    pub fn of(recompute: Duration) -> Self {
        Self { saved_ns: u64::try_from(recompute.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// The same where it is asked for again only with this chance, from 0 to 1. What is no
    /// number is taken for 0.
    #[must_use]
    pub fn with_chance(self, chance: f64) -> Self {
        let chance = if chance.is_nan() { 0.0 } else { chance.clamp(0.0, 1.0) };
        let saved = self.saved().mul_f64(chance);
        Self::of(saved)
    }

    /// The time that is saved, on average.
    #[must_use]
    pub const fn saved(self) -> Duration {
        Duration::from_nanos(self.saved_ns)
    }
}

/// What becomes of a value for which no room is ready in the log of an engine: no segment that
/// the maintenance has prepared and the budget allows, or no place to append as other writers
/// have all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenShort {
    /// The writer makes room itself, and waits for as long as that takes: some milliseconds for
    /// a segment, more on a disk that is slow.
    #[default]
    Help,
    /// Waits until room has been made, at most this long; then [`Outcome::Blocked`].
    Wait(Duration),
    /// [`Outcome::Rejected`] at once, for [`Rejection::NoRoom`].
    Reject,
    /// [`Outcome::Blocked`] at once.
    Block,
}

/// What a key has to be like for a conditional change to take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It has no live value.
    Absent,
    /// Its live value has this version.
    Version(u64),
}

impl Expected {
    /// Whether a key whose live value has this version is as expected.
    #[must_use]
    pub fn is_met_by(self, version: Option<u64>) -> bool {
        match self {
            Self::Absent => version.is_none(),
            Self::Version(expected) => version == Some(expected),
        }
    }
}

/// Changes of one key that read it and write it at one moment.
///
/// # Errors
/// As of [`Engine`]; a conditional change that does not take place leaves the key as it was.
#[expect(clippy::missing_errors_doc, reason = "said once, on the trait")]
pub trait Atomic: Engine {
    /// Stores `value` if the key is as expected; otherwise [`Outcome::Conflict`] says how it is.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::{Atomic, Engine, Expected, Outcome, Put};
    ///
    /// let put = Put::default();
    /// let Outcome::Admitted { version } = disk.put(b"key", b"old", &put)? else { panic!() };
    /// let expected = Expected::Version(version);
    /// assert!(disk.put_if(b"key", b"new", &put, expected)?.is_admitted());
    /// assert!(!disk.put_if(b"key", b"newer", &put, expected)?.is_admitted());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Expected,
    ) -> Result<Outcome>;

    /// Stores `value` if the key has no live value. Of several that try at once, one succeeds.
    fn add(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome> {
        self.put_if(key, value, options, Expected::Absent)
    }

    /// Removes the key and returns the live value that it had.
    fn take(&self, key: &[u8]) -> Result<Option<Value>>;

    /// Gives the live value another expiry. Whether there was one. A deadline that has passed
    /// removes it.
    fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool>;

    /// Adds `by` to the number under the key and returns the sum. A number is 8 bytes, an
    /// `i64` in little-endian order; it keeps its expiry and tags. Where the key has no live
    /// value, the sum starts from `initial`, with the expiry and tags in `options`;
    /// without `initial` nothing is stored, and the answer is `None`.
    ///
    /// # Errors
    /// [`Error::NotANumber`] if the value is not 8 bytes,
    /// [`Error::Overflow`] if the sum does not fit,
    /// [`Error::Blocked`] if no room is ready and `options` say not to
    /// wait, or not as long.
    fn add_to(
        &self,
        key: &[u8],
        by: i64,
        initial: Option<i64>,
        options: &Put<'_>,
    ) -> Result<Option<i64>>;

    /// The live value of the key; if there is none, what `make` returns is stored and
    /// returned, unless another thread was first: then its value is. `make` runs without any
    /// lock, and may use the engine.
    fn get_or_add(
        &self,
        key: &[u8],
        options: &Put<'_>,
        make: &mut dyn FnMut() -> Vec<u8>,
    ) -> Result<Value> {
        loop {
            if let Some(value) = self.get(key)? {
                return Ok(value);
            }
            let made = make();
            match self.add(key, &made, options)? {
                Outcome::Admitted { .. } | Outcome::Rejected(_) | Outcome::Blocked => {
                    return Ok(made.into());
                }
                Outcome::Conflict { .. } => {}
            }
        }
    }
}

/// An engine in which changes of several keys take place together.
pub trait Batched: Atomic {
    /// Makes the changes of a batch, all or none; a key that is not as the batch expects it is
    /// [`BatchOutcome::Conflict`]. Nobody else changes one of its keys meanwhile, and what the engine
    /// keeps over a kill or a loss of power it keeps of all of them or of none.
    ///
    /// Readers may see the changes one after the other, in the order in which they were added; a
    /// [`Disk`](crate::Disk) shows all at one moment. Who reads several keys and must not see a part
    /// looks at the version of one that every batch changes, before and after.
    ///
    /// # Errors
    /// As of [`Engine`].
    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<BatchOutcome>;
}

/// When a value expires. It is live while `now < deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// As the engine is set up; never, if nothing is set up.
    #[default]
    Default,
    /// Never.
    Never,
    /// This long after the put. Zero is expired at once.
    After(Duration),
    /// At this time of the wall clock.
    At(SystemTime),
}

impl Ttl {
    /// The deadline in ms since 1970 of a value put at `now_ms`, where `default` says what
    /// [`Ttl::Default`] stands for. What overflows never expires.
    #[must_use]
    pub fn deadline_ms(self, now_ms: u64, default: Option<Duration>) -> u64 {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(NEVER);
        match self {
            Self::Never => NEVER,
            Self::After(ttl) => now_ms.saturating_add(ms(ttl)),
            Self::At(time) => time.duration_since(UNIX_EPOCH).map_or(0, ms),
            Self::Default => default.map_or(NEVER, |ttl| now_ms.saturating_add(ms(ttl))),
        }
    }
}

/// What a write must survive before `put` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the process, `kill -9` included; for engines on disk.
    #[default]
    None,
    /// The loss of power, too: waits for the disk.
    Sync,
}
