//! Promise: a closure that looks at a value for long holds back that entry and nothing else, and
//! no writer waits for it.
//!
//! Method: values count themselves. A reader sleeps in `get_with` while the tier is turned over
//! many times; the values alive stay near the capacity, and the one that is looked at stays whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use larder_engine::memory::{Capacity, PolicyKind, Tier};

#[derive(Debug)]
struct Counted {
    number: u64,
    alive: Arc<AtomicU64>,
}

impl Counted {
    fn new(number: u64, alive: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { number, alive: Arc::clone(alive) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.number = u64::MAX;
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What may wait in each shard, see `Tier`.
const fn waiting(capacity: u64, shards: usize) -> u64 {
    let share = capacity / 64 / shards as u64;
    if share < 8 { 8 } else { share }
}

/// One test at a time: a lookup of another one may be in the way for a moment.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn while_writers_go_on() {
    let _alone = ALONE.lock();
    // The last keeps enough waiting for lookups without a fence, where the system can do that.
    for (policy, shards, capacity) in [
        (PolicyKind::S3Fifo, 1, 100),
        (PolicyKind::Lru, 1, 100),
        (PolicyKind::Fifo, 4, 100),
        (PolicyKind::S3Fifo, 2, 12_800),
    ] {
        let alive = Arc::new(AtomicU64::new(0));
        let tier = Tier::builder(Capacity::items(capacity)).policy(policy).shards(shards);
        let tier = tier.build().unwrap();
        tier.insert(0, Counted::new(0, &alive), u64::MAX).unwrap();
        let (looking, is_looking) = channel();
        let (wake, is_awake) = channel::<()>();
        thread::scope(|scope| {
            // Wakes the reader also when an assertion fails here.
            let wake = wake;
            let (tier, alive) = (&tier, &alive);
            scope.spawn(move || {
                let seen = tier.get_with(&0, |value| {
                    // A lookup in a lookup holds back no more than its own entry, either.
                    let nested = tier.get_with(&0, |again| {
                        looking.send(()).unwrap();
                        let _ = is_awake.recv();
                        again.number
                    });
                    (value.number, nested)
                });
                assert_eq!(seen, Some((0, Some(0))), "what is looked at stays as it is");
            });
            is_looking.recv().unwrap();
            for key in 1..(3 * capacity).max(2_000) {
                tier.insert(key, Counted::new(key, alive), u64::MAX).unwrap();
                let most = capacity + 1 + waiting(capacity, shards) * shards as u64 + 1;
                assert!(alive.load(Ordering::Relaxed) <= most, "{policy} at {key}");
            }
            assert_eq!(tier.clear(), capacity);
            assert_eq!(alive.load(Ordering::Relaxed), 1, "all but what is looked at");
            assert_eq!(tier.leaving(), 1);
            wake.send(()).unwrap();
        });
        tier.clear();
        assert_eq!(tier.validate(), Ok(()));
        drop(tier);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_value_that_was_replaced_or_removed_meanwhile_stays_for_who_looks() {
    let _alone = ALONE.lock();
    let alive = Arc::new(AtomicU64::new(0));
    let tier = Tier::builder(Capacity::Unbounded).shards(1).build().unwrap();
    tier.insert("key", Counted::new(1, &alive), u64::MAX).unwrap();
    let seen = tier.get_with("key", |first| {
        tier.insert("key", Counted::new(2, &alive), u64::MAX).unwrap();
        let second = tier.get_with("key", |second| {
            assert!(tier.remove("key"));
            assert_eq!(tier.clear(), 0);
            second.number
        });
        assert_eq!(alive.load(Ordering::Relaxed), 2);
        (first.number, second)
    });
    assert_eq!(seen, Some((1, Some(2))));
    tier.insert("other", Counted::new(3, &alive), u64::MAX).unwrap();
    tier.clear();
    assert_eq!((alive.load(Ordering::Relaxed), tier.leaving()), (0, 0));
}

#[test]
fn closures_may_be_nested_as_deep_as_one_likes() {
    fn nest(tier: &Tier<u32, u32>, depth: u32) -> u32 {
        tier.get_with(
            &depth,
            |&value| if depth == 0 { value } else { value + nest(tier, depth - 1) },
        )
        .unwrap()
    }
    let _alone = ALONE.lock();
    let tier = Tier::builder(Capacity::Unbounded).build().unwrap();
    (0..20).for_each(|key| tier.insert(key, 1, u64::MAX).unwrap());
    assert_eq!(nest(&tier, 19), 20);
}
