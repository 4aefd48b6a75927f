//! All that a cache does to keys, one call after the other, compared with a plain map: in memory,
//! over a store, in both modes, and without memory. Nothing is evicted from the whole.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::Random;
use larder::{Builder, Cache, Error, Loaded, ManualClock, Mode, Outcome, Put, Ttl};

const KEYS: u64 = 12;
const TAGS: u64 = 3;
/// How long values live without a word about it, in ms.
const TTL_MS: u64 = 2_000;

#[derive(Debug, Clone)]
struct Held {
    value: i64,
    expires_at_ms: u64,
    tags: BTreeSet<u64>,
}

/// The cache as it should be.
#[derive(Debug, Default)]
struct Model {
    map: BTreeMap<u64, Held>,
    now_ms: u64,
}

impl Model {
    fn live(&self, key: u64) -> Option<&Held> {
        self.map.get(&key).filter(|held| self.now_ms < held.expires_at_ms)
    }

    fn value(&self, key: u64) -> Option<i64> {
        self.live(key).map(|held| held.value)
    }

    fn put(&mut self, key: u64, value: i64, ttl: Ttl, tags: BTreeSet<u64>) {
        let expires_at_ms = ttl.deadline_ms(self.now_ms, Some(Duration::from_millis(TTL_MS)));
        self.map.insert(key, Held { value, expires_at_ms, tags });
    }
}

struct Run {
    cache: Cache<u64, i64>,
    clock: Arc<ManualClock>,
    model: Model,
    random: Random,
    /// Tags that a change to an entry of the store's would lose are left out.
    kind: &'static str,
}

impl Run {
    fn ttl(&mut self) -> Ttl {
        match self.random.below(5) {
            0 => Ttl::Never,
            1 => Ttl::After(Duration::from_millis(self.random.below(3_000))),
            2 => Ttl::After(Duration::ZERO),
            _ => Ttl::Default,
        }
    }

    fn tags(&mut self) -> BTreeSet<u64> {
        let some = self.random.below(4);
        (0..TAGS).filter(|tag| some >> tag & 1 == 1).collect()
    }

    fn step(&mut self, turn: usize) {
        let key = self.random.below(KEYS);
        let value = i64::try_from(self.random.below(1_000)).unwrap();
        let what = self.random.below(16);
        let context = format!("{} turn {turn}: {what} of {key}", self.kind);
        let before = self.model.value(key);
        match what {
            0..=3 => {
                let (ttl, tags) = (self.ttl(), self.tags());
                let names: Vec<String> = tags.iter().map(u64::to_string).collect();
                let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
                let put = Put { ttl, tags: &names, ..Put::default() };
                let outcome = if what == 3 {
                    self.cache.add(key, value, &put).unwrap()
                } else {
                    self.cache.insert_with(key, value, &put).unwrap()
                };
                if what == 3 && before.is_some() {
                    assert!(matches!(outcome, Outcome::Conflict { version: Some(_) }), "{context}");
                } else {
                    assert!(outcome.is_admitted(), "{context}: {outcome:?}");
                    self.model.put(key, value, ttl, tags);
                }
            }
            4 => {
                assert_eq!(self.cache.remove(&key).unwrap(), before.is_some(), "{context}");
                self.model.map.remove(&key);
            }
            5 => {
                assert_eq!(self.cache.take(&key).unwrap(), before, "{context}");
                self.model.map.remove(&key);
            }
            6 => {
                let info = self.cache.get_with_info(&key).unwrap();
                assert_eq!(info.map(|(value, _)| value), before, "{context}");
                let version = info.map_or(u64::MAX, |(_, info)| info.version);
                let wrong = self.random.below(2) == 1;
                let version = if wrong { version ^ 1 } else { version };
                let outcome = self.cache.replace_if(key, version, value, &Put::default()).unwrap();
                assert_eq!(outcome.is_admitted(), before.is_some() && !wrong, "{context}");
                if outcome.is_admitted() {
                    self.model.put(key, value, Ttl::Default, BTreeSet::new());
                }
            }
            7 => {
                let gone = value % 3 == 0;
                let change = |old: Option<&i64>| (!gone).then(|| old.copied().unwrap_or(0) + value);
                let after = self.cache.update(&key, &Put::default(), change).unwrap();
                assert_eq!(after, (!gone).then(|| before.unwrap_or(0) + value), "{context}");
                let until = self.model.live(key).map(|held| held.expires_at_ms);
                self.model.map.remove(&key);
                if let Some(after) = after {
                    self.model.put(key, after, Ttl::Default, BTreeSet::new());
                    if let (Some(until), Some(held)) = (until, self.model.map.get_mut(&key)) {
                        held.expires_at_ms = until;
                    }
                }
            }
            8 => {
                let ttl = self.ttl();
                assert_eq!(self.cache.touch(&key, ttl).unwrap(), before.is_some(), "{context}");
                if let Some(value) = before {
                    let tags = self.model.map[&key].tags.clone();
                    self.model.put(key, value, ttl, tags);
                }
            }
            9 => {
                let tag = self.random.below(TAGS);
                let mut keys = self.cache.keys_by_tag(tag.to_string()).unwrap();
                keys.sort_unstable();
                let tagged =
                    |key: &u64| self.model.live(*key).is_some_and(|held| held.tags.contains(&tag));
                let expected: Vec<u64> = (0..KEYS).filter(tagged).collect();
                assert_eq!(keys, expected, "{context}");
                if self.random.below(2) == 1 {
                    self.cache.invalidate_tag(tag.to_string()).unwrap();
                    self.model.map.retain(|_, held| !held.tags.contains(&tag));
                }
            }
            10 => {
                let ms = self.random.below(700);
                self.clock.advance(ms);
                self.model.now_ms += ms;
            }
            11 => {
                let tags = self.tags();
                let names: Vec<String> = tags.iter().map(u64::to_string).collect();
                let keep = self.random.below(4) != 0;
                let load = || {
                    let loaded = Loaded::new(value).tags(&names);
                    Ok::<_, Infallible>(if keep { loaded } else { loaded.not_kept() })
                };
                let got = self.cache.get_or_load(&key, load).unwrap();
                assert_eq!(got, before.unwrap_or(value), "{context}");
                if before.is_none() && keep {
                    self.model.put(key, value, Ttl::Default, tags);
                }
            }
            12 if self.random.below(8) == 0 => {
                self.cache.flush().unwrap();
            }
            12 if self.random.below(16) == 0 => {
                self.cache.clear().unwrap();
                self.model.map.clear();
            }
            13 => {
                let result = self.cache.add_to(&key, i64::MAX - 500);
                let expected =
                    before.map_or(Some(i64::MAX - 500), |n| n.checked_add(i64::MAX - 500));
                match result {
                    Ok(sum) => assert_eq!(Some(sum), expected, "{context}"),
                    Err(error) => assert!(matches!(error, Error::Overflow) && expected.is_none()),
                }
                if let Some(sum) = expected {
                    let until = self.model.live(key).map(|held| held.expires_at_ms);
                    self.model.put(key, sum, Ttl::Default, BTreeSet::new());
                    if let (Some(until), Some(held)) = (until, self.model.map.get_mut(&key)) {
                        held.expires_at_ms = until;
                    }
                }
                // Small numbers again, so that sums of the others stay within bounds.
                self.cache.remove(&key).unwrap();
                self.model.map.remove(&key);
            }
            _ => {
                assert_eq!(self.cache.get(&key).unwrap(), before, "{context}");
                assert_eq!(self.cache.contains(&key).unwrap(), before.is_some(), "{context}");
            }
        }
        if turn.is_multiple_of(50) {
            let mut all: Vec<_> = self.cache.iter().unwrap().map(Result::unwrap).collect();
            all.sort_unstable();
            let live = (0..KEYS).filter_map(|key| Some((key, self.model.value(key)?)));
            assert_eq!(all, live.collect::<Vec<_>>(), "{context}");
        }
    }
}

fn runs(set_up: impl Fn(Builder<u64, i64>) -> Builder<u64, i64>, turns: usize, seeds: u64) {
    for seed in 0..seeds {
        for kind in ["memory", "write-through", "write-on-evict", "little memory", "disk only"] {
            let home = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at(1_000_000));
            let builder = Cache::builder().ttl(Duration::from_millis(TTL_MS)).clock(clock.clone());
            let over = |builder: Builder<u64, i64>| builder.disk(home.path().join("store"));
            let builder = match kind {
                "memory" => builder.memory_unbounded(),
                "write-through" => over(builder),
                "write-on-evict" => over(builder).mode(Mode::WriteOnEvict),
                "little memory" => over(builder).mode(Mode::WriteOnEvict).memory_items(4),
                _ => over(builder).no_memory(),
            };
            let cache = set_up(builder).build().unwrap();
            let model = Model { now_ms: 1_000_000, ..Model::default() };
            let mut run = Run { cache, clock, model, random: Random(seed), kind };
            (0..turns).for_each(|turn| run.step(turn));
        }
    }
}

#[test]
fn a_cache_is_a_map_with_time_and_tags() {
    runs(|builder| builder, 2_000, 3);
}

#[test]
fn so_it_is_in_a_namespace() {
    runs(|builder| builder.namespace("ours"), 1_000, 2);
}

#[test]
fn and_where_stale_values_serve_those_who_load_nobody_else_sees_them() {
    // Nobody loads but where the model's value is gone: with a last resort those loads succeed.
    runs(|builder| builder.serve_stale_on_error(Duration::from_millis(900)), 2_000, 3);
}
