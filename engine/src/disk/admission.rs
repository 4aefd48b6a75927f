//! What a cache takes in: no more than so much a second, and nothing that was offered only
//! once.
//!
//! A value that replaces one is always taken: to refuse it would mean to keep an old value.
//!
//! All orderings are Relaxed: the table of what was offered is a hint by itself, and no other
//! memory depends on it.

use parking_lot::Mutex;

use super::counters::Count;
use super::store::Store;
use super::worth::{Offers, Worth, percent};
use crate::engine::{Cost, Rejection};
use crate::error::Result;
use crate::sync::{AtomicU64, Ordering};

/// What a cache takes in. Everything, unless something is set.
///
/// ```
/// # use larder_engine::Admission;
/// let ten_megabytes_a_second = Admission { write_budget: Some(10 << 20), ..Admission::default() };
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admission {
    /// Most bytes of new keys and values a second, by the store's clock. What was not used of
    /// the last second can be used in the next one; a value is taken if anything is left, and
    /// what it exceeds the rest by is taken off what comes. Replacements are taken off as well;
    /// records that the store moves are not.
    ///
    /// While it is short, what saves most goes first ([`Put::cost`](crate::Put::cost)). A new
    /// value is worth the time it saves for each of its bytes, key included. It is refused, for
    /// [`Rejection::NotWorthIt`], if the share of the values offered of late that were worth
    /// more is larger than the share that is left of what may be written in a second.
    pub write_budget: Option<u64>,
    /// Whether a key has to be offered twice before it is taken.
    ///
    /// Remembered are the fingerprints, 2 bytes each, of one key for every 4 KiB of the budget,
    /// at least 4096 (8 KiB of memory) and at most 1048576 (2 MiB); a new one displaces the
    /// oldest of the four that share its place. A key that was not offered before is mistaken
    /// for one that was with a probability of at most 4 in 65535.
    pub second_hit: bool,
}

/// Bytes of the budget for each key that is remembered.
const BYTES_A_KEY: u64 = 4 << 10;
/// Fingerprints in one word.
const WAYS: u64 = 4;
/// Fewest and most words.
const WORDS: (u64, u64) = (1 << 10, 1 << 18);

/// What a store knows about what it was offered.
#[derive(Debug)]
pub(super) struct Gate {
    bucket: Option<(u64, Mutex<(Bucket, Offers)>)>,
    seen: Option<Seen>,
}

/// Tokens: bytes that may be written now; below 0 if the last value was larger than the rest.
#[derive(Debug, Default)]
struct Bucket {
    tokens: i64,
    /// When they were counted; `None` before the first value.
    at_ms: Option<u64>,
}

impl Gate {
    pub(super) fn new(admission: Admission, budget: u64) -> Self {
        Self {
            bucket: admission.write_budget.map(|rate| (rate, Mutex::default())),
            seen: admission.second_hit.then(|| Seen::new(budget)),
        }
    }

    const fn is_open(&self) -> bool {
        self.bucket.is_none() && self.seen.is_none()
    }
}

impl Bucket {
    /// Adds what has come since the last time.
    fn refill(&mut self, rate: u64, now_ms: u64) {
        let from_ms = self.at_ms.unwrap_or(now_ms.saturating_sub(1000));
        let wide = u128::from(rate) * u128::from(now_ms.saturating_sub(from_ms)) / 1000;
        let fresh = u64::try_from(wide).unwrap_or(u64::MAX);
        // Up to where whole bytes were counted: the time after it goes on to count.
        let counted_ms = wide * 1000 / u128::from(rate.max(1));
        let counted_ms = u64::try_from(counted_ms).unwrap_or(u64::MAX);
        self.at_ms = Some(from_ms.saturating_add(counted_ms).min(now_ms));
        self.tokens = self.tokens.saturating_add(signed(fresh)).min(signed(rate));
    }

    /// Takes what a value weighs.
    fn take(&mut self, weight: u64) {
        self.tokens = self.tokens.saturating_sub(signed(weight));
    }

    /// Gives back what a value weighs that was not stored after all.
    fn give_back(&mut self, rate: u64, weight: u64) {
        self.tokens = self.tokens.saturating_add(signed(weight)).min(signed(rate));
    }

    /// What is left.
    fn left(&self) -> u64 {
        u64::try_from(self.tokens).unwrap_or(0)
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Fingerprints of the keys that were offered of late, four to a word, the newest lowest.
#[derive(Debug)]
struct Seen {
    words: Box<[AtomicU64]>,
}

impl Seen {
    fn new(budget: u64) -> Self {
        let words = (budget / BYTES_A_KEY / WAYS).clamp(WORDS.0, WORDS.1).next_power_of_two();
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether a key was seen before; remembers it if not.
    fn seen(&self, hash: u64) -> bool {
        let at = usize::try_from(hash & (self.words.len() as u64 - 1)).unwrap_or(0);
        // 0 stands for nothing.
        let fingerprint = (hash >> 48).max(1);
        let word = &self.words[at];
        let known = word.load(Ordering::Relaxed);
        if (0..WAYS).any(|way| known >> (way * 16) & 0xFFFF == fingerprint) {
            return true;
        }
        let new = known << 16 | fingerprint;
        // Lost to another key that came at the same time: then it is seen later.
        let _ = word.compare_exchange(known, new, Ordering::Relaxed, Ordering::Relaxed);
        false
    }
}

impl Store {
    /// Counts bytes of value that were taken in without having been announced.
    pub(super) fn charge(&self, bytes: u64) {
        if let Some((rate, state)) = &self.upkeep.gate.bucket {
            let (bucket, _) = &mut *state.lock();
            bucket.refill(*rate, self.clock.now_ms());
            bucket.take(bytes);
        }
    }

    /// Gives back what was taken for a value that was not stored after all.
    pub(super) fn refund(&self, key_len: usize, value_len: u64) {
        if let Some((rate, state)) = &self.upkeep.gate.bucket {
            state.lock().0.give_back(*rate, value_len.saturating_add(key_len as u64));
        }
    }

    /// Why a value of these lengths is not taken, if so.
    pub(super) fn refuse(
        &self,
        key: &[u8],
        value_len: usize,
        cost: Cost,
    ) -> Result<Option<Rejection>> {
        let gate = &self.upkeep.gate;
        if gate.is_open() {
            return Ok(None);
        }
        self.check_open()?;
        let hash = self.hash(key)?;
        let weight = (key.len() as u64).saturating_add(value_len as u64);
        if weight > self.largest_value() {
            // That is a reason of its own, and is found out later.
            return Ok(None);
        }
        let is_there = self.version(key)?.is_some();
        let known = gate.seen.as_ref().is_none_or(|seen| is_there || seen.seen(hash));
        let why =
            if known { self.spend(weight, cost, is_there) } else { Some(Rejection::FirstSeen) };
        if why.is_some() {
            self.counters.add(Count::Rejected, 1);
        }
        Ok(why)
    }

    /// Takes what a value weighs off the write budget; why not, if it is not to be written. One
    /// that `must` be written is.
    fn spend(&self, weight: u64, cost: Cost, must: bool) -> Option<Rejection> {
        let (rate, state) = self.upkeep.gate.bucket.as_ref()?;
        let (bucket, offers) = &mut *state.lock();
        bucket.refill(*rate, self.clock.now_ms());
        let left = bucket.left();
        if !must {
            let better = offers.note(Worth::of(cost, weight));
            if left == 0 {
                return Some(Rejection::WriteBudget { per_second: *rate });
            }
            if better.exceeds(left, *rate) {
                let left_percent = percent(left, *rate);
                return Some(Rejection::NotWorthIt {
                    better_percent: better.percent(),
                    left_percent,
                });
            }
        }
        bucket.take(weight);
        None
    }
}
