//! What could be reached if the future were known.
//!
//! An [`Oracle`] is told of each request when its key will be asked for again. It can run in
//! the laboratory only: it says how much there is to gain over the policies that have to guess.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::ids::Ids;
use super::{NONE, Request, Simulate, Tally, push};
use crate::error::Error;
use crate::memory::policy::{heap::Heap, mix};

/// The key is never asked for again.
pub const NEVER: u64 = u64::MAX;

/// For each request, the place (from 0) of the next one for the same key, or [`NEVER`].
///
/// ```
/// use larder_engine::memory::simulate::{Request, offline};
///
/// let trace = [7, 8, 7, 7].map(Request::new);
/// assert_eq!(offline::next_uses(&trace), [2, offline::NEVER, 3, offline::NEVER]);
/// ```
#[must_use]
pub fn next_uses(requests: &[Request]) -> Vec<u64> {
    let mut seen = HashMap::new();
    let mut next = vec![NEVER; requests.len()];
    for (at, request) in requests.iter().enumerate().rev() {
        if let Some(later) = seen.insert(request.key, at as u64) {
            next[at] = later;
        }
    }
    next
}

/// Algorithms that know the future.
///
/// ```
/// use larder_engine::memory::simulate::offline::{Oracle, next_uses};
/// use larder_engine::memory::simulate::{Request, Tally};
///
/// let trace = [1, 2, 3, 1, 2, 4, 1, 2].map(Request::new);
/// let mut tally = Tally::default();
/// Oracle::Belady.simulate(2, next_uses(&trace).into()).run(&trace, &mut tally);
/// assert_eq!(tally.hits, 2);
/// let mut tally = Tally::default();
/// "belady-bypass".parse::<Oracle>()?.simulate(2, next_uses(&trace).into()).run(&trace, &mut tally);
/// assert_eq!(tally.hits, 4);
/// # Ok::<(), larder_engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Oracle {
    /// What is asked for again last leaves first; what comes must enter. Belady, "A study of
    /// replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966.
    /// The fewest misses for equal weights, as long as everything has to enter.
    Belady,
    /// The same, but what comes may be what is asked for again last, and does not enter then.
    /// The fewest misses that are possible for equal weights.
    BeladyBypass,
    /// What has the largest product of weight and time until it is asked for leaves first; what
    /// comes competes too. No optimum (that is hard to compute), but a good bound where weights
    /// differ.
    BeladySize,
}

impl Oracle {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Belady, Self::BeladyBypass, Self::BeladySize];

    /// The name, as it is parsed and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Belady => "belady",
            Self::BeladyBypass => "belady-bypass",
            Self::BeladySize => "belady-size",
        }
    }

    /// A simulated cache that is to be asked in the order of `next`, the places that
    /// [`next_uses`] gives; beyond its end, nothing is ever asked for again.
    #[must_use]
    pub fn simulate(self, capacity: u64, next: Arc<[u64]>) -> Box<dyn Simulate> {
        Box::new(Offline { next, cache: self.foresee(capacity) })
    }

    /// A simulated cache that is told of each request when its key comes again as it comes, so
    /// that nobody has to hold the whole future in memory.
    ///
    /// ```
    /// use larder_engine::memory::simulate::offline::{Oracle, next_uses};
    /// use larder_engine::memory::simulate::{Request, Tally};
    ///
    /// let trace = [1, 2, 3, 1, 2, 4, 1, 2].map(Request::new);
    /// let next = next_uses(&trace);
    /// let (mut cache, mut tally) = (Oracle::BeladyBypass.foresee(2), Tally::default());
    /// for part in [0..3, 3..8] {
    ///     cache.run(&trace[part.clone()], &next[part], &mut tally);
    /// }
    /// assert_eq!(tally.hits, 4);
    /// ```
    #[must_use]
    pub fn foresee(self, capacity: u64) -> Foresight {
        let ranked = match self {
            Self::Belady | Self::BeladyBypass => Ranked::Farthest(Heap::default()),
            Self::BeladySize => Ranked::BySize(Sizes::default()),
        };
        Foresight {
            may_bypass: self == Self::BeladyBypass,
            capacity,
            used: 0,
            now: 0,
            ids: Ids::default(),
            entries: Vec::new(),
            free: Vec::new(),
            ranked,
        }
    }
}

impl fmt::Display for Oracle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl FromStr for Oracle {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|oracle| oracle.name() == name).ok_or_else(|| {
            Error::Config {
                option: "oracle",
                value: name.to_owned(),
                accepted: "give one of belady, belady-bypass, belady-size",
            }
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    weight: u64,
    next: u64,
}

/// A [`Foresight`] that holds the whole future.
#[derive(Debug)]
struct Offline {
    next: Arc<[u64]>,
    cache: Foresight,
}

/// A simulated cache of an [`Oracle`] that is told the future piece by piece.
#[derive(Debug)]
pub struct Foresight {
    may_bypass: bool,
    capacity: u64,
    used: u64,
    /// The place of the request that is being made.
    now: u64,
    ids: Ids,
    entries: Vec<Entry>,
    free: Vec<u32>,
    ranked: Ranked,
}

/// Residents, by who leaves first.
#[derive(Debug)]
enum Ranked {
    Farthest(Heap<Reverse<u64>>),
    BySize(Sizes),
}

/// Residents by weight, and those of one weight by their next use.
#[derive(Debug, Default)]
struct Sizes {
    classes: BTreeMap<u64, BTreeSet<(u64, u32)>>,
    /// The latest next use ever seen, `NEVER` aside.
    horizon: u64,
    /// What is never used again, by weight.
    useless: BTreeSet<(u64, u32)>,
    len: usize,
}

impl Sizes {
    fn push(&mut self, id: u32, Entry { weight, next, .. }: Entry) {
        self.len += 1;
        if next == NEVER {
            self.useless.insert((weight, id));
        } else {
            self.horizon = self.horizon.max(next);
            self.classes.entry(weight).or_default().insert((next, id));
        }
    }

    fn remove(&mut self, id: u32, Entry { weight, next, .. }: Entry) {
        self.len -= 1;
        if next == NEVER {
            self.useless.remove(&(weight, id));
        } else if let Some(class) = self.classes.get_mut(&weight) {
            class.remove(&(next, id));
            if class.is_empty() {
                self.classes.remove(&weight);
            }
        }
    }

    /// Who has the largest product; of what is never used again, the heaviest.
    fn first(&self, now: u64) -> Option<u32> {
        if let Some(&(_, id)) = self.useless.last() {
            return Some(id);
        }
        let product =
            |weight: u64, next: u64| u128::from(weight) * u128::from(next.saturating_sub(now));
        let mut best: Option<(u128, u32)> = None;
        for (&weight, class) in self.classes.iter().rev() {
            // Nothing lighter can win any more.
            if best.is_some_and(|(most, _)| most >= product(weight, self.horizon)) {
                break;
            }
            let Some(&(next, id)) = class.last() else {
                continue;
            };
            let new = product(weight, next);
            if best.is_none_or(|(most, _)| new > most) {
                best = Some((new, id));
            }
        }
        best.map(|(_, id)| id)
    }
}

impl Ranked {
    fn push(&mut self, id: u32, entry: Entry) {
        match self {
            Self::Farthest(heap) => heap.push(id, Reverse(entry.next)),
            Self::BySize(sizes) => sizes.push(id, entry),
        }
    }

    fn remove(&mut self, id: u32, entry: Entry) {
        match self {
            Self::Farthest(heap) => heap.remove(id),
            Self::BySize(sizes) => sizes.remove(id, entry),
        }
    }

    fn first(&self, now: u64) -> Option<u32> {
        match self {
            Self::Farthest(heap) => heap.first(),
            Self::BySize(sizes) => sizes.first(now),
        }
    }
}

impl Foresight {
    /// Makes the requests one after the other, and counts them on top of `tally`. `next` has for
    /// each the place of the next one for the same key, counted from the first request of all,
    /// or [`NEVER`], which is taken for those that it is too short for.
    ///
    /// What does not lie ahead is taken for [`NEVER`], and what is wrong in another way costs
    /// hits.
    pub fn run(&mut self, requests: &[Request], next: &[u64], tally: &mut Tally) {
        for (request, &next) in requests.iter().zip(next.iter().chain(std::iter::repeat(&NEVER))) {
            let hit = self.request(request, if next > self.now { next } else { NEVER });
            tally.count(request.weight, hit);
        }
    }

    fn request(&mut self, request: &Request, next: u64) -> bool {
        let hash = mix(request.key);
        let id = self.ids.find(hash, |id| self.entries[id as usize].key == request.key);
        if id != NONE {
            let entry = self.entries[id as usize];
            let later = Entry { next, ..entry };
            self.ranked.remove(id, entry);
            self.ranked.push(id, later);
            self.entries[id as usize] = later;
        } else if request.weight <= self.capacity {
            let new = Entry { key: request.key, weight: request.weight, next };
            match self.ranked {
                Ranked::Farthest(_) => self.admit(hash, new),
                Ranked::BySize(_) => self.compete(hash, new),
            }
        }
        self.now += 1;
        id != NONE
    }

    /// Makes room, unless all that would have to leave is needed sooner and that counts.
    fn admit(&mut self, hash: u64, new: Entry) {
        while self.used > self.capacity - new.weight
            && let Some(id) = self.ranked.first(self.now)
        {
            if self.may_bypass && self.entries[id as usize].next <= new.next {
                return;
            }
            self.evict(id);
        }
        self.insert(hash, new);
    }

    /// Inserts, and then looks who leaves.
    fn compete(&mut self, hash: u64, new: Entry) {
        self.insert(hash, new);
        while self.used > self.capacity
            && let Some(id) = self.ranked.first(self.now)
        {
            self.evict(id);
        }
    }

    fn insert(&mut self, hash: u64, new: Entry) {
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = new;
                id
            }
            None => {
                push(&mut self.entries, new);
                let id = u32::try_from(self.entries.len() - 1).ok().filter(|&id| id != NONE);
                id.expect("fewer than 2³² − 1 entries")
            }
        };
        self.used += new.weight;
        self.ids.insert(hash, id);
        self.ranked.push(id, new);
    }

    fn evict(&mut self, id: u32) {
        let entry = self.entries[id as usize];
        self.ranked.remove(id, entry);
        self.ids.remove(mix(entry.key), id);
        self.used -= entry.weight;
        self.free.push(id);
    }

    /// Without the places that were handed in; sorted sets are estimated.
    fn allocated_bytes(&self) -> usize {
        let ranked = match &self.ranked {
            Ranked::Farthest(heap) => heap.allocated_bytes(),
            Ranked::BySize(sizes) => sizes.len * 2 * size_of::<(u64, u32)>(),
        };
        self.ids.allocated_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * size_of::<u32>()
            + ranked
    }
}

impl Simulate for Offline {
    fn run(&mut self, requests: &[Request], tally: &mut Tally) {
        let made = usize::try_from(self.cache.now).unwrap_or(usize::MAX);
        self.cache.run(requests, self.next.get(made..).unwrap_or_default(), tally);
    }

    fn len(&self) -> usize {
        self.cache.ids.len()
    }

    fn weight(&self) -> u64 {
        self.cache.used
    }

    fn capacity(&self) -> u64 {
        self.cache.capacity
    }

    fn allocated_bytes(&self) -> usize {
        self.cache.allocated_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hits(oracle: Oracle, capacity: u64, trace: &[Request]) -> u64 {
        let mut tally = Tally::default();
        oracle.simulate(capacity, next_uses(trace).into()).run(trace, &mut tally);
        tally.hits
    }

    /// The most hits that any choice of victims gets, by trying all of them.
    fn most(trace: &[Request], capacity: usize, resident: &BTreeSet<u64>, bypass: bool) -> u64 {
        let Some((request, rest)) = trace.split_first() else {
            return 0;
        };
        if resident.contains(&request.key) {
            return 1 + most(rest, capacity, resident, bypass);
        }
        let mut with = resident.clone();
        with.insert(request.key);
        if with.len() <= capacity {
            return most(rest, capacity, &with, bypass);
        }
        let leaves = with.iter().filter(|&&key| bypass || key != request.key);
        let choices = leaves.map(|leaves| {
            let mut after = with.clone();
            after.remove(leaves);
            most(rest, capacity, &after, bypass)
        });
        choices.max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn nobody_gets_more_hits(
            keys in prop::collection::vec(0..6_u64, 0..11), capacity in 1..4_u64,
        ) {
            let trace: Vec<Request> = keys.into_iter().map(Request::new).collect();
            let room = usize::try_from(capacity).unwrap();
            for (oracle, bypass) in [(Oracle::Belady, false), (Oracle::BeladyBypass, true)] {
                let best = most(&trace, room, &BTreeSet::new(), bypass);
                prop_assert_eq!(hits(oracle, capacity, &trace), best);
            }
            // With equal weights, size decides nothing.
            let by_size = hits(Oracle::BeladySize, capacity, &trace);
            prop_assert_eq!(by_size, hits(Oracle::BeladyBypass, capacity, &trace));
        }

        /// Against the definition, by looking at everything.
        #[test]
        fn the_largest_product_leaves(
            requests in prop::collection::vec((0..30_u64, 0..9_u64), 0..200), capacity in 1..60_u64,
        ) {
            let weigh = |(key, _)| Request::new(key).weighing((key % 7 + 1).min(capacity));
            let trace: Vec<Request> = requests.into_iter().map(weigh).collect();
            let next = next_uses(&trace);
            let (mut resident, mut expected) = (BTreeMap::new(), 0);
            for (now, request) in (0..).zip(&trace) {
                let later = next[usize::try_from(now).unwrap()];
                let before = resident.insert(request.key, (request.weight, later));
                expected += u64::from(before.is_some());
                while resident.values().map(|entry: &(u64, u64)| entry.0).sum::<u64>() > capacity {
                    let product = |&(weight, next): &(u64, u64)| match next {
                        NEVER => (true, weight),
                        next => (false, weight * (next - now)),
                    };
                    // Of equal products, the heaviest leaves; of those, who cares.
                    let rank = |entry: &(u64, u64)| (product(entry), entry.0);
                    let worst = resident.iter().max_by_key(|(_, entry)| rank(entry));
                    let key = *worst.unwrap().0;
                    resident.remove(&key);
                }
            }
            prop_assert_eq!(hits(Oracle::BeladySize, capacity, &trace), expected);
        }
    }

    #[test]
    fn names_are_parsed_as_they_are_shown() {
        for &oracle in Oracle::ALL {
            assert_eq!(oracle.to_string().parse::<Oracle>().unwrap(), oracle);
        }
    }
}
