//! Promise: an entry lives as long as its insert, the tier's time to idle and its expiry function
//! say, to the ms, whatever looks; what has expired makes room before anything live does, and the
//! costly stays where a policy asks for costs.
//!
//! Method: a clock that is set by hand.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use larder_engine::memory::{Capacity, Cause, Keep, PolicyKind, Tier, TierBuilder};
use larder_engine::{Clock, ManualClock};

type Look = fn(&Tier<u32, u32>);
type Heard = Arc<Mutex<Vec<(u32, Cause)>>>;

const BEGIN_MS: u64 = 1_800_000_000_000;

fn tier(
    capacity: Capacity,
    set_up: impl FnOnce(TierBuilder<u32, u32>) -> TierBuilder<u32, u32>,
) -> (Tier<u32, u32>, Arc<ManualClock>, Heard) {
    let clock = Arc::new(ManualClock::at(BEGIN_MS));
    let heard = Heard::default();
    let tell = Arc::clone(&heard);
    let tier = Tier::builder(capacity)
        .shards(1)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .listener(move |&key, _, cause| tell.lock().unwrap().push((key, cause)));
    (set_up(tier).build().unwrap(), clock, heard)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn every_kind_of_entry_is_live_until_the_very_ms() {
    // The value is the weight: above 4095 it does not fit beside a deadline.
    let (tier, clock, heard) = tier(Capacity::weight(1 << 40), |tier| {
        let tier = tier.weigher(|_, &weight| u64::from(weight));
        tier.expiry(|&key, _, now_ms| if key == 3 { now_ms + 100 } else { u64::MAX })
    });
    let at = Keep::until(BEGIN_MS + 100);
    tier.insert_as(0, 1, &at).unwrap();
    tier.insert_as(1, 5_000, &at).unwrap();
    tier.insert_as(2, 1, &Keep::default().idle(ms(100))).unwrap();
    tier.insert_as(3, 1, &Keep::default()).unwrap();
    tier.insert_as(4, 1, &at.idle(ms(1_000))).unwrap();
    tier.insert_as(5, 1, &at.cost(7)).unwrap();
    clock.advance(99);
    assert!((0..6).all(|key| tier.contains(&key) && tier.peek(&key).is_some()));
    assert_eq!((tier.purge_expired(), tier.entries().len()), (0, 6));
    clock.advance(1);
    for key in 0..6 {
        assert!(!tier.contains(&key) && tier.peek(&key).is_none(), "{key}");
        assert_eq!((tier.hold_with(&key, |_| ()), tier.get(&key)), (None, None), "{key}");
    }
    assert_eq!((tier.len(), tier.weight(), tier.stats().expired), (0, 0, 6));
    assert_eq!(*heard.lock().unwrap(), [0, 1, 2, 3, 4, 5].map(|key| (key, Cause::Expired)));
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn uses_keep_an_entry_and_glances_do_not() {
    let (tier, clock, _) = tier(Capacity::items(10), |tier| tier.time_to_idle(ms(10)));
    let looks: [(bool, Look); 9] = [
        (true, |tier| assert_eq!(tier.get(&1), Some(2))),
        (true, |tier| assert_eq!(tier.get_with(&1, |&value| value), Some(2))),
        (true, |tier| assert_eq!(tier.get_many([&0, &1]), [None, Some(2)])),
        (false, |tier| assert_eq!(tier.peek(&1), Some(2))),
        (false, |tier| assert_eq!(tier.peek_with(&1, |&value| value), Some(2))),
        (false, |tier| assert!(tier.contains(&1))),
        (false, |tier| assert_eq!(tier.hold_with(&1, |&value| value), Some(2))),
        (false, |tier| assert_eq!(tier.entries(), [(1, 2)])),
        (false, |tier| assert_eq!(tier.retain(|_, _| true), 0)),
    ];
    for (at, (is_use, look)) in looks.into_iter().enumerate() {
        tier.insert(1, 2, u64::MAX).unwrap();
        clock.advance(6);
        look(&tier);
        clock.advance(3);
        assert!(tier.contains(&1), "{at}");
        clock.advance(1);
        assert_eq!(tier.contains(&1), is_use, "{at}");
        clock.advance(5);
        assert_eq!(tier.contains(&1), is_use, "{at}");
        clock.advance(1);
        assert!(!tier.contains(&1), "{at}");
        assert_eq!(tier.purge_expired(), 1, "{at}");
        assert_eq!(tier.validate(), Ok(()));
    }
}

#[test]
fn uses_never_move_the_end_past_the_deadline() {
    let (tier, clock, _) = tier(Capacity::items(10), |tier| tier.time_to_idle(ms(10)));
    tier.insert(1, 1, BEGIN_MS + 25).unwrap();
    tier.insert_as(2, 2, &Keep::default()).unwrap();
    for _ in 0..24 {
        clock.advance(1);
        assert!(tier.get(&1).is_some() && tier.get(&2).is_some());
    }
    clock.advance(1);
    assert_eq!((tier.get(&1), tier.get(&2)), (None, Some(2)));
    clock.advance(10);
    assert_eq!(tier.get(&2), None);
}

#[test]
fn an_insert_that_names_a_time_to_idle_counts_before_the_tier() {
    let (tier, clock, _) = tier(Capacity::items(10), |tier| tier.time_to_idle(ms(10)));
    tier.insert_as(1, 0, &Keep::default().idle(ms(5))).unwrap();
    tier.insert_as(2, 0, &Keep::default().idle(ms(20))).unwrap();
    tier.insert_as(3, 0, &Keep::default().idle(Duration::MAX)).unwrap();
    tier.insert_as(4, 0, &Keep::default()).unwrap();
    tier.insert_as(5, 0, &Keep::default().idle(Duration::ZERO)).unwrap();
    let there = |tier: &Tier<u32, u32>| (1..6).filter(|key| tier.contains(key)).collect::<Vec<_>>();
    assert_eq!(there(&tier), [1, 2, 3, 4]);
    clock.advance(5);
    assert_eq!(there(&tier), [2, 3, 4]);
    clock.advance(5);
    assert_eq!(there(&tier), [2, 3]);
    clock.advance(1 << 50);
    assert_eq!(there(&tier), [3]);
    // A new value has the time that its own insert says.
    tier.insert(3, 0, u64::MAX).unwrap();
    clock.advance(10);
    assert!(there(&tier).is_empty());
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn an_expiry_function_is_asked_at_each_insert_outside_of_locks() {
    let own: Arc<OnceLock<Weak<Tier<u32, u32>>>> = Arc::default();
    let (asked, ask) = (Arc::new(AtomicU64::new(0)), Arc::clone(&own));
    let count = Arc::clone(&asked);
    let (tier, clock, heard) = tier(Capacity::items(10), |tier| {
        tier.expiry(move |_, &value, now_ms| {
            count.fetch_add(1, Ordering::Relaxed);
            let tier = ask.get().and_then(Weak::upgrade).unwrap();
            assert_eq!(tier.hold_with(&99, |_| ()), None, "it may call the tier");
            now_ms + u64::from(value)
        })
    });
    let tier = Arc::new(tier);
    own.set(Arc::downgrade(&tier)).unwrap();
    tier.insert(1, 10, u64::MAX).unwrap();
    tier.insert(2, 10, BEGIN_MS + 5).unwrap();
    tier.insert(3, 0, u64::MAX).unwrap();
    assert_eq!((asked.load(Ordering::Relaxed), tier.len()), (3, 2));
    clock.advance(5);
    assert!(tier.contains(&1) && !tier.contains(&2), "the earlier of both counts");
    tier.insert(1, 20, u64::MAX).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    clock.advance(19);
    assert!(tier.contains(&1));
    clock.advance(1);
    assert!(!tier.contains(&1));
    assert_eq!(tier.purge_expired(), 1, "the insert has removed the other one");
    let expected =
        [(3, Cause::Expired), (2, Cause::Expired), (1, Cause::Replaced), (1, Cause::Expired)];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[test]
fn what_has_expired_makes_room_before_what_is_live() {
    for &policy in PolicyKind::ALL {
        let (tier, clock, heard) = tier(Capacity::items(100), |tier| tier.policy(policy));
        // The live ones first and last, so that a queue would evict one of them.
        (0..100).for_each(|key| {
            let deadline = if key % 4 == 1 { BEGIN_MS + 1 + u64::from(key) } else { u64::MAX };
            tier.insert(key, 0, deadline).unwrap();
        });
        clock.advance(101);
        (100..125).for_each(|key| tier.insert(key, 0, u64::MAX).unwrap());
        let heard = heard.lock().unwrap();
        assert!(
            heard.iter().all(|&(key, cause)| key % 4 == 1 && cause == Cause::Expired),
            "{policy}"
        );
        assert_eq!((heard.len(), tier.len(), tier.stats().evictions), (25, 100, 0), "{policy}");
        assert_eq!(tier.validate(), Ok(()));
    }
}

#[test]
fn inserts_alone_keep_the_expired_few() {
    let (tier, clock, _) = tier(Capacity::Unbounded, |tier| tier.time_to_idle(ms(1_000)));
    for key in 0..50_000_u32 {
        let keep = Keep::until(clock.now_ms() + 1 + u64::from(key % 64));
        tier.insert_as(key, 0, &keep).unwrap();
        clock.advance(1);
        assert!(tier.len() < 100, "{} entries, of which 64 are live at most", tier.len());
    }
    clock.advance(100);
    tier.purge_expired();
    // Together with one that is used, so that its time in the wheel comes again and again.
    tier.insert_as(0, 0, &Keep::default().idle(ms(2))).unwrap();
    for key in 1..20_000 {
        tier.insert_as(key, 0, &Keep::default().idle(ms(10))).unwrap();
        clock.advance(1);
        assert_eq!(tier.get(&0), Some(0));
        assert!(tier.len() < 30);
    }
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn a_purge_removes_what_is_due_of_any_number() {
    let (tier, clock, heard) = tier(Capacity::Unbounded, |tier| tier);
    for key in 0..10_000 {
        let keep = Keep::until(BEGIN_MS + 1 + u64::from(key)).cost(2);
        tier.insert_as(key, 0, &if key % 2 == 0 { keep } else { keep.idle(ms(100_000)) }).unwrap();
    }
    for _ in 0..2 {
        clock.advance(5_000);
        assert_eq!((tier.purge_expired(), tier.purge_expired()), (5_000, 0));
        assert_eq!(tier.validate(), Ok(()));
    }
    assert!(tier.is_empty());
    assert!(heard.lock().unwrap().iter().all(|&(_, cause)| cause == Cause::Expired));
}

#[test]
fn the_costly_stays() {
    let (tier, _, _) = tier(Capacity::items(100), |tier| tier.policy(PolicyKind::Gdsf));
    for key in 0..1_000 {
        let cost = if key % 20 == 0 { 1_000 } else { 1 };
        tier.insert_as(key, key, &Keep::default().cost(cost)).unwrap();
    }
    let costly = (0..1_000).step_by(20).filter(|key| tier.contains(key)).count();
    assert_eq!(costly, 50, "the others had room in the other half");
    // What a key costs is what its last insert said.
    (0..1_000).step_by(20).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
    for key in 1_000..3_000 {
        tier.insert_as(key, key, &Keep::default().cost(10)).unwrap();
    }
    assert!((0..1_000).all(|key| !tier.contains(&key)));
    assert_eq!(tier.validate(), Ok(()));
}
