//! The policy that finds out which policy to be.
//!
//! | module | what |
//! |---|---|
//! | here | [`Adaptive`]; the settings between which it chooses |
//! | `queues` | the structure that is steered |
//! | `panel` | which setting is best |
//! | `shadow` | what a cache of one setting would have done |
//! | `ghosts` | what was evicted lately, at 4 bytes each |

mod ghosts;
mod panel;
mod queues;
mod shadow;
#[cfg(test)]
mod tests;

use super::{Arrival, Entries, OnHit, Policy};
use panel::Panel;
use queues::{Queues, Setting};

/// A history this long is kept however small the cache is, in entries: what a loop or a
/// popular key looks like is not learnt from less.
const HISTORY_MIN: usize = 1_024;

/// No number of hits in the window leads to the main queue.
const NEVER: u8 = u8::MAX;

/// What it may be set to. Each is close to a known policy.
const SETTINGS: [Setting; 5] = [
    // As W-TinyLFU: newcomers have to be more popular. Loops, skew that lasts.
    Setting { window: 1, promote_at: NEVER, by_frequency: true, ghosts: 0, clock: false },
    // The same with a long window from which one use leads on: skew that moves.
    Setting { window: 20, promote_at: 1, by_frequency: true, ghosts: 0, clock: false },
    // As S3-FIFO and 2Q, with a longer window and more ghosts: one-hit wonders, bursts.
    Setting { window: 20, promote_at: 2, by_frequency: false, ghosts: 200, clock: false },
    // As LIRS and CLOCK-Pro: only what comes back soon enough displaces anything.
    Setting { window: 1, promote_at: 1, by_frequency: false, ghosts: 90, clock: false },
    // CLOCK, close to LRU: what was used lately will be used again.
    Setting { window: 100, promote_at: NEVER, by_frequency: false, ghosts: 0, clock: true },
];

/// The setting to begin with, until something is known.
const FIRST: usize = 0;

/// Becomes the policy that would have missed least of late.
///
/// One structure, a window before a main queue, can be set to behave about as W-TinyLFU,
/// S3-FIFO, LIRS or CLOCK. Small caches of sampled keys, one for each setting, tell what every
/// one would have hit; the structure is set as the best of them. No single policy is good on
/// all loads: those that do well on loops and skew do badly where recency counts, and the
/// other way round.
///
/// Sources: the settings stand near Einziger, Friedman, Manes, "TinyLFU: a highly efficient
/// cache admission policy", ACM Transactions on Storage 13(4), 2017; Yang, Zhang, Qiu, Yue,
/// Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023; Jiang, Chen, Zhang,
/// "CLOCK-Pro: an effective improvement of the CLOCK replacement", USENIX ATC 2005; Corbató, "A
/// paging experiment with the Multics system", 1968. Choosing by small sampled caches:
/// Waldspurger, Saemundsson, Ahmad, Park, "Cache modeling and optimization using miniature
/// simulations", USENIX ATC 2017. That the settings share one structure, so that a change costs
/// nothing, and the rule by which the lead changes, are our own.
///
/// # What it costs
/// - Memory per entry: 9 bytes, 8 to 16 for the sketch and 8 to 16 for the ghosts; at least
///   8 KiB for the sketch. (S3-FIFO takes 9 and about 27 for its ghosts.)
/// - Memory for the advice: five shadows of up to 128 keys, at most 40 kB per shard. That is
///   2 % of a shard of 12,500 entries of 160 bytes, and more than 2 % of a smaller one.
/// - A hit raises a counter of 2 bits. Hits of sampled keys are replayed under the lock as
///   well, in five shadows: of one key in 2^s, where 2^s is about the number of entries of the
///   shard over 128, rounded up. Shards of less than about 1,000 entries replay more than one
///   in eight, but once they have settled only for part of the time.
/// - A miss updates the sketch and the ghosts, and compares two estimates where the setting
///   wants it.
/// - A change of the setting costs nothing at once. A window that has become too long gives
///   four entries to the main queue for each victim.
///
/// # What it does badly
/// - It learns from what happens, so a cache through which only a few times its size passes
///   is run on the first guess, W-TinyLFU with a window of a hundredth.
/// - After a change of the load it follows when the faded counts have crossed: some
///   thousands of sampled requests, or several times what the cache holds.
/// - What none of its settings does well, it does not do well either: loops in caches of a
///   few dozen entries belong to LIRS.
/// - It counts misses, not their weight or cost.
///
/// Choices: an overwrite keeps queue, place and counter, and is not a use.
#[derive(Debug)]
pub struct Adaptive {
    queues: Queues,
    panel: Panel,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { queues: Queues::steered(SETTINGS[FIRST]), panel: Panel::new(&SETTINGS, FIRST) }
    }
}

impl Adaptive {
    /// Heap memory that only serves to choose among the settings, in bytes; the rest of
    /// [`allocated_bytes`](Policy::allocated_bytes) is what a fixed one needs as well.
    #[must_use]
    pub fn advice_bytes(&self) -> usize {
        self.panel.allocated_bytes()
    }

    fn tell(&mut self, hash: u64, weight: u64, capacity: u64, hit: bool) {
        if self.panel.request(hash, weight, capacity, hit) {
            self.queues.steer(SETTINGS[self.panel.leader()]);
        }
    }
}

impl Policy for Adaptive {
    fn on_hit(&self) -> OnHit {
        self.queues.on_hit()
    }

    fn sample(&self) -> Option<u64> {
        self.panel.sample()
    }

    fn arrive(&mut self, hash: u64, weight: u64, entries: &dyn Entries) -> Arrival {
        let history = (self.len() / 4 * 3).next_power_of_two().max(HISTORY_MIN);
        self.queues.cover_history(history);
        self.panel.cover_history(history);
        self.tell(hash, weight, entries.capacity(), false);
        self.queues.arrive(hash, weight, entries)
    }

    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries) {
        self.queues.insert(id, arrival, entries);
    }

    fn hit(&mut self, id: u32, entries: &dyn Entries) {
        self.tell(entries.hash(id), entries.weight(id), entries.capacity(), true);
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        self.queues.overwrite(id, old_weight, entries);
    }

    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        self.panel.remove(entries.hash(id));
        self.queues.remove(id, entries);
    }

    fn victim(&mut self, arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        self.queues.victim(arrival, entries)
    }

    fn len(&self) -> usize {
        self.queues.len()
    }

    fn clear(&mut self) {
        self.panel.clear(FIRST);
        self.queues.steer(SETTINGS[FIRST]);
        self.queues.clear();
    }

    fn spare(&mut self, id: u32, entries: &dyn Entries) {
        self.queues.spare(id, entries);
    }

    /// Every entry once: the window's, then the main queue's, the oldest first. Hits and the
    /// comparison of the two are not looked at, so the truth may differ.
    fn order(&self, entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        self.queues.order(entries, f);
    }

    fn allocated_bytes(&self) -> usize {
        self.queues.allocated_bytes() + self.panel.allocated_bytes()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        self.queues.validate(entries)?;
        self.panel.validate()
    }
}
