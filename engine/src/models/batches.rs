//! Models of batches: what is pending counts from one moment on, everywhere.

use std::sync::Arc;

use larder_format::{Committed, SlotState};
use loom::thread;

use super::Model;
use super::rig::{Key, Log, Pages, Turn, generation};
use crate::disk::committed::CommittedWord;
use crate::disk::index::{Generation, Verdict};
use crate::disk::lookup::lookup;
use crate::sync::AtomicU64;

/// Two indexes with a key each, and records in one log, of which those from `BATCH` on count
/// once the word says so.
struct Shared {
    log: Log,
    slots: [Generation<Pages>; 2],
    committed: AtomicU64,
}

/// The number of the batch's first record.
const BATCH: u64 = 3;

impl Shared {
    fn new() -> Self {
        let turn = Arc::new(Turn::default());
        let slots = [generation(0, &turn), generation(0, &turn)];
        let shared = Self { log: Log::new(), slots, committed: AtomicU64::new(0) };
        for (seq, slots) in (1..).zip(&shared.slots) {
            shared.log.put(slots, Key::A, seq, SlotState::Value);
        }
        shared
    }

    fn judge(&self, slot: larder_format::Slot) -> Verdict<()> {
        let is_of_batch = slot.offset() / larder_format::layout::UNIT >= BATCH as usize;
        if is_of_batch && CommittedWord::new(&self.committed).load().entries == 0 {
            return Verdict::Other;
        }
        self.log.judge(Key::A, slot)
    }

    /// The number of the key's value in one of the indexes, and whether it is the batch's.
    fn is_new(&self, index: usize) -> bool {
        let slots = &self.slots[index];
        let found = lookup(|| slots, Key::A.hash(), |slot| self.judge(slot));
        found.expect("the key is there all the time").seq >= BATCH
    }

    /// Writes a batch of both keys, as the store does.
    fn write(&self) {
        for (seq, slots) in (BATCH..).zip(&self.slots) {
            let slot = self.log.append(Key::A, seq, SlotState::Value);
            let survey = slots.survey(Key::A.hash(), |slot| self.judge(slot)).0.expect("not moved");
            slots.insert_pending(slot, &survey).expect("there is a free place");
        }
        let committed = Committed { tail_units: 1, entries: 1 };
        CommittedWord::new(&self.committed).advance(committed);
        for slots in &self.slots {
            let survey = slots.survey(Key::A.hash(), |slot| self.judge(slot)).0.expect("not moved");
            assert!(survey.current.is_some_and(|current| current.seq >= BATCH));
        }
    }
}

/// A batch of two keys is written while they are read: a reader that has seen one of it sees
/// the other as well, and misses neither key at any time.
pub(super) const WRITE_AND_LOOKUP: Model = Model::new(3, || {
    let shared = Arc::new(Shared::new());
    let writer = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.write())
    };
    let second = shared.is_new(1);
    let first = shared.is_new(0);
    assert!(first || !second, "half a batch was seen");
    writer.join().unwrap();
    for index in 0..2 {
        assert!(shared.is_new(index));
        assert_eq!(super::rig::values(&shared.slots[index]), 1, "one slot for each key");
    }
});

#[test]
fn a_batch_is_seen_as_a_whole() {
    WRITE_AND_LOOKUP.check();
}
