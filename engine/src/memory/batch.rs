//! Several changes of a memory engine as one.
//!
//! All keys are held still meanwhile, so that what a batch expects stays as it was found, and so that
//! an engine that evicts nothing knows before the first change whether there is room for the last.
//! Readers are not held up, and see the changes one after the other.

use super::engine::{Memory, check, weight_of};
use crate::batch::{BatchOutcome, WriteBatch};
use crate::engine::{Batched, Durability, Outcome, Rejection};
use crate::error::Result;

impl Batched for Memory {
    fn write(&self, batch: &WriteBatch, _: Durability) -> Result<BatchOutcome> {
        self.open()?;
        let changes = batch.last_changes();
        changes.iter().try_for_each(|change| check(&change.key))?;
        let _still = self.still();
        for (key, expected) in &batch.expected {
            let version = self.tier.peek_with(&key[..], |value| value.meta().version);
            if !expected.is_met_by(version) {
                return Ok(BatchOutcome::Conflict { key: key.clone(), version });
            }
        }
        let puts = changes.iter().filter_map(|change| Some((&change.key, change.put.as_ref()?)));
        let needed = puts.map(|(key, put)| weight_of(key.len(), put.value.len())).sum();
        if let Some(why) = self.lacks(needed, || {
            // Not what the batch removes: that may go after something has come.
            let weigh =
                |key: &[u8]| self.tier.peek_with(key, |old| weight_of(key.len(), old.len()));
            let puts = changes.iter().filter(|change| change.put.is_some());
            puts.filter_map(|change| weigh(&change.key)).sum()
        }) {
            return Ok(BatchOutcome::Rejected(why));
        }
        let mut first = None;
        for change in changes {
            let Some(put) = &change.put else {
                self.tier.remove(&change.key[..]);
                continue;
            };
            match self.store(&change.key, &put.value, put.codec, self.deadline_ms(put.ttl)) {
                Outcome::Admitted { version } => first = first.or(Some(version)),
                // Nothing was done before the first; later ones have their room.
                Outcome::Rejected(why) if first.is_none() => {
                    return Ok(BatchOutcome::Rejected(why));
                }
                Outcome::Rejected(_) | Outcome::Conflict { .. } | Outcome::Blocked => {}
            }
        }
        Ok(BatchOutcome::Committed { version: first.unwrap_or_default() })
    }
}

impl Memory {
    /// Why there is no room for so much in place of so much. Nothing may change meanwhile.
    fn lacks(&self, needed: u64, replaced: impl FnOnce() -> u64) -> Option<Rejection> {
        let budget = self.budget_bytes;
        if needed > budget {
            return Some(match budget {
                0 => Rejection::Disabled,
                limit => Rejection::TooLarge { weight: needed, limit },
            });
        }
        if !self.keeps_all || needed <= budget.saturating_sub(self.tier.weight()) {
            return None;
        }
        // Closer: what it replaces goes, and so does what has expired.
        let others = || self.tier.weight().saturating_sub(replaced());
        self.tier.purge_expired();
        (needed > budget.saturating_sub(others())).then_some(Rejection::Full { needed, budget })
    }
}
