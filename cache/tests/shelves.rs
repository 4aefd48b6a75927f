//! Promise: shelves are caches of their own types in one cache: apart from each other whatever they are
//! called, cleared at one moment, loaded once, and as there after reopening as everything else.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use larder::{
    Builder, Cache, Clock, Error, LoadError, Loaded, ManualClock, Mode, PerShelf, Postcard, Put,
    Raw, Rejection, Shelf, Shelved, Shelves, Ttl, Value,
};
use tempfile::TempDir;

type Setup = Builder<(), Shelved, PerShelf>;
type MakeSetup = fn(&TempDir) -> Setup;

/// A cache, its clock, and its directory if it has one.
struct Place {
    name: &'static str,
    cache: Shelves,
    clock: Arc<ManualClock>,
    home: TempDir,
    setup: MakeSetup,
}

impl Place {
    fn reopen(&mut self) {
        self.cache.close().unwrap();
        self.cache = Cache::shelves().build().unwrap();
        self.cache = (self.setup)(&self.home).clock(self.clock.clone()).build().unwrap();
    }
}

fn places() -> Vec<Place> {
    let setups: [(_, MakeSetup); 4] = [
        ("memory", |_| Cache::shelves()),
        ("disk", |home| Cache::shelves().no_memory().disk(home.path().join("store"))),
        ("both", |home| Cache::shelves().disk(home.path().join("store"))),
        ("on evict", |home| {
            let both = Cache::shelves().disk(home.path().join("store"));
            both.mode(Mode::WriteOnEvict).memory_items(8).namespace("n")
        }),
    ];
    let place = |(name, setup): (_, MakeSetup)| {
        let (home, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(1_000)));
        let cache = setup(&home).clock(Arc::clone(&clock) as Arc<dyn Clock>).build().unwrap();
        Place { name, cache, clock, home, setup }
    };
    setups.into_iter().map(place).collect()
}

#[test]
fn shelves_of_all_types_are_apart_and_cleared_at_once() {
    for mut place in places() {
        let cache = &place.cache;
        // Names of which one begins with another, and one that is empty.
        let names = ["", "a", "ab", "a\0", "users"];
        for (name, n) in names.iter().zip(0..) {
            let shelf = cache.shelf::<u32, u64>(name).unwrap();
            for key in 0..20 {
                assert!(shelf.insert(key, n).unwrap().is_admitted());
            }
        }
        let texts = cache.shelf::<String, String>("texts").unwrap();
        assert!(texts.insert("a".to_owned(), "text".to_owned()).unwrap().is_admitted());
        let bytes = cache.shelf_with::<(u8, u8), Value, Raw>("bytes", Raw).unwrap();
        assert!(bytes.insert((1, 2), Value::from(vec![3; 10])).unwrap().is_admitted());
        cache.shelf::<u32, u64>("a").unwrap().clear().unwrap();
        for reopened in [false, true] {
            if reopened && place.name != "memory" {
                place.reopen();
            }
            for (name, n) in names.iter().zip(0..) {
                let shelf = place.cache.shelf::<u32, u64>(name).unwrap();
                let left = (*name != "a").then_some(n);
                let seen = shelf.get_many(&[0, 19, 20]).unwrap();
                assert_eq!(seen, [left, left, None], "{}: {name:?}", place.name);
                assert_eq!(shelf.contains(&7).unwrap(), left.is_some());
                let keys: HashSet<u32> = shelf.iter().unwrap().map(|e| e.unwrap().0).collect();
                assert_eq!(keys.len(), if left.is_some() { 20 } else { 0 }, "{name:?}");
            }
            let texts = place.cache.shelf::<String, String>("texts").unwrap();
            assert_eq!(texts.get("a").unwrap().as_deref(), Some("text"), "{}", place.name);
            let bytes = place.cache.shelf_with::<(u8, u8), Value, Raw>("bytes", Raw).unwrap();
            assert_eq!(bytes.get(&(1, 2)).unwrap().as_deref(), Some(&[3; 10][..]));
        }
        let again = place.cache.shelf::<u32, u64>("a").unwrap();
        assert!(again.insert(1, 77).unwrap().is_admitted());
        assert_eq!(again.get(&1).unwrap(), Some(77), "what comes after a clear stays");
    }
}

#[test]
fn one_name_has_one_type() {
    let cache = Cache::shelves().build().unwrap();
    cache.shelf::<u32, u64>("s").unwrap();
    assert!(cache.shelf::<String, u64>("s").is_ok(), "keys of all types may be on it");
    let error = cache.shelf::<u32, String>("s").unwrap_err();
    assert!(matches!(error, Error::Config { option: "shelf", .. }), "{error}");
    let error = cache.shelf_with::<u32, u64, _>("s", Postcard::version(2)).unwrap_err();
    assert!(matches!(error, Error::Config { option: "shelf", .. }), "{error}");
    assert!(cache.shelf::<u32, u64>("n".repeat(256)).is_err());
}

#[test]
fn changes_and_loads_are_those_of_a_cache() {
    for place in places() {
        let shelf: Shelf<String, u32> = place.cache.shelf("s").unwrap();
        assert!(shelf.add("a".to_owned(), 1, &Put::default()).unwrap().is_admitted());
        assert!(!shelf.add("a".to_owned(), 2, &Put::default()).unwrap().is_admitted());
        let (value, info) = shelf.get_with_info("a").unwrap().unwrap();
        assert_eq!(value, 1);
        let put = &Put::default();
        assert!(shelf.replace_if("a".to_owned(), info.version, 3, put).unwrap().is_admitted());
        assert!(!shelf.replace_if("a".to_owned(), info.version, 4, put).unwrap().is_admitted());
        let double = |old: Option<&u32>| old.map(|old| 2 * old);
        assert_eq!(shelf.update("a", put, double).unwrap(), Some(6), "{}", place.name);
        assert_eq!(shelf.update("b", put, double).unwrap(), None);
        assert_eq!(shelf.get_or_insert_with("c", || 8).unwrap(), 8);
        assert_eq!(shelf.get_or_insert_with("c", || unreachable!()).unwrap(), 8);
        let failing = shelf.get_or_load("d", || "x".parse::<u32>().map(Loaded::new));
        assert!(matches!(failing, Err(LoadError::Load(_))));
        assert!(shelf.touch("c", Ttl::After(Duration::from_millis(50))).unwrap());
        place.clock.advance(50);
        assert_eq!(shelf.get("c").unwrap(), None);
        assert_eq!((shelf.take("a").unwrap(), shelf.take("a").unwrap()), (Some(6), None));
        assert!(!shelf.remove("a").unwrap());
        // What was updated and touched is still the shelf's.
        shelf.get_or_insert_with("e", || 5).unwrap();
        shelf.update("e", put, double).unwrap();
        shelf.touch("e", Ttl::Never).unwrap();
        shelf.clear().unwrap();
        assert_eq!(shelf.get("e").unwrap(), None, "{}", place.name);
    }
}

#[test]
fn of_all_who_ask_one_loads_and_of_all_who_add_one_wins() {
    for place in places() {
        let shelf: Shelf<u32, u32> = place.cache.shelf("s").unwrap();
        let (loads, wins) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for thread in 0..16 {
                let (shelf, loads, wins) = (&shelf, &loads, &wins);
                scope.spawn(move || {
                    for key in 0..50 {
                        let load = || {
                            loads.fetch_add(1, SeqCst);
                            7 * key
                        };
                        assert_eq!(shelf.get_or_insert_with(&key, load).unwrap(), 7 * key);
                        let added = shelf.add(1_000 + key, thread, &Put::default()).unwrap();
                        wins.fetch_add(u32::from(added.is_admitted()), SeqCst);
                    }
                });
            }
        });
        assert_eq!((loads.into_inner(), wins.into_inner()), (50, 50), "{}", place.name);
    }
}

#[test]
fn tags_are_the_shelfs_own() {
    for place in places() {
        let one: Shelf<u32, u32> = place.cache.shelf("one").unwrap();
        let two: Shelf<u32, u32> = place.cache.shelf("two").unwrap();
        let tagged = Put { tags: &[b"t", b"\0"], ..Put::default() };
        for shelf in [&one, &two] {
            assert!(shelf.insert_with(1, 1, &tagged).unwrap().is_admitted());
            assert!(shelf.insert(2, 2).unwrap().is_admitted());
            let load = || Ok::<_, ()>(Loaded::new(3).tags(["t"]));
            assert_eq!(shelf.get_or_load(&3, load).unwrap(), 3);
        }
        one.invalidate_tag("t").unwrap();
        one.invalidate_tag("").unwrap();
        let seen = |shelf: &Shelf<u32, u32>| shelf.get_many(&[1, 2, 3]).unwrap();
        assert_eq!(seen(&one), [None, Some(2), None], "{}", place.name);
        assert_eq!(seen(&two), [Some(1), Some(2), Some(3)]);
        let many = [&b"t"[..]; 15];
        let error = one.insert_with(4, 4, &Put { tags: &many, ..Put::default() }).unwrap_err();
        assert!(matches!(error, Error::TooManyTags { .. }));
    }
}

/// Which versions find a key that was put at which, as a matrix.
#[test]
fn a_key_is_found_at_the_version_at_which_it_was_put() {
    for place in places() {
        let shelf: Shelf<String, u32> = place.cache.shelf("s").unwrap();
        assert_eq!(shelf.version(), 1);
        let at = |version| shelf.at_version(version);
        for version in 1..4 {
            let key = format!("key{version}");
            assert!(at(version).insert(key, 10 * version).unwrap().is_admitted());
        }
        for put in 1..4 {
            for asked in 0..5 {
                let key = format!("key{put}");
                let expected = (put == asked).then_some(10 * put);
                assert_eq!(at(asked).get(&key).unwrap(), expected, "{}", place.name);
                assert_eq!(at(asked).contains(&key).unwrap(), put == asked);
                let added = at(asked).add(key.clone(), 1, &Put::default()).unwrap();
                assert_eq!(added.is_admitted(), put != asked);
                if put != asked {
                    assert!(at(asked).remove(&key).unwrap());
                }
            }
        }
        // Many at once, at one version.
        let keys = ["key1", "key2", "key3"].map(str::to_owned);
        assert_eq!(at(2).get_many(&keys).unwrap(), [None, Some(20), None]);
        let all: HashMap<String, u32> = at(3).iter().unwrap().map(Result::unwrap).collect();
        assert_eq!(all, HashMap::from([("key3".to_owned(), 30)]));

        // A version on, and back.
        assert_eq!(at(2).incr_version("key2", 1).unwrap(), Some(3));
        assert_eq!((at(2).get("key2").unwrap(), at(3).get("key2").unwrap()), (None, Some(20)));
        assert_eq!(at(3).incr_version("key2", -2).unwrap(), Some(1));
        assert_eq!(shelf.get("key2").unwrap(), Some(20));
        assert_eq!(shelf.incr_version("key2", 0).unwrap(), Some(1));
        assert_eq!(shelf.get("key2").unwrap(), Some(20), "it stays where it is");
        assert_eq!(shelf.incr_version("nothing", 1).unwrap(), None);
        assert!(matches!(shelf.incr_version("key2", -2), Err(Error::Overflow)));
        let put = Put { ttl: Ttl::After(Duration::from_millis(100)), ..Put::default() };
        assert!(shelf.insert_with("soon".to_owned(), 1, &put).unwrap().is_admitted());
        place.clock.advance(60);
        assert_eq!(shelf.incr_version("soon", 1).unwrap(), Some(2));
        assert_eq!(at(2).get("soon").unwrap(), Some(1));
        place.clock.advance(40);
        assert_eq!(at(2).get("soon").unwrap(), None, "its time went with it");
        // To clear a shelf is to clear it at all versions.
        shelf.clear().unwrap();
        assert_eq!((at(1).get("key2").unwrap(), at(3).get("key3").unwrap()), (None, None));
    }
}

#[test]
fn a_value_of_another_codec_is_a_miss_and_loaded_anew() {
    let home = tempfile::tempdir().unwrap();
    let open = || Cache::shelves().disk(home.path().join("store")).build().unwrap();
    let cache = open();
    let old = cache.shelf_with::<u32, u64, _>("s", Postcard::version(1)).unwrap();
    assert!(old.insert(1, 10).unwrap().is_admitted());
    cache.close().unwrap();
    drop((cache, old));
    let cache = open();
    let new = cache.shelf_with::<u32, u64, _>("s", Postcard::version(2)).unwrap();
    assert_eq!(new.get(&1).unwrap(), None);
    assert_eq!(cache.stats().codec_changed, 1);
    assert_eq!(new.get_or_insert_with(&1, || 20).unwrap(), 20);
    assert_eq!(new.get(&1).unwrap(), Some(20));
}

#[test]
fn all_shelves_share_one_budget() {
    let cache = Cache::shelves().memory(64 << 10).build().unwrap();
    let (one, two) = (cache.shelf("one").unwrap(), cache.shelf("two").unwrap());
    for key in 0..200_u32 {
        assert!(one.insert(key, vec![1_u8; 1_000]).unwrap().is_admitted());
        assert!(two.insert(key, "2".repeat(1_000)).unwrap().is_admitted());
    }
    assert!(cache.stats().memory.used_bytes <= 64 << 10);
    let refused = one.insert(0, vec![0; 1 << 20]).unwrap();
    let larder::Outcome::Rejected(Rejection::TooLarge { limit, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(limit, 64 << 10);
}
