//! An invalidation that has returned is seen by all, whatever moves between the tiers meanwhile.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::{Flaky, Random};
use larder::{
    Builder, Cache, Disk, Engine, Error, Loaded, Mode, Outcome, Put, Stats, Tagged, Value,
};
use larder_engine::Result;

const KEYS: usize = 24;
const GROUPS: usize = 3;

fn tagged<'t>(tags: &'t [&'t [u8]]) -> Put<'t> {
    Put { tags, ..Put::default() }
}

/// What loads is read from a source that changes; whoever changes it invalidates what was made of
/// it. Nobody may get what was made of a source older than the last invalidation that has returned.
fn storm(cache: &Cache<usize, u64>, rounds: u64) {
    let zeros = || (0..KEYS).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (source, floor, over) = (zeros(), zeros(), AtomicBool::new(false));
    let tag = |key: usize| format!("group {}", key % GROUPS);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (source, floor, over) = (&source, &floor, &over);
            scope.spawn(move || {
                let mut random = Random(thread);
                while !over.load(SeqCst) {
                    let key = usize::try_from(random.below(KEYS as u64)).unwrap();
                    let least = floor[key].load(SeqCst);
                    let seen = if random.below(2) == 0 {
                        cache.get(&key).unwrap()
                    } else {
                        let load = || {
                            let value = source[key].load(SeqCst);
                            thread::yield_now();
                            Ok::<_, Infallible>(Loaded::new(value).tags([tag(key)]))
                        };
                        Some(cache.get_or_load(&key, load).unwrap())
                    };
                    assert!(
                        seen.is_none_or(|seen| seen >= least),
                        "{seen:?} of {key}, {least} at least"
                    );
                }
            });
        }
        for round in 1..=rounds {
            let group = usize::try_from(round).unwrap() % GROUPS;
            let keys = || (0..KEYS).filter(|key| key % GROUPS == group);
            keys().for_each(|key| source[key].store(round, SeqCst));
            cache.invalidate_tag(tag(group)).unwrap();
            keys().for_each(|key| floor[key].store(round, SeqCst));
            if round % 7 == 0 {
                cache.flush().unwrap();
            }
        }
        over.store(true, SeqCst);
    });
}

#[test]
fn nobody_gets_what_was_made_of_an_older_source() {
    let home = tempfile::tempdir().unwrap();
    type SetUp = fn(Builder<usize, u64>) -> Builder<usize, u64>;
    let set_ups: [(&str, SetUp); 5] = [
        ("memory", |builder| builder),
        ("through", |builder| builder.memory_items(8)),
        ("on evict", |builder| builder.memory_items(8).mode(Mode::WriteOnEvict)),
        ("roomy on evict", |builder| builder.mode(Mode::WriteOnEvict)),
        ("disk", |builder| builder.no_memory()),
    ];
    for (name, set_up) in set_ups {
        let builder = Cache::builder();
        let builder = if name == "memory" { builder } else { builder.disk(home.path().join(name)) };
        storm(&set_up(builder).build().unwrap(), 2_000);
    }
}

#[test]
fn invalidations_survive_the_process_and_tags_come_back_with_values() {
    let home = tempfile::tempdir().unwrap();
    let open = || Cache::<u32, u64>::builder().disk(home.path().join("c")).build().unwrap();
    let cache = open();
    for key in 0..10 {
        let tags: &[&[u8]] = if key % 2 == 0 { &[b"a", b"even"] } else { &[b"a"] };
        assert!(cache.insert_with(key, 1, &tagged(tags)).unwrap().is_admitted());
    }
    cache.invalidate_tag("even").unwrap();
    drop(cache);
    let cache = open();
    let there: Vec<u32> = (0..10).filter(|key| cache.get(key).unwrap().is_some()).collect();
    assert_eq!(there, [1, 3, 5, 7, 9]);
    // They are in memory now, read from the store; their tags came with them.
    assert_eq!(cache.stats().promotions, 5);
    let mut keys = cache.keys_by_tag("a").unwrap();
    keys.sort_unstable();
    assert_eq!(keys, there);
    cache.invalidate_tag("a").unwrap();
    assert_eq!((0..10).filter(|key| cache.get(key).unwrap().is_some()).count(), 0);
}

#[test]
fn tags_are_exact_and_each_namespace_has_its_own() {
    let home = tempfile::tempdir().unwrap();
    let disk: Arc<Disk> = Arc::new(Disk::builder(home.path().join("store")).open().unwrap());
    let open = |namespace: &str| {
        let builder = Cache::<u32, u64>::builder().engine(disk.clone());
        let builder = if namespace.is_empty() { builder } else { builder.namespace(namespace) };
        builder.build().unwrap()
    };
    // The last tag looks like the first in the namespace "a".
    let caches = [open(""), open("a"), open("b")];
    let tags: [&[u8]; 4] = [b"x", b"xy", b"", b"\x50\x01ax"];
    for cache in &caches {
        for (key, tag) in (0..).zip(tags) {
            assert!(cache.insert_with(key, 1, &tagged(&[tag])).unwrap().is_admitted());
        }
    }
    let left = || {
        caches
            .each_ref()
            .map(|cache| (0..4).filter(|key| cache.contains(key).unwrap()).collect::<Vec<u32>>())
    };
    caches[1].invalidate_tag(b"x").unwrap();
    assert_eq!(left(), [vec![0, 1, 2, 3], vec![1, 2, 3], vec![0, 1, 2, 3]]);
    caches[0].invalidate_tag(b"\x50\x01ax").unwrap();
    assert_eq!(left(), [vec![0, 1, 2], vec![1, 2, 3], vec![0, 1, 2, 3]]);
    caches[2].invalidate_tag(b"").unwrap();
    assert_eq!(left(), [vec![0, 1, 2], vec![1, 2, 3], vec![0, 1, 3]]);
    // So does the store know them that has no namespace.
    assert_eq!(disk.keys_by_tag(b"xy").unwrap(), [common::bytes(1_u32)]);
}

/// A store that can be made to fail to invalidate.
#[derive(Debug)]
struct Stubborn {
    disk: Disk,
    fails: AtomicBool,
}

impl Engine for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }
    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.disk.get(key)
    }
    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.disk.version(key)
    }
    fn put(&self, key: &[u8], value: &[u8], put: &Put<'_>) -> Result<Outcome> {
        self.disk.put(key, value, put)
    }
    fn remove(&self, key: &[u8]) -> Result<bool> {
        self.disk.remove(key)
    }
    fn clear(&self) -> Result<u64> {
        self.disk.clear()
    }
    fn len(&self) -> u64 {
        self.disk.len()
    }
    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        self.disk.iter()
    }
    fn sync(&self) -> Result<()> {
        self.disk.sync()
    }
    fn close(&self) -> Result<()> {
        self.disk.close()
    }
    fn stats(&self) -> Stats {
        self.disk.stats()
    }
    fn tagged(&self) -> Option<&dyn Tagged> {
        Some(self)
    }
}

impl Tagged for Stubborn {
    fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        if self.fails.load(SeqCst) {
            return Err(larder_engine::Error::ReadOnly);
        }
        self.disk.invalidate_tag(tag)
    }
    fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.disk.keys_by_tag(tag)
    }
    fn tag_id(&self, tag: &[u8]) -> Result<u64> {
        self.disk.tag_id(tag)
    }
    fn get_tagged(&self, key: &[u8]) -> Result<Option<(Value, Vec<u64>)>> {
        self.disk.get_tagged(key)
    }
}

#[test]
fn a_store_that_cannot_invalidate_is_not_read_until_it_could() {
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::builder(home.path().join("store")).open().unwrap();
    let stubborn = Arc::new(Stubborn { disk, fails: AtomicBool::new(false) });
    for strict in [false, true] {
        let cache = Cache::<u32, u64>::builder().engine(stubborn.clone()).memory_items(1);
        let cache = cache.backoff(Duration::ZERO, Duration::ZERO).strict(strict).build().unwrap();
        for key in 0..4 {
            assert!(cache.insert_with(key, 1, &tagged(&[b"t"])).unwrap().is_admitted());
        }
        assert!(cache.insert(9, 9).unwrap().is_admitted());
        stubborn.fails.store(true, SeqCst);
        assert_eq!(cache.invalidate_tag("t").is_err(), strict);
        let all_gone = || (0..4).all(|key| cache.get(&key).unwrap().is_none());
        assert!(all_gone());
        assert!(cache.insert(5, 5).unwrap().is_admitted());
        assert!(all_gone());
        stubborn.fails.store(false, SeqCst);
        // The next change settles what is owed.
        assert!(cache.insert(5, 6).unwrap().is_admitted());
        assert!(all_gone());
        assert_eq!([5, 9].map(|key| cache.get(&key).unwrap()), [Some(6), Some(9)]);
        assert_eq!(cache.clear().unwrap(), 2);
    }
}

#[test]
fn what_cannot_be_tagged_is_refused_by_name() {
    let cache = Cache::<u32, u64>::builder().build().unwrap();
    let many: Vec<&[u8]> = vec![b"t"; 16];
    let error = cache.insert_with(1, 1, &tagged(&many)).unwrap_err();
    assert!(matches!(error, Error::TooManyTags { count: 16, max: 15 }));
    assert!(cache.insert_with(1, 1, &tagged(&many[..15])).unwrap().is_admitted());
    let plain = Cache::<u32, u64>::builder().engine(Flaky::new());
    let plain = plain.build().unwrap();
    let error = plain.insert_with(1, 1, &tagged(&[b"t"])).unwrap_err();
    assert!(matches!(error, Error::Unsupported { what: "tags" }), "{error}");
    assert!(!plain.touch(&1, larder::Ttl::Never).unwrap());
}
