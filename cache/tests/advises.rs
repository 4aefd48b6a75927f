//! Promise: what a cache is told about other sizes and policies is what caches of those sizes and
//! policies do, within the bounds that are told.

#![expect(clippy::unwrap_used, reason = "a test")]

use larder::{Advice, Cache, Error, PolicyKind};

const GETS: u64 = 60_000;

/// A key of a skewed load: the square of a share of the keys.
fn key(request: u64, keys: u64) -> u64 {
    let random = request.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let random = (random ^ (random >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
    (((random * random) >> 24) * keys) >> 24
}

/// Values of different sizes.
fn value(key: u64) -> Vec<u8> {
    vec![0; 100 + (key * 37 % 900) as usize]
}

fn drive(cache: &Cache<u64, Vec<u8>>) -> f64 {
    for request in 0..GETS {
        let key = key(request, 8_000);
        cache.get_or_insert_with(&key, || value(key)).unwrap();
    }
    1.0 - cache.stats().hit_ratio()
}

fn miss_ratio(policy: PolicyKind, bytes: u64) -> f64 {
    drive(&Cache::<u64, Vec<u8>>::builder().memory(bytes).policy(policy).build().unwrap())
}

#[test]
fn what_is_told_is_what_such_caches_do() {
    let bytes = 1 << 20;
    let cache = Cache::<u64, Vec<u8>>::builder().memory(bytes).policy(PolicyKind::Lru);
    let cache = cache.advise(0.25, &[PolicyKind::Lfu]).build().unwrap();
    drive(&cache);
    let advice = cache.advice().unwrap();
    assert_eq!((advice.policy, advice.capacity, advice.gets), (PolicyKind::Lru, bytes, GETS));
    assert!((GETS / 8..GETS / 2).contains(&advice.sampled), "{}", advice.sampled);
    for policy in [PolicyKind::Lru, PolicyKind::Lfu] {
        for capacity in [bytes / 2, bytes, 2 * bytes] {
            let (told, found) =
                (advice.at(policy, capacity).unwrap(), miss_ratio(policy, capacity));
            let bounds = told.low - 0.01..=told.high + 0.01;
            assert!(bounds.contains(&found), "{policy} with {capacity}: {found}, told {told:?}");
            assert!((told.miss_ratio - found).abs() < 0.05, "{policy}: {found}, told {told:?}");
        }
    }
    assert_eq!(advice.to_string().lines().count(), 1 + advice.trials.len());
}

#[test]
fn counting_anew_tells_of_the_load_that_is_there_now() {
    let told = |advice: Advice| advice.at(PolicyKind::Fifo, 1_000).unwrap().miss_ratio;
    let cache = Cache::<u64, Vec<u8>>::builder().memory_items(1_000).policy(PolicyKind::Fifo);
    let cache = cache.advise(1.0, &[]).build().unwrap();
    let get = |key: u64| drop(cache.get_or_insert_with(&key, Vec::new).unwrap());
    (0..5_000).for_each(get);
    assert!(told(cache.advice().unwrap()) > 0.99, "all for the first time");
    cache.start_advice_over();
    assert_eq!(cache.advice().unwrap().gets, 0);
    assert!(cache.advice().unwrap().trials.is_empty(), "nothing to go by");
    (0..5_000).for_each(|request| get(4_500 + request % 500));
    let advice = cache.advice().unwrap();
    assert_eq!((advice.gets, advice.sampled), (5_000, 5_000));
    assert!(told(advice) < 0.01, "the simulated caches were still warm");
}

#[test]
fn gets_from_many_threads_are_all_counted() {
    let cache = Cache::<u64, Vec<u8>>::builder().memory_items(1_000).policy(PolicyKind::Lru);
    let cache = cache.advise(1.0, &[]).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for request in 0..10_000 {
                    cache.get_or_insert_with(&(request % 500), Vec::new).unwrap();
                }
            });
        }
    });
    let advice = cache.advice().unwrap();
    // Those that found somebody else there are left out of both.
    assert!(advice.sampled <= 40_000 && advice.gets == advice.sampled, "{advice:?}");
    let told = advice.at(PolicyKind::Lru, 1_000).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let misses = told.miss_ratio * advice.gets as f64;
    assert!(misses < 500.5, "each key misses once at most: {misses}");
}

#[test]
fn no_advice_unless_asked_for_and_possible() {
    assert!(Cache::<u64, u64>::builder().build().unwrap().advice().is_none());
    let refused = |rate| Cache::<u64, u64>::builder().advise(rate, &[]).build().map(drop);
    for rate in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(
            matches!(refused(rate), Err(Error::Config { option: "advise", .. })),
            "a rate of {rate}"
        );
    }
    let unbounded = Cache::<u64, u64>::builder().memory_unbounded().advise(0.1, &[]).build();
    assert!(matches!(unbounded.map(drop), Err(Error::Config { option: "advise", .. })));
}
