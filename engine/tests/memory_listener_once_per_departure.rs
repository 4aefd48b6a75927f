//! Promise: the listener hears of every departure exactly once, with its cause, outside of all
//! locks; what was admitted has either departed or is still there.
//!
//! Method: every admitted value carries a number of its own. Threads write, remove, take,
//! clear and purge; at the end the numbers heard and the numbers resident are all the numbers
//! admitted, each once.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;

use larder_engine::memory::{Capacity, Cause, PolicyKind, Tier};
use larder_engine::{Clock, ManualClock};

fn exact_accounting(policy: PolicyKind, shards: usize) {
    let heard: Arc<Mutex<HashMap<u64, (u64, Cause)>>> = Arc::default();
    let clock = Arc::new(ManualClock::at(1));
    let tell = Arc::clone(&heard);
    let tier = Tier::<u64, u64>::builder(Capacity::weight(60))
        .weigher(|&key, _| key % 5)
        .policy(policy)
        .shards(shards)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .listener(move |&key, &number, cause| {
            let before = tell.lock().unwrap().insert(number, (key, cause));
            assert_eq!(before, None, "value {number} departed twice");
        })
        .build()
        .unwrap();
    let numbers = AtomicU64::new(0);
    let admitted = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (tier, clock, numbers, admitted) = (&tier, &clock, &numbers, &admitted);
            scope.spawn(move || {
                let mut random = thread + 1;
                for _ in 0..4_000 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let key = random % 40;
                    match random >> 32 & 63 {
                        0 => drop(tier.clear()),
                        1 => drop(tier.purge_expired()),
                        2..8 => drop(tier.take(&key)),
                        8..12 => drop(tier.remove_if(&key, |number| number % 2 == 0)),
                        12..28 => drop(tier.get(&key)),
                        28 => clock.advance(1),
                        choice => {
                            let number = numbers.fetch_add(1, Ordering::Relaxed);
                            let deadline = match choice % 3 {
                                0 => clock.now_ms() + random % 3,
                                _ => u64::MAX,
                            };
                            let even = |current: Option<&u64>| choice < 50 || current.is_none();
                            if tier.insert_if(key, number, deadline, even).unwrap() {
                                admitted.lock().unwrap().insert(number, key);
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!(tier.validate(), Ok(()));
    // Removes what has expired, before anything is counted.
    let residents = tier.entries();
    let stats = tier.stats();
    let heard = heard.lock().unwrap().clone();
    let count = |cause| heard.values().filter(|(_, other)| *other == cause).count() as u64;
    assert_eq!(stats.inserts, admitted.lock().unwrap().len() as u64);
    assert_eq!(stats.evictions, count(Cause::Capacity));
    assert_eq!(stats.expired, count(Cause::Expired));
    assert_eq!(stats.removes, count(Cause::Invalidated));
    assert_eq!(stats.inserts, heard.len() as u64 + tier.len());

    assert_eq!(tier.len(), residents.len() as u64);
    let residents = residents.into_iter().map(|(key, number)| (number, key));
    let departed = heard.iter().map(|(&number, &(key, _))| (number, key));
    let known: HashMap<u64, u64> = residents.chain(departed).collect();
    assert_eq!(known.len() as u64, stats.inserts);
    let admitted = admitted.lock().unwrap();
    assert!(known.iter().all(|(number, key)| admitted.get(number) == Some(key)));
}

#[test]
fn with_threads_on_every_policy() {
    for &policy in PolicyKind::ALL {
        for shards in [1, 8] {
            exact_accounting(policy, shards);
        }
    }
}

#[test]
fn each_way_of_leaving_has_its_cause() {
    let heard: Arc<Mutex<Vec<(u32, u32, Cause)>>> = Arc::default();
    let tell = Arc::clone(&heard);
    let tier = Tier::builder(Capacity::items(2))
        .policy(PolicyKind::Fifo)
        .listener(move |&key, &value, cause| tell.lock().unwrap().push((key, value, cause)))
        .build()
        .unwrap();
    tier.insert(1, 10, u64::MAX).unwrap();
    tier.insert(1, 11, u64::MAX).unwrap();
    tier.insert(2, 20, u64::MAX).unwrap();
    tier.insert(3, 30, u64::MAX).unwrap();
    assert!(tier.remove(&2));
    assert!(!tier.remove(&2));
    assert_eq!(tier.take(&3), Some(30));
    tier.insert(4, 40, u64::MAX).unwrap();
    assert_eq!(tier.clear(), 1);
    let expected = [
        (1, 10, Cause::Replaced),
        (1, 11, Cause::Capacity),
        (2, 20, Cause::Invalidated),
        (3, 30, Cause::Invalidated),
        (4, 40, Cause::Invalidated),
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[test]
fn a_listener_may_call_the_tier() {
    let own: Arc<OnceLock<Weak<Tier<u32, u32>>>> = Arc::default();
    let tier = Tier::builder(Capacity::items(1)).shards(1).listener({
        let own = Arc::clone(&own);
        move |&key, _, _| {
            let tier = own.get().and_then(Weak::upgrade).unwrap();
            assert!(!tier.contains(&key));
            assert_eq!(tier.len(), 1);
        }
    });
    let tier = Arc::new(tier.build().unwrap());
    own.set(Arc::downgrade(&tier)).unwrap();
    (0..10).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
    assert_eq!(tier.stats().evictions, 9);
}
