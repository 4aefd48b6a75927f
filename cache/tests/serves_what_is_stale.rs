//! Values near and past their time: who loads them anew, and what everybody else gets meanwhile.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use larder::{Builder, Cache, LoadError, Loaded, ManualClock, Put, Ttl};

const SECOND: Duration = Duration::from_secs(1);

/// The same cache in memory, over a store, and with a store only; all of them keep values 60 s.
fn caches(
    set_up: impl Fn(Builder<u32, u64>) -> Builder<u32, u64>,
    act: impl Fn(&Cache<u32, u64>, &ManualClock),
) {
    let home = tempfile::tempdir().unwrap();
    for kind in ["memory", "both", "disk"] {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let builder = set_up(Cache::builder().ttl(60 * SECOND).clock(clock.clone()));
        let cache = match kind {
            "memory" => builder,
            "both" => builder.disk(home.path().join(kind)),
            _ => builder.disk(home.path().join(kind)).no_memory(),
        };
        act(&cache.build().unwrap(), &clock);
    }
}

fn ok(value: u64) -> Result<Loaded<u64>, Infallible> {
    Ok(Loaded::new(value))
}

#[test]
fn past_its_time_a_value_serves_only_those_who_load() {
    caches(
        |builder| builder.serve_stale(30 * SECOND),
        |cache, clock| {
            assert_eq!(cache.get_or_load(&1, || ok(10)).unwrap(), 10);
            clock.advance(59_999);
            assert_eq!(cache.get(&1).unwrap(), Some(10));
            clock.advance(1);
            // Its time is over: for everyone but loaders it is gone.
            assert_eq!(cache.get(&1).unwrap(), None);
            assert!(!cache.contains(&1).unwrap());
            assert_eq!(cache.iter().unwrap().count(), 0);
            assert!(!cache.remove(&2).unwrap());
            // One loads, others get the old value meanwhile.
            let loaded = cache.get_or_load(&1, || {
                assert_eq!(cache.get_or_load(&1, || ok(99)).unwrap(), 10);
                ok(11)
            });
            assert_eq!(loaded.unwrap(), 11);
            assert_eq!(cache.get(&1).unwrap(), Some(11));
            let stats = cache.stats();
            assert_eq!((stats.loads, stats.refreshes, stats.stale_hits), (2, 1, 1));
            // After the grace it is simply missing.
            clock.advance(90_000);
            assert_eq!(cache.get_or_load(&1, || ok(12)).unwrap(), 12);
            assert_eq!(cache.stats().refreshes, 1);
        },
    );
}

#[test]
fn a_stale_value_cannot_be_taken_or_removed() {
    caches(
        |builder| builder.serve_stale(30 * SECOND),
        |cache, clock| {
            for key in 0..2 {
                assert!(cache.insert(key, 7).unwrap().is_admitted());
            }
            assert!(cache.remove(&0).unwrap());
            assert!(cache.insert(0, 7).unwrap().is_admitted());
            clock.advance(60_000);
            assert!(!cache.remove(&0).unwrap());
            assert_eq!(cache.take(&1).unwrap(), None);
            // And then it does not serve either.
            for key in 0..2 {
                assert_eq!(cache.get_or_load(&key, || ok(8)).unwrap(), 8);
            }
            assert_eq!(cache.stats().stale_hits, 0);
        },
    );
}

#[test]
fn what_cannot_be_loaded_stays_for_a_while() {
    caches(
        |builder| builder.serve_stale_on_error(300 * SECOND),
        |cache, clock| {
            let fails = || Err::<Loaded<u64>, _>("down");
            assert!(matches!(cache.get_or_load(&1, fails), Err(LoadError::Load("down"))));
            assert_eq!(cache.get_or_load(&1, || ok(10)).unwrap(), 10);
            clock.advance(60_000);
            assert_eq!(cache.get_or_load(&1, fails).unwrap(), 10);
            assert_eq!(cache.get_or_load_shared(&1, fails).unwrap(), 10);
            assert_eq!(cache.get(&1).unwrap(), None);
            clock.advance(299_999);
            assert_eq!(cache.get_or_load(&1, fails).unwrap(), 10);
            clock.advance(1);
            assert!(matches!(cache.get_or_load(&1, fails), Err(LoadError::Load("down"))));
            let stats = cache.stats();
            assert_eq!((stats.stale_hits, stats.load_failures), (3, 5));
            // What fails for one reason or another is never stored over what works.
            assert_eq!(cache.get_or_load(&1, || ok(11)).unwrap(), 11);
        },
    );
}

#[test]
fn one_caller_loads_ahead_of_time() {
    caches(
        |builder| builder.refresh_ahead(10 * SECOND),
        |cache, clock| {
            assert_eq!(cache.get_or_load(&1, || ok(10)).unwrap(), 10);
            clock.advance(49_999);
            assert_eq!(
                cache.get_or_load(&1, || unreachable!() as Result<_, Infallible>).unwrap(),
                10
            );
            clock.advance(1);
            let loaded = cache.get_or_load(&1, || {
                assert_eq!(cache.get(&1).unwrap(), Some(10), "it is fresh all the same");
                assert_eq!(cache.get_or_load(&1, || ok(99)).unwrap(), 10);
                ok(11)
            });
            assert_eq!(loaded.unwrap(), 11);
            assert_eq!((cache.stats().refreshes, cache.stats().stale_hits), (1, 0));
            // An error ahead of time is nobody's concern.
            clock.advance(55_000);
            assert_eq!(cache.get_or_load(&1, || Err("down")).unwrap(), 11);
        },
    );
}

#[test]
fn a_refresh_behind_the_caller_keeps_nobody_waiting() {
    caches(
        |builder| builder.serve_stale(30 * SECOND),
        |cache, clock| {
            assert_eq!(cache.get_or_load_behind(&1, || ok(10)).unwrap(), 10);
            clock.advance(60_000);
            let (go, gone) = channel::<()>();
            let (tell, told) = channel();
            let load = move || {
                gone.recv().unwrap();
                tell.send(thread::current().name().map(str::to_owned)).unwrap();
                ok(11)
            };
            // The loader cannot end before this has returned.
            assert_eq!(cache.get_or_load_behind(&1, load).unwrap(), 10);
            go.send(()).unwrap();
            assert_eq!(told.recv().unwrap().as_deref(), Some("larder-refresh"));
            while cache.stats().refreshes == 0 {
                thread::yield_now();
            }
            assert_eq!(cache.get_or_load_behind(&1, || ok(99)).unwrap(), 11);
        },
    );
}

#[test]
fn a_change_during_a_refresh_wins() {
    caches(
        |builder| builder.serve_stale(30 * SECOND),
        |cache, clock| {
            assert_eq!(cache.get_or_load(&1, || ok(10)).unwrap(), 10);
            clock.advance(60_000);
            let loaded = cache.get_or_load(&1, || {
                assert!(cache.insert(1, 12).unwrap().is_admitted());
                ok(11)
            });
            assert_eq!(loaded.unwrap(), 12);
            assert_eq!(cache.get(&1).unwrap(), Some(12));
        },
    );
}

#[test]
fn of_many_one_refreshes() {
    caches(
        |builder| builder.serve_stale(30 * SECOND),
        |cache, clock| {
            assert_eq!(cache.get_or_load(&1, || ok(0)).unwrap(), 0);
            clock.advance(60_000);
            let (runs, start, end) = (AtomicUsize::new(0), Barrier::new(8), Barrier::new(8));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        let mut waited = false;
                        let value = cache.get_or_load(&1, || {
                            runs.fetch_add(1, SeqCst);
                            // All others have their value before this one is there.
                            end.wait();
                            waited = true;
                            ok(1)
                        });
                        assert_eq!(value.unwrap(), u64::from(waited));
                        if !waited {
                            end.wait();
                        }
                    });
                }
            });
            assert_eq!(runs.load(SeqCst), 1);
            assert_eq!(cache.get(&1).unwrap(), Some(1));
        },
    );
}

#[test]
fn what_never_expires_is_never_stale() {
    caches(
        |builder| builder.serve_stale(SECOND).refresh_ahead(SECOND).refresh_early(1e5),
        |cache, clock| {
            let put = Put { ttl: Ttl::Never, ..Put::default() };
            assert!(cache.insert_with(1, 5, &put).unwrap().is_admitted());
            clock.advance(u64::MAX / 4);
            for _ in 0..100 {
                assert_eq!(cache.get_or_load(&1, || ok(6)).unwrap(), 5);
            }
        },
    );
}

#[test]
fn loaders_say_how_their_value_is_kept() {
    caches(
        |builder| builder,
        |cache, clock| {
            let brief = || Ok::<_, Infallible>(Loaded::new(1).expires_after(SECOND));
            assert_eq!(cache.get_or_load(&1, brief).unwrap(), 1);
            assert_eq!(
                cache.get_or_load(&2, || Ok::<_, Infallible>(Loaded::new(2).not_kept())).unwrap(),
                2
            );
            assert_eq!(cache.get_or_load(&3, || ok(3)).unwrap(), 3);
            assert_eq!([1, 2, 3].map(|key| cache.get(&key).unwrap()), [Some(1), None, Some(3)]);
            clock.advance(1_000);
            assert_eq!([1, 2, 3].map(|key| cache.get(&key).unwrap()), [None, None, Some(3)]);
        },
    );
}

#[test]
fn an_error_is_shared_by_choice() {
    caches(
        |builder| builder,
        |cache, _| {
            for shared in [true, false] {
                let (runs, started) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let misses = cache.stats().misses;
                thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(|| {
                            started.fetch_add(1, SeqCst);
                            let load = || {
                                runs.fetch_add(1, SeqCst);
                                // Until the others are about to wait, and then some.
                                while cache.stats().misses < misses + 4 {
                                    thread::yield_now();
                                }
                                thread::sleep(Duration::from_millis(20));
                                Err::<Loaded<u64>, _>("down".to_owned())
                            };
                            let answer = if shared {
                                cache.get_or_load_shared(&1, load)
                            } else {
                                cache.get_or_load(&1, load)
                            };
                            assert_eq!(answer.unwrap_err().into_load().unwrap(), "down");
                        });
                    }
                });
                let runs = runs.load(SeqCst);
                // A thread that was held up before it boarded starts a flight of its own.
                assert!(if shared { runs < 4 } else { runs == 4 }, "{runs} runs, shared: {shared}");
            }
        },
    );
}

#[test]
fn options_that_cannot_be_are_refused_by_name() {
    for (builder, option) in [
        (Cache::<u32, u64>::builder().jitter(1.5), "jitter"),
        (Cache::builder().jitter(f64::NAN), "jitter"),
        (Cache::builder().refresh_early(-1.0), "refresh_early"),
        (Cache::builder().refresh_early(f64::NAN), "refresh_early"),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    }
    // No time is too long.
    let longest = Cache::<u32, u64>::builder().ttl(Duration::MAX).serve_stale(Duration::MAX);
    let cache = longest.refresh_ahead(SECOND).build().unwrap();
    assert_eq!(cache.get_or_load(&1, || ok(1)).unwrap(), 1);
    assert_eq!(cache.get(&1).unwrap(), Some(1));
}
