//! Promise: whatever is used together (tags, namespaces, deadlines, times to idle, pins, costs, conditional
//! changes, and inserts that say nothing), the tier finds what a plain map with the same rules finds; and
//! with a bound, nothing else.
//!
//! Method: random operations on both, with a clock that only the test moves, and `validate` after each.
//! Inserts that say nothing go straight through wherever nothing else is to be looked at, so most runs
//! change between both ways.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::memory::{Capacity, Keep, Namespace, PolicyKind, Tier};
use larder_engine::{Clock, ManualClock};
use proptest::prelude::*;

const TAGS: [&str; 3] = ["red", "green", "blue"];
const SPACES: [&str; 2] = ["one", "other"];

#[derive(Debug, Clone, Copy)]
enum Op {
    Get(Key),
    Insert(Key),
    InsertAs(Key, Said),
    Add(Key, Said),
    Swap(Key, Key),
    Remove(Key),
    Take(Key),
    Pin(Key),
    Unpin(Key),
    InvalidateTag(usize),
    InvalidateSpace(usize),
    Purge,
    Wait(u64),
}

/// Which namespace, or none, and which key.
type Key = (Option<usize>, u8);

#[derive(Debug, Clone, Copy)]
struct Said {
    ttl_ms: Option<u64>,
    idle_ms: Option<u64>,
    cost: u64,
    tags: u8,
    pinned: bool,
}

fn key() -> impl Strategy<Value = Key> {
    (prop_oneof![3 => Just(None), 1 => (0..SPACES.len()).prop_map(Some)], 0..10_u8)
}

fn said() -> impl Strategy<Value = Said> {
    let ms = || prop::option::weighted(0.3, 0..60_u64);
    (ms(), ms(), 1..4_u64, 0..8_u8, prop::bool::weighted(0.1)).prop_map(
        |(ttl_ms, idle_ms, cost, tags, pinned)| Said { ttl_ms, idle_ms, cost, tags, pinned },
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => key().prop_map(Op::Get),
        12 => key().prop_map(Op::Insert),
        4 => (key(), said()).prop_map(|(key, said)| Op::InsertAs(key, said)),
        2 => (key(), said()).prop_map(|(key, said)| Op::Add(key, said)),
        2 => (key(), key()).prop_map(|(key, other)| Op::Swap(key, other)),
        1 => key().prop_map(Op::Remove),
        1 => key().prop_map(Op::Take),
        1 => key().prop_map(Op::Pin),
        2 => key().prop_map(Op::Unpin),
        1 => (0..TAGS.len()).prop_map(Op::InvalidateTag),
        1 => (0..SPACES.len()).prop_map(Op::InvalidateSpace),
        1 => Just(Op::Purge),
        3 => (0..30_u64).prop_map(Op::Wait),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    value: u64,
    expires_at_ms: u64,
    until_ms: u64,
    idle_ms: u64,
    tags: u8,
    pinned: bool,
}

/// A plain map; what is dead goes before each operation.
#[derive(Default)]
struct Model(HashMap<Key, Kept>);

impl Model {
    fn get(&mut self, key: Key, now_ms: u64) -> Option<u64> {
        let kept = self.0.get_mut(&key)?;
        let moved_ms = now_ms.saturating_add(kept.idle_ms).min(kept.until_ms);
        kept.expires_at_ms = kept.expires_at_ms.max(moved_ms);
        Some(kept.value)
    }

    fn insert(&mut self, key: Key, value: u64, said: Option<Said>, now_ms: u64) {
        let never = u64::MAX;
        let until_ms = said.and_then(|said| said.ttl_ms).map_or(never, |ttl_ms| now_ms + ttl_ms);
        let idle_ms = said.and_then(|said| said.idle_ms).unwrap_or(never);
        let pinned = self.0.get(&key).is_some_and(|kept| kept.pinned);
        let kept = Kept {
            value,
            expires_at_ms: until_ms.min(now_ms.saturating_add(idle_ms)),
            until_ms,
            idle_ms,
            tags: said.map_or(0, |said| said.tags),
            pinned: pinned || said.is_some_and(|said| said.pinned),
        };
        self.0.insert(key, kept);
    }
}

fn run(ops: Vec<Op>, capacity: Capacity, policy: PolicyKind) -> Result<(), TestCaseError> {
    let clock = Arc::new(ManualClock::at(1_000));
    let tier = Tier::<u8, u64>::builder(capacity).policy(policy).shards(2);
    let tier = tier.clock(clock.clone()).build().unwrap();
    let spaces: Vec<Namespace<'_, u8, u64>> =
        SPACES.iter().map(|name| tier.namespace(name)).collect();
    let is_bounded = capacity != Capacity::Unbounded;
    let mut model = Model::default();
    for (number, op) in (0..).zip(ops) {
        let now_ms = clock.now_ms();
        model.0.retain(|_, kept| now_ms < kept.expires_at_ms);
        let peek = |key: Key| match key {
            (None, key) => tier.peek(&key),
            (Some(at), key) => spaces[at].peek(&key),
        };
        if is_bounded {
            // What was evicted is gone, and nothing that is pinned was.
            model.0.retain(|&key, kept| peek(key).is_some() || kept.pinned);
        }
        let put = |model: &mut Model, key: Key, said: Option<Said>, only: Option<Option<u64>>| {
            let names: Vec<&str> = (0..3)
                .filter(|at| said.is_some_and(|said| said.tags >> at & 1 == 1))
                .map(|at| TAGS[at])
                .collect();
            let mut keep = Keep::default().tags(&names);
            if let Some(said) = said {
                keep.expires_at_ms = said.ttl_ms.map_or(u64::MAX, |ttl_ms| now_ms + ttl_ms);
                keep.idle = said.idle_ms.map(Duration::from_millis);
                (keep.cost, keep.pinned) = (said.cost, said.pinned);
            }
            let decide = |current: Option<&u64>| only.is_none_or(|only| current.copied() == only);
            let inserted = match key {
                (None, key) => tier.insert_if_as(key, number, &keep, decide),
                (Some(at), key) => spaces[at].insert_if_as(key, number, &keep, decide),
            };
            if let Ok(inserted) = inserted {
                let expected =
                    only.is_none_or(|only| model.0.get(&key).map(|kept| kept.value) == only);
                if !is_bounded {
                    assert_eq!(inserted, expected, "{key:?}");
                }
                if inserted {
                    model.insert(key, number, said, now_ms);
                }
            } else {
                assert!(is_bounded, "there is room");
            }
        };
        match op {
            Op::Get(key) => {
                let found = match key {
                    (None, key) => tier.get(&key),
                    (Some(at), key) => spaces[at].get(&key),
                };
                prop_assert_eq!(found, model.get(key, now_ms), "{:?}", key);
            }
            Op::Insert(key) => put(&mut model, key, None, None),
            Op::InsertAs(key, said) => put(&mut model, key, Some(said), None),
            Op::Add(key, said) => put(&mut model, key, Some(said), Some(None)),
            Op::Swap(key, other) => {
                let expected = model.0.get(&other).map(|kept| kept.value);
                put(&mut model, key, None, Some(expected));
            }
            Op::Remove(key) => {
                let removed = match key {
                    (None, key) => tier.remove(&key),
                    (Some(at), key) => spaces[at].remove(&key),
                };
                prop_assert_eq!(removed, model.0.remove(&key).is_some());
            }
            Op::Take(key) => {
                let taken = match key {
                    (None, key) => tier.take(&key),
                    (Some(at), key) => spaces[at].take(&key),
                };
                prop_assert_eq!(taken, model.0.remove(&key).map(|kept| kept.value));
            }
            Op::Pin(key) => {
                let pinned = match key {
                    (None, key) => tier.pin(&key),
                    (Some(at), key) => spaces[at].pin(&key),
                };
                prop_assert_eq!(pinned, model.0.contains_key(&key));
                model.0.get_mut(&key).into_iter().for_each(|kept| kept.pinned = true);
            }
            Op::Unpin(key) => {
                let unpinned = match key {
                    (None, key) => tier.unpin(&key),
                    (Some(at), key) => spaces[at].unpin(&key),
                };
                let kept = model.0.get_mut(&key);
                prop_assert_eq!(
                    unpinned,
                    kept.is_some_and(|kept| std::mem::take(&mut kept.pinned))
                );
            }
            Op::InvalidateTag(at) => {
                tier.invalidate_tag(TAGS[at]);
                model.0.retain(|_, kept| kept.tags >> at & 1 == 0);
            }
            Op::InvalidateSpace(at) => {
                spaces[at].invalidate();
                model.0.retain(|key, _| key.0 != Some(at));
            }
            Op::Purge => {
                tier.purge();
                prop_assert_eq!(tier.len(), model.0.len() as u64);
            }
            Op::Wait(ms) => clock.advance(ms),
        }
        prop_assert_eq!(tier.validate(), Ok(()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 96 }))]

    #[test]
    fn without_a_bound_it_is_that_map(ops in prop::collection::vec(op(), 0..200)) {
        run(ops, Capacity::Unbounded, PolicyKind::S3Fifo)?;
    }

    #[test]
    fn with_a_bound_it_finds_nothing_else(
        ops in prop::collection::vec(op(), 0..200),
        capacity in 1..12_u64,
        policy in prop::sample::select(PolicyKind::ALL),
    ) {
        run(ops, Capacity::items(capacity), policy)?;
    }
}

#[test]
fn what_is_pinned_and_invalidated_gives_room() {
    for shards in [1, 4] {
        let tier = Tier::<u8, u64>::builder(Capacity::weight(10)).weigher(|_, &weight| weight);
        let tier = tier.shards(shards).build().unwrap();
        let mut keep = Keep::default().tags(&["red"]);
        keep.pinned = true;
        (0..5).for_each(|key| tier.insert_as(key, 2, &keep).unwrap());
        assert!(tier.insert(9, 1, u64::MAX).is_err(), "everything is pinned");
        tier.invalidate_tag("red");
        tier.insert(9, 10, u64::MAX).unwrap();
        assert_eq!((tier.len(), tier.pinned_weight(), tier.get(&9)), (1, 0, Some(10)));
        assert_eq!(tier.validate(), Ok(()));
    }
}
