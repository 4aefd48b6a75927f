//! Several threads on few keys: what they saw is recorded and has to have one explanation.
//!
//! Every value says whose and which it is, in its first bytes and in all that follow, so
//! that a torn or foreign value shows on sight. What was old or dead shows in the history.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use super::history::{self, Event, What};
use super::random::{Random, Ticks, expand};
use super::report::{Stop, Verdict, ensure};
use super::trial::{LASTING, Trial, show};
use super::{Harness, Plan};
use crate::engine::{Engine, Outcome};

/// Operations of a thread in a round.
const STEPS: usize = 250;
/// Bytes of a value that name its key and number.
const NAME_LEN: usize = 16;

pub(super) fn run(harness: &dyn Harness, plan: &Plan) -> Verdict {
    let trial = Trial::new(harness)?;
    for round in 0..u64::try_from(plan.rounds).unwrap_or(0) {
        let mut random = Random::new(plan.seed.wrapping_add(round));
        let scene = Scene {
            engine: trial.engine(),
            ticks: Ticks::default(),
            round,
            key_count: *random.pick(&[1, 2, 5]),
            put_percent: *random.pick(&[10, 30, 60]),
            len_max: trial.liberties.admits_len,
        };
        play(&scene, plan, trial.liberties.may_evict)?;
    }
    Ok(())
}

/// A round: its engine and its habits.
struct Scene<'a> {
    engine: &'a dyn Engine,
    ticks: Ticks,
    round: u64,
    key_count: u64,
    put_percent: usize,
    len_max: usize,
}

/// What one thread did and saw.
#[derive(Default)]
struct Record {
    /// By key, in the order done.
    events: BTreeMap<u64, Vec<Event>>,
    /// Number and version of each value of a key that was put.
    put: Vec<(u64, u64, u64)>,
    /// The same of each that was seen.
    seen: Vec<(u64, u64, u64)>,
}

/// Plays a round and checks what was recorded.
fn play(scene: &Scene<'_>, plan: &Plan, may_evict: bool) -> Verdict {
    let barrier = Barrier::new(plan.threads);
    let mut records: Vec<Record> = thread::scope(|scope| {
        let actors: Vec<_> = (0..u64::try_from(plan.threads).unwrap_or(0))
            .map(|actor| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    act(scene, actor, plan.seed)
                })
            })
            .collect();
        let joined = actors.into_iter().map(|actor| {
            actor.join().unwrap_or_else(|_| Err(Stop::Broken("a thread panicked".to_owned())))
        });
        joined.collect::<Verdict<_>>()
    })?;
    records.push(look_back(scene)?);
    let put: BTreeMap<_, _> =
        records.iter().flat_map(|record| &record.put).map(|&(key, n, v)| ((key, n), v)).collect();
    for &(key, number, version) in records.iter().flat_map(|record| &record.seen) {
        let due = put.get(&(key, number));
        ensure!(
            due == Some(&version),
            "value {number:#x} of key {key} was put as version {due:?}, and seen as {version}"
        );
    }
    for key in 0..scene.key_count {
        let of_key = |record: &mut Record| record.events.remove(&key).unwrap_or_default();
        let threads: Vec<_> = records.iter_mut().map(of_key).collect();
        history::check(&threads, may_evict).map_err(|unexplained| {
            let around = around(&threads, &unexplained.pending);
            Stop::Broken(format!("round {}, key {key}: {unexplained}{around}", scene.round))
        })?;
    }
    Ok(())
}

/// What happened shortly before the operations that do not fit, in order of calling.
fn around(threads: &[Vec<Event>], pending: &[(usize, Event)]) -> String {
    const LINES: usize = 40;
    let first = pending.iter().map(|(_, event)| event.called).min().unwrap_or(0);
    let mut all: Vec<(usize, &Event)> =
        (0..).zip(threads).flat_map(|(n, e)| e.iter().map(move |e| (n, e))).collect();
    all.sort_by_key(|(_, event)| event.called);
    let until = all.partition_point(|(_, event)| event.called <= first) + LINES / 4;
    let shown = &all[until.saturating_sub(LINES).min(all.len())..until.min(all.len())];
    let line = |(thread, event): &(usize, &Event)| {
        let Event { called, returned, what } = event;
        format!("\n    thread {thread} [{called}, {returned}] {what:?}")
    };
    shown.iter().map(line).collect()
}

/// What is there once all threads are done; and that all ways of asking agree.
fn look_back(scene: &Scene<'_>) -> Verdict<Record> {
    let mut record = Record::default();
    for key in 0..scene.key_count {
        scene.get(key, &mut record)?;
        scene.version(key, &mut record)?;
    }
    // In this order: what is evicted meanwhile was counted.
    let len = scene.engine.len();
    let listed = scene.list(&mut record)?;
    ensure!(len >= listed, "{listed} entries are listed, len says {len}");
    Ok(record)
}

fn act(scene: &Scene<'_>, actor: u64, seed: u64) -> Verdict<Record> {
    let mut random = Random::new(seed ^ (scene.round << 32) ^ (actor << 16));
    let mut record = Record::default();
    for step in 0..u64::try_from(STEPS).unwrap_or(0) {
        let key = random.next_u64() % scene.key_count;
        if random.chance(scene.put_percent) {
            let len = NAME_LEN
                + match random.below(20) {
                    0 => 40_000,
                    1..5 => random.below(9_000),
                    _ => random.below(100),
                };
            let number = (actor << 32) | step;
            scene.put(key, number, len.min(scene.len_max), &mut record)?;
        } else {
            match random.below(100) {
                0..60 => scene.get(key, &mut record)?,
                60..75 => scene.remove(key, &mut record)?,
                75..85 => scene.version(key, &mut record)?,
                85..95 => scene.contains(key, &mut record)?,
                95..98 => drop(scene.list(&mut record)?),
                98 => scene.clear(&mut record)?,
                _ => thread::yield_now(),
            }
        }
    }
    Ok(record)
}

/// One recorded operation each.
impl Scene<'_> {
    fn key(&self, key: u64) -> Vec<u8> {
        format!("round {} key {key}", self.round).into_bytes()
    }

    fn value(&self, key: u64, number: u64, len: usize) -> Vec<u8> {
        let mut value = expand(number ^ (key << 48) ^ self.round, len);
        value[..8].copy_from_slice(&key.to_le_bytes());
        value[8..NAME_LEN].copy_from_slice(&number.to_le_bytes());
        value
    }

    /// The number of a value; an error if it is not one of this key, or not whole.
    fn number(&self, key: u64, value: &[u8]) -> Verdict<u64> {
        let number = value.get(8..NAME_LEN).map_or([0; 8], |b| b.try_into().unwrap_or_default());
        let number = u64::from_le_bytes(number);
        ensure!(
            value.len() >= NAME_LEN && self.value(key, number, value.len()) == value,
            "key {key} has what was never put there: {}",
            show(value)
        );
        Ok(number)
    }

    fn put(&self, key: u64, number: u64, len: usize, record: &mut Record) -> Verdict {
        let value = self.value(key, number, len);
        let called = self.ticks.next();
        let outcome = self.engine.put(&self.key(key), &value, &LASTING)?;
        let Outcome::Admitted { version } = outcome else {
            return Err(Stop::Broken(format!("a put of {len} bytes was refused: {outcome:?}")));
        };
        record.put.push((key, number, version));
        self.returned(record, key, called, What::Put(version));
        Ok(())
    }

    fn get(&self, key: u64, record: &mut Record) -> Verdict {
        let called = self.ticks.next();
        let found = self.engine.get(&self.key(key))?;
        let version = found.as_ref().map(|value| value.meta().version);
        self.returned(record, key, called, What::Saw(version));
        if let Some(value) = found {
            record.seen.push((key, self.number(key, &value)?, value.meta().version));
        }
        Ok(())
    }

    fn remove(&self, key: u64, record: &mut Record) -> Verdict {
        let called = self.ticks.next();
        let removed = self.engine.remove(&self.key(key))?;
        self.returned(record, key, called, What::Removed(removed));
        Ok(())
    }

    fn version(&self, key: u64, record: &mut Record) -> Verdict {
        let called = self.ticks.next();
        let version = self.engine.version(&self.key(key))?;
        self.returned(record, key, called, What::Saw(version));
        Ok(())
    }

    fn contains(&self, key: u64, record: &mut Record) -> Verdict {
        let called = self.ticks.next();
        let contains = self.engine.contains(&self.key(key))?;
        let what = if contains { What::SawSome } else { What::Saw(None) };
        self.returned(record, key, called, what);
        Ok(())
    }

    fn clear(&self, record: &mut Record) -> Verdict {
        let called = self.ticks.next();
        self.engine.clear()?;
        let returned = self.ticks.next();
        for key in 0..self.key_count {
            let event = Event { called, returned, what: What::Cleared };
            record.events.entry(key).or_default().push(event);
        }
        Ok(())
    }

    /// Lists everything; how many entries that were. An entry was seen at some moment of the
    /// listing; that one was not listed says nothing, as it may have come or gone meanwhile.
    fn list(&self, record: &mut Record) -> Verdict<u64> {
        let keys: BTreeMap<_, _> = (0..self.key_count).map(|key| (self.key(key), key)).collect();
        let called = self.ticks.next();
        let mut found = Vec::new();
        let mut listed = 0;
        for entry in self.engine.iter() {
            let (key, value) = entry?;
            listed += 1;
            found.extend(keys.get(&key).map(|&key| (key, value)));
        }
        // One moment for all: a later one than each entry's own only widens its interval.
        let returned = self.ticks.next();
        for (key, value) in found {
            let version = value.meta().version;
            let event = Event { called, returned, what: What::Saw(Some(version)) };
            record.events.entry(key).or_default().push(event);
            record.seen.push((key, self.number(key, &value)?, version));
        }
        Ok(listed)
    }

    fn returned(&self, record: &mut Record, key: u64, called: u64, what: What) {
        let event = Event { called, returned: self.ticks.next(), what };
        record.events.entry(key).or_default().push(event);
    }
}
