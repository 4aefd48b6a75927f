//! What may be found: of each key, what is known of its past.

use std::collections::{BTreeMap, BTreeSet};

use larder_engine::{Disk, Engine};

use crate::script::{Job, KEYS, Op, Stamp, THREADS, key, stamp};

/// States that a key has had since the last that is durable, which comes first. `None`: no value.
type Past = Vec<Option<Stamp>>;

/// How many operations of a thread have ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Finished {
    /// Until the power was cut.
    pub(crate) returned: u64,
    /// As far as anybody knows; one more may have begun.
    pub(crate) heard_of: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pasts: BTreeMap<(usize, u8), Past>,
    /// Batches of the last life.
    batches: Vec<(Stamp, Vec<u8>)>,
}

impl Ledger {
    /// Notes what the threads of a child did.
    pub(crate) fn lived(&mut self, job: &Job, finished: &[Finished]) {
        self.batches.clear();
        for (thread, finished) in finished.iter().enumerate() {
            // One more may have been under way.
            for (number, op) in (0..=finished.heard_of).zip(job.script(thread)) {
                self.note(job, thread, number, &op, number < finished.returned);
            }
        }
    }

    fn note(&mut self, job: &Job, thread: usize, number: u64, op: &Op, returned: bool) {
        let of = (job.life, thread, number);
        for (key, is_put) in op.changes() {
            self.past(thread, key).push(is_put.then_some(of));
        }
        if let Op::Batch { keys, .. } = op {
            self.batches.push((of, keys.clone()));
        }
        let durable: Vec<u8> = match op {
            _ if !returned => Vec::new(),
            Op::Put { key, durable: true } => vec![*key],
            Op::Batch { keys, durable: true } => keys.clone(),
            Op::Sync => (0..KEYS).collect(),
            _ => Vec::new(),
        };
        for key in durable {
            let past = self.past(thread, key);
            past.drain(..past.len() - 1);
        }
    }

    fn past(&mut self, thread: usize, key: u8) -> &mut Past {
        self.pasts.entry((thread, key)).or_insert_with(|| vec![None])
    }

    /// Compares, and goes on with what is there. How many values that are.
    pub(crate) fn check(&mut self, disk: &Disk, roomy: bool) -> Result<u64, String> {
        let mut here: BTreeMap<(usize, u8), Option<usize>> = BTreeMap::new();
        let mut count = 0;
        for (thread, of) in (0..THREADS).flat_map(|thread| (0..KEYS).map(move |of| (thread, of))) {
            let got = disk.get(&key(thread, of)).map_err(|error| error.to_string())?;
            let found = match &got {
                None => None,
                Some(bytes) => Some(stamp(bytes, of).ok_or_else(|| {
                    format!("{thread}/{of} is torn or foreign: {:?}", &bytes[..32])
                })?),
            };
            count += u64::from(found.is_some());
            let past = self.past(thread, of);
            let at = past.iter().rposition(|&state| state == found);
            if at.is_none() && (found.is_some() || roomy) {
                return Err(format!("{thread}/{of} is {found:?}; it may be one of {past:?}"));
            }
            here.insert((thread, of), at);
        }
        if roomy {
            self.batches_are_whole(&here)?;
        }
        for (of, at) in here {
            let past = self.pasts.entry(of).or_default();
            // What is there was read from the disk. What was evicted may be there once more: that
            // its segment went is not durable at once.
            if let Some(at) = at.filter(|&at| roomy || past[at].is_some()) {
                *past = vec![past[at]];
            }
        }
        Ok(count)
    }

    /// Of no batch one change is there, and of another one something older.
    fn batches_are_whole(&self, here: &BTreeMap<(usize, u8), Option<usize>>) -> Result<(), String> {
        for (of, keys) in &self.batches {
            let (mut with, mut without) = (BTreeSet::new(), BTreeSet::new());
            for &key in keys {
                let Some(past) = self.pasts.get(&(of.1, key)) else { continue };
                // Older states than a durable one are not known any more, nor matter.
                let Some(batch_at) = past.iter().position(|&state| state == Some(*of)) else {
                    continue;
                };
                match here.get(&(of.1, key)).copied().flatten() {
                    Some(at) if at == batch_at => with.insert(key),
                    Some(at) if at < batch_at => without.insert(key),
                    _ => false,
                };
            }
            if !with.is_empty() && !without.is_empty() {
                return Err(format!(
                    "of the batch {of:?}, {with:?} are there and {without:?} are not"
                ));
            }
        }
        Ok(())
    }
}
