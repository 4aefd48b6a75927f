//! Promise: many keys at once are as one after the other, in their order, and cost the store one call.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use common::{Flaky, Random, Trouble};
use larder::{Cache, Disk, Durability, Engine, Mode, Outcome, Put, Stats, Tagged, Value, WithTags};
use larder_engine::Result;

/// A disk that counts how it is asked.
#[derive(Debug)]
struct Counting {
    disk: Disk,
    alone: AtomicU64,
    together: AtomicU64,
    syncs: AtomicU64,
}

impl Engine for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.alone.fetch_add(1, SeqCst);
        self.disk.get(key)
    }
    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.disk.version(key)
    }
    fn put(&self, key: &[u8], value: &[u8], put: &Put<'_>) -> Result<Outcome> {
        assert_eq!(put.durability, Durability::None);
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
        self.syncs.fetch_add(1, SeqCst);
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

impl Tagged for Counting {
    fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        self.disk.invalidate_tag(tag)
    }
    fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.disk.keys_by_tag(tag)
    }
    fn tag_id(&self, tag: &[u8]) -> Result<u64> {
        Tagged::tag_id(&self.disk, tag)
    }
    fn get_tagged(&self, key: &[u8]) -> Result<Option<WithTags>> {
        self.alone.fetch_add(1, SeqCst);
        self.disk.get_tagged(key)
    }
    fn get_many_tagged(&self, keys: &[&[u8]]) -> Result<Vec<Option<WithTags>>> {
        self.together.fetch_add(1, SeqCst);
        self.disk.get_many_tagged(keys)
    }
}

fn counting(home: &tempfile::TempDir) -> Arc<Counting> {
    let disk = Disk::builder(home.path().join("store")).open().unwrap();
    let (alone, together, syncs) = Default::default();
    Arc::new(Counting { disk, alone, together, syncs })
}

#[test]
fn the_store_is_asked_once_for_all_that_memory_lacks() {
    let home = tempfile::tempdir().unwrap();
    let store = counting(&home);
    let cache = || {
        let builder = Cache::<u32, String>::builder().engine(store.clone()).memory_items(1_000);
        builder.build().unwrap()
    };
    let first = cache();
    let put = Put { tags: &[b"odd"], durability: Durability::Sync, ..Put::default() };
    let odd = (0..100).filter(|key| key % 2 == 1).map(|key| (key, key.to_string()));
    let outcomes = first.insert_many(odd, &put).unwrap();
    assert!(outcomes.len() == 50 && outcomes.iter().all(|outcome| outcome.is_admitted()));
    assert_eq!(store.syncs.load(SeqCst), 1, "one for all");
    let even = (0..100).filter(|key| key % 2 == 0).map(|key| (key, key.to_string()));
    first.insert_many(even, &Put::default()).unwrap();
    drop(first);

    let cache = cache();
    let keys: Vec<u32> = (0..120).rev().chain([5, 5, 500]).collect();
    let expected: Vec<_> = keys.iter().map(|key| (*key < 100).then(|| key.to_string())).collect();
    assert_eq!(cache.get_many(&keys).unwrap(), expected);
    let calls = || (store.together.load(SeqCst), store.alone.load(SeqCst));
    assert_eq!(calls(), (1, 0));
    let stats = cache.stats();
    assert_eq!((stats.disk_hits, stats.misses, stats.memory_hits), (102, 21, 0));
    assert_eq!(cache.get_many(&keys[30..60]).unwrap(), expected[30..60]);
    assert_eq!(calls(), (1, 0), "all of it was promoted");
    // What came up together knows its tags.
    cache.invalidate_tag("odd").unwrap();
    let left = cache.get_many(&[1, 2, 3]).unwrap();
    assert_eq!(left, [None, Some("2".to_owned()), None]);
    assert_eq!(cache.remove_many(&[2, 3, 2]).unwrap(), [true, false, false]);
    assert_eq!(cache.get_many::<u32>([]).unwrap(), []);
}

#[test]
fn together_they_are_as_one_after_the_other() {
    for mode in [Mode::WriteThrough, Mode::WriteOnEvict] {
        let home = tempfile::tempdir().unwrap();
        let store = counting(&home);
        let builder = Cache::<u64, u64>::builder().engine(store).memory_items(10).mode(mode);
        let cache = builder.build().unwrap();
        let mut random = Random(5);
        let mut model = std::collections::HashMap::new();
        for _ in 0..600 {
            let key = random.below(60);
            match random.below(4) {
                0 => {
                    assert_eq!(cache.remove(&key).unwrap(), model.remove(&key).is_some());
                }
                _ => {
                    let value = random.next();
                    assert!(cache.insert(key, value).unwrap().is_admitted());
                    model.insert(key, value);
                }
            }
            let keys: Vec<u64> = (0..random.below(20)).map(|_| random.below(60)).collect();
            let expected: Vec<_> = keys.iter().map(|key| model.get(key).copied()).collect();
            assert_eq!(cache.get_many(&keys).unwrap(), expected, "{mode:?}");
        }
    }
}

#[test]
fn a_store_that_fails_is_a_miss_for_what_memory_lacks_and_masked_keys_are_not_asked_for() {
    let flaky = Flaky::new();
    let cache = Cache::<u32, u32>::builder().engine(flaky.clone()).memory_items(2).build().unwrap();
    for key in 0..10 {
        assert!(cache.insert(key, key).unwrap().is_admitted());
    }
    flaky.fail(Trouble::Before);
    // This one is masked: the store has the old value.
    assert!(cache.insert(3, 33).unwrap().is_admitted());
    let seen = cache.get_many(&[0, 3]).unwrap();
    assert_eq!(seen, [None, Some(33)]);
    let strict = Cache::<u32, u32>::builder().engine(flaky.clone()).strict(true).build().unwrap();
    assert!(strict.get_many(&[0, 1]).is_err());
    flaky.fail(Trouble::None);
}
