//! Policies without a tier: keys, weights and costs go in, hits are counted.
//!
//! The simulator drives the same [`Policy`] as the tier, in the same order of calls, but knows
//! no values, no time and no threads, and forgets nothing of a hit. What it says of a policy
//! is therefore true of a tier of one shard whose hits are all replayed.
//!
//! | module | what |
//! |---|---|
//! | here | [`Simulator`], one policy; [`Simulate`], any of them |
//! | `ids` | from a key's hash to its entry |
//! | `shards` | [`Shards`]: the whole curve of LRU from a sample of the keys |
//! | `advisor` | [`Advisor`]: what other capacities and policies would do, from a sample |
//! | `curve`, `recency` | [`Curve`] and its errors; the stack under it |
//! | [`offline`] | the bounds: algorithms that know the future |
//!
//! # Memory
//! Entries are columns: a key (8 bytes), a hit counter (1), a place in the table (14 to 16),
//! weights and costs (4 each, or 8 if large) only once some request has one other than 1.
//! Links of the policy come on top. A column grows by an eighth at a time.
//!
//! # Speed
//! Keys are looked up some requests ahead of their turn, which lets the processor wait for
//! several cache lines at once. A guess made that way is checked when its turn comes.

mod advisor;
mod curve;
mod ids;
pub mod offline;
mod recency;
#[cfg(test)]
mod sampling;
mod shards;

use std::cell::Cell;
use std::fmt;

pub use advisor::Advisor;
pub use curve::{Curve, Estimate};
use ids::Ids;
pub use shards::{Sample, Shards};

use super::policy::{
    Adaptive, ArcPolicy, Arrival, Clock, Entries, Fifo, Gdsf, Lfu, Lirs, Lru, Mru, OnHit, Policy,
    PolicyKind, Random, S3Fifo, Sieve, TwoQ, WTinyLfu, mix,
};

/// No id.
const NONE: u32 = u32::MAX;
/// How many requests are looked up ahead.
const AHEAD: usize = 16;

/// One request to a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request {
    /// What is asked for.
    pub key: u64,
    /// What it weighs, in the unit of the capacity.
    pub weight: u64,
    /// What it costs to get it again, in any unit.
    pub cost: u64,
}

impl Request {
    /// A request for something of weight 1 and cost 1.
    #[must_use]
    pub const fn new(key: u64) -> Self {
        Self { key, weight: 1, cost: 1 }
    }

    /// The same with another weight.
    #[must_use]
    pub const fn weighing(self, weight: u64) -> Self {
        Self { weight, ..self }
    }
}

/// What happened to a number of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many there were.
    pub requests: u64,
    /// How many found what they asked for.
    pub hits: u64,
    /// What they weighed together.
    pub bytes_requested: u64,
    /// What those that hit weighed together.
    pub bytes_hit: u64,
}

impl Tally {
    /// The share of requests that hit; 0 if there were none.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits, self.requests)
    }

    /// The share of the weight that hit; 0 if there was none.
    #[must_use]
    pub fn byte_hit_ratio(&self) -> f64 {
        ratio(self.bytes_hit, self.bytes_requested)
    }

    /// Counts one request.
    #[inline]
    pub const fn count(&mut self, weight: u64, hit: bool) {
        self.requests += 1;
        self.bytes_requested = self.bytes_requested.saturating_add(weight);
        if hit {
            self.hits += 1;
            self.bytes_hit = self.bytes_hit.saturating_add(weight);
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A simulated cache, whatever its policy.
pub trait Simulate: Send + fmt::Debug {
    /// Makes the requests one after the other, and counts them on top of `tally`.
    fn run(&mut self, requests: &[Request], tally: &mut Tally);

    /// Number of resident entries.
    fn len(&self) -> usize;

    /// Whether nothing is resident.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is resident weighs this much.
    fn weight(&self) -> u64;

    /// What may be resident at most.
    fn capacity(&self) -> u64;

    /// Memory in use: entries, table, and what the policy says of itself.
    fn allocated_bytes(&self) -> usize;
}

/// A cache of keys alone under one policy.
///
/// ```
/// use larder_engine::memory::Lru;
/// use larder_engine::memory::simulate::{Request, Simulator};
///
/// let mut cache = Simulator::new(Lru::default(), 2);
/// let hits: Vec<bool> = [1, 2, 1, 3, 2].map(|key| cache.request(&Request::new(key))).into();
/// assert_eq!(hits, [false, false, true, false, false]);
/// ```
#[derive(Debug)]
pub struct Simulator<P> {
    policy: P,
    on_hit: OnHit,
    heaviest: u64,
    shelf: Shelf,
}

impl<P: Policy> Simulator<P> {
    /// An empty cache that holds up to `capacity`, in the unit of the weights.
    pub fn new(policy: P, capacity: u64) -> Self {
        let on_hit = policy.on_hit();
        let shelf = Shelf { capacity, ..Shelf::default() };
        Self { policy, on_hit, heaviest: capacity, shelf }
    }

    /// Never inserts what is heavier than `heaviest`. Otherwise only what is heavier than the
    /// capacity is turned away.
    #[must_use]
    pub fn refuse_above(mut self, heaviest: u64) -> Self {
        self.heaviest = heaviest.min(self.shelf.capacity);
        self
    }

    /// Asks for a key, and inserts it if it is not there. Whether it was.
    ///
    /// Weight and cost of a resident entry are those it was inserted with.
    ///
    /// # Panics
    /// If the policy names a victim that is not resident, or none while something is. (A tier
    /// would go on; figures made that way would be worth nothing.)
    #[inline]
    pub fn request(&mut self, request: &Request) -> bool {
        self.request_with(request, |_| ())
    }

    /// As [`request`](Self::request), and names the keys that have to leave, in their order.
    ///
    /// # Panics
    /// As [`request`](Self::request).
    #[inline]
    pub fn request_with(&mut self, request: &Request, evicted: impl FnMut(u64)) -> bool {
        let hash = mix(request.key);
        match self.shelf.find(hash, request.key) {
            NONE => {
                self.miss(hash, request, evicted);
                false
            }
            id => {
                self.hit(id);
                true
            }
        }
    }

    /// Gives a resident key another weight and cost, as when its value is replaced, and names
    /// the keys that have to leave for it. Nothing happens if it is not resident; it leaves if
    /// it is too heavy now.
    ///
    /// # Panics
    /// As [`request`](Self::request).
    pub fn overwrite(&mut self, request: &Request, mut evicted: impl FnMut(u64)) {
        let id = self.shelf.find(mix(request.key), request.key);
        if id == NONE {
            return;
        }
        if request.weight > self.heaviest {
            self.remove(request.key);
            evicted(request.key);
            return;
        }
        let old = self.shelf.weight(id);
        self.shelf.used = self.shelf.used - old + request.weight;
        self.shelf.weights.set(id, request.weight, self.shelf.keys.len());
        self.shelf.costs.set(id, request.cost, self.shelf.keys.len());
        self.policy.overwrite(id, old, &self.shelf);
        while self.shelf.used > self.shelf.capacity {
            evicted(self.make_room(Arrival::NEW));
        }
    }

    /// Takes a key out. Whether it was there.
    pub fn remove(&mut self, key: u64) -> bool {
        let id = self.shelf.find(mix(key), key);
        if id != NONE {
            self.policy.remove(id, &self.shelf);
            self.shelf.forget(id);
        }
        id != NONE
    }

    /// Evicts what would have to leave for something that nothing is known of.
    pub fn evict(&mut self) -> Option<u64> {
        let id = self.policy.victim(Arrival::NEW, &self.shelf)?;
        Some(self.shelf.forget(id))
    }

    /// Names keys in the order in which they would leave, as far as the policy knows it, until
    /// `f` says `false`.
    pub fn order(&self, mut f: impl FnMut(u64) -> bool) {
        self.policy.order(&self.shelf, &mut |id| f(self.shelf.keys[id as usize]));
    }

    /// Number of resident entries.
    pub const fn len(&self) -> usize {
        self.shelf.ids.len()
    }

    /// Whether nothing is resident.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is resident weighs this much.
    pub const fn weight(&self) -> u64 {
        self.shelf.used
    }

    /// What may be resident at most.
    pub const fn capacity(&self) -> u64 {
        self.shelf.capacity
    }

    /// Names a victim and takes it back: its key and weight.
    #[cfg(test)]
    pub(super) fn spare_one(&mut self) -> Option<(u64, u64)> {
        let id = self.policy.victim(Arrival::NEW, &self.shelf)?;
        self.policy.spare(id, &self.shelf);
        Some((self.shelf.keys[id as usize], self.shelf.weights.get(id)))
    }

    /// Whether a key is resident; no use of it.
    pub fn contains(&self, key: u64) -> bool {
        self.shelf.find(mix(key), key) != NONE
    }

    /// The policy as it stands.
    pub const fn policy(&self) -> &P {
        &self.policy
    }

    /// The key of a resident entry, by the id that the policy knows it by.
    pub fn key(&self, id: u32) -> u64 {
        self.shelf.keys[id as usize]
    }

    /// Checks the policy's own structure, and that it knows as many entries as there are.
    ///
    /// # Errors
    /// A sentence for people: the first contradiction found.
    pub fn validate(&self) -> Result<(), String> {
        let (known, resident) = (self.policy.len(), self.len());
        if known != resident {
            return Err(format!("the policy knows {known} entries of {resident}"));
        }
        self.policy.validate(&self.shelf)
    }

    #[inline]
    fn hit(&mut self, id: u32) {
        if self.on_hit.count_to > 0 {
            let hits = &self.shelf.hits[id as usize];
            if hits.get() < self.on_hit.count_to {
                hits.set(hits.get() + 1);
            }
        }
        let in_sample = |mask| self.shelf.hash(id) & mask == 0;
        if self.on_hit.replay || self.policy.sample().is_some_and(in_sample) {
            self.policy.hit(id, &self.shelf);
        }
    }

    #[inline]
    fn miss(&mut self, hash: u64, request: &Request, mut evicted: impl FnMut(u64)) {
        if request.weight > self.heaviest {
            return;
        }
        let arrival = self.policy.arrive(hash, request.weight, &self.shelf);
        while self.shelf.used > self.shelf.capacity - request.weight {
            evicted(self.make_room(arrival));
        }
        let id = self.shelf.insert(hash, request);
        self.policy.insert(id, arrival, &self.shelf);
    }

    #[inline]
    fn make_room(&mut self, arrival: Arrival) -> u64 {
        let victim = self.policy.victim(arrival, &self.shelf);
        let id = victim.expect("the policy has a victim while something is resident");
        self.shelf.forget(id)
    }
}

impl<P: Policy> Simulate for Simulator<P> {
    fn run(&mut self, requests: &[Request], tally: &mut Tally) {
        let mut guesses = [(0, NONE); AHEAD];
        for ahead in requests.chunks(AHEAD) {
            for (guess, request) in guesses.iter_mut().zip(ahead) {
                let hash = mix(request.key);
                *guess = (hash, self.shelf.find(hash, request.key));
            }
            // One bit for each hash that came since the guesses, several for one bit.
            let mut came = 0_u64;
            for (&(hash, mut id), request) in guesses.iter().zip(ahead) {
                let bit = 1 << (hash & 63);
                // A guess of an entry is wrong if that has left meanwhile; a guess of none
                // may be if something came.
                let doubtful = if id == NONE {
                    came & bit != 0
                } else {
                    self.shelf.keys[id as usize] != request.key
                };
                if doubtful {
                    id = self.shelf.find(hash, request.key);
                }
                if id == NONE {
                    self.miss(hash, request, |_| ());
                    came |= bit;
                } else {
                    self.hit(id);
                }
                tally.count(request.weight, id != NONE);
            }
        }
    }

    fn len(&self) -> usize {
        self.shelf.ids.len()
    }

    fn weight(&self) -> u64 {
        self.shelf.used
    }

    fn capacity(&self) -> u64 {
        self.shelf.capacity
    }

    fn allocated_bytes(&self) -> usize {
        self.shelf.allocated_bytes() + self.policy.allocated_bytes()
    }
}

impl PolicyKind {
    /// A simulated cache under a policy of this kind.
    ///
    /// ```
    /// use larder_engine::memory::PolicyKind;
    /// use larder_engine::memory::simulate::{Request, Tally};
    ///
    /// let trace = [1, 2, 3, 1, 2, 3].map(Request::new);
    /// let mut tally = Tally::default();
    /// PolicyKind::Lru.simulate(3).run(&trace, &mut tally);
    /// assert_eq!((tally.requests, tally.hits), (6, 3));
    /// ```
    #[must_use]
    pub fn simulate(self, capacity: u64) -> Box<dyn Simulate> {
        fn simulate<P: Policy + Default + 'static>(capacity: u64) -> Box<dyn Simulate> {
            Box::new(Simulator::new(P::default(), capacity))
        }
        match self {
            Self::Fifo => simulate::<Fifo>(capacity),
            Self::Random => simulate::<Random>(capacity),
            Self::Lru => simulate::<Lru>(capacity),
            Self::Mru => simulate::<Mru>(capacity),
            Self::Lfu => simulate::<Lfu>(capacity),
            Self::Clock => simulate::<Clock>(capacity),
            Self::Sieve => simulate::<Sieve>(capacity),
            Self::S3Fifo => simulate::<S3Fifo>(capacity),
            Self::TwoQ => simulate::<TwoQ>(capacity),
            Self::Arc => simulate::<ArcPolicy>(capacity),
            Self::Lirs => simulate::<Lirs>(capacity),
            Self::WTinyLfu => simulate::<WTinyLfu>(capacity),
            Self::Gdsf => simulate::<Gdsf>(capacity),
            Self::Adaptive => simulate::<Adaptive>(capacity),
        }
    }
}

/// The entries, and the table over them.
#[derive(Debug, Default)]
struct Shelf {
    capacity: u64,
    used: u64,
    ids: Ids,
    /// Of a free id, the complement of its last key: a guess of that key no longer fits.
    keys: Vec<u64>,
    hits: Vec<Cell<u8>>,
    weights: Column,
    costs: Column,
    free: Vec<u32>,
}

impl Shelf {
    #[inline]
    fn find(&self, hash: u64, key: u64) -> u32 {
        self.ids.find(hash, |id| self.keys[id as usize] == key)
    }

    #[inline]
    fn insert(&mut self, hash: u64, request: &Request) -> u32 {
        let id = match self.free.pop() {
            Some(id) => {
                self.keys[id as usize] = request.key;
                self.hits[id as usize].set(0);
                id
            }
            None => {
                push(&mut self.keys, request.key);
                push(&mut self.hits, Cell::new(0));
                let id = u32::try_from(self.keys.len() - 1).ok().filter(|&id| id != NONE);
                id.expect("fewer than 2³² − 1 entries")
            }
        };
        self.weights.set(id, request.weight, self.keys.len());
        self.costs.set(id, request.cost, self.keys.len());
        self.used += request.weight;
        self.ids.insert(hash, id);
        id
    }

    #[inline]
    fn forget(&mut self, id: u32) -> u64 {
        let key = self.keys[id as usize];
        self.ids.remove(mix(key), id);
        self.keys[id as usize] = !key;
        self.used -= self.weights.get(id);
        self.free.push(id);
        key
    }

    fn allocated_bytes(&self) -> usize {
        self.ids.allocated_bytes()
            + self.keys.capacity() * size_of::<u64>()
            + self.hits.capacity()
            + self.weights.allocated_bytes()
            + self.costs.allocated_bytes()
            + self.free.capacity() * size_of::<u32>()
    }
}

impl Entries for Shelf {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn weight(&self, id: u32) -> u64 {
        self.weights.get(id)
    }

    fn cost(&self, id: u32) -> u64 {
        self.costs.get(id)
    }

    fn hash(&self, id: u32) -> u64 {
        mix(self.keys[id as usize])
    }

    fn hits(&self, id: u32) -> u8 {
        self.hits[id as usize].get()
    }

    fn set_hits(&self, id: u32, hits: u8) {
        self.hits[id as usize].set(hits);
    }
}

/// A number per entry, in as few bytes as the largest one allows; 0 while all of them are 1.
#[derive(Debug, Default)]
enum Column {
    #[default]
    Ones,
    Small(Vec<u32>),
    Large(Vec<u64>),
}

impl Column {
    #[inline]
    fn get(&self, id: u32) -> u64 {
        match self {
            Self::Ones => 1,
            Self::Small(values) => values.get(id as usize).map_or(1, |&value| u64::from(value)),
            Self::Large(values) => values.get(id as usize).copied().unwrap_or(1),
        }
    }

    /// There are `len` entries.
    #[inline]
    fn set(&mut self, id: u32, value: u64, len: usize) {
        match self {
            Self::Ones if value == 1 => {}
            Self::Small(values) if let Ok(value) = u32::try_from(value) => {
                put(values, id, value, len);
            }
            Self::Large(values) => put(values, id, value, len),
            Self::Ones | Self::Small(_) => self.widen(id, value, len),
        }
    }

    /// Makes place for larger numbers, and sets one.
    #[cold]
    fn widen(&mut self, id: u32, value: u64, len: usize) {
        *self = match std::mem::take(self) {
            Self::Ones => Self::Small(Vec::new()),
            Self::Small(values) => Self::Large(values.into_iter().map(u64::from).collect()),
            Self::Large(values) => Self::Large(values),
        };
        self.set(id, value, len);
    }

    const fn allocated_bytes(&self) -> usize {
        match self {
            Self::Ones => 0,
            Self::Small(values) => values.capacity() * size_of::<u32>(),
            Self::Large(values) => values.capacity() * size_of::<u64>(),
        }
    }
}

#[inline]
fn put<T: From<u8>>(values: &mut Vec<T>, id: u32, value: T, len: usize) {
    while values.len() < len {
        push(values, T::from(1));
    }
    values[id as usize] = value;
}

/// Pushes; grows by an eighth, not to the double.
#[inline]
fn push<T>(column: &mut Vec<T>, value: T) {
    if column.len() == column.capacity() {
        column.reserve_exact(column.len() / 8 + 16);
    }
    column.push(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request every time for something in `0..range`, from a fixed stream.
    fn drawn(count: u64, range: u64) -> Vec<Request> {
        (0..count).map(|at| Request::new(mix(at) % (1 + mix(at + 1) % range))).collect()
    }

    #[test]
    fn looking_ahead_changes_nothing() {
        for &kind in PolicyKind::ALL {
            for weigh in [|_| 1, |key| key % 7] {
                let trace: Vec<Request> =
                    drawn(3_000, 60).iter().map(|next| next.weighing(weigh(next.key))).collect();
                let (mut batches, mut single) = (Tally::default(), Tally::default());
                let (mut left, mut right) = (kind.simulate(20), kind.simulate(20));
                left.run(&trace, &mut batches);
                trace.iter().for_each(|next| right.run(&[*next], &mut single));
                assert_eq!((batches, left.len()), (single, right.len()), "{kind}");
                assert!((300..2_500).contains(&batches.hits), "{kind}: {batches:?}");
            }
        }
    }

    #[test]
    fn what_is_too_heavy_never_enters() {
        let mut cache = Simulator::new(Lru::default(), 10).refuse_above(5);
        for (weight, hit) in [(5, true), (6, false)] {
            let request = Request::new(weight).weighing(weight);
            cache.request(&request);
            assert_eq!(cache.request(&request), hit);
        }
        assert_eq!((cache.len(), cache.weight()), (1, 5));
    }

    #[test]
    fn an_overwrite_makes_others_leave() {
        let mut cache = Simulator::new(Fifo::default(), 10);
        for key in 0..5 {
            cache.request(&Request::new(key).weighing(2));
        }
        let mut left = Vec::new();
        cache.overwrite(&Request::new(4).weighing(5), |key| left.push(key));
        assert_eq!(left, [0, 1]);
        cache.overwrite(&Request::new(4).weighing(11), |key| left.push(key));
        assert_eq!((left, cache.len()), (vec![0, 1, 4], 2));
        assert!(cache.remove(3) && !cache.remove(3) && !cache.contains(3));
        assert_eq!(cache.validate(), Ok(()));
    }

    #[test]
    fn a_column_is_as_wide_as_its_largest_number() {
        let mut column = Column::default();
        column.set(3, 1, 4);
        assert_eq!((column.allocated_bytes(), column.get(3)), (0, 1));
        column.set(2, 7, 4);
        assert!(matches!(column, Column::Small(_)));
        column.set(1, 1 << 40, 5);
        assert_eq!([0, 1, 2, 3, 4].map(|id| column.get(id)), [1, 1 << 40, 7, 1, 1]);
    }

    #[test]
    fn memory_per_entry_is_little() {
        for &kind in PolicyKind::ALL {
            let mut cache = kind.simulate(50_000);
            cache.run(&drawn(400_000, 100_000), &mut Tally::default());
            let each = cache.allocated_bytes() / cache.len();
            assert!(cache.len() == 50_000 && each <= 100, "{kind}: {each} bytes");
        }
    }
}
