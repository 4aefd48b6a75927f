//! Promise: at no time do more hold a lock or a semaphore than may; only who holds it gives it back;
//! who dies holds nobody up for longer than its lease; and a limit lets through exactly what it says.
//! Time is set by the test.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

#[path = "common/grounds.rs"]
mod grounds;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use grounds::{clock, grounds, on_disk};
use larder::structures::{Structures, Turn};
use larder::{Cache, Disk, Error, Retain, SystemClock};
use larder_engine::memory::Memory;

const LEASE: Duration = Duration::from_millis(1_000);
const LONG: Duration = Duration::from_secs(1 << 30);

#[test]
fn one_holds_a_lock_and_fences_grow() {
    for ground in grounds() {
        let lock = ground.structures.lock("l", LEASE).unwrap();
        assert!(!lock.is_locked().unwrap());
        let first = lock.try_lock().unwrap().unwrap();
        assert!(lock.is_locked().unwrap() && first.is_held().unwrap());
        let other = ground.structures.lock("l", LEASE).unwrap();
        assert!(other.try_lock().unwrap().is_none(), "{}", ground.name);
        assert!(other.lock_within(Duration::ZERO).unwrap().is_none());
        let fence = first.fence();
        first.release().unwrap();
        let second = other.lock().unwrap();
        assert!(second.fence() > fence);
        drop(second);
        assert!(!lock.is_locked().unwrap());
        assert!(lock.run(|| lock.is_locked().unwrap()).unwrap());
        assert!(!lock.is_locked().unwrap());
    }
}

#[test]
fn a_lease_runs_out_and_only_its_owner_gives_it_back() {
    for ground in grounds() {
        let lock = ground.structures.lock("l", LEASE).unwrap();
        let dead = lock.lock().unwrap();
        ground.clock.advance(999);
        assert!(lock.try_lock().unwrap().is_none(), "{}", ground.name);
        dead.renew().unwrap();
        ground.clock.advance(999);
        assert!(lock.try_lock().unwrap().is_none(), "it was renewed");
        ground.clock.advance(1);
        assert!(!dead.is_held().unwrap(), "held while now < end");
        let next = lock.try_lock().unwrap().unwrap();
        assert!(next.fence() > dead.fence());
        assert!(matches!(dead.renew(), Err(Error::LeaseOver { name }) if name == "l"));
        let error = dead.release().unwrap_err();
        assert!(matches!(error, Error::LeaseOver { .. }));
        // The lease of another was neither given back nor renewed by that.
        assert!(next.is_held().unwrap() && lock.try_lock().unwrap().is_none());
        std::mem::forget(next);
        ground.clock.advance(1_000);
        let after = lock.lock().unwrap();
        assert_eq!(after.fence(), 3, "one each");
    }
}

#[test]
fn who_waits_is_let_in_when_the_lease_of_the_dead_is_over_or_waits_no_longer_than_it_said() {
    for ground in grounds() {
        let lock = ground.structures.lock("l", LEASE).unwrap();
        let kept = ground.structures.lock("kept", LONG).unwrap();
        std::mem::forget(lock.lock().unwrap());
        let held = kept.lock().unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| lock.lock_within(LONG).unwrap().map(|held| held.fence()));
            let in_vain = scope.spawn(|| kept.lock_within(LEASE).unwrap().is_none());
            // Time passes only here; whenever they begin to wait, it ends some day.
            while !(waiting.is_finished() && in_vain.is_finished()) {
                ground.clock.advance(10);
                thread::yield_now();
            }
            assert_eq!(waiting.join().unwrap(), Some(2), "{}", ground.name);
            assert!(in_vain.join().unwrap(), "{}", ground.name);
        });
        held.release().unwrap();
    }
}

#[test]
fn nobody_is_inside_together_and_no_count_is_lost() {
    for ground in grounds() {
        let lock = ground.structures.lock("l", LEASE).unwrap();
        let counter = ground.structures.counter("c").unwrap();
        let inside = AtomicI32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let held = lock.lock().unwrap();
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "{}", ground.name);
                        // Not atomic by itself: the lock makes it so.
                        let seen = counter.get().unwrap();
                        counter.set(seen + 1).unwrap();
                        inside.fetch_sub(1, SeqCst);
                        held.release().unwrap();
                    }
                });
            }
        });
        assert_eq!(counter.get().unwrap(), 100, "{}", ground.name);
    }
}

#[test]
fn a_semaphore_lets_in_as_many_as_it_has_permits() {
    for ground in grounds() {
        let semaphore = ground.structures.semaphore("s", 3, LEASE).unwrap();
        let (inside, most) = (AtomicI32::new(0), AtomicI32::new(0));
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..15 {
                        let held = semaphore.acquire().unwrap();
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(SeqCst)), "{}: {most:?}", ground.name);
        assert_eq!(semaphore.available().unwrap(), 3);
        let held: Vec<_> = (0..3).map(|_| semaphore.try_acquire().unwrap().unwrap()).collect();
        assert!(semaphore.try_acquire().unwrap().is_none());
        ground.clock.advance(500);
        held[0].renew().unwrap();
        ground.clock.advance(500);
        assert_eq!(semaphore.available().unwrap(), 2, "one of them was renewed");
        assert!(matches!(held.into_iter().nth(1).unwrap().release(), Err(Error::LeaseOver { .. })));
        let other = ground.structures.semaphore("s", 4, LEASE).unwrap();
        assert!(matches!(other.try_acquire(), Err(Error::Config { option: "permits", .. })));
    }
}

#[test]
fn many_share_or_one_is_alone() {
    for ground in grounds() {
        let lock = ground.structures.rw_lock("rw", LEASE).unwrap();
        let (one, two) = (lock.read().unwrap(), lock.try_read().unwrap().unwrap());
        assert!(lock.try_write().unwrap().is_none());
        drop(one);
        assert!(lock.write_within(Duration::ZERO).unwrap().is_none());
        let three = lock.try_read().unwrap().expect("who gave up keeps nobody out");
        thread::scope(|scope| {
            let writer = scope.spawn(|| lock.write().unwrap().fence());
            // One who waits to be alone keeps out who comes after it, so that it has its turn.
            while lock.try_read().unwrap().is_some() {
                thread::yield_now();
            }
            drop((two, three));
            assert!(writer.join().unwrap() > 3, "{}", ground.name);
        });
        let alone = lock.write().unwrap();
        assert!(lock.try_read().unwrap().is_none() && lock.try_write().unwrap().is_none());
        ground.clock.advance(1_000);
        assert!(!alone.is_held().unwrap());
        assert!(lock.try_read().unwrap().is_some(), "the lease was over");
    }
}

#[test]
fn readers_never_see_what_a_writer_is_at() {
    for ground in grounds() {
        let lock = ground.structures.rw_lock("rw", LEASE).unwrap();
        let (left, right) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _held = lock.write().unwrap();
                        left.fetch_add(1, SeqCst);
                        thread::yield_now();
                        right.fetch_add(1, SeqCst);
                    }
                });
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _held = lock.read().unwrap();
                        let seen = (left.load(SeqCst), right.load(SeqCst));
                        assert_eq!(seen.0, seen.1, "{}", ground.name);
                    }
                });
            }
        });
        assert_eq!(left.load(SeqCst), 40);
    }
}

#[test]
fn leases_and_limits_outlive_the_process_that_made_them() {
    let (home, clock) = (tempfile::tempdir().unwrap(), clock());
    let builder = Disk::builder(home.path().join("store")).retain(Retain::All);
    let disk = Arc::new(builder.clock(clock.clone()).open().unwrap());
    let structures = Structures::over(disk.clone(), clock.clone()).unwrap();
    let held = structures.lock("l", LEASE).unwrap().lock().unwrap();
    let limiter = structures.rate_limiter("r", 10, Duration::from_secs(10)).unwrap();
    assert_eq!(limiter.try_acquire(10).unwrap(), Turn::Granted);
    // What another process finds if this one ends here.
    let found = home.path().join("found");
    disk.backup(&found).unwrap();
    drop(held);
    let structures = on_disk(&found, &clock);
    let lock = structures.lock("l", LEASE).unwrap();
    assert!(lock.try_lock().unwrap().is_none());
    let limiter = structures.rate_limiter("r", 10, Duration::from_secs(10)).unwrap();
    assert_eq!(limiter.try_acquire(3).unwrap(), Turn::Wait(Duration::from_secs(3)));
    clock.advance(1_000);
    assert_eq!(lock.try_lock().unwrap().unwrap().fence(), 2);
    assert_eq!(limiter.try_acquire(1).unwrap(), Turn::Granted);
}

#[test]
fn a_limit_is_exact() {
    for ground in grounds() {
        // 3 within a second: one each 333⅓ ms, and 3 at once after a pause.
        let limiter = ground.structures.rate_limiter("r", 3, Duration::from_secs(1)).unwrap();
        let turns = |count: u32| {
            (0..count).filter(|_| limiter.try_acquire(1).unwrap() == Turn::Granted).count()
        };
        assert_eq!(turns(10), 3, "{}", ground.name);
        let wait = |ms| Turn::Wait(Duration::from_millis(ms));
        assert_eq!(limiter.try_acquire(1).unwrap(), wait(334));
        assert_eq!(limiter.try_acquire(3).unwrap(), wait(1_000));
        ground.clock.advance(333);
        assert_eq!(limiter.try_acquire(1).unwrap(), wait(1));
        ground.clock.advance(1);
        assert_eq!(turns(5), 1);
        // Over a long time not one more, and not one fewer, than the rate allows.
        let before = 4;
        let mut granted = before;
        for _ in 0..3_000 {
            ground.clock.advance(7);
            granted += turns(2);
        }
        let passed_ms = 334 + 7 * 3_000;
        assert_eq!(granted, 3 + passed_ms * 3 / 1_000);
        ground.clock.advance(1 << 40);
        assert_eq!(turns(10), 3, "a pause saves up no more than the bucket holds");
        assert!(matches!(limiter.try_acquire(4), Err(Error::Config { option: "tokens", .. })));
        assert_eq!(limiter.try_acquire(0).unwrap(), Turn::Granted);
        // Another limit under the same name goes on from what was let through.
        let wider = ground.structures.rate_limiter("r", 6, Duration::from_secs(1)).unwrap();
        assert_eq!(wider.try_acquire(1).unwrap(), wait(167));
    }
}

#[test]
fn limits_hold_over_all_threads() {
    for ground in grounds() {
        let limiter = ground.structures.rate_limiter("r", 50, Duration::from_secs(1)).unwrap();
        let granted = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..40 {
                        let turn = limiter.try_acquire(1).unwrap();
                        granted.fetch_add(u64::from(turn == Turn::Granted), SeqCst);
                    }
                });
            }
        });
        assert_eq!(granted.load(SeqCst), 50, "{}", ground.name);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| limiter.acquire(50).unwrap());
            while !waiting.is_finished() {
                ground.clock.advance(10);
                thread::yield_now();
            }
        });
    }
}

#[test]
fn a_lease_that_is_kept_alive_does_not_run_out() {
    // By the machine's clock, as the thread that renews goes by it: it may be slow, and not early.
    let structures = Structures::in_memory(1 << 20).unwrap();
    let lock = structures.lock("l", Duration::from_millis(2_000)).unwrap();
    let mut held = lock.lock().unwrap();
    held.keep_alive().unwrap();
    let before = held.is_held().unwrap();
    drop(held);
    assert!(before && !lock.is_locked().unwrap());
    assert!(lock.try_lock().unwrap().is_some(), "nothing renews what was given back");
}

#[test]
fn where_leases_could_be_evicted_they_are_refused() {
    let memory = Arc::new(Memory::builder(1 << 20).build().unwrap());
    let error = Structures::over(memory.clone(), Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, Error::Evicts { .. }), "{error}");
    let lossy = Structures::over_evicting(memory, Arc::new(SystemClock)).unwrap();
    assert!(matches!(lossy.lock("l", LEASE), Err(Error::Evicts { what: "locks" })));
    assert!(matches!(lossy.rw_lock("l", LEASE), Err(Error::Evicts { .. })));
    assert!(matches!(lossy.semaphore("l", 1, LEASE), Err(Error::Evicts { .. })));
    assert!(matches!(lossy.rate_limiter("l", 1, LEASE), Err(Error::Evicts { .. })));
    assert_eq!(lossy.counter("c").unwrap().add(1).unwrap(), 1);

    let home = tempfile::tempdir().unwrap();
    let cache = Cache::<u32, u32>::builder().disk(home.path().join("store")).build().unwrap();
    let error = cache.structures().unwrap_err();
    assert!(matches!(error, Error::Evicts { .. }) && error.to_string().contains("Retain::All"));
    let structures = Structures::in_memory(1 << 20).unwrap();
    assert!(matches!(structures.lock("l", Duration::ZERO), Err(Error::Config { .. })));
    assert!(matches!(structures.semaphore("l", 0, LEASE), Err(Error::Config { .. })));
    assert!(matches!(structures.rate_limiter("l", 0, LEASE), Err(Error::Config { .. })));
    assert!(matches!(structures.counter("n".repeat(1_025)), Err(Error::KeyTooLong { .. })));
}
