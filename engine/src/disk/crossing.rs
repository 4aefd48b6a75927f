//! Waiting at the gate that keeps writers and batches of several processes apart (`gate.rs`).

use std::time::{Duration, Instant};

use super::gate::{Closed, Gate, Word};
use super::segment::Segment;
use super::share::{Share, process_lock};
use super::store::Store;
use super::together::Together;
use crate::error::{Error, Result};
use crate::sync::{Ordering, spin_loop};

/// How long a writer waits for a batch, until it opens the gate itself.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long a batch waits for writers that were stopped.
const PATIENCE_OF_BATCH: Duration = Duration::from_secs(60);
/// How often one looks before it sleeps.
const AWAKE: u32 = 200;

/// A gate that this process has closed for a batch.
#[derive(Debug)]
pub(super) struct Behind<'a> {
    share: &'a Share,
    gate: Closed<'a>,
}

impl Behind<'_> {
    /// Tells how the batch is made to count: by this word of this segment. Whether it may be; if not, it
    /// has to begin anew.
    pub(super) fn may_commit(&mut self, segment: &Segment, committed: u64) -> bool {
        let [id, end] = self.share.batch_end(self.share.me());
        // Relaxed: published by the change of the gate.
        id.store(segment.id(), Ordering::Relaxed);
        end.store(committed, Ordering::Relaxed);
        self.gate.may_commit()
    }
}

fn gate(share: &Share) -> Gate<'_> {
    Gate::new(share.batch())
}

impl Store {
    /// Whether no batch of another process is being written, for a writer that has said that it is
    /// under way.
    #[inline]
    pub(super) fn passes_gate(&self) -> bool {
        let Some(together) = &self.together else { return true };
        let share = &together.share;
        if share.has_news() {
            // Segments are gone: the maintenance lets go of them, so that their space comes back.
            self.upkeep.bell.ring();
        }
        gate(share).passes(share.me())
    }

    /// Waits until the gate is open. The caller is not under way.
    #[cold]
    pub(super) fn await_gate(&self) {
        let Some(together) = &self.together else { return };
        let gate = gate(&together.share);
        let first = gate.load();
        let started = Instant::now();
        for turn in 0_u32.. {
            let now = gate.load();
            if now == Word::OPEN || now != first {
                return;
            }
            if started.elapsed() >= PATIENCE {
                self.break_gate(together, now);
                return;
            }
            pause(turn);
        }
    }

    /// Brings the batch of a dead process to its end, if it was writing one. Before its segment is
    /// touched: from then on nobody else stores the committed word.
    pub(super) fn settle_gate(&self, together: &Together, dead: usize) {
        let word = gate(&together.share).load();
        if word != Word::OPEN && word.owner() == dead {
            self.break_gate(together, word);
        }
    }

    /// Opens a gate whose batch was stopped, or whose process died.
    fn break_gate(&self, together: &Together, word: Word) {
        let share = &together.share;
        if word.is_committing() {
            let [id, end] = share.batch_end(word.owner());
            // Acquire: read before the gate is looked at again. They are the batch's as long as it
            // says so.
            let (id, end) = (id.load(Ordering::Acquire), end.load(Ordering::Acquire));
            if gate(share).load() == word
                && let Some(segment) = self.all_live().get(&id)
            {
                segment.region().commit_for_owner(end);
            }
        }
        gate(share).break_open(word);
    }

    /// Numbers of the processes that live.
    fn living(&self, share: &Share) -> Vec<usize> {
        let lives = |number: &usize| {
            *number == share.me() || self.storage.is_locked(&process_lock(*number)).unwrap_or(true)
        };
        share.taken().filter(lives).collect()
    }

    /// Keeps writers of other processes away. The caller holds all lanes of this one.
    pub(super) fn close_gate(&self) -> Result<Option<Behind<'_>>> {
        let Some(together) = &self.together else { return Ok(None) };
        let share = &*together.share;
        let started = Instant::now();
        let closed = loop {
            // Relaxed: only distinctness counts.
            let count = self.file.next_seq().fetch_add(1, Ordering::Relaxed);
            if let Some(closed) = gate(share).close(Word::closed(share.me(), count)) {
                break closed;
            }
            self.await_gate();
        };
        for turn in 0_u32.. {
            let is_alone = match turn {
                0..AWAKE => closed.is_alone(share.all_in_flight()),
                // Who died over a change makes none any more. Its heir may wait for this very lane.
                _ => {
                    let alive = self.living(share);
                    closed.is_alone(alive.iter().flat_map(|number| share.in_flight_of(*number)))
                }
            };
            if is_alone {
                return Ok(Some(Behind { share, gate: closed }));
            }
            if started.elapsed() >= PATIENCE_OF_BATCH {
                break;
            }
            pause(turn);
        }
        Err(Error::Blocked { path: self.storage.root().to_owned() })
    }
}

fn pause(turn: u32) {
    match turn {
        0..AWAKE => spin_loop(),
        _ => std::thread::sleep(Duration::from_micros(100)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Disk;
    use super::super::maintenance::Maintenance;
    use crate::batch::{BatchOutcome, WriteBatch};
    use crate::engine::{Durability, Put};

    #[test]
    fn a_batch_waits_for_no_dead_writer() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let builder = Disk::builder(dir.path().join("store")).maintenance(Maintenance::Manual);
            builder.shared().open().unwrap()
        };
        let (dies, lives) = (open(), open());
        // It dies in the middle of a change, and nobody has taken over what it left.
        let lane = dies.store.lanes.acquire();
        let (_, in_flight) = lane.enter(dies.store.file.next_seq());
        std::mem::forget(in_flight);
        drop(lane);
        drop(dies);
        let mut batch = WriteBatch::new();
        batch.put(b"key", b"value", &Put::default());
        let outcome = lives.write(&batch, Durability::None).unwrap();
        assert!(matches!(outcome, BatchOutcome::Committed { .. }));
    }
}
