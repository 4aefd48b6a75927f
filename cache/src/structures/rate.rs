//! So many within so long: a token bucket that is one number.
//!
//! The bucket holds `count` tokens and gets one every `per / count`. What is stored is the time at
//! which it will be full again, counted in parts of a millisecond of which `count` are one, so that
//! the arithmetic is exact. Source: the generic cell rate algorithm (ITU-T I.371), which is a token
//! bucket seen from the time that it is behind.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ground::Plot;
use crate::error::{Error, Result};

/// Longest time between two looks at the clock.
const LOOK: Duration = Duration::from_millis(20);

/// Lets `count` pass within `per`, over all who share its name and over restarts; after a pause as
/// many at once. Time is the clock's of the [`Structures`](super::Structures).
///
/// ```
/// use larder::structures::{Structures, Turn};
/// use std::time::Duration;
///
/// let limiter = Structures::in_memory(1 << 20)?.rate_limiter("api", 2, Duration::from_secs(3600))?;
/// assert_eq!(limiter.try_acquire(1)?, Turn::Granted);
/// assert_eq!(limiter.try_acquire(1)?, Turn::Granted);
/// let Turn::Wait(time) = limiter.try_acquire(1)? else { panic!("the bucket is empty") };
/// assert!(time <= Duration::from_secs(1800));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RateLimiter {
    plot: Plot,
    count: u32,
    per_ms: u64,
}

/// Whether something may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it may have to wait"]
pub enum Turn {
    /// It may, and was counted.
    Granted,
    /// Not before so long, if nobody else passes meanwhile. It was not counted.
    Wait(Duration),
}

/// When the bucket is full again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Bucket {
    full_at: u128,
    /// What its unit is a part of.
    count: u32,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { full_at: 0, count: 1 }
    }
}

impl RateLimiter {
    pub(super) fn new(plot: Plot, count: u32, per: Duration) -> Result<Self> {
        let per_ms = u64::try_from(per.as_millis()).unwrap_or(u64::MAX);
        let refuse =
            |option, value: String, accepted| Err(Error::Config { option, value, accepted });
        match (count, per_ms) {
            (0, _) => refuse("count", count.to_string(), "at least 1"),
            (_, 0) => refuse("per", format!("{per:?}"), "at least 1 ms"),
            _ => Ok(Self { plot, count, per_ms }),
        }
    }

    /// Lets `tokens` pass if they may now.
    ///
    /// # Errors
    /// What the store said; [`Error::Config`] if `tokens` are more than ever may at once.
    pub fn try_acquire(&self, tokens: u32) -> Result<Turn> {
        if tokens > self.count {
            let accepted = "at most as many as may pass at once";
            return Err(Error::Config { option: "tokens", value: tokens.to_string(), accepted });
        }
        let (count, per_ms) = (u128::from(self.count), u128::from(self.per_ms));
        let size = count * per_ms;
        self.plot.update(|bucket: &mut Bucket| {
            let now = u128::from(self.plot.now_ms()) * count;
            // The same moment in units of this limit, should there have been another one. A clock that
            // was set back makes nobody wait for longer than an empty bucket does.
            let full_at = bucket.full_at * count / u128::from(bucket.count.max(1));
            let full_at = full_at.clamp(now, now + size);
            let next = full_at + u128::from(tokens) * per_ms;
            let short = (next - now).saturating_sub(size);
            if short > 0 {
                let wait_ms = u64::try_from(short.div_ceil(count)).unwrap_or(u64::MAX);
                return Ok((Turn::Wait(Duration::from_millis(wait_ms)), false));
            }
            *bucket = Bucket { full_at: next, count: self.count };
            Ok((Turn::Granted, tokens > 0))
        })
    }

    /// Waits until `tokens` may pass. Nobody has a place in a line: who asks for few may go before who
    /// asks for many.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub fn acquire(&self, tokens: u32) -> Result<()> {
        while let Turn::Wait(time) = self.try_acquire(tokens)? {
            std::thread::sleep(time.min(LOOK));
        }
        Ok(())
    }
}
