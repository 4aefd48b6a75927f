//! Models of the gate: a batch and a writer of two processes.

use std::sync::Arc;

use loom::thread;

use super::Model;
use super::rig::Plain;
use crate::disk::gate::{Gate, Word};
use crate::disk::in_flight::{WriterWord, enter};
use crate::sync::AtomicU64;

const BATCH: usize = 1;
const WRITER: usize = 2;

/// A gate, one writer, and what both change.
struct Shared {
    gate: AtomicU64,
    next_seq: AtomicU64,
    writer: WriterWord,
    changed: Plain,
}

impl Shared {
    fn new() -> Arc<Self> {
        let (gate, next_seq) = (AtomicU64::new(0), AtomicU64::new(1));
        Arc::new(Self { gate, next_seq, writer: WriterWord::new(), changed: Plain::new() })
    }

    /// Changes a key, unless a batch is in the way.
    fn write(&self) -> bool {
        let (_, in_flight) = enter(self.writer.word(), &self.next_seq);
        let passes = Gate::new(&self.gate).passes(WRITER);
        if passes {
            self.changed.write();
        }
        drop(in_flight);
        passes
    }

    /// Writes a batch, unless a writer is in the way.
    fn batch(&self, count: u64) -> bool {
        let Some(mut closed) = Gate::new(&self.gate).close(Word::closed(BATCH, count)) else {
            return false;
        };
        let alone = closed.is_alone([self.writer.word()].into_iter());
        if alone {
            self.changed.write();
        }
        alone && closed.may_commit()
    }
}

/// A writer and a batch meet: they never change something at once, and each sees what the other did
/// before.
pub(super) const WRITE_AND_BATCH: Model = Model::new(4, || {
    let shared = Shared::new();
    let writer = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || (shared.write(), shared.write()))
    };
    shared.batch(1);
    writer.join().unwrap();
    assert!(shared.write(), "the gate is open in the end");
});

/// Two batches meet: one of them finds the gate closed, or comes after the other.
pub(super) const BATCH_AND_BATCH: Model = Model::new(4, || {
    let shared = Shared::new();
    let other = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.batch(1))
    };
    let one = shared.batch(2);
    assert!(other.join().unwrap() || one, "one of them is written");
});

/// A writer that has waited enough opens the gate: the batch either counts, or knows that it does not.
pub(super) const BREAK_AND_BATCH: Model = Model::new(4, || {
    let shared = Shared::new();
    let breaker = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let gate = Gate::new(&shared.gate);
            let word = gate.load();
            let breaks = word != Word::OPEN && !word.is_committing();
            if breaks {
                gate.break_open(word);
            }
            (breaks, gate.load() == word)
        })
    };
    let committed = shared.batch(1);
    let (broke, stood) = breaker.join().unwrap();
    assert!(!committed || !broke || !stood, "a gate that was opened is not gone through");
    assert!(Gate::new(&shared.gate).load() == Word::OPEN, "nobody is kept away for good");
});

#[test]
fn a_writer_and_a_batch_keep_apart() {
    WRITE_AND_BATCH.check();
}

#[test]
fn two_batches_keep_apart() {
    BATCH_AND_BATCH.check();
}

#[test]
fn a_gate_that_was_opened_is_not_gone_through() {
    BREAK_AND_BATCH.check();
}
