//! Promise: what was inserted under a tag, or into a namespace, is gone for everybody from the
//! moment that this is invalidated, and nothing else is; keys of different namespaces never meet; and
//! whatever leaves is told once.
//!
//! Method: random operations against plain maps, over names that are prefixes of each other and
//! keys that are equal everywhere; then threads that insert, invalidate and look up, where each
//! says when it began and ended.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use larder_engine::memory::{Capacity, Cause, Keep, Namespace, PolicyKind, Tier};
use proptest::prelude::*;

/// Some are prefixes of others, and two are namespaces as well.
const TAGS: [&str; 5] = ["", "a", "ab", "abc", "b"];
const SPACES: [Option<&str>; 4] = [None, Some(""), Some("a"), Some("ab")];

#[derive(Debug, Clone)]
enum Op {
    Get(usize, u8),
    Insert { space: usize, key: u8, tags: Vec<usize>, pinned: bool },
    Add { space: usize, key: u8, tags: Vec<usize> },
    Remove(usize, u8),
    Take(usize, u8),
    Unpin(usize, u8),
    InvalidateTag(usize),
    InvalidateSpace(usize),
    KeysOf(usize, usize),
    Iterate(usize),
    Drain(usize),
    Purge,
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..6_u8;
    let space = || 0..SPACES.len();
    let tag = || 0..TAGS.len();
    let tags = || prop::collection::vec(0..TAGS.len(), 0..4);
    prop_oneof![
        8 => (space(), key()).prop_map(|(space, key)| Op::Get(space, key)),
        12 => (space(), key(), tags(), prop::bool::weighted(0.1))
            .prop_map(|(space, key, tags, pinned)| Op::Insert { space, key, tags, pinned }),
        3 => (space(), key(), tags()).prop_map(|(space, key, tags)| Op::Add { space, key, tags }),
        2 => (space(), key()).prop_map(|(space, key)| Op::Remove(space, key)),
        2 => (space(), key()).prop_map(|(space, key)| Op::Take(space, key)),
        2 => (space(), key()).prop_map(|(space, key)| Op::Unpin(space, key)),
        3 => tag().prop_map(Op::InvalidateTag),
        1 => space().prop_map(Op::InvalidateSpace),
        2 => (space(), tag()).prop_map(|(space, tag)| Op::KeysOf(space, tag)),
        1 => space().prop_map(Op::Iterate),
        1 => (0..3_usize).prop_map(Op::Drain),
        1 => Just(Op::Purge),
        1 => Just(Op::Clear),
    ]
}

/// The tier's own methods, and a namespace's.
enum Keys<'a> {
    Plain(&'a Tier<u8, u64>),
    Spaced(Namespace<'a, u8, u64>),
}

impl<'a> Keys<'a> {
    fn of(tier: &'a Tier<u8, u64>, space: usize) -> Self {
        SPACES[space].map_or(Self::Plain(tier), |name| Self::Spaced(tier.namespace(name)))
    }

    fn get(&self, key: u8) -> Option<u64> {
        match self {
            Self::Plain(tier) => tier.get(&key),
            Self::Spaced(space) => space.get(&key),
        }
    }

    fn insert(&self, key: u8, value: u64, keep: &Keep<'_>) -> bool {
        match self {
            Self::Plain(tier) => tier.insert_as(key, value, keep).is_ok(),
            Self::Spaced(space) => space.insert_as(key, value, keep).is_ok(),
        }
    }

    fn add(&self, key: u8, value: u64, keep: &Keep<'_>) -> bool {
        match self {
            Self::Plain(tier) => tier.add(key, value, keep).is_ok_and(|added| added),
            Self::Spaced(space) => space.add(key, value, keep).is_ok_and(|added| added),
        }
    }

    fn remove(&self, key: u8) -> bool {
        match self {
            Self::Plain(tier) => tier.remove(&key),
            Self::Spaced(space) => space.remove(&key),
        }
    }

    fn take(&self, key: u8) -> Option<u64> {
        match self {
            Self::Plain(tier) => tier.take(&key),
            Self::Spaced(space) => space.take(&key),
        }
    }

    fn unpin(&self, key: u8) -> bool {
        match self {
            Self::Plain(tier) => tier.unpin(&key),
            Self::Spaced(space) => space.unpin(&key),
        }
    }

    fn keys_of(&self, tag: &str) -> HashSet<u8> {
        let keys = match self {
            Self::Plain(tier) => tier.keys_of(tag),
            Self::Spaced(space) => space.keys_of(tag),
        };
        let set: HashSet<u8> = keys.iter().copied().collect();
        assert_eq!(set.len(), keys.len());
        set
    }

    fn all(&self) -> HashMap<u8, u64> {
        match self {
            Self::Plain(tier) => tier.iter().collect(),
            Self::Spaced(space) => space.iter().collect(),
        }
    }
}

/// A value, its tags, and whether it is pinned; by namespace and key.
#[derive(Default)]
struct Model(HashMap<(usize, u8), (u64, Vec<usize>, bool)>);

impl Model {
    fn value(&self, space: usize, key: u8) -> Option<u64> {
        self.0.get(&(space, key)).map(|entry| entry.0)
    }

    fn all(&self, space: usize, tag: Option<usize>) -> HashMap<u8, u64> {
        let here = self.0.iter().filter(|(at, _)| at.0 == space);
        let here = here.filter(|(_, entry)| tag.is_none_or(|tag| entry.1.contains(&tag)));
        here.map(|(at, entry)| (at.1, entry.0)).collect()
    }
}

fn run(ops: &[Op], capacity: Capacity, policy: PolicyKind) -> Result<(), TestCaseError> {
    let heard: Arc<Mutex<HashMap<u64, Cause>>> = Arc::default();
    let tell = Arc::clone(&heard);
    let listener = move |_: &u8, &value: &u64, cause| {
        assert_eq!(tell.lock().unwrap().insert(value, cause), None, "told twice");
    };
    let tier = Tier::builder(capacity).policy(policy).shards(4).listener(listener);
    let tier = tier.build().unwrap();
    let mut model = Model::default();
    let bounded = capacity != Capacity::Unbounded;
    let (mut numbers, mut inserted, mut invalidated) = (0.., HashSet::new(), HashSet::new());
    for op in ops {
        match op {
            &Op::Get(space, key) => {
                let (found, expected) = (Keys::of(&tier, space).get(key), model.value(space, key));
                prop_assert!(found == expected || (bounded && found.is_none()));
            }
            Op::Insert { space, key, tags, .. } | Op::Add { space, key, tags } => {
                let pinned = matches!(op, Op::Insert { pinned: true, .. });
                let names: Vec<&str> = tags.iter().map(|&tag| TAGS[tag]).collect();
                let value = numbers.next().unwrap();
                let keep = Keep::default().tags(&names);
                let keep = if pinned { keep.pinned() } else { keep };
                let keys = Keys::of(&tier, *space);
                let done = if let Op::Add { .. } = op {
                    let done = keys.add(*key, value, &keep);
                    prop_assert!(done == model.value(*space, *key).is_none() || bounded);
                    done
                } else {
                    let done = keys.insert(*key, value, &keep);
                    prop_assert!(done || bounded);
                    done
                };
                if done {
                    inserted.insert(value);
                    prop_assert_eq!(Keys::of(&tier, *space).get(*key), Some(value));
                    let old = model.0.get(&(*space, *key)).is_some_and(|entry| entry.2);
                    model.0.insert((*space, *key), (value, tags.clone(), pinned || old));
                }
            }
            &Op::Remove(space, key) => {
                let removed = Keys::of(&tier, space).remove(key);
                let expected = model.0.remove(&(space, key)).is_some();
                prop_assert!(removed == expected || (bounded && !removed));
            }
            &Op::Take(space, key) => {
                let taken = Keys::of(&tier, space).take(key);
                let expected = model.0.remove(&(space, key)).map(|entry| entry.0);
                prop_assert!(taken == expected || (bounded && taken.is_none()));
            }
            &Op::Unpin(space, key) => {
                let entry = model.0.get_mut(&(space, key));
                let expected = entry.is_some_and(|entry| std::mem::take(&mut entry.2));
                prop_assert_eq!(Keys::of(&tier, space).unpin(key), expected);
            }
            &Op::InvalidateTag(tag) => {
                tier.invalidate_tag(TAGS[tag]);
                model.0.retain(|_, (value, tags, _)| {
                    let dies = tags.contains(&tag);
                    invalidated.extend(dies.then_some(*value));
                    !dies
                });
            }
            &Op::InvalidateSpace(space) => {
                let Some(name) = SPACES[space] else { continue };
                tier.invalidate_namespace(name);
                model.0.retain(|at, (value, ..)| {
                    let dies = at.0 == space;
                    invalidated.extend(dies.then_some(*value));
                    !dies
                });
            }
            &Op::KeysOf(space, tag) => {
                let found = Keys::of(&tier, space).keys_of(TAGS[tag]);
                let expected: HashSet<u8> = model.all(space, Some(tag)).into_keys().collect();
                prop_assert!(found == expected || (bounded && found.is_subset(&expected)));
            }
            &Op::Iterate(space) => {
                let (found, expected) = (Keys::of(&tier, space).all(), model.all(space, None));
                prop_assert!(found == expected || bounded);
                prop_assert!(found.iter().all(|(key, value)| expected.get(key) == Some(value)));
            }
            &Op::Drain(count) => {
                for (key, value) in tier.drain(count) {
                    let entry = model.0.remove(&(0, key));
                    prop_assert!(entry.is_some_and(|entry| entry.0 == value && !entry.2));
                }
            }
            Op::Purge => drop(tier.purge()),
            Op::Clear => {
                tier.clear();
                model.0.clear();
            }
        }
        // What is pinned is there, even where all else may have been evicted.
        for (&(space, key), &(value, _, pinned)) in &model.0 {
            prop_assert!(!pinned || Keys::of(&tier, space).get(key) == Some(value));
        }
        prop_assert_eq!(tier.validate(), Ok(()));
    }
    tier.purge();
    let heard = heard.lock().unwrap();
    prop_assert_eq!(tier.stats().inserts, inserted.len() as u64);
    prop_assert_eq!(inserted.len() as u64, heard.len() as u64 + tier.len());
    for (value, cause) in heard.iter() {
        prop_assert!(inserted.contains(value));
        if invalidated.contains(value) {
            // Unless it was evicted before, or on its way out.
            prop_assert!(*cause == Cause::Invalidated || (bounded && *cause == Cause::Capacity));
        }
    }
    prop_assert!(
        tier.len() == model.0.len() as u64 || (bounded && tier.len() < model.0.len() as u64)
    );
    Ok(())
}

proptest! {
    #[test]
    fn without_bounds(
        ops in prop::collection::vec(op(), 0..150), policy in prop::sample::select(PolicyKind::ALL),
    ) {
        run(&ops, Capacity::Unbounded, policy)?;
    }

    #[test]
    fn with_bounds(
        ops in prop::collection::vec(op(), 0..150), policy in prop::sample::select(PolicyKind::ALL),
        items in 1..20_u64,
    ) {
        run(&ops, Capacity::items(items), policy)?;
    }
}

/// Invalidations that have begun, and that have ended.
#[derive(Default)]
struct Times {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Times {
    fn invalidate(&self, invalidate: impl FnOnce()) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        invalidate();
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

const NOT_YET: u64 = u64::MAX;

fn slot(slots: &[AtomicU64], number: u64) -> &AtomicU64 {
    &slots[usize::try_from(number).unwrap()]
}

#[test]
fn nobody_finds_later_what_was_inserted_before_an_invalidation() {
    const INSERTS: u64 = 12_000;
    for (space, capacity) in [
        (None, Capacity::Unbounded),
        (Some("users"), Capacity::Unbounded),
        (None, Capacity::items(6)),
    ] {
        let heard: Arc<Mutex<HashMap<u64, Cause>>> = Arc::default();
        let tell = Arc::clone(&heard);
        let listener = move |_: &u64, &value: &u64, cause| {
            assert_eq!(tell.lock().unwrap().insert(value, cause), None, "told twice");
        };
        let tier = Tier::builder(capacity).shards(2).listener(listener).build().unwrap();
        let times = Times::default();
        // By number of the insert: how many invalidations had begun when it returned.
        let returned: Vec<_> = (0..2 * INSERTS).map(|_| AtomicU64::new(NOT_YET)).collect();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let (tier, times, returned, done) = (&tier, &times, &returned, &done);
            let inserters: Vec<_> = (0..2)
                .map(|thread| {
                    scope.spawn(move || {
                        let names = tier.namespace(space.unwrap_or_default());
                        for number in thread * INSERTS..(thread + 1) * INSERTS {
                            // Nobody else inserts these keys.
                            let key = number % 6 * 2 + thread;
                            let keep = Keep::default().tags(&["all", "some"]);
                            let before = times.begun.load(Ordering::SeqCst);
                            let ended = times.ended.load(Ordering::SeqCst);
                            let found = match space {
                                None => {
                                    tier.insert_as(key, number, &keep).unwrap();
                                    slot(returned, number).store(
                                        times.begun.load(Ordering::SeqCst),
                                        Ordering::SeqCst,
                                    );
                                    tier.get(&key)
                                }
                                Some(_) => {
                                    names.insert(key, number, u64::MAX).unwrap();
                                    slot(returned, number).store(
                                        times.begun.load(Ordering::SeqCst),
                                        Ordering::SeqCst,
                                    );
                                    names.get(&key)
                                }
                            };
                            let after = times.begun.load(Ordering::SeqCst);
                            if before == after && ended == before && capacity == Capacity::Unbounded
                            {
                                assert_eq!(found, Some(number), "it was not invalidated");
                            }
                            assert!(found.is_none_or(|found| found == number));
                        }
                    })
                })
                .collect();
            scope.spawn(move || {
                for turn in 0_u64.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    times.invalidate(|| match (space, turn % 2) {
                        (Some(name), _) => tier.invalidate_namespace(name),
                        (None, 0) => tier.invalidate_tag("all"),
                        (None, _) => tier.invalidate_tag("some"),
                    });
                    for _ in 0..turn % 50 {
                        std::hint::spin_loop();
                    }
                    if turn % 64 == 0 {
                        tier.purge();
                    }
                }
            });
            scope.spawn(move || {
                let names = tier.namespace(space.unwrap_or_default());
                let mut key = 0;
                while !done.load(Ordering::Relaxed) {
                    key = (key + 1) % 12;
                    let ended = times.ended.load(Ordering::SeqCst);
                    let found = match space {
                        None if key % 3 == 0 => tier.peek(&key),
                        None => tier.get(&key),
                        Some(_) => names.get(&key),
                    };
                    let Some(number) = found else { continue };
                    let returned = slot(returned, number).load(Ordering::SeqCst);
                    assert!(
                        returned == NOT_YET || ended <= returned,
                        "insert {number} returned before invalidation {} began, which had ended \
                         when it was looked for: {ended} had",
                        returned + 1
                    );
                }
            });
            inserters.into_iter().for_each(|inserter| inserter.join().unwrap());
            done.store(true, Ordering::Relaxed);
        });
        tier.invalidate_tag("all");
        tier.invalidate_namespace("users");
        assert_eq!((tier.validate(), tier.entries()), (Ok(()), Vec::new()));
        tier.purge();
        assert_eq!((tier.len(), tier.weight(), tier.validate()), (0, 0, Ok(())));
        let (stats, heard) = (tier.stats(), heard.lock().unwrap().clone());
        let count = |cause| heard.values().filter(|&&other| other == cause).count() as u64;
        assert_eq!((stats.inserts, heard.len() as u64), (2 * INSERTS, 2 * INSERTS));
        assert_eq!(stats.removes, count(Cause::Invalidated));
        assert_eq!(stats.evictions, count(Cause::Capacity));
        assert_eq!(stats.expired, 0);
    }
}

#[test]
fn what_was_invalidated_gives_room_before_what_is_live() {
    for &policy in PolicyKind::ALL {
        let tier = Tier::<u32, ()>::builder(Capacity::items(100)).policy(policy).shards(1);
        let tier = tier.build().unwrap();
        for key in 0..100 {
            let tags: &[&str] = if key % 2 == 0 { &["even"] } else { &[] };
            tier.insert_as(key, (), &Keep::default().tags(tags)).unwrap();
        }
        tier.invalidate_tag("even");
        assert_eq!(tier.len(), 100, "nobody has looked");
        (100..150).for_each(|key| tier.insert(key, (), u64::MAX).unwrap());
        let live = (0..150).filter(|key| tier.contains(key)).count();
        assert_eq!((live, tier.len(), tier.stats().evictions), (100, 100, 0), "{policy}");
        assert_eq!((tier.stats().removes, tier.purge()), (50, 0));
        assert_eq!(tier.validate(), Ok(()));
    }
}

#[test]
fn what_is_pinned_and_invalidated_gives_its_room() {
    let tier = Tier::<u32, ()>::builder(Capacity::items(64)).shards(8).build().unwrap();
    let space = tier.namespace("pinned");
    let keep = Keep::default().tags(&["mine"]).pinned();
    (0..64).for_each(|key| space.insert_as(key, (), &keep).unwrap());
    assert!(space.is_pinned(&0) && !tier.is_pinned(&0) && !tier.pin(&0));
    assert!(tier.insert(0, (), u64::MAX).is_err());
    tier.invalidate_tag("mine");
    assert_eq!(tier.pinned_weight(), 64, "nobody has looked");
    (0..64).for_each(|key| tier.insert(key, (), u64::MAX).unwrap());
    assert_eq!((tier.len(), tier.pinned_weight(), tier.stats().evictions), (64, 0, 0));
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn the_tier_goes_by_plain_keys_and_clears_all() {
    let tier = Tier::<u32, &str>::builder(Capacity::items(100)).shards(1).build().unwrap();
    let space = tier.namespace("other");
    tier.insert(1, "plain", u64::MAX).unwrap();
    space.insert(1, "spaced", u64::MAX).unwrap();
    space.insert(2, "spaced", u64::MAX).unwrap();
    assert_eq!((tier.get(&2), space.get(&2)), (None, Some("spaced")));
    assert_eq!((tier.entries(), tier.coldest(9)), (vec![(1, "plain")], vec![(1, "plain")]));
    assert_eq!(tier.hottest(9), tier.entries());
    assert_eq!((tier.retain(|_, _| false), tier.len()), (1, 2));
    assert_eq!(tier.drain(9), []);
    assert_eq!(space.iter().map(|(key, _)| key).sum::<u32>(), 3);
    assert!(space.clone().contains(&1) && tier.namespace("other").contains(&1));
    assert!(space.insert_if_as(1, "new", &Keep::default(), |old| old == Some(&"spaced")).unwrap());
    assert_eq!(space.hold_with(&1, |value| value.len()), Some(3));
    assert_eq!((tier.clear(), space.contains(&1), tier.len()), (2, false, 0));
    // A handle outlives what it named, and so does its name.
    space.insert(1, "again", u64::MAX).unwrap();
    tier.invalidate_namespace("other");
    assert_eq!((space.get(&1), tier.namespace("other").get(&1)), (None, None));
    assert_eq!(tier.validate(), Ok(()));
}
