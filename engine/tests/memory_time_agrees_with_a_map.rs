//! Promise: with deadlines, times to idle, an expiry function, costs and pins, the tier finds what a
//! plain map with the same rules finds; with bounds it finds nothing else, but all that is pinned, and
//! refuses exactly what that leaves no room for. Each value is heard
//! of once. What one thread has missed no other finds.
//!
//! Method: random operations on both, with a clock that only the test moves, and `validate` after
//! each; then threads, while time goes on.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use larder_engine::memory::{Capacity, Cause, Keep, PolicyKind, Tier};
use larder_engine::{Clock, ManualClock};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Get(u8),
    GetWith(u8),
    GetMany(u8, u8),
    Peek(u8),
    Contains(u8),
    Hold(u8),
    Insert(u8, Said),
    Add(u8, Said),
    Pin(u8),
    Unpin(u8),
    Remove(u8),
    Take(u8),
    Retain,
    Purge,
    Clear,
    Wait(u64),
}

/// What an insert says: a weight, and what else there is.
#[derive(Debug, Clone, Copy)]
struct Said {
    weight: u64,
    ttl_ms: Option<u64>,
    idle_ms: Option<u64>,
    cost: u64,
}

fn said() -> impl Strategy<Value = Said> {
    let weight = prop_oneof![4 => 0..10_u64, 1 => 4_090..4_100_u64];
    let ttl_ms = prop::option::of(prop_oneof![0..20_u64, 0..500_u64]);
    let idle_ms = prop::option::of(prop_oneof![0..10_u64, 0..100_u64, Just(u64::MAX)]);
    (weight, ttl_ms, idle_ms, prop_oneof![Just(1), 0..u64::MAX])
        .prop_map(|(weight, ttl_ms, idle_ms, cost)| Said { weight, ttl_ms, idle_ms, cost })
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..12_u8;
    prop_oneof![
        6 => key().prop_map(Op::Get),
        2 => key().prop_map(Op::GetWith),
        2 => (key(), key()).prop_map(|(one, other)| Op::GetMany(one, other)),
        2 => key().prop_map(Op::Peek),
        2 => key().prop_map(Op::Contains),
        1 => key().prop_map(Op::Hold),
        10 => (key(), said()).prop_map(|(key, said)| Op::Insert(key, said)),
        4 => (key(), said()).prop_map(|(key, said)| Op::Add(key, said)),
        2 => key().prop_map(Op::Pin),
        1 => key().prop_map(Op::Unpin),
        1 => key().prop_map(Op::Remove),
        1 => key().prop_map(Op::Take),
        1 => Just(Op::Retain),
        1 => Just(Op::Purge),
        1 => Just(Op::Clear),
        8 => prop_oneof![0..4_u64, 0..60_u64].prop_map(Op::Wait),
    ]
}

/// A value: what it weighs, a number of its own, and how the expiry function is to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    number: u64,
    weight: u64,
}

fn expiry(value: &Value, now_ms: u64) -> u64 {
    if value.number.is_multiple_of(3) { now_ms + 1 + value.number % 30 } else { u64::MAX }
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    value: Value,
    expires_at_ms: u64,
    until_ms: u64,
    idle_ms: u64,
    is_pinned: bool,
}

/// A plain map with a rule for each entry.
#[derive(Default)]
struct Model(HashMap<u8, Kept>);

impl Model {
    fn peek(&self, key: u8, now_ms: u64) -> Option<Value> {
        self.0.get(&key).filter(|kept| now_ms < kept.expires_at_ms).map(|kept| kept.value)
    }

    fn get(&mut self, key: u8, now_ms: u64) -> Option<Value> {
        let found = self.peek(key, now_ms)?;
        let kept = self.0.get_mut(&key).unwrap();
        let moved_ms = now_ms.saturating_add(kept.idle_ms).min(kept.until_ms);
        kept.expires_at_ms = kept.expires_at_ms.max(moved_ms);
        Some(found)
    }

    fn is_pinned(&self, key: u8, now_ms: u64) -> bool {
        self.peek(key, now_ms).is_some() && self.0[&key].is_pinned
    }

    /// What the live entries weigh that are pinned, but for one key.
    fn pinned_but(&self, key: u8, now_ms: u64) -> u64 {
        let others = self.0.iter().filter(|&(&other, _)| other != key);
        let pinned = others.filter(|&(&other, _)| self.is_pinned(other, now_ms));
        pinned.map(|(_, kept)| kept.value.weight).sum()
    }
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    capacity: Capacity,
    policy: PolicyKind,
    idle_ms: Option<u64>,
    has_expiry: bool,
}

fn run(ops: &[Op], setting: Setting) -> Result<(), TestCaseError> {
    let Setting { capacity, policy, idle_ms, has_expiry } = setting;
    let begin_ms = 1_800_000_000_000;
    let clock = Arc::new(ManualClock::at(begin_ms));
    let heard = Arc::new(Mutex::new(BTreeMap::<u64, Vec<Cause>>::new()));
    let tell = Arc::clone(&heard);
    let mut tier = Tier::<u8, Value>::builder(capacity)
        .weigher(|_, value| value.weight)
        .policy(policy)
        .shards(2)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .listener(move |_, value, cause| {
            tell.lock().unwrap().entry(value.number).or_default().push(cause);
        });
    if let Some(idle_ms) = idle_ms {
        tier = tier.time_to_idle(Duration::from_millis(idle_ms));
    }
    if has_expiry {
        tier = tier.expiry(|_, value, now_ms| expiry(value, now_ms));
    }
    let tier = tier.build().unwrap();
    let mut model = Model::default();
    let mut number = 0;
    let is_bounded = capacity != Capacity::Unbounded;
    let limit = capacity.limit().unwrap_or(u64::MAX);
    for &op in ops {
        let now_ms = clock.now_ms();
        // What a bounded tier has lost stays lost.
        macro_rules! same {
            ($key:expr, $found:expr, $expected:expr) => {
                let (found, expected) = ($found, $expected);
                if is_bounded && found.is_none() {
                    prop_assert!(!model.is_pinned($key, now_ms), "pinned, and lost");
                    model.0.remove(&$key);
                } else {
                    prop_assert_eq!(found, expected);
                }
            };
        }
        match op {
            Op::Get(key) => {
                same!(key, tier.get(&key), model.get(key, now_ms));
            }
            Op::GetWith(key) => {
                same!(key, tier.get_with(&key, |&value| value), model.get(key, now_ms));
            }
            Op::GetMany(one, other) => {
                let found = tier.get_many([&one, &other]);
                same!(one, found[0], model.get(one, now_ms));
                same!(other, found[1], model.get(other, now_ms));
            }
            Op::Peek(key) => {
                same!(key, tier.peek(&key), model.peek(key, now_ms));
            }
            Op::Contains(key) => {
                same!(key, tier.contains(&key).then_some(()), model.peek(key, now_ms).map(|_| ()));
            }
            Op::Hold(key) => {
                same!(key, tier.hold_with(&key, |&value| value), model.peek(key, now_ms));
            }
            Op::Insert(key, said) | Op::Add(key, said) => {
                number += 1;
                let value = Value { number, weight: said.weight };
                let mut until_ms = said.ttl_ms.map_or(u64::MAX, |ttl_ms| now_ms + ttl_ms);
                let mut keep = Keep::until(until_ms).cost(said.cost);
                if let Some(idle_ms) = said.idle_ms {
                    keep = keep.idle(Duration::from_millis(idle_ms));
                }
                if has_expiry {
                    until_ms = until_ms.min(expiry(&value, now_ms));
                }
                let idle_ms = said.idle_ms.or(idle_ms).unwrap_or(u64::MAX);
                let expires_at_ms = now_ms.saturating_add(idle_ms).min(until_ms);
                let needed = if now_ms < expires_at_ms { said.weight } else { 0 };
                let fits = needed + model.pinned_but(key, now_ms) <= limit;
                let is_pinned = model.is_pinned(key, now_ms);
                let expected = model.peek(key, now_ms);
                let mut seen = None;
                let inserted = tier.insert_if_as(key, value, &keep, |current| {
                    seen = current.copied();
                    current.is_none() || matches!(op, Op::Insert(..))
                });
                prop_assert_eq!(inserted.is_ok(), fits);
                if fits {
                    prop_assert!(seen == expected || (is_bounded && seen.is_none() && !is_pinned));
                }
                if inserted.unwrap_or(false) {
                    prop_assert_eq!(tier.contains(&key), now_ms < expires_at_ms);
                    model
                        .0
                        .insert(key, Kept { value, expires_at_ms, until_ms, idle_ms, is_pinned });
                } else {
                    number -= 1;
                    prop_assert!(seen.is_some() || !fits);
                }
            }
            Op::Pin(key) => {
                same!(key, tier.pin(&key).then_some(()), model.peek(key, now_ms).map(|_| ()));
                if let Some(kept) = model.0.get_mut(&key) {
                    kept.is_pinned = true;
                }
            }
            Op::Unpin(key) => {
                prop_assert_eq!(tier.unpin(&key), model.is_pinned(key, now_ms));
                if let Some(kept) = model.0.get_mut(&key) {
                    kept.is_pinned = false;
                }
            }
            Op::Remove(key) => {
                same!(key, tier.remove(&key).then_some(()), model.peek(key, now_ms).map(|_| ()));
                model.0.remove(&key);
            }
            Op::Take(key) => {
                same!(key, tier.take(&key), model.peek(key, now_ms));
                model.0.remove(&key);
            }
            Op::Retain => {
                let removed = tier.retain(|_, value| value.number.is_multiple_of(2));
                let odd = |kept: &&Kept| now_ms < kept.expires_at_ms && kept.value.number % 2 == 1;
                prop_assert!(is_bounded || removed == model.0.values().filter(odd).count() as u64);
                model.0.retain(|_, kept| kept.value.number.is_multiple_of(2));
            }
            Op::Purge => {
                tier.purge_expired();
                prop_assert_eq!(tier.len(), tier.entries().len() as u64);
                model.0.retain(|_, kept| now_ms < kept.expires_at_ms);
                prop_assert!(is_bounded || tier.len() == model.0.len() as u64);
            }
            Op::Clear => {
                tier.clear();
                model.0.clear();
            }
            Op::Wait(ms) => clock.advance(ms),
        }
        prop_assert_eq!(tier.validate(), Ok(()));
    }
    tier.purge_expired();
    let mut left: Vec<u64> = Vec::new();
    for (key, value) in tier.entries() {
        prop_assert_eq!(model.peek(key, clock.now_ms()), Some(value));
        left.push(value.number);
    }
    // Every value is there, or was heard of, once.
    let heard = heard.lock().unwrap();
    prop_assert!(heard.values().all(|causes| causes.len() == 1));
    left.extend(heard.keys());
    left.sort_unstable();
    prop_assert_eq!(left, (1..=number).collect::<Vec<_>>());
    let expired = heard.values().filter(|causes| causes[0] == Cause::Expired).count();
    prop_assert_eq!(tier.stats().expired, expired as u64);
    Ok(())
}

fn setting(capacity: Capacity) -> impl Strategy<Value = Setting> {
    let policy = prop::sample::select(PolicyKind::ALL);
    (policy, prop::option::of(0..50_u64), any::<bool>()).prop_map(
        move |(policy, idle_ms, has_expiry)| Setting { capacity, policy, idle_ms, has_expiry },
    )
}

proptest! {
    #[test]
    fn without_bounds(
        ops in prop::collection::vec(op(), 0..120), setting in setting(Capacity::Unbounded),
    ) {
        run(&ops, setting)?;
    }

    #[test]
    fn with_bounds(
        ops in prop::collection::vec(op(), 0..120), setting in setting(Capacity::weight(5_000)),
    ) {
        run(&ops, setting)?;
    }
}

#[test]
fn what_one_thread_has_missed_no_other_finds() {
    const KEYS: usize = 256;
    let clock = Arc::new(ManualClock::at(1_000));
    let heard: Arc<[AtomicU64; KEYS]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    for round in 0..20 {
        let tell = Arc::clone(&heard);
        let tier = Tier::<usize, usize>::builder(Capacity::Unbounded)
            .shards(2)
            .time_to_idle(Duration::from_millis(3))
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .listener(move |&key, _, cause| {
                assert_eq!(cause, Cause::Expired);
                tell[key].fetch_add(1, Ordering::Relaxed);
            })
            .build()
            .unwrap();
        // No key is inserted again, so that a miss is for good.
        (0..KEYS).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
        let missed: [AtomicBool; KEYS] = std::array::from_fn(|_| AtomicBool::new(false));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..3 {
                let (tier, missed, done) = (&tier, &missed, &done);
                scope.spawn(move || {
                    let mut step = reader * 101;
                    while !done.load(Ordering::Relaxed) {
                        step += 7;
                        let key = step % KEYS;
                        let was_missed = missed[key].load(Ordering::Acquire);
                        let found = match step % 5 {
                            0 => tier.peek(&key),
                            1 => tier.get_with(&key, |&value| value),
                            _ => tier.get(&key),
                        };
                        assert!(!was_missed || found.is_none(), "key {key} came back");
                        if found.is_none() {
                            missed[key].store(true, Ordering::Release);
                        }
                    }
                });
            }
            for _ in 0..40 {
                clock.advance(1);
                tier.purge_expired();
                thread::yield_now();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(tier.validate(), Ok(()));
        clock.advance(3);
        tier.purge_expired();
        assert_eq!(tier.len(), 0);
        assert!(heard.iter().all(|count| count.load(Ordering::Relaxed) == round + 1));
    }
}

/// A clock that takes its time: what is asked for it may be out of date when it answers.
#[derive(Debug, Default)]
struct Slow(ManualClock);

impl Clock for Slow {
    fn now_ms(&self) -> u64 {
        thread::yield_now();
        self.0.now_ms()
    }
}

#[test]
fn a_key_that_is_replaced_in_time_is_never_missed() {
    let clock = Arc::new(Slow::default());
    let tier = Tier::<u64, u64>::builder(Capacity::items(8))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build()
        .unwrap();
    let insert = |step: u64| {
        // Packed, or not; live for two ms.
        let keep = Keep::until(clock.0.now_ms() + 2).cost(1 + step % 2);
        tier.insert_as(1, step, &keep).unwrap();
    };
    insert(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let seen = tier.get(&1).expect("it always has a value");
                    assert!(seen >= last, "{last}, then {seen}");
                    last = seen;
                    assert!(tier.contains(&1), "it always has a value");
                    assert!(tier.get_with(&1, |_| ()).is_some(), "it always has a value");
                }
            });
        }
        for step in 1..5_000 {
            insert(step);
            clock.0.advance(1);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn inserts_lookups_and_purges_at_once_lose_and_invent_nothing() {
    let clock = Arc::new(ManualClock::at(1_000));
    let (heard, inserted) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let tell = Arc::clone(&heard);
    let tier = Tier::<u64, (u64, u64)>::builder(Capacity::items(64))
        .shards(4)
        .expiry(
            |_, &(_, number), now_ms| if number.is_multiple_of(5) { now_ms + 2 } else { u64::MAX },
        )
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .listener(move |_, _, _| {
            tell.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (tier, clock, inserted) = (&tier, &clock, &inserted);
            scope.spawn(move || {
                for step in 0..6_000_u64 {
                    let key = (step * 31 + thread * 17) % 128;
                    match (step + thread) % 8 {
                        0 => clock.advance(1),
                        1 if step % 64 == 1 => drop(tier.purge_expired()),
                        1..4 => {
                            let keep = Keep::until(clock.now_ms() + step % 9);
                            let keep = keep.idle(Duration::from_millis(step % 4)).cost(step % 3);
                            tier.insert_as(key, (key, step), &keep).unwrap();
                            inserted.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => assert!(tier.get(&key).is_none_or(|(of, _)| of == key)),
                    }
                }
            });
        }
    });
    assert_eq!(tier.validate(), Ok(()));
    clock.advance(100);
    tier.purge_expired();
    assert_eq!((tier.len(), tier.weight()), (0, 0));
    let inserted = inserted.load(Ordering::Relaxed);
    assert_eq!((tier.stats().inserts, heard.load(Ordering::Relaxed)), (inserted, inserted));
}
