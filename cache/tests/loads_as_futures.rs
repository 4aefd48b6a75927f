//! Loads as futures: once, whoever asks, and with nothing left behind by those who give up.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use futures_util::future::{join, join_all};
use futures_util::stream::StreamExt;
use larder::{AsyncCache, Cache, Error, LoadError, Loaded, ManualClock, Work};

fn on_a_thread(work: Work) {
    thread::spawn(work);
}

/// The same cache in memory, and over a store that is asked from another thread.
fn caches(act: impl Fn(AsyncCache<u32, u64>)) {
    let home = tempfile::tempdir().unwrap();
    act(Cache::builder().build().unwrap().nonblocking(on_a_thread));
    let both = Cache::builder().disk(home.path().join("both")).build().unwrap();
    act(both.nonblocking(on_a_thread));
    let disk = Cache::builder().disk(home.path().join("disk")).no_memory().build().unwrap();
    act(disk.nonblocking(on_a_thread));
}

fn ok(value: u64) -> std::future::Ready<Result<Loaded<u64>, Infallible>> {
    ready(Ok(Loaded::new(value)))
}

/// Lets all others go on once.
async fn step_aside() {
    let stepped = Cell::new(false);
    poll_fn(|cx| {
        if stepped.replace(true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls once.
fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn all_that_a_cache_does_can_be_awaited() {
    caches(|cache| {
        block_on(async {
            assert_eq!(cache.get(&1).await.unwrap(), None);
            assert!(cache.insert(&1, 10).await.unwrap().is_admitted());
            let brief = Loaded::new(20).expires_after(Duration::ZERO);
            assert!(cache.insert(&2, brief).await.unwrap().is_admitted());
            assert!(cache.contains(&1).await.unwrap() && !cache.contains(&2).await.unwrap());
            assert_eq!(cache.get(&1).await.unwrap(), Some(10));
            assert_eq!(cache.blocking().get(&1).unwrap(), Some(10));
            assert!(cache.remove(&1).await.unwrap());
            assert_eq!(cache.get_or_insert_with(&3, || ready(30)).await.unwrap(), 30);
            assert_eq!(cache.take(&3).await.unwrap(), Some(30));
            assert_eq!(cache.take(&3).await.unwrap(), None);
            for key in 0..1_000 {
                assert!(cache.insert(&key, u64::from(key)).await.unwrap().is_admitted());
            }
            let entries = cache.entries().await.unwrap();
            let mut entries: Vec<_> = entries.map(Result::unwrap).collect().await;
            entries.sort_unstable();
            assert!(entries.into_iter().eq((0..1_000).map(|key| (key, u64::from(key)))));
            cache.flush().await.unwrap();
            cache.sync().await.unwrap();
            assert!(cache.clear().await.unwrap() >= 1_000);
            cache.close().await.unwrap();
            assert!(matches!(cache.get(&1).await, Err(Error::Closed)));
        });
    });
}

#[test]
fn tasks_and_threads_on_a_cold_key_run_one_body() {
    for _ in 0..20 {
        caches(|cache| {
            let (runs, start) = (AtomicUsize::new(0), Barrier::new(4));
            let body = || {
                runs.fetch_add(1, SeqCst);
                7
            };
            thread::scope(|scope| {
                for number in 0..4 {
                    let (cache, start, body) = (&cache, &start, &body);
                    scope.spawn(move || {
                        start.wait();
                        if number == 0 {
                            let load = || {
                                thread::yield_now();
                                body()
                            };
                            assert_eq!(cache.blocking().get_or_insert_with(&1, load).unwrap(), 7);
                            return;
                        }
                        let load = || async {
                            step_aside().await;
                            body()
                        };
                        let tasks = (0..4).map(|_| cache.get_or_insert_with(&1, load));
                        for value in block_on(join_all(tasks)) {
                            assert_eq!(value.unwrap(), 7);
                        }
                    });
                }
            });
            assert_eq!(runs.load(SeqCst), 1);
        });
    }
}

#[test]
fn a_leader_that_is_dropped_hands_over() {
    caches(|cache| {
        block_on(async {
            {
                let mut leads = pin!(cache.get_or_insert_with(&1, pending));
                let started = Cell::new(false);
                let mut waits = pin!(cache.get_or_insert_with(&2, || async {
                    started.set(true);
                    pending().await
                }));
                // As far as their loaders.
                while !started.get() {
                    assert!(poll(leads.as_mut()).is_pending() && poll(waits.as_mut()).is_pending());
                    thread::yield_now();
                }
            }
            // Nobody is left that would have to be waited for.
            assert_eq!(cache.get_or_insert_with(&1, || ready(1)).await.unwrap(), 1);
            assert_eq!(cache.get_or_insert_with(&2, || ready(2)).await.unwrap(), 2);
        });
    });
}

#[test]
fn those_who_wait_take_over_in_turn_and_may_leave() {
    type Asking = Pin<Box<dyn Future<Output = larder::Result<u64>>>>;
    caches(|cache| {
        // How many loaders were begun, and by whom the last.
        let begun = Arc::new(Mutex::new((0, 0)));
        let ask = |number: usize| -> Asking {
            let (cache, begun) = (cache.clone(), Arc::clone(&begun));
            Box::pin(async move {
                let load = || {
                    let mut begun = begun.lock().unwrap();
                    *begun = (begun.0 + 1, number);
                    pending()
                };
                cache.get_or_insert_with(&1, load).await
            })
        };
        let mut asking: Vec<(usize, Asking)> = (0..6).map(|number| (number, ask(number))).collect();
        let leader_of = |asking: &mut Vec<(usize, Asking)>, runs: usize| {
            let mut poll_all = || {
                for (_, one) in asking.iter_mut() {
                    assert!(poll(one.as_mut()).is_pending());
                }
            };
            while begun.lock().unwrap().0 < runs {
                poll_all();
                thread::yield_now();
            }
            // Time for the others to find the flight.
            for _ in 0..50 {
                poll_all();
                thread::sleep(Duration::from_micros(200));
            }
            let begun = *begun.lock().unwrap();
            assert_eq!(begun.0, runs, "one at a time");
            begun.1
        };
        let first = leader_of(&mut asking, 1);
        asking.retain(|(number, _)| *number != first);
        let second = leader_of(&mut asking, 2);
        // The leader goes, and some of those who have been told that it is their turn.
        let stays = (0..6).find(|number| *number != first && *number != second).unwrap();
        asking.retain(|(number, _)| *number == stays || *number == second);
        asking.retain(|(number, _)| *number == stays);
        assert_eq!(leader_of(&mut asking, 3), stays);
        drop(asking);
        assert_eq!(block_on(cache.get_or_insert_with(&1, || ready(3))).unwrap(), 3);
    });
}

/// Counts how often a future is polled before it is ready.
fn polls_of<T>(future: impl Future<Output = T>) -> (usize, T) {
    let mut future = pin!(future);
    let mut polls = 0;
    loop {
        polls += 1;
        if let Poll::Ready(done) = poll(future.as_mut()) {
            return (polls, done);
        }
    }
}

#[test]
fn dropped_at_any_await_a_call_leaves_nothing_behind() {
    // Offloaded work is done when this test says so, so that each call has the same awaits.
    type Queue = Arc<Mutex<Vec<Work>>>;
    let queue = Queue::default();
    let home = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000));
    let cache = Cache::<u32, u64>::builder().disk(home.path().join("c")).no_memory();
    let cache = cache.serve_stale(Duration::from_secs(10)).clock(clock).build().unwrap();
    let later = Arc::clone(&queue);
    let cache = cache.nonblocking(move |work: Work| later.lock().unwrap().push(work));
    let do_one = || {
        let work = queue.lock().unwrap().pop();
        if let Some(work) = work {
            work();
        }
    };
    let call = |key: u32| {
        let cache = &cache;
        async move {
            let load = || async {
                for _ in 0..3 {
                    step_aside().await;
                }
                Ok::<_, Infallible>(Loaded::new(u64::from(key)))
            };
            cache.get_or_load(&key, load).await.unwrap()
        }
    };
    let (most, _) = polls_of(async {
        let mut call = pin!(call(0));
        poll_fn(|cx| {
            let polled = call.as_mut().poll(cx);
            do_one();
            polled
        })
        .await
    });
    assert!(most > 5, "{most} awaits are too few to be all");
    for polls in 1..most {
        let key = u32::try_from(polls).unwrap();
        {
            let mut call = pin!(call(key));
            for turn in 0..polls {
                assert!(poll(call.as_mut()).is_pending());
                if turn + 1 < polls {
                    do_one();
                }
            }
        }
        while !queue.lock().unwrap().is_empty() {
            do_one();
        }
        // A waiter for a flight that nobody flies would hang here, and a lock that was left as well.
        let mut again = pin!(call(key));
        let value = loop {
            if let Poll::Ready(value) = poll(again.as_mut()) {
                break value;
            }
            do_one();
        };
        assert_eq!(value, u64::from(key));
    }
    assert_eq!(cache.blocking().stats().load_failures, 0, "giving up is no failure");
}

#[test]
fn a_key_that_needs_itself_is_an_error_and_a_circle_is_none() {
    caches(|cache| {
        // Through a thread's loader.
        let through = cache.blocking().get_or_insert_with(&4, || {
            let inner = block_on(cache.get_or_load(&4, || ok(9)));
            assert!(matches!(inner, Err(LoadError::Cache(Error::Recursion))));
            5
        });
        assert_eq!(through.unwrap(), 5);
        block_on(async {
            let itself = cache.get_or_load(&1, || async {
                match cache.get_or_load(&1, || ok(9)).await {
                    Err(LoadError::Cache(Error::Recursion)) => Err("recursion"),
                    other => panic!("{other:?}"),
                }
            });
            assert_eq!(itself.await.unwrap_err().into_load(), Some("recursion"));
            // The same key twice at once within a loader: one of the two waits for the other.
            let twice = cache.get_or_load(&2, || async {
                let one = || async {
                    step_aside().await;
                    Ok::<_, Infallible>(Loaded::new(4))
                };
                let (a, b) = join(cache.get_or_load(&3, one), cache.get_or_load(&3, one)).await;
                Ok::<_, Infallible>(Loaded::new(a.unwrap() + b.unwrap()))
            });
            assert_eq!(twice.await.unwrap(), 8);
            // Two that need each other's key.
            let needs = |mine: u32, other: u32| {
                let cache = &cache;
                async move {
                    let load = || async {
                        step_aside().await;
                        step_aside().await;
                        let inner = || async { Ok::<_, Infallible>(Loaded::new(100)) };
                        let inner = cache.get_or_load(&other, inner).await.unwrap();
                        Ok::<_, Infallible>(Loaded::new(inner + u64::from(mine)))
                    };
                    cache.get_or_load(&mine, load).await.unwrap()
                }
            };
            let (a, b) = join(needs(10, 11), needs(11, 10)).await;
            assert!(a >= 100 && b >= 100, "{a} {b}");
        });
    });
}

#[test]
fn errors_and_panics_hand_over_or_are_shared() {
    caches(|cache| {
        block_on(async {
            let runs = Cell::new(0);
            let fails = || async {
                runs.set(runs.get() + 1);
                for _ in 0..200 {
                    step_aside().await;
                    thread::sleep(Duration::from_micros(50));
                }
                Err::<Loaded<u64>, _>("down".to_owned())
            };
            let answers = join_all((0..4).map(|_| cache.get_or_load_shared(&1, fails))).await;
            assert!(answers.into_iter().all(|one| one.unwrap_err().into_load().unwrap() == "down"));
            assert_eq!(runs.replace(0), 1);
            let answers = join_all((0..4).map(|_| cache.get_or_load(&1, fails))).await;
            assert!(answers.into_iter().all(|one| one.unwrap_err().into_load().unwrap() == "down"));
            assert_eq!(runs.get(), 4);
        });
        let panics = std::panic::AssertUnwindSafe(|| {
            block_on(cache.get_or_insert_with(&2, || async { panic!("a loader") }))
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(block_on(cache.get_or_insert_with(&2, || ready(2))).unwrap(), 2);
    });
}

#[test]
fn work_that_is_dropped_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let cache = Cache::<u32, u64>::builder().disk(home.path().join("c")).build().unwrap();
    let cache = cache.nonblocking(drop::<Work>);
    assert!(matches!(block_on(cache.get(&1)), Err(Error::Cancelled)));
    let loaded = block_on(cache.get_or_load(&1, || ok(1)));
    assert!(matches!(loaded, Err(LoadError::Cache(Error::Cancelled))));
}

#[cfg(feature = "tokio")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_tokio_eight_tasks_run_one_body_and_a_timeout_cancels() {
    let home = tempfile::tempdir().unwrap();
    let cache = Cache::<u32, u64>::builder().disk(home.path().join("c")).build().unwrap();
    let cache = cache.on_tokio();
    let runs = Arc::new(AtomicUsize::new(0));
    let tasks = (0..8).map(|_| {
        let (cache, runs) = (cache.clone(), Arc::clone(&runs));
        tokio::spawn(async move {
            let load = || async {
                runs.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                7
            };
            cache.get_or_insert_with(&1, load).await
        })
    });
    for task in join_all(tasks).await {
        assert_eq!(task.unwrap().unwrap(), 7);
    }
    assert_eq!(runs.load(SeqCst), 1);
    let slow = cache.get_or_insert_with(&2, pending);
    assert!(tokio::time::timeout(Duration::from_millis(10), slow).await.is_err());
    assert_eq!(cache.get_or_insert_with(&2, || ready(2)).await.unwrap(), 2);
}
