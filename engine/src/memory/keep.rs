//! What an insert says of its entry, beside key and value.

use std::time::Duration;

use super::extra::Extra;
use super::tier::Tier;
use crate::clock::NEVER;

/// How long an entry is to be kept, what it is worth, and what else an insert says beside key and
/// value.
///
/// ```
/// use larder_engine::memory::{Capacity, Keep, Tier};
/// use larder_engine::{Clock, SystemClock};
/// use std::time::Duration;
///
/// let tier = Tier::builder(Capacity::items(100)).build()?;
/// let in_an_hour = SystemClock.now_ms() + 3_600_000;
/// let keep = Keep::until(in_an_hour).idle(Duration::from_secs(60)).cost(20);
/// tier.insert_as("key", "value", &keep).unwrap();
/// assert_eq!(tier.get("key"), Some("value"));
/// # Ok::<(), larder_engine::Error>(())
/// ```
///
/// # What it takes
/// An entry that only has a deadline (to the year 2109) and a weight below 4096, or only a weight,
/// keeps them in a word of its own. For any other one 56 bytes are kept elsewhere, and 16 for each
/// tag in an allocation besides. Deadlines take 8 bytes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keep<'a> {
    /// The deadline, in ms since 1970: it is live while `now < expires_at_ms`; `u64::MAX` for
    /// ever.
    pub expires_at_ms: u64,
    /// How long it lives after its last use, but not past its deadline. `None`: as the tier is
    /// [set up](super::TierBuilder::time_to_idle); `Duration::MAX`: that does not matter, whatever
    /// the tier says.
    pub idle: Option<Duration>,
    /// What it costs to get the value again, in any unit. Counts with policies that ask for it
    /// ([`Gdsf`](super::Gdsf)).
    pub cost: u64,
    /// Tags that it can be invalidated by ([`Tier::invalidate_tag`]).
    pub tags: &'a [&'a str],
    /// Whether it is [pinned](Tier::pin) from the beginning. `false` does not unpin the value
    /// that is replaced.
    pub pinned: bool,
}

impl Default for Keep<'_> {
    /// For ever, as far as the tier has no time to idle; at a cost of 1.
    fn default() -> Self {
        Self::until(NEVER)
    }
}

impl<'a> Keep<'a> {
    /// Until this time, in ms since 1970; all else as by default.
    #[must_use]
    pub const fn until(expires_at_ms: u64) -> Self {
        Self { expires_at_ms, idle: None, cost: 1, tags: &[], pinned: false }
    }

    /// Only so long after the last use: of [`get`](Tier::get), [`get_with`](Tier::get_with) or
    /// [`get_many`](Tier::get_many). Zero is expired at once.
    #[must_use]
    pub const fn idle(self, idle: Duration) -> Self {
        Self { idle: Some(idle), ..self }
    }

    /// Whether it says nothing but what goes without saying.
    #[inline]
    pub(super) const fn is_bare(&self) -> bool {
        self.expires_at_ms == NEVER
            && self.idle.is_none()
            && self.cost == 1
            && self.tags.is_empty()
            && !self.pinned
    }

    /// At this cost.
    #[must_use]
    pub const fn cost(self, cost: u64) -> Self {
        Self { cost, ..self }
    }

    /// Under these tags.
    #[must_use]
    pub const fn tags(self, tags: &'a [&'a str]) -> Self {
        Self { tags, ..self }
    }

    /// Pinned.
    #[must_use]
    pub const fn pinned(self) -> Self {
        Self { pinned: true, ..self }
    }
}

/// In whole ms; what is too long for that never passes.
pub(super) fn idle_ms(idle: Duration) -> u64 {
    u64::try_from(idle.as_millis()).unwrap_or(NEVER)
}

impl<K, V> Tier<K, V> {
    /// What is kept of an entry, as the insert and the tier say; and the time, if it matters.
    pub(super) fn extra_of(
        &self,
        (key, value): (&K, &V),
        weight: u64,
        keep: &Keep<'_>,
    ) -> (Extra, Option<u64>) {
        let idle_ms = keep.idle.map_or(self.hooks.idle_ms, idle_ms);
        let expiry = self.hooks.expiry.as_ref();
        if keep.expires_at_ms == NEVER && idle_ms == NEVER && expiry.is_none() {
            return (Extra::new(weight, NEVER).with_cost(keep.cost), None);
        }
        let now_ms = self.now_ms();
        let deadline_ms = expiry.map_or(NEVER, |expiry| expiry(key, value, now_ms));
        let extra = Extra::new(weight, deadline_ms.min(keep.expires_at_ms));
        (extra.with_idle(idle_ms, now_ms).with_cost(keep.cost), Some(now_ms))
    }
}
