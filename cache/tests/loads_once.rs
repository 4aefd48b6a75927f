//! A value is loaded once, however many ask for it, and nobody hangs.
//!
//! Threads meet at barriers, so that every test is decided by order, not by time.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

use larder::{Cache, Error, LoadError};

fn cache() -> Cache<String, u64> {
    Cache::builder().build().unwrap()
}

/// Waits until `count` threads wait for a load.
fn until_waiting(cache: &Cache<String, u64>, started: &AtomicUsize, count: usize) {
    // A miss is counted right before a thread joins. Whoever has not joined yet finds the value
    // or the vacancy a moment later, which makes no difference to what these tests assert.
    while started.load(SeqCst) < count || cache.stats().misses < count as u64 + 1 {
        thread::yield_now();
    }
}

#[test]
fn eight_threads_on_a_cold_key_run_the_body_once() {
    for round in 0..50 {
        let cache = cache();
        let (runs, start) = (AtomicUsize::new(0), Barrier::new(8));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let load = || {
                        runs.fetch_add(1, SeqCst);
                        thread::yield_now();
                        round
                    };
                    assert_eq!(cache.get_or_insert_with("cold", load).unwrap(), round);
                });
            }
        });
        assert_eq!(runs.load(SeqCst), 1);
        assert_eq!(cache.stats().loads, 1);
    }
}

#[test]
fn without_memory_the_store_decides() {
    let home = tempfile::tempdir().unwrap();
    let cache =
        Cache::<u32, u64>::builder().no_memory().disk(home.path().join("c")).build().unwrap();
    let (runs, start) = (AtomicUsize::new(0), Barrier::new(8));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for key in 0..50 {
                    start.wait();
                    let load = || runs.fetch_add(1, SeqCst) as u64;
                    cache.get_or_insert_with(&key, load).unwrap();
                }
            });
        }
    });
    assert_eq!(runs.load(SeqCst), 50);
}

#[test]
fn the_value_is_stored_before_waiters_get_it() {
    let cache = cache();
    let go = Barrier::new(2);
    let started = AtomicUsize::new(0);
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            let load = || {
                go.wait();
                7
            };
            cache.get_or_insert_with("key", load).unwrap()
        });
        while cache.stats().misses == 0 {
            thread::yield_now();
        }
        let waiter = scope.spawn(|| {
            started.fetch_add(1, SeqCst);
            let value = cache.get_or_insert_with("key", || unreachable!("a leader loads")).unwrap();
            assert_eq!(cache.get("key").unwrap(), Some(value));
            value
        });
        until_waiting(&cache, &started, 1);
        go.wait();
        assert_eq!((leader.join().unwrap(), waiter.join().unwrap()), (7, 7));
    });
}

/// Three threads on one key: the first fails in the given way once the others wait.
fn first_fails(fail: impl Fn() -> Result<u64, &'static str> + Send + Sync) -> Vec<Option<u64>> {
    let cache = cache();
    let go = Barrier::new(2);
    let (started, later_runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results = thread::scope(|scope| {
        let leader = scope.spawn(|| {
            let load = || {
                go.wait();
                fail()
            };
            let load = AssertUnwindSafe(|| cache.try_get_or_insert_with("key", load));
            catch_unwind(load).ok().and_then(Result::ok)
        });
        while cache.stats().misses == 0 {
            thread::yield_now();
        }
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    started.fetch_add(1, SeqCst);
                    let load = || {
                        later_runs.fetch_add(1, SeqCst);
                        8
                    };
                    cache.get_or_insert_with("key", load).ok()
                })
            })
            .collect();
        until_waiting(&cache, &started, 2);
        go.wait();
        let mut results = vec![leader.join().unwrap()];
        results.extend(waiters.into_iter().map(|waiter| waiter.join().unwrap()));
        results
    });
    assert_eq!(later_runs.load(SeqCst), 1, "one of the waiters took over");
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
    results
}

#[test]
fn a_leader_that_fails_hands_over() {
    assert_eq!(first_fails(|| Err("no luck")), [None, Some(8), Some(8)]);
}

#[test]
fn a_leader_that_panics_hands_over() {
    assert_eq!(first_fails(|| panic!("the loader's own bug")), [None, Some(8), Some(8)]);
}

#[test]
fn an_error_is_given_back_and_nothing_is_stored() {
    let cache = cache();
    for _ in 0..3 {
        match cache.try_get_or_insert_with("key", || Err::<u64, _>("no luck")) {
            Err(LoadError::Load("no luck")) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(cache.get("key").unwrap(), None);
    }
    assert_eq!(cache.stats().load_failures, 3);
}

#[test]
fn recursion_on_the_same_key_is_an_error_and_leaves_nothing_behind() {
    let cache = cache();
    let outer = cache.try_get_or_insert_with("key", || cache.get_or_insert_with("key", || 1));
    assert!(
        matches!(&outer, Err(LoadError::Load(Error::Recursion))),
        "the inner call is refused: {outer:?}"
    );
    assert_eq!(cache.get_or_insert_with("key", || 2).unwrap(), 2);
}

#[test]
fn recursion_over_other_keys_works() {
    let cache = cache();
    fn fibonacci(cache: &Cache<String, u64>, n: u64) -> u64 {
        let load = || match n {
            0 | 1 => n,
            n => fibonacci(cache, n - 1) + fibonacci(cache, n - 2),
        };
        cache.get_or_insert_with(&n.to_string(), load).unwrap()
    }
    assert_eq!(fibonacci(&cache, 50), 12_586_269_025);
    assert_eq!(cache.stats().loads, 51);
}

/// Two threads that lead one key each and then want the other's.
fn crossing(first: &Cache<String, u64>, second: &Cache<String, u64>) {
    let both_lead = Barrier::new(2);
    thread::scope(|scope| {
        let one = scope.spawn(|| {
            first.get_or_insert_with("one", || {
                both_lead.wait();
                10 + second.get_or_insert_with("two", || 2).unwrap()
            })
        });
        let two = scope.spawn(|| {
            second.get_or_insert_with("two", || {
                both_lead.wait();
                20 + first.get_or_insert_with("one", || 1).unwrap()
            })
        });
        // Whoever closed the circle loaded for itself: 10 + 2, then 20 + 12; or 20 + 1, 10 + 21.
        let results = (one.join().unwrap().unwrap(), two.join().unwrap().unwrap());
        let either = [(10 + 2, 20 + 10 + 2), (10 + 20 + 1, 20 + 1), (10 + 2, 20 + 1)];
        assert!(either.contains(&results), "{results:?}");
        assert_eq!(first.get("one").unwrap(), Some(results.0));
        assert_eq!(second.get("two").unwrap(), Some(results.1));
    });
}

#[test]
fn keys_that_need_each_other_do_not_hang() {
    for _ in 0..50 {
        let cache = cache();
        crossing(&cache, &cache);
    }
}

#[test]
fn nor_do_keys_of_two_caches() {
    for _ in 0..50 {
        crossing(&cache(), &cache());
    }
}

#[test]
fn nor_does_a_circle_of_many() {
    const THREADS: usize = 6;
    for _ in 0..20 {
        let cache = cache();
        let all_lead = Barrier::new(THREADS);
        thread::scope(|scope| {
            for at in 0..THREADS {
                let (cache, all_lead) = (&cache, &all_lead);
                scope.spawn(move || {
                    let next = ((at + 1) % THREADS).to_string();
                    let value = cache.get_or_insert_with(&at.to_string(), || {
                        all_lead.wait();
                        1 + cache.get_or_insert_with(&next, || 0).unwrap()
                    });
                    assert!(value.unwrap() >= 1);
                });
            }
        });
    }
}

#[test]
fn a_real_circle_of_dependencies_is_an_error_not_an_overflow() {
    let cache = Arc::new(cache());
    fn load(cache: &Cache<String, u64>, at: usize, both: Option<&Barrier>) -> Result<u64, Error> {
        let next = || {
            if let Some(both) = both {
                both.wait();
            }
            load(cache, 1 - at, None)
        };
        match cache.try_get_or_insert_with(&at.to_string(), next) {
            Ok(value) => Ok(value),
            Err(LoadError::Load(error) | LoadError::Cache(error)) => Err(error),
        }
    }
    let both = Barrier::new(2);
    thread::scope(|scope| {
        let results = [0, 1].map(|at| {
            let (cache, both) = (&cache, &both);
            scope.spawn(move || load(cache, at, Some(both)))
        });
        for result in results {
            let result = result.join().unwrap();
            assert!(matches!(result, Err(Error::Recursion)), "{result:?}");
        }
    });
}

#[test]
fn a_removal_during_a_load_is_not_undone() {
    let cache = cache();
    let loaded = cache.get_or_insert_with("key", || {
        // Somebody invalidates what this load has begun to read.
        assert!(!cache.remove("key").unwrap());
        1
    });
    assert_eq!(loaded.unwrap(), 1);
    assert_eq!(cache.get("key").unwrap(), None);
    let loaded = cache.get_or_insert_with("key", || {
        assert_eq!(cache.clear().unwrap(), 0);
        2
    });
    assert_eq!(loaded.unwrap(), 2);
    assert_eq!(cache.get("key").unwrap(), None);
}

#[test]
fn an_insert_during_a_load_stays_and_is_returned() {
    let cache = cache();
    let loaded = cache.get_or_insert_with("key", || {
        assert!(cache.insert("key".to_owned(), 5).unwrap().is_admitted());
        1
    });
    assert_eq!(loaded.unwrap(), 5);
    assert_eq!(cache.get("key").unwrap(), Some(5));
}

#[test]
fn who_comes_after_a_removal_does_not_get_what_was_loaded_before() {
    let cache = cache();
    let loaded = cache.get_or_insert_with("key", || {
        cache.remove("key").unwrap();
        thread::scope(|scope| {
            let later = scope.spawn(|| cache.get_or_insert_with("key", || 2).unwrap());
            assert_eq!(later.join().unwrap(), 2);
        });
        1
    });
    assert_eq!(loaded.unwrap(), 2, "what was stored meanwhile was first");
    assert_eq!(cache.get("key").unwrap(), Some(2));
}

#[test]
fn storms_of_failures_and_removals_end() {
    let cache = cache();
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let cache = &cache;
            scope.spawn(move || {
                for turn in 0..2_000_u64 {
                    let key = ((thread * 7 + turn) % 5).to_string();
                    match turn % 7 {
                        0 => drop(cache.remove(&key).unwrap()),
                        1 => drop(cache.try_get_or_insert_with(&key, || Err::<u64, _>(()))),
                        2 => {
                            let other = ((turn + 1) % 5).to_string();
                            let nested = || cache.get_or_insert_with(&other, || 1).unwrap_or(0) + 1;
                            drop(cache.get_or_insert_with(&key, nested));
                        }
                        _ => drop(cache.get_or_insert_with(&key, || turn).unwrap()),
                    }
                }
            });
        }
    });
}
