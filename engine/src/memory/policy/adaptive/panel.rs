//! Which setting is best: one shadow for each, and a count of what each has missed lately.
//!
//! ```text
//! sampled key ──► every shadow ──► misses, fading ──► another one clearly lower? ──► it leads
//! ```
//! # The sample
//! At first every key. Whenever a shadow holds more than [`SHADOW_MAX`] keys, the share is halved,
//! and keys that are not in it any more are forgotten (fixed-size sampling: Waldspurger, Park,
//! Garthwaite, Ahmad, "Efficient MRC construction with SHARDS", FAST 2015, section 3.2). So a
//! cache of a hundred entries has shadows as large as itself and learns from every request,
//! and in a large one few requests cost anything. More keys were tried, up to 4,096: they gain
//! less than a tenth of a point of the miss ratio.
//!
//! # The count
//! Misses fade: one that lies [`HORIZON`] sampled requests back counts 1/e. A setting takes over
//! the lead when it has missed less than the leader by a hundredth and five misses. (A loop
//! hits in bursts, so the horizon has to cover several of its rounds.)
//!
//! # Rests
//! While the sample is more than an eighth of all keys, attention would cost too much to be
//! paid always: after some time without a change it rests for as many misses as it has
//! watched requests. A load with many hits, for which sampling costs most, so has the longest
//! rests; one with many misses has the shortest, and there sampling costs least.

use super::queues::Setting;
use super::shadow::Shadow;

/// Keys that a shadow may hold.
const SHADOW_MAX: usize = 128;
/// At most one key in 2^16 is sampled: shadows tell keys apart by 32 bits, of which the
/// sampled ones have so many in common.
const SHIFT_MAX: u32 = 16;
/// The lowest of the bits by which keys are sampled.
const SAMPLE_BIT: u32 = 16;
/// A miss so many sampled requests back counts 1/e of one now.
const HORIZON: f64 = 3_000.0;
/// What a new leader has to be better by: this share of the leader's misses…
const MARGIN: f64 = 0.01;
/// …and so many misses.
const MARGIN_MISSES: f64 = 5.0;
/// From this sample on (one key in 2^3), attention never rests.
const SHIFT_OF_REST: u32 = 3;
/// Sampled requests before the first rest.
const WATCH_FIRST: u64 = 32_768;
/// Sampled requests between two rests; a rest is as many sampled misses.
const WATCH: usize = 4_096;

/// The shadows, and what they say.
#[derive(Debug)]
pub(super) struct Panel {
    shadows: Vec<Shadow>,
    /// What each has missed, faded.
    misses: Vec<f64>,
    leader: usize,
    /// One key in 2^this is sampled.
    shift: u32,
    /// Sampled requests so far, and since the last rest.
    watched: u64,
    since_rest: usize,
    /// Whether the leader has changed since the last rest.
    changed: bool,
    /// Sampled misses to come before attention returns.
    rest: usize,
    /// The history that the cache's own sketch holds, in entries.
    history: usize,
}

impl Panel {
    pub(super) fn new(settings: &[Setting], leader: usize) -> Self {
        Self {
            shadows: settings.iter().map(|&setting| Shadow::new(setting)).collect(),
            misses: vec![0.0; settings.len()],
            leader,
            shift: 0,
            watched: 0,
            since_rest: 0,
            changed: false,
            rest: 0,
            history: 0,
        }
    }

    /// The setting that leads, by its number.
    pub(super) const fn leader(&self) -> usize {
        self.leader
    }

    /// Keys whose hash has none of these bits are sampled. `None` while attention rests.
    pub(super) const fn sample(&self) -> Option<u64> {
        if self.rest > 0 { None } else { Some(self.mask()) }
    }

    /// Says that the cache's own sketch now holds the history of so many entries.
    pub(super) fn cover_history(&mut self, entries: usize) {
        if self.history != entries {
            self.history = entries;
            let entries = entries >> self.shift;
            self.shadows.iter_mut().for_each(|shadow| shadow.cover_history(entries));
        }
    }

    /// Tells of a request to the cache, sampled or not. Whether another setting leads now.
    pub(super) fn request(&mut self, hash: u64, weight: u64, capacity: u64, hit: bool) -> bool {
        if !self.is_sampled(hash) {
            return false;
        }
        if self.rest > 0 {
            self.rest -= usize::from(!hit);
            return false;
        }
        let mut residents = 0;
        for (shadow, misses) in self.shadows.iter_mut().zip(&mut self.misses) {
            let missed = !shadow.request(hash, weight, capacity >> self.shift);
            *misses += f64::from(u8::from(missed));
            residents = residents.max(shadow.len());
        }
        if residents > SHADOW_MAX && self.shift < SHIFT_MAX {
            self.narrow(capacity);
        }
        let changes = self.vote();
        self.count_watch();
        changes
    }

    /// Says that a key was taken out of the cache.
    pub(super) fn remove(&mut self, hash: u64) {
        if self.is_sampled(hash) {
            self.shadows.iter_mut().for_each(|shadow| shadow.remove(hash));
        }
    }

    /// Forgets all keys and all that was learnt.
    pub(super) fn clear(&mut self, leader: usize) {
        self.shadows.iter_mut().for_each(Shadow::clear);
        let (shadows, misses) =
            (std::mem::take(&mut self.shadows), std::mem::take(&mut self.misses));
        *self = Self { shadows, misses, ..Self::new(&[], leader) };
        self.misses.fill(0.0);
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.shadows.iter().map(Shadow::allocated_bytes).sum::<usize>()
            + self.shadows.capacity() * size_of::<Shadow>()
            + self.misses.capacity() * size_of::<f64>()
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        self.shadows.iter().try_for_each(Shadow::validate)
    }

    const fn mask(&self) -> u64 {
        ((1 << self.shift) - 1) << SAMPLE_BIT
    }

    const fn is_sampled(&self, hash: u64) -> bool {
        hash & self.mask() == 0
    }

    /// Halves the sample.
    #[cold]
    fn narrow(&mut self, capacity: u64) {
        self.shift += 1;
        let (mask, capacity) = (self.mask(), capacity >> self.shift);
        let history = self.history >> self.shift;
        for shadow in &mut self.shadows {
            shadow.shrink_history(history);
            shadow.narrow(capacity, |hash| hash & mask == 0);
        }
    }

    /// Lets the counts fade. Whether the lead changes.
    fn vote(&mut self) -> bool {
        for misses in &mut self.misses {
            *misses -= *misses / HORIZON;
        }
        let counts = self.misses.iter().copied().enumerate();
        let Some((best, lowest)) = counts.min_by(|one, other| one.1.total_cmp(&other.1)) else {
            return false;
        };
        let leader = self.misses[self.leader];
        let changes = leader - lowest > MARGIN * leader + MARGIN_MISSES;
        if changes {
            self.leader = best;
            self.changed = true;
        }
        changes
    }

    fn count_watch(&mut self) {
        self.watched += 1;
        self.since_rest += 1;
        if self.shift < SHIFT_OF_REST && self.since_rest >= WATCH {
            self.since_rest = 0;
            if self.watched > WATCH_FIRST && !self.changed {
                self.rest = WATCH;
            }
            self.changed = false;
        }
    }
}
