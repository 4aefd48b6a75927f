//! Which hashes were evicted lately, at 4 bytes each: fingerprints with an age.
//!
//! ```text
//! bucket of 4 places, chosen by the hash:  [fingerprint:16 | stamp:16] × 4, 0 for free
//! ```
//! Time is what was evicted so far, by weight, in units of a 1024th of the capacity; a stamp is
//! the time of an eviction. A new one takes the place of its own older one, of a free one, or
//! of the oldest in its bucket. So it is about a queue of ghosts: a fingerprint may stand for
//! another hash (once in 16,000 lookups), a full bucket forgets early, and the age is rounded.
//!
//! Source: the ghost table of Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for
//! cache eviction", SOSP 2023, section 4.2.

/// Places of a bucket.
const WAYS: usize = 4;
/// Units of time in which as much is evicted as the cache holds.
const UNITS: u64 = 1024;
/// No stamp is this old: stamps wrap at 65,536.
const AGE_MAX: u64 = 32_768;

/// A free place, or a fingerprint in the upper half and a stamp in the lower.
type Place = u32;

/// What was evicted lately.
#[derive(Debug)]
pub(super) struct Ghosts {
    buckets: Vec<[Place; WAYS]>,
    /// The weight of one unit of time.
    unit: u64,
    /// What was evicted so far weighs this much.
    evicted: u64,
}

impl Default for Ghosts {
    fn default() -> Self {
        Self { buckets: Vec::new(), unit: 1, evicted: 0 }
    }
}

/// Where a hash belongs, before it is cut to the number of buckets, and its fingerprint.
fn place_of(hash: u64) -> (u64, Place) {
    // Whoever samples keys does so by a few bits of the hash; here all of them count.
    let bits = hash.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let bits = bits ^ (bits >> 32);
    let fingerprint = u32::try_from(bits >> 48).unwrap_or(0).max(1);
    (bits, fingerprint)
}

impl Ghosts {
    /// Grows until there are two places for each of so many entries.
    pub(super) fn cover(&mut self, entries: usize) {
        if self.buckets.is_empty() {
            self.buckets.push([0; WAYS]);
        }
        // Twice as large by writing it down twice: buckets are chosen by low bits. What is in
        // the wrong one of the two is not found there, and ages.
        while self.buckets.len() * WAYS < 2 * entries {
            self.buckets.extend_from_within(..);
        }
    }

    /// Remembers `hash` as evicted now.
    pub(super) fn push(&mut self, hash: u64, weight: u64, capacity: u64) {
        let unit = (capacity / UNITS).max(1);
        if unit > 2 * self.unit || 2 * unit < self.unit {
            // The capacity is another one: no stamp means anything any more.
            self.buckets.fill([0; WAYS]);
            self.unit = unit;
        }
        self.evicted = self.evicted.wrapping_add(weight);
        let (now, (bits, fingerprint)) = (self.now(), place_of(hash));
        let Some(bucket) = self.bucket(bits) else {
            return;
        };
        let staleness = |place: Place| match place >> 16 {
            own if own == fingerprint => u64::MAX,
            0 => u64::MAX - 1,
            _ => age(place, now),
        };
        if let Some(place) = bucket.iter_mut().max_by_key(|place| staleness(**place)) {
            *place = (fingerprint << 16) | now;
        }
    }

    /// Forgets `hash`, and says whether less than `weight_max` has been evicted since it was.
    pub(super) fn take(&mut self, hash: u64, weight_max: u64) -> bool {
        let age_max = (weight_max / self.unit).min(AGE_MAX);
        let (now, (bits, fingerprint)) = (self.now(), place_of(hash));
        let Some(bucket) = self.bucket(bits) else {
            return false;
        };
        let Some(place) = bucket.iter_mut().find(|place| **place >> 16 == fingerprint) else {
            return false;
        };
        age(std::mem::take(place), now) < age_max
    }

    pub(super) const fn allocated_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<[Place; WAYS]>()
    }

    /// The stamp of this moment.
    fn now(&self) -> u32 {
        u32::try_from((self.evicted / self.unit) & 0xFFFF).unwrap_or(0)
    }

    fn bucket(&mut self, bits: u64) -> Option<&mut [Place; WAYS]> {
        // The number of buckets is a power of two, or 0.
        let mask = (self.buckets.len() as u64).wrapping_sub(1);
        let at = usize::try_from(bits & mask & 0xFFFF_FFFF).unwrap_or(0);
        self.buckets.get_mut(at)
    }
}

/// How many units ago a place was written, as far as its stamp can tell.
fn age(place: Place, now: u32) -> u64 {
    u64::from(now.wrapping_sub(place) & 0xFFFF)
}

#[cfg(test)]
mod tests {
    use super::super::super::mix;
    use super::*;

    fn ghosts(entries: usize) -> Ghosts {
        let mut ghosts = Ghosts::default();
        ghosts.cover(entries);
        ghosts
    }

    #[test]
    fn what_was_evicted_lately_is_known_once() {
        let mut ghosts = ghosts(1_000);
        (0..1_000).for_each(|key| ghosts.push(mix(key), 1, 1_000));
        let known = (0..1_000).filter(|&key| ghosts.take(mix(key), 2_000)).count();
        let again = (0..1_000).filter(|&key| ghosts.take(mix(key), 2_000)).count();
        assert!(known > 950 && again < 2, "{known} of 1,000 found, {again} found twice");
    }

    #[test]
    fn what_never_was_is_hardly_ever_known() {
        let mut ghosts = ghosts(1_000);
        (0..2_000).for_each(|key| ghosts.push(mix(key), 1, 1_000));
        let known = (10_000..20_000).filter(|&key| ghosts.take(mix(key), 2_000)).count();
        assert!(known < 8, "{known} of 10,000");
    }

    #[test]
    fn the_limit_is_kept_by_weight() {
        let mut ghosts = ghosts(100);
        (0..100).for_each(|key| ghosts.push(mix(key), 50, 5_000));
        // Of the last 2,000 that were evicted, 40 weigh 50 each.
        let known: Vec<u64> = (0..100).filter(|&key| ghosts.take(mix(key), 2_000)).collect();
        assert!(known.iter().all(|&key| key >= 59), "{known:?}");
        assert!(known.len() >= 36, "{known:?}");
    }

    #[test]
    fn growing_forgets_nothing() {
        let mut ghosts = ghosts(8);
        (0..8).for_each(|key| ghosts.push(mix(key), 1, 8));
        let known = |ghosts: &mut Ghosts| (0..8).filter(|&key| ghosts.take(mix(key), 16)).count();
        let mut larger = Ghosts { buckets: ghosts.buckets.clone(), ..ghosts };
        larger.cover(1_000);
        assert_eq!(known(&mut larger), known(&mut ghosts));
    }

    #[test]
    fn another_capacity_starts_anew() {
        let mut ghosts = ghosts(100);
        ghosts.push(mix(1), 1, 1_000_000);
        ghosts.push(mix(2), 1, 8_000_000);
        assert!(!ghosts.take(mix(1), 8_000_000) && ghosts.take(mix(2), 8_000_000));
    }
}
