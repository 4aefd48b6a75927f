//! Models of the group commit: who is told that its record is durable finds it on the disk.

use std::sync::Arc;

use larder_format::Committed;
use loom::sync::Mutex;
use loom::thread;

use super::Model;
use super::rig::{Plain, Turn};
use crate::disk::committed::CommittedWord;
use crate::disk::group::{Group, Sight, Synced};
use crate::sync::AtomicU64;

/// Records of a model.
const RECORDS: usize = 3;

/// A file of a few records, of which the system has some in its cache, and the disk others.
struct Log {
    records: [Plain; RECORDS],
    word: AtomicU64,
    /// Held to append; how many records there are.
    lane: Mutex<usize>,
    group: Group,
    turn: Turn,
    system: std::sync::Mutex<Kept>,
}

/// What the store cannot see. No other thread of a model runs while it is looked at.
#[derive(Default)]
struct Kept {
    /// Records that were written so far.
    written: usize,
    /// Records that a sync wrote, or gave up.
    synced: [bool; RECORDS],
    lost: [bool; RECORDS],
    /// Syncs from now until one fails; none does without.
    fails_in: Option<usize>,
}

impl Log {
    fn new(fails_in: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            records: std::array::from_fn(|_| Plain::new()),
            word: AtomicU64::new(committed(0).to_bits()),
            lane: Mutex::new(0),
            group: Group::new(committed(0).to_bits()),
            turn: Turn::default(),
            system: std::sync::Mutex::new(Kept { fails_in, ..Kept::default() }),
        })
    }

    fn system(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.system.lock().expect("nobody panics with it")
    }

    fn seen(&self) -> Committed {
        self.turn.take();
        CommittedWord::new(&self.word).load()
    }

    /// Appends a record, and says which it is.
    fn append(&self) -> usize {
        let mut lane = self.lane.lock().expect("nobody panics with it");
        let number = *lane;
        self.records[number].write();
        self.system().written = number + 1;
        self.turn.take();
        CommittedWord::new(&self.word).advance(committed(number + 1));
        *lane = number + 1;
        number
    }

    /// What the system does: what was written before it began is on the disk afterwards; or it
    /// fails, and takes for clean what is not.
    fn sync_file(&self) -> Result<(), ()> {
        // What the caller relies on is what it has seen to be written.
        let seen = self.seen().tail_units as usize;
        self.records[..seen].iter().for_each(Plain::read);
        let written = self.system().written;
        // Others go on meanwhile.
        self.turn.take();
        thread::yield_now();
        let mut kept = self.system();
        let fails = kept.fails_in == Some(0);
        kept.fails_in = kept.fails_in.and_then(|left| left.checked_sub(1));
        for number in 0..written {
            if fails {
                kept.lost[number] |= !kept.synced[number];
            } else {
                kept.synced[number] |= !kept.lost[number];
            }
        }
        if fails { Err(()) } else { Ok(()) }
    }

    /// Waits for the disk. Whether the store says that it has all.
    fn sync(&self) -> bool {
        let look = || Sight { committed: self.seen().to_bits(), is_sealed: false };
        let synced = self.group.sync(look, |_| (), || self.sync_file(), |_| ());
        matches!(synced, Synced::Already | Synced::Now(..))
    }

    /// A durable put: nobody is told so whose record is not on the disk.
    fn put(&self) -> bool {
        let number = self.append();
        let told = self.sync();
        let is_there = self.system().synced[number];
        assert!(!told || is_there, "record {number} is said to be durable");
        told
    }
}

fn committed(records: usize) -> Committed {
    let tail_units = u32::try_from(records).expect("a small number");
    Committed { tail_units, entries: 0 }
}

/// Writers append and wait together; the first of them comes back with another record.
fn put_and_put(fails_in: Option<usize>) {
    let log = Log::new(fails_in);
    let other = {
        let log = Arc::clone(&log);
        thread::spawn(move || log.put())
    };
    let mine = [log.put(), log.put()];
    let theirs = other.join().unwrap();
    if fails_in.is_none() {
        assert!(mine == [true; 2] && theirs, "nothing failed");
    }
    if fails_in == Some(0) {
        assert!(mine == [false; 2] && !theirs, "nothing is believed after a failure");
    }
}

/// No sync fails: all are told, and all is there.
pub(super) const PUT_AND_PUT: Model = Model::new(3, || put_and_put(None));

/// The first one fails, and later ones succeed without what it gave up.
pub(super) const FAIL_AND_PUT: Model = Model::new(3, || put_and_put(Some(0)));

/// The second one fails.
pub(super) const PUT_AND_FAIL: Model = Model::new(3, || put_and_put(Some(1)));

/// Three writers at once, one record each.
pub(super) const PUT_THREE: Model = Model::new(2, || {
    let log = Log::new(None);
    let others = [(); 2].map(|()| {
        let log = Arc::clone(&log);
        thread::spawn(move || log.put())
    });
    let mine = log.put();
    assert!(others.map(|other| other.join().unwrap()) == [true; 2] && mine);
});

#[test]
fn who_is_told_that_a_record_is_durable_finds_it_on_the_disk() {
    PUT_AND_PUT.check();
    PUT_THREE.check();
}

#[test]
fn a_sync_that_failed_is_never_believed_again() {
    FAIL_AND_PUT.check();
    PUT_AND_FAIL.check();
}
