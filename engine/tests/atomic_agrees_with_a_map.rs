//! Promise: any sequence of changes that read and write, batches, invalidations, deadlines and
//! openings leaves what a plain map would hold.
//! Method: random sequences, the same in every run and shrunk where they fail, against a map
//! with a clock; every key is compared after every step.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{
    Atomic, BatchOutcome, Disk, Durability, Engine, Error, Expected, ManualClock, Outcome, Put,
    Ttl, WriteBatch,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

const KEYS: u8 = 6;
const TAGS: [&[u8]; 3] = [b"red", b"redder", b""];
const NEVER: u64 = u64::MAX;

/// A value to put.
#[derive(Debug, Clone)]
struct Given {
    fill: u8,
    len: usize,
    ttl_ms: Option<u64>,
    /// Which of the tags it carries, as bits.
    tags: u8,
    durable: bool,
}

/// What a change expects of a key.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Absent,
    Right,
    Older,
    Newer,
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, Given),
    PutIf(u8, Given, Expect),
    AddTo { key: u8, by: i64, initial: Option<i64>, given: Given },
    Take(u8),
    Touch(u8, Option<u64>),
    Remove(u8),
    Batch { changes: Vec<(u8, Option<Given>)>, expected: Vec<(u8, Expect)>, durable: bool },
    Invalidate(usize),
    Wait(u64),
    Open { distrust: bool, close: bool },
}

fn any_given() -> impl Strategy<Value = Given> {
    // Numbers, small ones, and some that get a file of their own.
    let len = prop_oneof![6 => Just(8_usize), 6 => 0..200_usize, 1 => 8_000..12_000_usize];
    let ttl = prop::option::weighted(0.3, 0..60_u64);
    (any::<u8>(), len, ttl, 0..8_u8, prop::bool::weighted(0.1))
        .prop_map(|(fill, len, ttl_ms, tags, durable)| Given { fill, len, ttl_ms, tags, durable })
}

fn any_expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        2 => Just(Expect::Absent),
        3 => Just(Expect::Right),
        1 => Just(Expect::Older),
        1 => Just(Expect::Newer),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    let by = prop_oneof![8 => -5..5_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    let change = (key(), prop::option::weighted(0.7, any_given()));
    let changes = prop::collection::vec(change, 0..5);
    let expected = prop::collection::vec((key(), any_expect()), 0..2);
    prop_oneof![
        4 => (key(), any_given()).prop_map(|(key, given)| Op::Put(key, given)),
        4 => (key(), any_given(), any_expect())
            .prop_map(|(key, given, expect)| Op::PutIf(key, given, expect)),
        4 => (key(), by, prop::option::of(-9..9_i64), any_given())
            .prop_map(|(key, by, initial, given)| Op::AddTo { key, by, initial, given }),
        2 => key().prop_map(Op::Take),
        3 => (key(), prop::option::weighted(0.8, 0..60_u64))
            .prop_map(|(key, ttl_ms)| Op::Touch(key, ttl_ms)),
        2 => key().prop_map(Op::Remove),
        4 => (changes, expected, prop::bool::weighted(0.1))
            .prop_map(|(changes, expected, durable)| Op::Batch { changes, expected, durable }),
        1 => (0..TAGS.len()).prop_map(Op::Invalidate),
        3 => (0..40_u64).prop_map(Op::Wait),
        1 => any::<(bool, bool)>().prop_map(|(distrust, close)| Op::Open { distrust, close }),
    ]
}

impl Given {
    fn bytes(&self) -> Vec<u8> {
        (0..self.len).map(|at| self.fill.wrapping_add(u8::try_from(at % 251).unwrap())).collect()
    }

    fn tags(&self) -> Vec<&'static [u8]> {
        (0..TAGS.len()).filter(|tag| self.tags >> tag & 1 == 1).map(|tag| TAGS[tag]).collect()
    }

    fn ttl(&self) -> Ttl {
        ttl(self.ttl_ms)
    }

    fn durability(&self) -> Durability {
        if self.durable { Durability::Sync } else { Durability::None }
    }

    fn options<'a>(&self, tags: &'a [&'a [u8]]) -> Put<'a> {
        Put { ttl: self.ttl(), durability: self.durability(), tags, ..Put::default() }
    }
}

fn ttl(ms: Option<u64>) -> Ttl {
    ms.map_or(Ttl::Never, |ms| Ttl::After(Duration::from_millis(ms)))
}

fn name(key: u8) -> Vec<u8> {
    vec![b'k'; usize::from(key) + 1]
}

/// What a key has in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    bytes: Vec<u8>,
    deadline: u64,
    tags: Vec<&'static [u8]>,
    version: u64,
}

/// A store, and the map that it is compared with.
struct Pair {
    dir: TempDir,
    /// Nothing only while it is opened again.
    disk: Option<Disk>,
    clock: Arc<ManualClock>,
    now: u64,
    map: BTreeMap<u8, Entry>,
    /// The highest version that any key has had.
    newest: u64,
}

fn open(dir: &TempDir, clock: &Arc<ManualClock>, distrust: bool) -> Disk {
    let builder = Disk::builder(dir.path().join("store")).budget(8 << 20).segment_len(64 << 10);
    let builder = builder.writers(2).clock(clock.clone());
    if distrust { builder.distrust() } else { builder }.open().unwrap()
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = 1_000_000;
        let clock = Arc::new(ManualClock::at(now));
        let disk = Some(open(&dir, &clock, false));
        Self { dir, disk, clock, now, map: BTreeMap::new(), newest: 0 }
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    fn deadline(&self, ttl_ms: Option<u64>) -> u64 {
        ttl_ms.map_or(NEVER, |ms| self.now + ms)
    }

    /// The live entry of a key.
    fn live(&self, key: u8) -> Option<&Entry> {
        self.map.get(&key).filter(|entry| self.now < entry.deadline)
    }

    fn version(&self, key: u8) -> Option<u64> {
        self.live(key).map(|entry| entry.version)
    }

    fn expected(&self, key: u8, expect: Expect) -> Expected {
        let version = self.version(key);
        match (expect, version) {
            (Expect::Absent, _) | (Expect::Right, None) => Expected::Absent,
            (Expect::Right, Some(version)) => Expected::Version(version),
            (Expect::Older, version) => Expected::Version(version.unwrap_or(self.newest) - 1),
            (Expect::Newer, version) => Expected::Version(version.unwrap_or(self.newest) + 1),
        }
    }

    fn set(&mut self, key: u8, given: &Given, version: u64) {
        let (bytes, tags) = (given.bytes(), given.tags());
        self.map.insert(key, Entry { bytes, deadline: self.deadline(given.ttl_ms), tags, version });
    }

    /// Takes over the version of a value that the store has changed by itself.
    fn renew(&mut self, key: u8) {
        if let Some(version) = self.disk().version(&name(key)).unwrap() {
            assert!(version > self.newest, "a version comes again");
            self.newest = version;
            self.map.get_mut(&key).unwrap().version = version;
        }
    }

    fn note_put(&mut self, key: u8, given: &Given, outcome: Outcome, is_met: bool) {
        let now = self.version(key);
        match outcome {
            Outcome::Admitted { version } => {
                assert!(is_met && version > self.newest, "{outcome:?}");
                self.newest = version;
                self.set(key, given, version);
            }
            Outcome::Conflict { version } => assert!(!is_met && version == now, "{outcome:?}"),
            Outcome::Rejected(_) | Outcome::Blocked => panic!("{outcome:?}"),
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Put(key, given) => {
                let tags = given.tags();
                let put = given.options(&tags);
                let outcome = self.disk().put(&name(*key), &given.bytes(), &put).unwrap();
                self.note_put(*key, given, outcome, true);
            }
            Op::PutIf(key, given, expect) => {
                let tags = given.tags();
                let (put, expected) = (given.options(&tags), self.expected(*key, *expect));
                let bytes = given.bytes();
                let outcome = self.disk().put_if(&name(*key), &bytes, &put, expected).unwrap();
                self.note_put(*key, given, outcome, expected.is_met_by(self.version(*key)));
            }
            Op::AddTo { key, by, initial, given } => self.add_to(*key, *by, *initial, given),
            Op::Take(key) => {
                let taken = self.disk().take(&name(*key)).unwrap();
                let expected = self.live(*key).map(|entry| entry.bytes.clone());
                assert_eq!(taken.map(|value| value.to_vec()), expected);
                self.map.remove(key);
            }
            Op::Touch(key, ttl_ms) => {
                let touched = self.disk().touch(&name(*key), ttl(*ttl_ms)).unwrap();
                assert_eq!(touched, self.live(*key).is_some());
                let deadline = self.deadline(*ttl_ms);
                if touched && self.live(*key).unwrap().deadline != deadline {
                    self.map.get_mut(key).unwrap().deadline = deadline;
                    self.renew(*key);
                }
            }
            Op::Remove(key) => {
                assert_eq!(self.disk().remove(&name(*key)).unwrap(), self.live(*key).is_some());
                self.map.remove(key);
            }
            Op::Batch { changes, expected, durable } => self.batch(changes, expected, *durable),
            Op::Invalidate(tag) => {
                self.disk().invalidate_tag(TAGS[*tag]).unwrap();
                self.map.retain(|_, entry| !entry.tags.contains(&TAGS[*tag]));
            }
            Op::Wait(ms) => {
                self.clock.advance(*ms);
                self.now += ms;
            }
            Op::Open { distrust, close } => self.open(*distrust, *close),
        }
    }

    fn add_to(&mut self, key: u8, by: i64, initial: Option<i64>, given: &Given) {
        let tags = given.tags();
        let sum = self.disk().add_to(&name(key), by, initial, &given.options(&tags));
        let Some(live) = self.live(key) else {
            let expected = initial.map(|initial| initial.checked_add(by));
            match expected {
                None => assert_eq!(sum.unwrap(), None),
                Some(None) => assert!(matches!(sum, Err(Error::Overflow { .. })), "{sum:?}"),
                Some(Some(expected)) => {
                    assert_eq!(sum.unwrap(), Some(expected));
                    self.set(key, given, 0);
                    self.map.get_mut(&key).unwrap().bytes = expected.to_le_bytes().to_vec();
                    self.renew(key);
                }
            }
            return;
        };
        let Ok(number) = <[u8; 8]>::try_from(&*live.bytes) else {
            assert!(matches!(sum, Err(Error::NotANumber { len }) if len == live.bytes.len()));
            return;
        };
        match i64::from_le_bytes(number).checked_add(by) {
            None => assert!(matches!(sum, Err(Error::Overflow { .. })), "{sum:?}"),
            Some(expected) => {
                assert_eq!(sum.unwrap(), Some(expected));
                self.map.get_mut(&key).unwrap().bytes = expected.to_le_bytes().to_vec();
                self.renew(key);
            }
        }
    }

    fn batch(&mut self, changes: &[(u8, Option<Given>)], expects: &[(u8, Expect)], durable: bool) {
        let mut batch = WriteBatch::new();
        let mut conflict = None;
        for (key, expect) in expects {
            let expected = self.expected(*key, *expect);
            batch.expect(&name(*key), expected);
            let version = self.version(*key);
            if conflict.is_none() && !expected.is_met_by(version) {
                conflict = Some(BatchOutcome::Conflict { key: name(*key), version });
            }
        }
        for (key, given) in changes {
            match given {
                Some(given) => {
                    batch.put(&name(*key), &given.bytes(), &given.options(&given.tags()))
                }
                None => batch.remove(&name(*key)),
            };
        }
        let durability = if durable { Durability::Sync } else { Durability::None };
        let outcome = self.disk().write(&batch, durability).unwrap();
        if let Some(conflict) = conflict {
            assert_eq!(outcome, conflict);
            return;
        }
        let BatchOutcome::Committed { version } = outcome else { panic!("{outcome:?}") };
        assert!(version > self.newest, "a version comes again");
        for (key, given) in changes {
            match given {
                Some(given) => self.set(*key, given, 0),
                None => drop(self.map.remove(key)),
            }
        }
        let before = self.newest;
        let disk = self.disk.as_ref().unwrap();
        for (key, entry) in &mut self.map {
            if entry.version == 0
                && let Some(given) = disk.version(&name(*key)).unwrap()
            {
                assert!(given >= version && given > before, "{given} in {outcome:?}");
                entry.version = given;
                self.newest = self.newest.max(given);
            }
        }
    }

    fn open(&mut self, distrust: bool, close: bool) {
        if close {
            self.disk().close().unwrap();
        }
        self.disk = None;
        self.disk = Some(open(&self.dir, &self.clock, distrust));
    }

    fn check(&self) {
        for key in 0..KEYS {
            let found = self.disk().get(&name(key)).unwrap();
            let found = found.map(|value| {
                let meta = *value.meta();
                (value.to_vec(), meta.expires_at_ms, meta.version)
            });
            let expected = self.live(key);
            let expected = expected.map(|e| (e.bytes.clone(), e.deadline, e.version));
            assert_eq!(found, expected, "key {key}");
        }
    }

    fn check_whole(&self) {
        let mut walked: Vec<_> = self.disk().iter().map(|entry| entry.unwrap().0).collect();
        walked.sort();
        let live = || (0..KEYS).filter(|key| self.live(*key).is_some());
        assert!(walked.iter().eq(live().map(name).collect::<Vec<_>>().iter()), "{walked:?}");
        for tag in TAGS {
            let mut tagged = self.disk().keys_by_tag(tag).unwrap();
            tagged.sort();
            let expected = live().filter(|key| self.live(*key).unwrap().tags.contains(&tag));
            assert_eq!(tagged, expected.map(name).collect::<Vec<_>>(), "tag {tag:?}");
        }
        let report = self.disk().verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

#[test]
fn any_sequence_of_atomic_changes_is_what_a_map_does() {
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]);
    let ops = prop::collection::vec(any_op(), 1..160);
    let ran = TestRunner::new_with_rng(config, rng).run(&ops, |ops| {
        let mut pair = Pair::new();
        for op in &ops {
            pair.run(op);
            pair.check();
        }
        pair.check_whole();
        pair.open(true, false);
        pair.check();
        pair.check_whole();
        Ok(())
    });
    ran.unwrap();
}
