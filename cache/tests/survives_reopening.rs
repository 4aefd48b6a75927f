//! What was stored is there when the directory is opened again, deadlines included, and
//! namespaces stay apart.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Flaky;
use larder::{Cache, Disk, Engine, Error, ManualClock, Mode, Put, Ttl};

const MODES: [Mode; 2] = [Mode::WriteThrough, Mode::WriteOnEvict];

#[test]
fn both_modes_keep_everything_over_close_and_drop() {
    for mode in MODES {
        for close in [true, false] {
            let home = tempfile::tempdir().unwrap();
            let open = || {
                let builder = Cache::<(String, u64), Vec<u64>>::builder().mode(mode);
                builder.memory(64 << 10).disk(home.path().join("store")).build().unwrap()
            };
            let value = |n: u64| (0..n % 50).collect::<Vec<_>>();
            let cache = open();
            for n in 0..2_000 {
                assert!(cache.insert(("n".to_owned(), n), value(n)).unwrap().is_admitted());
            }
            if close {
                cache.close().unwrap();
            }
            drop(cache);
            let cache = open();
            assert_eq!(cache.len(), 2_000);
            for n in 0..2_000 {
                assert_eq!(cache.get(&("n".to_owned(), n)).unwrap(), Some(value(n)), "{n}");
            }
            let mut keys: Vec<_> = cache.iter().unwrap().map(|entry| entry.unwrap().0.1).collect();
            keys.sort_unstable();
            assert_eq!(keys, (0..2_000).collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_was_removed_or_replaced_stays_away() {
    for mode in MODES {
        let home = tempfile::tempdir().unwrap();
        let open = || {
            let builder = Cache::<u32, String>::builder().mode(mode).memory_items(8);
            builder.disk(home.path().join("store")).build().unwrap()
        };
        let cache = open();
        for key in 0..100 {
            assert!(cache.insert(key, "old".to_owned()).unwrap().is_admitted());
        }
        for key in 0..100 {
            match key % 3 {
                0 => assert!(cache.remove(&key).unwrap()),
                1 => assert!(cache.insert(key, "new".to_owned()).unwrap().is_admitted()),
                _ => {}
            }
        }
        drop(cache);
        let cache = open();
        for key in 0..100 {
            let expected = [None, Some("new"), Some("old")][key as usize % 3];
            assert_eq!(cache.get(&key).unwrap().as_deref(), expected, "{key}");
        }
    }
}

#[test]
fn values_die_at_their_deadline_wherever_they_are() {
    for mode in MODES {
        for items in [1_000, 4] {
            let home = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at(10_000));
            let open = || {
                let builder = Cache::<u32, u32>::builder().mode(mode).memory_items(items);
                let builder = builder.ttl(Duration::from_millis(500));
                let clock = Arc::<ManualClock>::clone(&clock);
                builder.clock(clock).disk(home.path().join("store")).build().unwrap()
            };
            let cache = open();
            let put = |ttl| Put { ttl, ..Put::default() };
            for key in 0..50 {
                let ttl = match key % 4 {
                    0 => Ttl::Default,
                    1 => Ttl::After(Duration::from_millis(100)),
                    2 => Ttl::Never,
                    _ => Ttl::After(Duration::ZERO),
                };
                assert!(cache.insert_with(key, key, &put(ttl)).unwrap().is_admitted());
            }
            let there = |cache: &Cache<u32, u32>| {
                let kinds = (0..4).map(|kind| {
                    let mut keys = (kind..50).step_by(4);
                    let found =
                        keys.clone().filter(|key| cache.get(key).unwrap().is_some()).count();
                    assert!(found == 0 || found == keys.clone().count(), "all or none");
                    assert!(keys.all(|key| cache.contains(&key).unwrap() == (found != 0)));
                    found != 0
                });
                kinds.collect::<Vec<_>>()
            };
            assert_eq!(there(&cache), [true, true, true, false]);
            clock.advance(99);
            assert_eq!(there(&cache), [true, true, true, false]);
            clock.advance(1);
            assert_eq!(there(&cache), [true, false, true, false]);
            drop(cache);
            let cache = open();
            assert_eq!(there(&cache), [true, false, true, false]);
            clock.advance(399);
            assert_eq!(there(&cache), [true, false, true, false]);
            clock.advance(1);
            assert_eq!(there(&cache), [false, false, true, false]);
            assert!(cache.iter().unwrap().all(|entry| entry.unwrap().0 % 4 == 2));
        }
    }
}

#[test]
fn a_short_lived_value_leaves_no_older_one_behind() {
    for mode in MODES {
        for items in [100, 1] {
            let clock = Arc::new(ManualClock::at(10_000));
            let engine = Flaky::with_clock(Arc::<ManualClock>::clone(&clock));
            let cache = Cache::<u32, &'static str, _>::with_codec(Static)
                .mode(mode)
                .memory_items(items)
                .clock(Arc::<ManualClock>::clone(&clock))
                .engine(Arc::<Flaky>::clone(&engine))
                .build()
                .unwrap();
            assert!(cache.insert(1, "old").unwrap().is_admitted());
            cache.flush().unwrap();
            let put = Put { ttl: Ttl::After(Duration::from_millis(10)), ..Put::default() };
            assert!(cache.insert_with(1, "new", &put).unwrap().is_admitted());
            assert_eq!(cache.get(&1).unwrap(), Some("new"));
            clock.advance(10);
            assert_eq!(cache.get(&1).unwrap(), None);
            let dead = Put { ttl: Ttl::After(Duration::ZERO), ..Put::default() };
            assert!(cache.insert(2, "old").unwrap().is_admitted());
            assert!(cache.insert_with(2, "dead", &dead).unwrap().is_admitted());
            assert_eq!(cache.get(&2).unwrap(), None);
        }
    }
}

/// Two words.
#[derive(Debug, Clone)]
struct Static;

impl larder::Codec<&'static str> for Static {
    fn id(&self) -> larder::CodecId {
        larder::CodecId { id: 130, version: 0 }
    }

    fn encode(&self, value: &&'static str, out: &mut Vec<u8>) -> Result<(), larder::CodecError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn decode(&self, stored: &larder::Value) -> Result<&'static str, larder::CodecError> {
        let known = ["old", "new", "dead"].into_iter().find(|word| word.as_bytes() == &**stored);
        known.ok_or_else(|| larder::CodecError::new("an unknown word"))
    }
}

#[test]
fn namespaces_share_a_store_and_nothing_else() {
    for mode in MODES {
        let home = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Engine> =
            Arc::new(Disk::builder(home.path().join("store")).open().unwrap());
        let cache = |name: Option<&str>| {
            let builder = Cache::<String, u32>::builder().mode(mode).memory_items(4);
            let builder = builder.engine(Arc::clone(&disk));
            let builder = match name {
                Some(name) => builder.namespace(name),
                None => builder,
            };
            builder.build().unwrap()
        };
        // One is a prefix of the other.
        let (a, ab, none) = (cache(Some("a")), cache(Some("ab")), cache(None));
        for n in 0..20 {
            assert!(a.insert(format!("b{n}"), n).unwrap().is_admitted());
            assert!(ab.insert(n.to_string(), 100 + n).unwrap().is_admitted());
            assert!(none.insert(n.to_string(), 200 + n).unwrap().is_admitted());
        }
        assert_eq!((a.len(), ab.len()), (20, 20));
        assert_eq!(ab.iter().unwrap().count(), 20);
        assert_eq!(none.iter().unwrap().count(), 20);
        assert_eq!(a.clear().unwrap(), 20);
        assert_eq!((a.len(), ab.len()), (0, 20));
        assert_eq!(ab.get("7").unwrap(), Some(107));
        assert_eq!(none.get("7").unwrap(), Some(207));
        // The store was given, so it outlives the cache.
        ab.close().unwrap();
        assert!(matches!(ab.get("7"), Err(Error::Closed)));
        assert_eq!(cache(Some("ab")).get("7").unwrap(), Some(107));
    }
}

#[test]
fn a_mapped_value_outlives_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let cache = Cache::<u8, larder::Value, _>::with_codec(larder::Raw)
        .disk(home.path().join("store"))
        .build()
        .unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert!(cache.insert(1, bytes.clone().into()).unwrap().is_admitted());
    cache.close().unwrap();
    drop(cache);
    let builder = Cache::<u8, larder::Value, _>::with_codec(larder::Raw);
    let cache = builder.disk(home.path().join("store")).build().unwrap();
    let view = cache.get(&1).unwrap().unwrap();
    assert!(view.is_mapped(), "read without a copy");
    let kept = cache.get(&1).unwrap().unwrap();
    assert!(!kept.is_mapped(), "memory does not keep a segment for it");
    assert_eq!(kept, view);
    drop(cache);
    assert_eq!(&*view, &bytes[..]);
}
