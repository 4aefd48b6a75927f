//! Models of a segment: bytes below the committed word are whole, and appenders follow each
//! other.

use std::sync::Arc;

use larder_format::Committed;
use loom::thread;

use super::Model;
use super::rig::{Plain, Turn};
use crate::disk::committed::{AppendRight, CommittedWord};
use crate::sync::AtomicU64;

/// A segment of three units.
struct Segment {
    units: [Plain; 3],
    word: AtomicU64,
    right: AppendRight,
    turn: Turn,
}

impl Segment {
    fn new() -> Arc<Self> {
        let units = std::array::from_fn(|_| Plain::new());
        let word = AtomicU64::new(committed(0).to_bits());
        Arc::new(Self { units, word, right: AppendRight::new(), turn: Turn::default() })
    }

    fn committed(&self) -> usize {
        self.turn.take();
        CommittedWord::new(&self.word).load().tail_units as usize
    }

    /// Writes the next unit and commits it, if nobody else is at it. The count from then on.
    fn append(&self) -> Option<usize> {
        if !self.right.take() {
            return None;
        }
        let at = self.committed();
        self.units[at].write();
        self.turn.take();
        CommittedWord::new(&self.word).advance(committed(at + 1));
        self.right.give_back();
        Some(at + 1)
    }

    /// Reads all that is committed.
    fn read(&self) -> usize {
        let count = self.committed();
        self.units[..count].iter().for_each(Plain::read);
        count
    }
}

fn committed(units: usize) -> Committed {
    let tail_units = u32::try_from(units).expect("a small number");
    Committed { tail_units, entries: 0 }
}

/// A reader meets an appender: whatever is committed it sees whole, and it is never less than
/// before.
pub(super) const COMMIT_AND_READ: Model = Model::new(4, || {
    let segment = Segment::new();
    let appender = {
        let segment = Arc::clone(&segment);
        thread::spawn(move || (segment.append(), segment.append()))
    };
    let (first, second) = (segment.read(), segment.read());
    assert!(first <= second, "what was committed stays so");
    assert_eq!(appender.join().unwrap(), (Some(1), Some(2)));
    assert_eq!(segment.read(), 2);
});

/// One appender follows another: it goes on where the other stopped, and never writes what
/// is committed.
pub(super) const HAND_OVER: Model = Model::new(4, || {
    let segment = Segment::new();
    let other = {
        let segment = Arc::clone(&segment);
        thread::spawn(move || (segment.append(), segment.read()).0)
    };
    let mine = segment.append();
    let theirs = other.join().unwrap();
    assert!(mine.is_some() || theirs.is_some());
    assert_ne!(mine, theirs);
    assert_eq!(segment.read(), mine.max(theirs).unwrap());
});

#[test]
fn committed_bytes_are_whole() {
    COMMIT_AND_READ.check();
}

#[test]
fn an_appender_goes_on_where_the_last_one_stopped() {
    HAND_OVER.check();
}
