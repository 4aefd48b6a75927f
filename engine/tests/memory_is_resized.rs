//! A tier that may hold more, or less, while it is in use: it never holds more than it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use larder_engine::memory::{Capacity, Cause, PolicyKind, Tier};

#[test]
fn it_evicts_what_does_not_fit_any_more_and_takes_more_when_it_may() {
    for policy in [PolicyKind::S3Fifo, PolicyKind::Lru, PolicyKind::WTinyLfu, PolicyKind::Adaptive]
    {
        for shards in [1, 8] {
            let (left, bytes) = (Arc::new(AtomicU64::new(0)), |n: u64| Capacity::weight(n * 100));
            let heard = Arc::clone(&left);
            let tier = Tier::<u64, u64>::builder(bytes(1_000))
                .policy(policy)
                .shards(shards)
                .weigher(|_, _| 100)
                .listener(move |_, _, cause| {
                    assert_eq!(cause, Cause::Capacity);
                    heard.fetch_add(1, SeqCst);
                })
                .build()
                .unwrap();
            (0..1_000).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
            let here = tier.len();
            tier.resize(bytes(100)).unwrap();
            assert_eq!(tier.capacity(), bytes(100));
            assert!(tier.len() <= 100 && tier.weight() <= 10_000, "{policy}, {shards}");
            assert!(tier.len() > 80, "{policy}, {shards}: {} left", tier.len());
            tier.validate().unwrap();
            (1_000..2_000).for_each(|key| drop(tier.insert(key, key, u64::MAX)));
            assert!(tier.weight() <= 10_000);
            tier.resize(bytes(2_000)).unwrap();
            (2_000..5_000).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
            assert!(tier.len() > 1_800 && tier.len() <= 2_000, "{policy}: {}", tier.len());
            assert!(left.load(SeqCst) > here - 100);
            tier.validate().unwrap();
        }
    }
}

#[test]
fn what_cannot_be_changes_nothing() {
    let tier = Tier::<u64, u64>::builder(Capacity::items(10)).build().unwrap();
    (0..10).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
    assert!(tier.resize(Capacity::weight(5)).is_err(), "another unit");
    assert!(tier.resize(Capacity::Disabled).is_err());
    let held: Vec<u64> = (0..10).filter(|key| tier.pin(key)).take(5).collect();
    assert_eq!(held.len(), 5);
    assert!(tier.resize(Capacity::items(4)).is_err(), "five are pinned");
    assert_eq!((tier.len(), tier.capacity()), (10, Capacity::items(10)));
    tier.resize(Capacity::items(5)).unwrap();
    assert!(held.iter().all(|key| tier.contains(key)));
    let unbounded = Tier::<u64, u64>::builder(Capacity::Unbounded).build().unwrap();
    assert!(unbounded.resize(Capacity::items(4)).is_err());
}

#[test]
fn threads_insert_meanwhile() {
    let tier = Tier::<u64, u64>::builder(Capacity::items(10_000)).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let tier = &tier;
            scope.spawn(move || {
                for n in 0..30_000 {
                    let _ = tier.insert(thread << 32 | n, n, u64::MAX);
                    tier.get(&(thread << 32 | (n / 2)));
                }
            });
        }
        for round in 0..40 {
            let limit = if round % 2 == 0 { 500 } else { 8_000 };
            // Inserts under way may hold it for a moment.
            while tier.resize(Capacity::items(limit)).is_err() {
                std::thread::yield_now();
            }
        }
    });
    tier.resize(Capacity::items(100)).unwrap();
    assert!(tier.len() <= 100);
    tier.validate().unwrap();
}
