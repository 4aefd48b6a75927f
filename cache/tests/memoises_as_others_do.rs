//! What memoisers of other languages promise (functools, cachetools, cachebox, klepto, joblib), and
//! what they get wrong, asked of ours: exact counts, threads, recursion, names, changed code.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, LazyLock};
use std::thread;

use larder::{Cache, Explanation, KeyBuf, KeyEncode, Memo, PolicyKind, cached};

#[test]
fn every_call_is_a_hit_or_a_miss_and_room_is_kept_to() {
    #[cached(capacity = 20, policy = PolicyKind::Lru)]
    fn sum(x: u64, y: u64) -> u64 {
        3 * x + y
    }
    let mut random = 7_u64;
    for _ in 0..5_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (x, y) = ((random >> 33) % 5, (random >> 43) % 5);
        assert_eq!(sum(x, y), 3 * x + y);
    }
    let stats = sum_cache().stats();
    assert_eq!((stats.hits + stats.misses, stats.runs), (5_000, stats.misses));
    assert!(stats.hits > 3_000 && stats.misses > 20);
    assert_eq!(sum_cache().cache().len(), 20);
}

#[test]
fn the_least_recently_used_leaves() {
    #[cached(capacity = 2, policy = PolicyKind::Lru)]
    fn same(n: u64) -> u64 {
        n
    }
    for n in [7, 9, 7, 9, 7, 9, 8, 8, 8, 9, 9, 9, 8, 8, 8, 7] {
        assert_eq!(same(n), n);
    }
    let stats = same_cache().stats();
    assert_eq!((stats.hits, stats.misses), (12, 4));
}

#[test]
fn threads_with_arguments_of_their_own_miss_once_each() {
    #[cached]
    fn square(n: u64) -> u64 {
        n * n
    }
    let call = |n: u64| assert_eq!(square(n), n * n);
    thread::scope(|scope| {
        for n in 0..5 {
            scope.spawn(move || (0..11).for_each(|_| call(n)));
        }
    });
    let stats = square_cache().stats();
    assert_eq!((stats.hits, stats.misses), (50, 5));
    // And while somebody clears all the time.
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..5).map(|n| scope.spawn(move || (0..200).for_each(|_| call(n)))).collect();
        while callers.iter().any(|caller| !caller.is_finished()) {
            assert!(square_cache().clear().is_ok());
        }
    });
}

#[test]
fn recursion_over_threads_is_no_deadlock() {
    #[cached]
    fn factorial(n: u64) -> u64 {
        if n == 0 {
            return 1;
        }
        thread::scope(|scope| scope.spawn(|| factorial(n - 1)).join().map_or(0, |below| n * below))
    }
    thread::scope(|scope| {
        for n in [20, 15, 20, 10] {
            scope.spawn(move || assert_eq!(factorial(n), (1..=n).product::<u64>()));
        }
    });
    assert_eq!(factorial_cache().stats().runs, 21);
}

#[test]
fn a_key_is_encoded_once_a_call_and_may_call_the_function() {
    thread_local! { static ENCODED: Cell<u64> = const { Cell::new(0) }; }
    struct Nosy(u64);
    impl KeyEncode for Nosy {
        fn encode(&self, out: &mut KeyBuf) {
            ENCODED.set(ENCODED.get() + 1);
            if self.0 > 0 {
                assert_eq!(length(Nosy(self.0 - 1)), self.0 - 1);
            }
            ("nosy", self.0).encode(out);
        }
    }
    #[cached(capacity = 1)]
    fn length(nosy: Nosy) -> u64 {
        nosy.0
    }
    for _ in 0..3 {
        // Run, evicted or found.
        ENCODED.set(0);
        assert_eq!(length(Nosy(3)), 3);
        assert_eq!(ENCODED.get(), 4);
    }
}

#[test]
fn arguments_that_collide_elsewhere_do_not() {
    #[cached]
    fn negate(n: i64) -> i64 {
        -n
    }
    assert_eq!((negate(-1), negate(-2)), (1, 2), "these have one hash in Python");
    #[cached]
    fn show(one: u64, two: Option<&str>, three: Option<&str>) -> String {
        format!("{one} {two:?} {three:?}")
    }
    assert_ne!(show(1, None, Some("a")), show(1, Some("a"), None));
    #[cached]
    fn join(one: &str, two: &str) -> String {
        format!("{one}, {two}")
    }
    assert_eq!((join("ab", "c"), join("a", "bc")), ("ab, c".into(), "a, bc".into()));
    #[cached]
    fn sign(x: f64) -> bool {
        x.is_nan()
    }
    assert!(sign(f64::NAN) && sign(-f64::NAN) && !sign(0.0) && !sign(-0.0));
    assert_eq!(sign_cache().stats().runs, 2);
}

#[test]
fn what_is_too_large_is_returned_and_not_kept() {
    #[cached(memory = 10_000)]
    fn zeros(count: usize) -> Vec<u8> {
        vec![0; count]
    }
    assert_eq!((zeros(20_000).len(), zeros(20_000).len(), zeros(10).len()), (20_000, 20_000, 10));
    assert_eq!((zeros_cache().stats().runs, zeros_cache().stats().uncached), (3, 2));
    assert_eq!(zeros_call(20_000).explain(), Explanation::NotKept);
    assert!(zeros_call(10).is_cached());
}

#[test]
fn what_is_invalidated_while_it_runs_is_returned_and_not_kept() {
    static RUNNING: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));
    #[cached]
    fn slow(n: u64) -> u64 {
        RUNNING.wait();
        RUNNING.wait();
        n
    }
    thread::scope(|scope| {
        let caller = scope.spawn(|| slow(7));
        RUNNING.wait();
        assert!(slow_call(7).invalidate().is_ok_and(|was_there| !was_there));
        RUNNING.wait();
        assert!(caller.join().is_ok_and(|value| value == 7));
    });
    assert!(!slow_call(7).is_cached());
}

#[test]
fn of_threads_whose_leader_fails_the_next_runs() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    #[cached]
    fn third_time_lucky(n: u64) -> Result<u64, u64> {
        let run = RUNS.fetch_add(1, SeqCst);
        if run < 2 { Err(run) } else { Ok(n) }
    }
    let start = Barrier::new(8);
    let failed: usize = thread::scope(|scope| {
        let call = || {
            start.wait();
            third_time_lucky(7)
        };
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(call)).collect();
        callers.into_iter().filter_map(|caller| caller.join().ok()).filter(Result::is_err).count()
    });
    assert_eq!((failed, RUNS.load(SeqCst)), (2, 3));
    assert_eq!(third_time_lucky_cache().stats().failures, 2);
}

#[test]
fn eight_threads_run_once_without_a_macro_and_where_a_result_has_become_invalid() {
    let runs = AtomicU64::new(0);
    let least = Arc::new(AtomicU64::new(0));
    let made_of = |_: &u64| {
        thread::yield_now();
        runs.fetch_add(1, SeqCst)
    };
    let valid = Arc::clone(&least);
    let cache = Cache::<u64, u64>::builder().build();
    let memo = cache.and_then(|cache| {
        Memo::builder(cache).valid_if(move |made| *made >= valid.load(SeqCst)).build(made_of)
    });
    let Ok(memo) = memo else { panic!("a cache in memory can be built") };
    for round in 0..20 {
        least.store(round, SeqCst);
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    assert_eq!(memo.call(&7), round);
                });
            }
        });
        assert_eq!(runs.load(SeqCst), round + 1);
    }
}

/// The same function, before and after an edit, as two builds of a program have it.
mod before {
    #[larder::cached(cache = crate::PROGRAM, name = "area")]
    pub(super) fn area(width: u64, height: u64) -> u64 {
        // An oversight.
        width + height
    }
}

mod after {
    #[larder::cached(cache = crate::PROGRAM, name = "area")]
    pub(super) fn area(width: u64, height: u64) -> u64 {
        width * height
    }
}

static PROGRAM: LazyLock<Cache<u64, u64>> = LazyLock::new(|| match Cache::builder().build() {
    Ok(cache) => cache,
    Err(error) => panic!("a cache in memory can be built: {error}"),
});

#[test]
fn changed_code_is_a_miss_and_the_old_results_stay() {
    assert_eq!(before::area(3, 4), 7);
    assert_eq!(after::area_call(3, 4).explain(), Explanation::VersionChanged);
    assert_eq!(after::area(3, 4), 12);
    assert_eq!((before::area(3, 4), after::area(3, 4)), (7, 12));
    assert_eq!((before::area_cache().stats().runs, after::area_cache().stats().runs), (1, 1));
    // To clear one leaves the other alone.
    assert!(before::area_cache().clear().is_ok_and(|count| count == 1));
    assert!(!before::area_call(3, 4).is_cached() && after::area_call(3, 4).is_cached());
}

#[test]
fn functions_of_one_name_in_one_cache_are_told_apart() {
    mod one {
        #[larder::cached(cache = crate::PROGRAM)]
        pub(super) fn same(n: u64) -> u64 {
            n + 1
        }
    }
    mod two {
        #[larder::cached(cache = crate::PROGRAM)]
        pub(super) fn same(n: u64) -> u64 {
            n + 2
        }
    }
    assert_eq!((one::same(1), two::same(1), one::same(1), two::same(1)), (2, 3, 2, 3));
    assert!(one::same_cache().trouble().is_none());
    assert_ne!(one::same_cache().name(), two::same_cache().name());
}

#[test]
fn one_body_under_the_name_and_version_of_another_is_kept_apart_and_says_so() {
    mod one {
        #[larder::cached(cache = crate::PROGRAM, name = "taken", ignore_code)]
        pub(super) fn first(n: u64) -> u64 {
            n + 1
        }
    }
    mod two {
        #[larder::cached(cache = crate::PROGRAM, name = "taken", ignore_code)]
        pub(super) fn second(n: u64) -> u64 {
            n + 2
        }
    }
    assert_eq!((one::first(1), two::second(1), two::second(1)), (2, 3, 3));
    assert!(one::first_cache().trouble().is_none());
    assert!(two::second_cache().trouble().is_some(), "it has a cache of its own instead");
    assert_eq!(two::second_cache().stats().hits, 1);
}
