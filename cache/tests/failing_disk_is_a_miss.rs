//! A store that fails is a miss and a state, never an error unless asked for, and never a
//! wrong value.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Flaky, Random, Trouble, bytes};
use larder::{Builder, Cache, Error, Event, Health, ManualClock, Mode};

/// Everything a test needs to look at.
struct Bench {
    cache: Cache<u32, u32>,
    engine: Arc<Flaky>,
    clock: Arc<ManualClock>,
    events: Arc<Mutex<Vec<Event>>>,
}

fn bench(set: impl FnOnce(Builder<u32, u32>) -> Builder<u32, u32>) -> Bench {
    let clock = Arc::new(ManualClock::at(1_000));
    let engine = Flaky::with_clock(Arc::<ManualClock>::clone(&clock));
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let builder = Cache::builder()
        .memory_items(4)
        .engine(Arc::<Flaky>::clone(&engine))
        .clock(Arc::<ManualClock>::clone(&clock))
        .offline_after(3)
        .backoff(Duration::from_millis(100), Duration::from_millis(400))
        .backoff_jitter(0.0)
        .on_event(move |event| heard.lock().unwrap().push(event.clone()));
    Bench { cache: set(builder).build().unwrap(), engine, clock, events }
}

impl Bench {
    fn put(&self, key: u32, value: u32) {
        assert!(self.cache.insert(key, value).unwrap().is_admitted());
    }

    fn get(&self, key: u32) -> Option<u32> {
        self.cache.get(&key).unwrap()
    }

    /// Pushes everything else out of memory.
    fn flood(&self) {
        (1_000..1_020).for_each(|key| self.put(key, key));
    }

    fn health(&self) -> Vec<(Health, Health)> {
        let events = self.events.lock().unwrap();
        let health = |event: &Event| match event {
            Event::Health { from, to } => Some((*from, *to)),
            _ => None,
        };
        events.iter().filter_map(health).collect()
    }
}

#[test]
fn failures_are_misses_and_the_cache_goes_on_from_memory() {
    let bench = bench(|builder| builder);
    bench.put(1, 1);
    bench.engine.fail(Trouble::Before);
    assert_eq!(bench.get(1), Some(1));
    assert_eq!(bench.get(2), None);
    bench.put(3, 3);
    assert_eq!(bench.get(3), Some(3));
    assert_eq!(bench.cache.get_or_insert_with(&4, || 4).unwrap(), 4);
    assert_eq!(bench.get(4), Some(4));
    assert!(bench.cache.stats().disk_errors > 0);
    assert_ne!(bench.cache.health(), Health::Healthy);
}

#[test]
fn it_goes_offline_pauses_longer_each_time_and_comes_back_after_one_probe() {
    use Health::{Degraded, Healthy, Offline};
    let bench = bench(|builder| builder);
    bench.put(1, 1);
    bench.engine.fail(Trouble::Before);
    let tries = || bench.engine.gets.load(SeqCst);
    let start = tries();
    for _ in 0..10 {
        assert_eq!(bench.get(7), None);
    }
    assert_eq!(tries() - start, 3, "after three failures nothing is tried");
    assert_eq!(bench.cache.health(), Offline);
    for pause in [100, 200, 400, 400] {
        bench.clock.advance(pause - 1);
        let before = tries();
        bench.get(7);
        assert_eq!(tries(), before);
        bench.clock.advance(1);
        bench.get(7);
        bench.get(7);
        assert_eq!(tries() - before, 1, "one probe");
    }
    bench.engine.fail(Trouble::None);
    bench.clock.advance(400);
    assert_eq!(bench.get(7), None);
    assert_eq!(bench.cache.health(), Healthy);
    let expected = [(Healthy, Degraded), (Degraded, Offline), (Offline, Healthy)];
    assert_eq!(bench.health(), expected);
    assert!(bench.cache.stats().disk_skipped > 0);
}

/// What is masked is removed by the next change, which goes through: that says nothing about puts.
#[test]
fn puts_that_fail_are_given_up_though_removals_go_through() {
    for mode in [Mode::WriteThrough, Mode::WriteOnEvict] {
        let bench = bench(|builder| builder.mode(mode));
        // In the store, so that each put replaces something there, and each removal removes it.
        (0..60).for_each(|key| bench.put(key, key));
        bench.cache.flush().unwrap();
        bench.engine.fail_puts.store(true, SeqCst);
        let tries = || bench.engine.puts.load(SeqCst);
        let before = tries();
        (0..200).for_each(|key| bench.put(key, key + 1));
        assert!(tries() - before <= 10, "{mode:?}: {} tries", tries() - before);
        bench.clock.advance(100);
        let before = tries();
        (0..200).for_each(|key| bench.put(key, key + 2));
        assert!(tries() - before <= 10, "{mode:?}: {} tries after a pause", tries() - before);
        // Once it works again, a put finds that out.
        bench.engine.fail_puts.store(false, SeqCst);
        bench.clock.advance(400);
        (0..60).for_each(|key| bench.put(key, key + 3));
        bench.cache.flush().unwrap();
        assert_eq!(bench.cache.health(), Health::Healthy, "{mode:?}");
        (0..60).for_each(|key| assert_eq!(bench.get(key), Some(key + 3), "{mode:?}"));
    }
}

#[test]
fn a_full_disk_still_reads() {
    let bench = bench(|builder| builder);
    (0..50).for_each(|key| bench.put(key, key));
    bench.engine.fail_writes(Trouble::Before);
    (50..100).for_each(|key| bench.put(key, key));
    for key in 0..40 {
        assert_eq!(bench.get(key), Some(key));
    }
    assert_eq!(bench.cache.health(), Health::Degraded);
}

#[test]
fn what_a_failed_write_should_have_replaced_is_never_read_again() {
    for trouble in [Trouble::Before, Trouble::After, Trouble::Lost] {
        let bench = bench(|builder| builder);
        bench.put(1, 10);
        bench.engine.fail_writes(trouble);
        bench.put(1, 11);
        assert_eq!(bench.get(1), Some(11));
        bench.flood();
        // Memory may have had to let it go. Then it is a miss, not the old value.
        assert!([None, Some(11)].contains(&bench.get(1)), "{trouble:?}");
        bench.engine.fail_writes(Trouble::None);
        bench.clock.advance(100);
        bench.put(2, 2);
        bench.put(3, 3);
        assert!([None, Some(11)].contains(&bench.get(1)), "{trouble:?}");
    }
}

#[test]
fn a_failed_removal_holds_and_is_made_good_later() {
    for trouble in [Trouble::Before, Trouble::After, Trouble::Lost] {
        let bench = bench(|builder| builder);
        bench.put(1, 10);
        bench.engine.fail_writes(trouble);
        assert!(bench.cache.remove(&1).is_ok());
        assert_eq!(bench.get(1), None);
        assert!(!bench.cache.contains(&1).unwrap());
        assert_eq!(bench.cache.take(&1).unwrap(), None);
        assert_eq!(bench.cache.iter().unwrap().count(), 0);
        bench.engine.fail_writes(Trouble::None);
        bench.clock.advance(100);
        assert_eq!(bench.get(1), None);
        bench.put(2, 2);
        assert_eq!(bench.cache.stats().masked_keys, 0);
        assert_eq!(bench.engine.peek(&bytes(1_u32)), None, "it was removed after all");
    }
}

#[test]
fn a_key_can_be_written_again_once_the_store_works() {
    let bench = bench(|builder| builder.no_memory());
    bench.put(1, 10);
    bench.engine.fail_writes(Trouble::Before);
    assert!(!bench.cache.insert(1, 11).unwrap().is_admitted(), "nowhere to put it");
    assert_eq!(bench.get(1), None);
    bench.engine.fail_writes(Trouble::None);
    bench.put(1, 12);
    assert_eq!(bench.get(1), Some(12));
}

#[test]
fn too_many_changed_keys_bypass_the_store_until_it_was_cleared() {
    let bench = bench(|builder| builder);
    (0..100).for_each(|key| bench.put(key, key));
    // Reads fail as well, so that nobody can say which keys are absent.
    bench.engine.fail(Trouble::Before);
    for key in 0..20_000 {
        let _ = bench.cache.insert(key, key + 1).unwrap();
    }
    assert!(bench.events.lock().unwrap().contains(&Event::Bypassed));
    assert_eq!(bench.cache.health(), Health::Offline);
    bench.engine.fail_reads.store(false, SeqCst);
    for key in 0..100 {
        assert!([None, Some(key + 1)].contains(&bench.get(key)));
    }
    bench.engine.fail(Trouble::None);
    bench.clock.advance(400);
    bench.put(5, 50);
    assert!(bench.events.lock().unwrap().contains(&Event::Cleared));
    // What had waited was written, and the old values are gone.
    assert!((6_u32..100).all(|key| bench.engine.peek(&bytes(key)).is_none()));
    (100..200).for_each(|key| bench.put(key, key));
    assert_eq!(bench.get(5), Some(50));
    assert_eq!(bench.get(6), None);
}

#[test]
fn a_failed_clear_holds() {
    let bench = bench(|builder| builder);
    (0..100).for_each(|key| bench.put(key, key));
    bench.engine.fail(Trouble::Before);
    assert!(bench.cache.clear().is_ok());
    assert!((0..100).all(|key| bench.get(key).is_none()));
    bench.engine.fail(Trouble::None);
    assert!((0..100).all(|key| bench.get(key).is_none()));
    bench.clock.advance(400);
    bench.put(1_000, 1);
    assert!((0..100).all(|key| bench.get(key).is_none()));
    assert_eq!(bench.engine.entries(), 1);
}

#[test]
fn strict_gives_out_the_errors_and_no_value_that_might_be_wrong() {
    let bench = bench(|builder| builder.strict(true));
    bench.put(1, 10);
    bench.engine.fail(Trouble::Before);
    assert!(matches!(bench.cache.get(&7), Err(Error::Engine { .. })));
    assert!(matches!(bench.cache.insert(1, 11), Err(Error::Engine { .. })));
    // Neither value is certain now.
    assert!(!matches!(bench.cache.get(&1), Ok(Some(_))));
    assert!(matches!(bench.cache.remove(&2), Err(Error::Engine { .. })));
    for _ in 0..10 {
        assert!(matches!(bench.cache.get(&7), Err(Error::Engine { .. })), "each time");
    }
    bench.engine.fail(Trouble::None);
    assert_eq!(bench.get(1), None);
    bench.put(1, 12);
    assert_eq!(bench.get(1), Some(12));
}

#[test]
fn flush_sync_and_close_always_say_what_went_wrong() {
    let bench = bench(|builder| builder.mode(Mode::WriteOnEvict));
    bench.put(1, 1);
    bench.engine.fail(Trouble::Before);
    assert!(bench.cache.flush().is_err());
    assert!(bench.cache.sync().is_err());
    assert!(bench.cache.close().is_err());
    assert_eq!(bench.cache.stats().flush_losses, 1, "closed with a value that went nowhere");
    assert!(matches!(bench.cache.get(&1), Err(Error::Closed)));
    assert!(matches!(bench.cache.close(), Err(Error::Closed)));
}

/// One thread, any operations, any failures, little memory: every answer is the model's, or
/// a miss.
#[test]
fn whatever_fails_a_value_is_right_or_missing() {
    for seed in 0..60 {
        let mode = if seed % 2 == 0 { Mode::WriteThrough } else { Mode::WriteOnEvict };
        let bench = bench(|builder| builder.mode(mode));
        let mut random = Random(seed);
        let mut model: HashMap<u32, u32> = HashMap::new();
        let mut answers = 0;
        for step in 0..3_000 {
            let key = u32::try_from(random.below(12)).unwrap();
            match random.below(40) {
                0 => {
                    let trouble = Trouble::ALL[usize::try_from(random.below(4)).unwrap()];
                    bench.engine.fail_writes(trouble);
                    bench.engine.fail_reads.store(random.below(3) == 0, SeqCst);
                }
                1 => bench.engine.fail(Trouble::None),
                2 => bench.clock.advance(random.below(300)),
                3 if random.below(8) == 0 => {
                    drop(bench.cache.clear());
                    model.clear();
                }
                4 => drop(bench.cache.flush()),
                5..8 => {
                    drop(bench.cache.remove(&key));
                    model.remove(&key);
                }
                8 => {
                    let taken = bench.cache.take(&key).unwrap();
                    let known = model.remove(&key);
                    assert!(taken.is_none() || taken == known, "seed {seed}, step {step}");
                }
                9..20 => {
                    bench.put(key, step);
                    model.insert(key, step);
                }
                20 => {
                    for entry in bench.cache.iter().unwrap() {
                        let (key, value) = entry.unwrap();
                        assert_eq!(model.get(&key), Some(&value), "seed {seed}, step {step}");
                    }
                }
                _ => {
                    let value = bench.get(key);
                    let known = model.get(&key).copied();
                    assert!(value.is_none() || value == known, "seed {seed}, step {step}");
                    answers += u32::from(value.is_some());
                }
            }
        }
        assert!(answers > 200, "seed {seed}: {answers} answers prove little");
    }
}
