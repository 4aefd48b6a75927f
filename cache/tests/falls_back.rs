//! Engines that stand in for each other: whatever fails, goes and comes back, a value is right or
//! missing, and whoever watches is told.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Flaky, Random, Trouble};
use larder::{
    Cache, Circuit, Disk, Engine, Error, Event, Fallback, FallbackBuilder, Health, ManualClock,
    Mode, Null, Outcome, Put, Rejection, Ttl,
};
use larder_engine::conformance::{Harness, Keeps, Liberties, Place, check};
use larder_engine::memory::Memory;
use larder_engine::{Error as EngineError, Expected, Result};

/// Two engines that fail on request.
struct Bench {
    engine: Arc<Fallback>,
    first: Arc<Flaky>,
    second: Arc<Flaky>,
    /// Whether the first can be opened.
    opens: Arc<AtomicBool>,
    openings: Arc<AtomicU32>,
    clock: Arc<ManualClock>,
    events: Arc<Mutex<Vec<Event>>>,
}

fn bench_with(opens: bool, set: impl FnOnce(FallbackBuilder) -> FallbackBuilder) -> Bench {
    let clock = Arc::new(ManualClock::at(1_000));
    let flaky = || Flaky::with_clock(Arc::<ManualClock>::clone(&clock));
    let (first, second) = (flaky(), flaky());
    let (opens, openings) = (Arc::new(AtomicBool::new(opens)), Arc::new(AtomicU32::new(0)));
    let events = Arc::new(Mutex::new(Vec::new()));
    let open_first = {
        let (first, opens, openings) =
            (Arc::clone(&first), Arc::clone(&opens), Arc::clone(&openings));
        move || {
            openings.fetch_add(1, SeqCst);
            let locked = EngineError::Locked { path: "first".into(), pid: 7 };
            if opens.load(SeqCst) { Ok(Arc::<Flaky>::clone(&first) as _) } else { Err(locked) }
        }
    };
    let open_second = {
        let second = Arc::clone(&second);
        move || Ok(Arc::<Flaky>::clone(&second) as _)
    };
    let heard = Arc::clone(&events);
    let builder = Fallback::builder()
        .or("first", open_first)
        .or("second", open_second)
        .clock(Arc::<ManualClock>::clone(&clock))
        .offline_after(3)
        .backoff(Duration::from_millis(100), Duration::from_millis(400))
        .backoff_jitter(0.0)
        .retries(0)
        .in_background(false)
        .on_event(move |event| heard.lock().unwrap().push(event.clone()));
    let engine = Arc::new(set(builder).build().unwrap());
    Bench { engine, first, second, opens, openings, clock, events }
}

fn bench() -> Bench {
    bench_with(true, |builder| builder)
}

impl Bench {
    fn put(&self, key: &str, value: &str) {
        let outcome = self.engine.put(key.as_bytes(), value.as_bytes(), &Put::default());
        assert!(outcome.unwrap().is_admitted());
    }

    fn get(&self, key: &str) -> Option<String> {
        let value = self.engine.get(key.as_bytes()).unwrap()?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    /// Who served instead of whom.
    fn switches(&self) -> Vec<(String, String)> {
        let name = |name: &Option<Arc<str>>| name.as_deref().unwrap_or("none").to_owned();
        let events = self.events.lock().unwrap();
        let switch = |event: &Event| match event {
            Event::Switched { from, to } => Some((name(from), name(to))),
            _ => None,
        };
        events.iter().filter_map(switch).collect()
    }

    fn circuits(&self) -> Vec<Circuit> {
        let events = self.events.lock().unwrap();
        let circuit = |event: &Event| match event {
            Event::Circuit { engine, to, .. } if &**engine == "first" => Some(*to),
            _ => None,
        };
        events.iter().filter_map(circuit).collect()
    }
}

#[test]
fn the_next_one_serves_at_once_and_the_first_comes_back() {
    let bench = bench();
    bench.put("a", "1");
    bench.first.fail(Trouble::Before);
    // The very first failure is nobody's problem.
    bench.put("a", "2");
    assert_eq!(bench.get("a").as_deref(), Some("2"));
    assert_eq!(bench.second.entries(), 1);
    for n in 0..5 {
        bench.put("b", &n.to_string());
    }
    assert_eq!(bench.engine.serving(), Some("second"));
    assert_eq!(bench.engine.health(), Health::Degraded);
    let tries = bench.first.puts.load(SeqCst);
    bench.put("c", "1");
    assert_eq!(bench.first.puts.load(SeqCst), tries, "the circuit is open");

    bench.first.fail(Trouble::None);
    bench.clock.advance(100);
    bench.put("d", "1");
    assert_eq!(bench.engine.serving(), Some("first"));
    assert_eq!(bench.engine.health(), Health::Healthy);
    assert_eq!(bench.first.peek(b"d").as_deref(), Some(&b"1"[..]));
    assert_eq!(bench.first.peek(b"a"), None, "what it lacked is gone there");
    assert_eq!(bench.second.entries(), 0, "and nothing is left elsewhere");
    assert!([None, Some("2".to_owned())].contains(&bench.get("a")));
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(bench.switches(), [pair("first", "second"), pair("second", "first")]);
    assert_eq!(bench.circuits(), [Circuit::Open, Circuit::HalfOpen, Circuit::Closed]);
}

#[test]
fn what_the_first_has_is_read_while_it_takes_nothing_more() {
    let bench = bench();
    (0..20).for_each(|n| bench.put(&n.to_string(), "old"));
    // A full disk.
    bench.first.fail_puts.store(true, SeqCst);
    (0..10).for_each(|n| bench.put(&n.to_string(), "new"));
    assert_eq!(bench.engine.serving(), Some("second"));
    for n in 0..20 {
        assert_eq!(bench.get(&n.to_string()).as_deref(), Some(if n < 10 { "new" } else { "old" }));
    }
    let keys: Vec<_> = bench.engine.iter().map(|entry| entry.unwrap().0).collect();
    assert_eq!(keys.len(), 20, "each once: {keys:?}");
    assert_eq!(bench.engine.len(), 20);
}

#[test]
fn changes_made_while_it_was_away_are_not_undone_by_its_return() {
    for trouble in [Trouble::Before, Trouble::After, Trouble::Lost] {
        let bench = bench();
        (0..6).for_each(|n| bench.put(&n.to_string(), "old"));
        bench.first.fail_writes(trouble);
        (0..3).for_each(|n| bench.put(&n.to_string(), "new"));
        bench.engine.remove(b"3").unwrap();
        assert_eq!(bench.get("3"), None, "{trouble:?}");
        bench.first.fail_writes(Trouble::None);
        bench.clock.advance(400);
        bench.put("6", "new");
        assert_eq!(bench.engine.serving(), Some("first"), "{trouble:?}");
        for n in 0..3 {
            assert_ne!(bench.get(&n.to_string()).as_deref(), Some("old"), "{trouble:?}");
        }
        assert_eq!(bench.get("3"), None, "{trouble:?}");
        assert_eq!(bench.get("5").as_deref(), Some("old"), "{trouble:?}");
        // Past the engine as well: the next process sees what is there.
        assert_ne!(bench.first.peek(b"0").as_deref(), Some(&b"old"[..]), "{trouble:?}");
        assert_eq!(bench.first.peek(b"3"), None, "{trouble:?}");
    }
}

#[test]
fn a_clear_while_it_was_away_holds() {
    let bench = bench();
    (0..6).for_each(|n| bench.put(&n.to_string(), "old"));
    bench.first.fail(Trouble::Before);
    (0..4).for_each(|_| bench.put("x", "new"));
    bench.engine.clear().unwrap();
    assert_eq!(bench.get("x"), None);
    bench.put("y", "new");
    bench.first.fail(Trouble::None);
    bench.clock.advance(400);
    (0..3).for_each(|_| bench.put("z", "new"));
    assert_eq!(bench.engine.serving(), Some("first"));
    assert!((0..6).all(|n| bench.get(&n.to_string()).is_none()));
    assert_eq!(bench.first.entries(), 1);
    assert!(bench.events.lock().unwrap().contains(&Event::Cleared));
}

#[test]
fn one_that_cannot_be_opened_is_tried_again_after_pauses_that_grow() {
    let bench = bench_with(false, |builder| builder);
    bench.first.plant(b"a", b"of an earlier day", &Put::default());
    bench.first.plant(b"b", b"of an earlier day", &Put::default());
    assert_eq!(bench.engine.serving(), Some("second"));
    let why = bench.engine.links()[0].why().unwrap().to_owned();
    assert!(why.contains("process 7"), "{why}");
    assert_eq!(bench.get("a"), None);
    bench.put("a", "new");
    let mut openings = 1;
    for pause in [100, 200, 400, 400] {
        bench.clock.advance(pause - 1);
        bench.get("a");
        assert_eq!(bench.openings.load(SeqCst), openings);
        bench.clock.advance(1);
        bench.get("a");
        bench.get("a");
        openings += 1;
        assert_eq!(bench.openings.load(SeqCst), openings);
    }
    bench.opens.store(true, SeqCst);
    bench.clock.advance(400);
    // A read is enough.
    bench.get("a");
    assert_eq!(bench.engine.serving(), Some("first"));
    assert_eq!(bench.get("b").as_deref(), Some("of an earlier day"), "as good as ever");
    assert_eq!(bench.get("a"), None, "but this was replaced");
    assert_eq!(bench.engine.links()[0].why(), None);
}

/// The thread that opens the first engine is stuck: everybody else goes on.
#[test]
fn nobody_waits_for_one_that_comes_back() {
    let (second, gate) = (Flaky::new(), Arc::new(std::sync::Barrier::new(2)));
    let tries = Arc::new(AtomicU32::new(0));
    let open_first = {
        let (gate, tries) = (Arc::clone(&gate), Arc::clone(&tries));
        move || -> Result<Arc<dyn Engine>> {
            if tries.fetch_add(1, SeqCst) == 1 {
                gate.wait();
            }
            Err(EngineError::Closed)
        }
    };
    let engine = Fallback::builder()
        .or("first", open_first)
        .or("second", move || Ok(Arc::<Flaky>::clone(&second) as _))
        .backoff(Duration::ZERO, Duration::ZERO)
        .build()
        .unwrap();
    while tries.load(SeqCst) < 2 {
        assert!(engine.put(b"a", b"1", &Put::default()).unwrap().is_admitted());
    }
    for n in 0..1_000_u32 {
        assert!(engine.put(&n.to_le_bytes(), b"1", &Put::default()).unwrap().is_admitted());
        assert!(engine.get(&n.to_le_bytes()).unwrap().is_some());
    }
    assert_eq!(tries.load(SeqCst), 2, "one at a time");
    gate.wait();
    while tries.load(SeqCst) < 3 {
        assert!(engine.put(b"a", b"1", &Put::default()).unwrap().is_admitted());
    }
    engine.close().unwrap();
}

#[test]
fn a_question_whether_anything_is_held_counts_what_is_away() {
    let bench = bench_with(false, |builder| builder);
    assert!(!bench.engine.contains(b"a").unwrap());
    assert!(bench.engine.may_hold(b"a").unwrap(), "who knows?");
    bench.engine.remove(b"a").unwrap();
    assert!(!bench.engine.may_hold(b"a").unwrap(), "whatever it holds, it is removed first");
}

#[test]
fn failures_that_will_not_pass_open_the_circuit_at_once() {
    let bench = bench();
    bench.first.close().unwrap();
    bench.put("a", "1");
    assert_eq!(bench.circuits(), [Circuit::Open]);
    assert_eq!(bench.engine.links()[0].failures(), 1);
    assert_eq!(bench.get("a").as_deref(), Some("1"));
}

#[test]
fn what_was_asked_wrongly_is_no_failure_of_an_engine() {
    let bench = bench();
    let long = vec![0; 1 << 20];
    let disk = tempfile::tempdir().unwrap();
    let dir = disk.path().join("store");
    let engine = Fallback::builder()
        .or("disk", move || Ok(Arc::new(Disk::builder(&dir).open()?)))
        .or("memory", || Ok(Arc::new(Memory::builder(1 << 20).build()?)))
        .build()
        .unwrap();
    for _ in 0..10 {
        let refused = engine.put(&long, b"", &Put::default());
        assert!(matches!(refused, Err(EngineError::KeyTooLong { .. })));
    }
    assert_eq!(engine.links()[0].circuit(), Circuit::Closed);
    assert_eq!(engine.links()[0].failures(), 0);
    drop(bench);
}

#[test]
fn a_passing_failure_is_tried_again_at_once() {
    /// Fails every other time.
    #[derive(Debug)]
    struct Moody(Arc<Flaky>, AtomicU32);
    impl Moody {
        fn is_up(&self) -> Result<&Flaky> {
            let up = self.1.fetch_add(1, SeqCst) % 2 == 1;
            let source = std::io::Error::other("not now");
            if up {
                Ok(&self.0)
            } else {
                Err(EngineError::Io { op: "ask", path: "".into(), source })
            }
        }
    }
    impl Engine for Moody {
        fn name(&self) -> &'static str {
            "moody"
        }
        fn get(&self, key: &[u8]) -> Result<Option<larder::Value>> {
            self.is_up()?.get(key)
        }
        fn version(&self, key: &[u8]) -> Result<Option<u64>> {
            self.is_up()?.version(key)
        }
        fn put(&self, key: &[u8], value: &[u8], put: &Put<'_>) -> Result<Outcome> {
            self.is_up()?.put(key, value, put)
        }
        fn remove(&self, key: &[u8]) -> Result<bool> {
            self.is_up()?.remove(key)
        }
        fn clear(&self) -> Result<u64> {
            self.0.clear()
        }
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, larder::Value)>> + '_> {
            self.0.iter()
        }
        fn sync(&self) -> Result<()> {
            Ok(())
        }
        fn close(&self) -> Result<()> {
            Ok(())
        }
        fn stats(&self) -> larder::Stats {
            self.0.stats()
        }
    }
    let moody = || Ok(Arc::new(Moody(Flaky::new(), AtomicU32::new(0))) as Arc<dyn Engine>);
    let engine = Fallback::builder().or("moody", moody).build().unwrap();
    for n in 0..50_u32 {
        assert!(engine.put(&n.to_le_bytes(), b"value", &Put::default()).unwrap().is_admitted());
        assert!(engine.get(&n.to_le_bytes()).unwrap().is_some());
    }
    assert_eq!(engine.links()[0].failures(), 0);
}

#[test]
fn where_none_can_answer_the_error_says_so_and_a_miss_where_one_can() {
    let bench = bench();
    bench.first.fail(Trouble::Before);
    bench.second.fail(Trouble::Before);
    assert!(bench.engine.put(b"a", b"1", &Put::default()).is_ok_and(|it| !it.is_admitted()));
    for _ in 0..5 {
        let _ = bench.engine.put(b"a", b"1", &Put::default());
    }
    let error = bench.engine.put(b"a", b"1", &Put::default()).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(bench.engine.health(), Health::Offline);
    // With one at the end that never fails, there is none.
    let first = Flaky::new();
    first.fail(Trouble::Before);
    let engine = Fallback::builder()
        .or("flaky", move || Ok(Arc::<Flaky>::clone(&first) as _))
        .or("null", || Ok(Arc::new(Null::default())))
        .build()
        .unwrap();
    for _ in 0..20 {
        let outcome = engine.put(b"a", b"1", &Put::default()).unwrap();
        assert_eq!(outcome, Outcome::Rejected(Rejection::Disabled));
        assert_eq!(engine.get(b"a").unwrap(), None);
        assert!(!engine.remove(b"a").unwrap());
    }
}

#[test]
fn conditional_changes_hold_over_a_fall_and_a_return() {
    let bench = bench();
    let put = Put::default();
    let atomic = bench.engine.atomic().unwrap();
    let Outcome::Admitted { version } = bench.engine.put(b"a", b"1", &put).unwrap() else {
        panic!()
    };
    bench.first.fail(Trouble::Before);
    let Outcome::Admitted { version: second } = bench.engine.put(b"a", b"2", &put).unwrap() else {
        panic!()
    };
    assert_ne!(version, second, "versions of two engines never meet");
    let stale = atomic.put_if(b"a", b"3", &put, Expected::Version(version)).unwrap();
    assert_eq!(stale, Outcome::Conflict { version: Some(second) });
    assert!(atomic.put_if(b"a", b"3", &put, Expected::Version(second)).unwrap().is_admitted());
    assert!(matches!(atomic.add(b"a", b"4", &put).unwrap(), Outcome::Conflict { .. }));
    assert_eq!(atomic.add_to(b"n", 5, Some(1), &put).unwrap(), Some(6));
    assert_eq!(atomic.add_to(b"n", -2, None, &put).unwrap(), Some(4));
    assert_eq!(atomic.add_to(b"none", 1, None, &put).unwrap(), None);
    assert!(matches!(atomic.add_to(b"a", 1, None, &put), Err(EngineError::NotANumber { len: 1 })));
    assert_eq!(atomic.take(b"a").unwrap().as_deref(), Some(&b"3"[..]));
    assert!(atomic.take(b"a").unwrap().is_none());
    // Nothing is answered past a time that could not be changed.
    assert!(atomic.touch(b"n", Ttl::After(Duration::ZERO)).unwrap());
    assert_eq!(bench.get("n"), None);
}

#[test]
fn an_invalidation_while_the_disk_was_away_is_made_good() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let clock = Arc::new(ManualClock::at(1_000));
    let open = |tagged: u32| {
        let dir = dir.clone();
        let clock2 = Arc::clone(&clock);
        let builder = Fallback::builder()
            .or("disk", move || Ok(Arc::new(Disk::builder(&dir).open()?)))
            .or("memory", || Ok(Arc::new(Memory::builder(1 << 20).build()?)))
            .backoff_jitter(0.0)
            .clock(clock2)
            .in_background(false);
        let engine = Arc::new(builder.build().unwrap());
        let cache = Cache::<u32, u32>::builder().engine(Arc::<Fallback>::clone(&engine));
        (engine, cache.memory(tagged.into()).build().unwrap())
    };
    {
        let (_, cache) = open(1 << 20);
        let put = Put { tags: &[b"user:7"], ..Put::default() };
        (0..10).for_each(|n| assert!(cache.insert_with(n, n, &put).unwrap().is_admitted()));
        assert!(cache.insert(10, 10).unwrap().is_admitted());
    }
    // Another has it open: what is in it can be neither read nor told of anything.
    let holder = Disk::builder(&dir).open().unwrap();
    let (engine, cache) = open(1 << 20);
    assert_eq!(engine.serving(), Some("memory"));
    cache.invalidate_tag("user:7").unwrap();
    let put = Put { tags: &[b"user:7"], ..Put::default() };
    assert!(cache.insert_with(20, 20, &put).unwrap().is_admitted(), "memory above takes it");
    assert_eq!(cache.get(&20).unwrap(), Some(20));
    holder.close().unwrap();
    clock.advance(1_000);
    assert_eq!(cache.get(&99).unwrap(), None);
    assert_eq!(engine.serving(), Some("disk"));
    assert!((0..10).all(|n| cache.get(&n).unwrap().is_none()));
    assert_eq!(cache.get(&10).unwrap(), Some(10));
    // What came to memory under the tag, from wherever, goes with it.
    assert!(cache.insert_with(30, 30, &put).unwrap().is_admitted());
    cache.invalidate_tag("user:7").unwrap();
    assert_eq!((cache.get(&20).unwrap(), cache.get(&30).unwrap()), (None, None));
}

#[test]
fn what_was_promoted_from_the_disk_goes_with_its_tag_after_a_fall() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let put = Put { tags: &[b"t"], ..Put::default() };
    {
        let cache = Cache::<u32, u32>::builder().disk(&dir).build().unwrap();
        assert!(cache.insert_with(1, 1, &put).unwrap().is_admitted());
        cache.close().unwrap();
    }
    let cache =
        Cache::<u32, u32>::builder().disk(&dir).engines(["two-level", "memory"]).build().unwrap();
    assert_eq!(cache.get(&1).unwrap(), Some(1), "from the disk, and kept in memory");
    assert!(cache.insert_with(2, 2, &put).unwrap().is_admitted());
    assert_eq!(cache.keys_by_tag("t").unwrap().len(), 2);
    cache.invalidate_tag("t").unwrap();
    assert_eq!((cache.get(&1).unwrap(), cache.get(&2).unwrap()), (None, None));
    assert_eq!(cache.keys_by_tag("t").unwrap(), Vec::<u32>::new());
}

/// Any operations, any failures of either engine, engines that come late: every answer is the
/// model's, or a miss.
#[test]
fn whatever_fails_a_value_is_right_or_missing() {
    let mut total = 0;
    for seed in 0..80 {
        let bench = bench_with(seed % 3 != 0, |builder| builder);
        let mut random = Random(seed);
        let mut model: HashMap<String, String> = HashMap::new();
        for step in 0..2_000 {
            let key = random.below(12).to_string();
            let at = format!("seed {seed}, step {step}");
            match random.below(40) {
                0 | 1 => {
                    let trouble = Trouble::ALL[usize::try_from(random.below(4)).unwrap()];
                    let engine = if random.below(3) == 0 { &bench.second } else { &bench.first };
                    engine.fail_writes(trouble);
                    engine.fail_reads.store(random.below(3) == 0, SeqCst);
                }
                2 => bench.first.fail(Trouble::None),
                3 => bench.second.fail(Trouble::None),
                4 => bench.clock.advance(random.below(300)),
                5 if random.below(8) == 0 => {
                    drop(bench.engine.clear());
                    model.clear();
                }
                6 => bench.opens.store(true, SeqCst),
                7..10 => {
                    drop(bench.engine.remove(key.as_bytes()));
                    model.remove(&key);
                }
                10 => {
                    // After an error the old value may be there.
                    if let Ok(taken) = bench.engine.atomic().unwrap().take(key.as_bytes()) {
                        let known = model.remove(&key);
                        let taken = taken.map(|value| String::from_utf8(value.to_vec()).unwrap());
                        assert!(taken.is_none() || taken == known, "{at}");
                    }
                }
                11..24 => {
                    let value = step.to_string();
                    match bench.engine.put(key.as_bytes(), value.as_bytes(), &Put::default()) {
                        Ok(outcome) if outcome.is_admitted() => {
                            model.insert(key, value);
                        }
                        // Refused or failed: what was there may have had to go.
                        _ => {
                            let now = bench.engine.get(key.as_bytes()).ok().flatten();
                            let now = now.map(|value| String::from_utf8(value.to_vec()).unwrap());
                            match now {
                                Some(now) => {
                                    assert!(now == value || model.get(&key) == Some(&now), "{at}");
                                    model.insert(key, now);
                                }
                                None => drop(model.remove(&key)),
                            }
                        }
                    }
                }
                24 => {
                    let mut seen = HashMap::new();
                    for (key, value) in bench.engine.iter().flatten() {
                        let key = String::from_utf8(key).unwrap();
                        let value = String::from_utf8(value.to_vec()).unwrap();
                        assert_eq!(model.get(&key), Some(&value), "{at}");
                        assert_eq!(seen.insert(key, value), None, "{at}");
                    }
                }
                _ => {
                    let Ok(value) = bench.engine.get(key.as_bytes()) else { continue };
                    let value = value.map(|value| String::from_utf8(value.to_vec()).unwrap());
                    assert!(value.is_none() || value.as_ref() == model.get(&key), "{at}");
                    total += u32::from(value.is_some());
                }
            }
        }
    }
    assert!(total > 10_000, "{total} answers prove little");
}

/// The same through a cache, with memory above that is too small.
#[test]
fn a_cache_over_it_is_right_too() {
    for seed in 0..60 {
        let mode = if seed % 2 == 0 { Mode::WriteThrough } else { Mode::WriteOnEvict };
        let bench = bench_with(seed % 3 != 0, |builder| builder);
        let cache = Cache::<u32, u32>::builder()
            .memory_items(4)
            .engine(Arc::<Fallback>::clone(&bench.engine))
            .clock(Arc::<ManualClock>::clone(&bench.clock))
            .offline_after(3)
            .backoff(Duration::from_millis(100), Duration::from_millis(400))
            .mode(mode)
            .build()
            .unwrap();
        let mut random = Random(seed);
        let mut model: HashMap<u32, (u32, u64)> = HashMap::new();
        let mut now = 1_000;
        for step in 0..2_000 {
            let key = u32::try_from(random.below(12)).unwrap();
            match random.below(40) {
                0 => {
                    let trouble = Trouble::ALL[usize::try_from(random.below(4)).unwrap()];
                    bench.first.fail_writes(trouble);
                    bench.first.fail_reads.store(random.below(3) == 0, SeqCst);
                }
                1 => bench.first.fail(Trouble::None),
                2 => {
                    let time = random.below(300);
                    now += time;
                    bench.clock.advance(time);
                }
                3 => bench.opens.store(true, SeqCst),
                4 => drop(cache.flush()),
                5..8 => {
                    drop(cache.remove(&key));
                    model.remove(&key);
                }
                8..14 => {
                    assert!(cache.insert(key, step).unwrap().is_admitted());
                    model.insert(key, (step, u64::MAX));
                }
                // With a deadline: nothing older may show when it has passed.
                14..18 => {
                    let ttl = random.below(200) + 1;
                    let put = Put { ttl: Ttl::After(Duration::from_millis(ttl)), ..Put::default() };
                    assert!(cache.insert_with(key, step, &put).unwrap().is_admitted());
                    model.insert(key, (step, now + ttl));
                }
                _ => {
                    let value = cache.get(&key).unwrap();
                    let known = model.get(&key).filter(|(_, until)| now < *until).map(|(v, _)| *v);
                    assert!(
                        value.is_none() || value == known,
                        "{mode:?}, seed {seed}, step {step}: {value:?}, not {known:?}"
                    );
                }
            }
        }
    }
}

/// Threads that write keys of their own while the first engine comes and goes: each reads its last
/// value, or none.
#[test]
fn threads_never_see_an_old_value() {
    let bench = bench_with(true, |builder| builder.in_background(true));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (bench, stop) = (&bench, &stop);
        let writers: Vec<_> = (0..3_u32)
            .map(|thread| {
                scope.spawn(move || {
                    let mut found = 0;
                    for n in 0..4_000_u32 {
                        let key = [thread, n % 8].map(u32::to_le_bytes).concat();
                        let put = bench.engine.put(&key, &n.to_le_bytes(), &Put::default());
                        assert!(put.unwrap().is_admitted());
                        let value = bench.engine.get(&key).unwrap();
                        if let Some(value) = value {
                            assert_eq!(*value, n.to_le_bytes());
                            found += 1;
                        }
                        let other = [thread, (n + 3) % 8].map(u32::to_le_bytes).concat();
                        if let Some(value) = bench.engine.get(&other).unwrap() {
                            let last = n.checked_sub(5).unwrap();
                            assert_eq!(*value, last.to_le_bytes(), "not the last one");
                        }
                        if n % 7 == 0 {
                            bench.engine.remove(&key).unwrap();
                            assert_eq!(bench.engine.get(&key).unwrap(), None);
                            assert!(
                                bench.engine.put(&key, &n.to_le_bytes(), &Put::default()).is_ok()
                            );
                        }
                    }
                    found
                })
            })
            .collect();
        scope.spawn(move || {
            let mut random = Random(7);
            while !stop.load(SeqCst) {
                bench.first.fail(Trouble::ALL[usize::try_from(random.below(4)).unwrap()]);
                bench.clock.advance(random.below(200));
                std::thread::yield_now();
                bench.first.fail(Trouble::None);
                bench.clock.advance(random.below(500));
                std::thread::yield_now();
            }
        });
        let found: u32 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        stop.store(true, SeqCst);
        assert!(found > 6_000, "{found} found");
    });
    bench.first.fail(Trouble::None);
    bench.engine.close().unwrap();
    assert!(matches!(bench.engine.get(b"a"), Err(EngineError::Closed)));
}

#[test]
fn what_cannot_be_is_refused() {
    let config = |built: Result<Fallback>, name: &str| match built {
        Err(EngineError::Config { option, .. }) => assert_eq!(option, name),
        other => panic!("{other:?}"),
    };
    config(Fallback::builder().build(), "engines");
    let null = || Fallback::builder().or("null", || Ok(Arc::new(Null::default())));
    config(null().offline_after(0).build(), "offline_after");
    config(null().backoff_jitter(1.5).build(), "backoff_jitter");
    config(null().backoff(Duration::from_secs(2), Duration::from_secs(1)).build(), "backoff");
    let closed = Fallback::builder().or("closed", || Err(EngineError::Closed)).build();
    assert!(matches!(closed, Err(EngineError::Closed)));
    let cache = Cache::<u32, u32>::builder().engines(["two-level", "memory"]).build();
    assert!(matches!(cache, Err(Error::Unavailable { .. })));
}

/// Memory, or a disk and memory behind it: the suite that every engine has to pass.
struct InTurn {
    /// Whether the first is away all the time.
    away: bool,
}

impl Harness for InTurn {
    fn liberties(&self) -> Liberties {
        Liberties {
            keeps: if self.away { Keeps::Nothing } else { Keeps::Everything },
            ..Liberties::default()
        }
    }

    fn place(&self) -> Box<dyn Place> {
        let (away, home) = (self.away, tempfile::tempdir().unwrap());
        Box::new(move |clock: Arc<ManualClock>| {
            let dir = home.path().join("store");
            let (disk_clock, memory_clock) = (Arc::clone(&clock), Arc::clone(&clock));
            let disk = move || -> Result<Arc<dyn Engine>> {
                if away {
                    return Err(EngineError::Locked { path: dir.clone(), pid: 1 });
                }
                let disk = Disk::builder(&dir).budget(256 << 20);
                Ok(Arc::new(disk.clock(Arc::<ManualClock>::clone(&disk_clock)).open()?))
            };
            let memory = move || -> Result<Arc<dyn Engine>> {
                let memory = Memory::builder(256 << 20);
                Ok(Arc::new(memory.clock(Arc::<ManualClock>::clone(&memory_clock)).build()?))
            };
            let builder = Fallback::builder().or("disk", disk).or("memory", memory).clock(clock);
            Ok(Box::new(builder.build()?) as Box<dyn Engine>)
        })
    }
}

#[test]
fn over_a_disk_it_is_the_engine_that_the_disk_is() {
    check(&InTurn { away: false });
}

#[test]
fn over_what_stands_in_for_it_as_well() {
    check(&InTurn { away: true });
}
