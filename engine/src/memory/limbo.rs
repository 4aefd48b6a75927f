//! What has been unlinked, until nobody can look at it any more.
//!
//! Entries gather until they are worth asking who reads (`readers.rs`); then they wait as a
//! batch for those readers. Batches become free in the order in which they were made. What
//! somebody still looks at then is asked about again with the next batch.
//!
//! # Invariants
//! 1. An id that comes out went in once, was unlinked before, and is looked at by nobody.
//! 2. What waits stays little, whatever readers do in closures: less than [`Limits`] gathers, and
//!    a batch waits only for lookups that are under way, not for their closures.

use std::collections::VecDeque;

use super::readers::{Fences, Grace, Record, looked_at};

/// Entries that leave between two looks at the readers that a batch waits for.
const LOOK_EVERY: usize = 16;
/// Batches that may wait before writers give way to readers.
const CROWD: usize = 16;

/// How much may wait while readers come and go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) entries: usize,
    pub(crate) weight: u64,
    /// Of those who read.
    pub(crate) fences: Fences,
}

#[derive(Debug)]
struct Batch<O> {
    grace: Grace,
    ids: Vec<u32>,
    /// Buckets that have been replaced.
    others: Vec<O>,
}

/// Ids of unlinked entries, and other things that readers may still see.
#[derive(Debug)]
pub(crate) struct Limbo<O> {
    /// Of what gathers.
    limits: Limits,
    ids: Vec<u32>,
    weight: u64,
    others: Vec<O>,
    batches: VecDeque<Batch<O>>,
    looked_at: Vec<u32>,
    /// So many that gather make it worth looking whether anything is to be done.
    look_at: usize,
}

impl<O> Limbo<O> {
    pub(crate) const fn new(mut limits: Limits) -> Self {
        if let Fences::OfOthers(_) = limits.fences {
            // A batch waits for a barrier while the next one gathers.
            limits.entries = limits.entries.div_ceil(2);
            limits.weight = limits.weight.div_ceil(2);
        }
        Self {
            limits,
            ids: Vec::new(),
            weight: 0,
            others: Vec::new(),
            batches: VecDeque::new(),
            looked_at: Vec::new(),
            look_at: 0,
        }
    }

    /// Takes in an unlinked entry. Whether to look if anything is to be done.
    #[inline]
    pub(crate) fn push(&mut self, id: u32, weight: u64) -> bool {
        self.ids.push(id);
        self.weight = self.weight.saturating_add(weight);
        self.ids.len() >= self.look_at || self.weight >= self.limits.weight
    }

    /// Takes in something else.
    pub(crate) fn push_other(&mut self, other: O) {
        self.others.push(other);
    }

    /// Whether something else gathers.
    #[inline]
    pub(crate) const fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether enough has gathered for a batch.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.ids.len() >= self.limits.entries
            || self.weight >= self.limits.weight
            || !self.others.is_empty()
    }

    /// Whether a batch is due, or has become free. Looks for that only from time to time, unless
    /// many wait.
    pub(crate) fn wants_collect(&mut self) -> bool {
        if self.is_due() {
            self.look_at = LOOK_EVERY.min(self.limits.entries);
            return true;
        }
        if self.ids.len() < self.look_at {
            return false;
        }
        self.look_at = if self.is_crowded() { 0 } else { self.ids.len() + LOOK_EVERY };
        self.look_at = self.look_at.min(self.limits.entries);
        self.batches.front_mut().is_some_and(|batch| batch.grace.is_worth_a_look())
    }

    /// Whether batches wait.
    #[inline]
    pub(crate) fn has_batches(&self) -> bool {
        !self.batches.is_empty()
    }

    /// Whether so many batches wait that readers, who may have lost the processor in the middle of
    /// a lookup, should be let on.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.batches.len() > CROWD
    }

    /// Makes a batch of what has gathered.
    pub(crate) fn seal(&mut self, records: &[&'static Record]) {
        if self.ids.is_empty() && self.others.is_empty() {
            return;
        }
        self.weight = 0;
        // As large as the next one will be.
        let next = Vec::with_capacity(self.ids.len().min(self.limits.entries));
        let ids = std::mem::replace(&mut self.ids, next);
        let others = std::mem::take(&mut self.others);
        let grace = Grace::begin(self.limits.fences, records);
        self.batches.push_back(Batch { grace, ids, others });
    }

    /// Makes sure that everything in batches knows what readers it waits for; without `all`, what
    /// has seen another batch gather since, or is large.
    fn hurry(&mut self, records: &[&'static Record], all: bool) {
        let mut from_latest = self.batches.iter().rev().enumerate();
        let hurries =
            |(newer, batch): &(usize, &Batch<O>)| all || *newer > 0 || !batch.others.is_empty();
        if let Some((_, batch)) = from_latest.find(hurries) {
            // Its barrier serves those that are older as well.
            batch.grace.hurry();
        }
        self.batches.iter_mut().for_each(|batch| batch.grace.go_on(records));
    }

    /// Hands the entries that have become free to `free`; `address` says where one is. With `all`,
    /// makes every effort for those that have gone into batches.
    pub(crate) fn collect(
        &mut self,
        records: &[&'static Record],
        all: bool,
        address: impl Fn(u32) -> usize,
        mut free: impl FnMut(&[u32]),
    ) {
        self.hurry(records, all);
        while self.batches.front_mut().is_some_and(|batch| batch.grace.is_over()) {
            // After the end of the grace: what was looked at under it has been noted by now.
            let looks = looked_at(records);
            let Some(mut batch) = self.batches.pop_front() else { break };
            batch.ids.append(&mut self.looked_at);
            if !looks.is_empty() {
                let is_looked_at = |&mut id: &mut u32| looks.contains(&address(id));
                self.looked_at = batch.ids.extract_if(.., is_looked_at).collect();
            }
            free(&batch.ids);
        }
    }

    /// How many entries are here.
    pub(crate) fn len(&self) -> usize {
        let waiting: usize = self.batches.iter().map(|batch| batch.ids.len()).sum();
        self.ids.len() + waiting + self.looked_at.len()
    }
}
