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

use super::readers::{Grace, Record, looked_at};

/// Entries that leave between two looks at the readers that a batch waits for.
const LOOK_EVERY: usize = 16;
/// Batches that may wait before writers give way to readers.
const CROWD: usize = 16;

/// How much may gather before it becomes a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) entries: usize,
    pub(crate) weight: u64,
}

#[derive(Debug)]
struct Batch<O> {
    grace: Grace,
    ids: Vec<u32>,
    /// Buckets that have been replaced.
    #[expect(dead_code, reason = "dropped with the batch")]
    others: Vec<O>,
}

/// Ids of unlinked entries, and other things that readers may still see.
#[derive(Debug)]
pub(crate) struct Limbo<O> {
    limits: Limits,
    ids: Vec<u32>,
    weight: u64,
    others: Vec<O>,
    batches: VecDeque<Batch<O>>,
    looked_at: Vec<u32>,
}

impl<O> Limbo<O> {
    pub(crate) const fn new(limits: Limits) -> Self {
        Self {
            limits,
            ids: Vec::new(),
            weight: 0,
            others: Vec::new(),
            batches: VecDeque::new(),
            looked_at: Vec::new(),
        }
    }

    /// Takes in an unlinked entry.
    pub(crate) fn push(&mut self, id: u32, weight: u64) {
        self.ids.push(id);
        self.weight = self.weight.saturating_add(weight);
    }

    /// Takes in something else.
    pub(crate) fn push_other(&mut self, other: O) {
        self.others.push(other);
    }

    /// Whether enough has gathered for a batch.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.ids.len() >= self.limits.entries
            || self.weight >= self.limits.weight
            || !self.others.is_empty()
    }

    /// Whether a batch has become free. Looks only from time to time.
    #[inline]
    pub(crate) fn is_worth_a_look(&mut self) -> bool {
        self.ids.len().is_multiple_of(LOOK_EVERY)
            && self.batches.front_mut().is_some_and(|batch| batch.grace.is_over())
    }

    /// Whether batches wait.
    pub(crate) fn has_batches(&self) -> bool {
        !self.batches.is_empty()
    }

    /// Whether so many batches wait that readers, who may have lost the processor in the middle of
    /// a lookup, should be let on.
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
        self.batches.push_back(Batch { grace: Grace::begin(records), ids, others });
    }

    /// Hands every entry that has become free to `free`; `address` says where it is.
    pub(crate) fn collect(
        &mut self,
        records: &[&'static Record],
        address: impl Fn(u32) -> usize,
        mut free: impl FnMut(u32),
    ) {
        let mut looks = None;
        while self.batches.front_mut().is_some_and(|batch| batch.grace.is_over()) {
            // After the end of the grace: what was looked at under it has been noted by now.
            let looks = looks.insert(looked_at(records));
            let Some(batch) = self.batches.pop_front() else { break };
            for id in std::mem::take(&mut self.looked_at).into_iter().chain(batch.ids) {
                if looks.contains(&address(id)) {
                    self.looked_at.push(id);
                } else {
                    free(id);
                }
            }
        }
    }

    /// How many entries are here.
    pub(crate) fn len(&self) -> usize {
        let waiting: usize = self.batches.iter().map(|batch| batch.ids.len()).sum();
        self.ids.len() + waiting + self.looked_at.len()
    }
}
