//! What a value is worth to be written, and how that compares with what was offered of late.
//!
//! Worth is time saved for each byte. Offers are counted by its order of magnitude, in steps of
//! the square root of two, and old ones fade: whenever enough have come, all counts are halved.

use crate::engine::Cost;

/// Steps of worth: none at all, and two for each power of two of ns in 1024 bytes.
const STEPS: usize = 1 + 128;
/// Offers after which all counts are halved.
const WINDOW: u32 = 4096;

/// What a value is worth, by its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Worth(usize);

impl Worth {
    /// Of a value that saves so much and weighs so many bytes.
    pub(super) fn of(cost: Cost, weight: u64) -> Self {
        let ns = cost.saved().as_nanos().saturating_mul(1024) / u128::from(weight.max(1));
        let ns = u64::try_from(ns).unwrap_or(u64::MAX);
        let Some(log2) = ns.checked_ilog2() else { return Self(0) };
        // The bit below the highest one says which half of the power of two it is.
        let half = if log2 == 0 { 0 } else { ns >> (log2 - 1) & 1 };
        Self(1 + 2 * log2 as usize + usize::from(half == 1))
    }
}

/// What was offered of late, by worth.
#[derive(Debug)]
pub(super) struct Offers {
    counts: [u32; STEPS],
    total: u32,
}

impl Default for Offers {
    fn default() -> Self {
        Self { counts: [0; STEPS], total: 0 }
    }
}

/// How many of the values offered of late were worth more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Better {
    count: u32,
    of: u32,
}

impl Offers {
    /// Counts an offer, and says how many of all were worth more.
    pub(super) fn note(&mut self, worth: Worth) -> Better {
        let (before, above) = self.counts.split_at_mut((worth.0 + 1).min(STEPS));
        if let Some(count) = before.last_mut() {
            *count += 1;
        }
        self.total += 1;
        let better = Better { count: above.iter().sum(), of: self.total };
        if self.total >= WINDOW {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        better
    }
}

impl Better {
    /// Whether the share is larger than `part` of `whole`.
    pub(super) fn exceeds(self, part: u64, whole: u64) -> bool {
        u128::from(self.count) * u128::from(whole) > u128::from(self.of) * u128::from(part)
    }

    /// The share, in percent.
    pub(super) fn percent(self) -> u8 {
        percent(self.count.into(), self.of.into())
    }
}

/// A share in percent, at most 100.
pub(super) fn percent(part: u64, whole: u64) -> u8 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u8::try_from(percent.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn worth(ns: u64, weight: u64) -> Worth {
        Worth::of(Cost::of(Duration::from_nanos(ns)), weight)
    }

    #[test]
    fn worth_is_time_for_each_byte_and_covers_all_there_is() {
        assert_eq!(worth(0, 1), Worth(0));
        assert_eq!(worth(1_000, 100), worth(2_000, 200));
        assert!(worth(1_000, 100) > worth(1_000, 200));
        assert!(worth(1_500, 100) > worth(1_000, 100));
        assert!(worth(1, u64::MAX) < worth(1, 1));
        assert_eq!(worth(u64::MAX, 0), Worth(STEPS - 1));
    }

    #[test]
    fn the_better_are_counted_and_the_old_fade() {
        let mut offers = Offers::default();
        for _ in 0..WINDOW {
            assert_eq!(offers.note(worth(1_000, 1)).count, 0);
        }
        let poor = offers.note(worth(1, 1));
        assert_eq!((poor.percent(), poor.exceeds(98, 100)), (99, true));
        assert!(!poor.exceeds(100, 100));
        for _ in 0..8 * WINDOW {
            offers.note(worth(1, 1));
        }
        assert!(offers.note(worth(1, 1)).percent() < 2);
    }
}
