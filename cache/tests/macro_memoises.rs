//! `#[cached]` runs a body when it has to, and never else.
//!
//! Each test has a function of its own, which counts its runs, and checks exact numbers.

use std::cell::Cell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use larder::{Explanation, KeyEncode, cached};

/// A counter of runs that belongs to the function around it.
macro_rules! count {
    ($runs:ident) => {
        $runs.fetch_add(1, SeqCst)
    };
}

fn runs(of: &AtomicU64) -> u64 {
    of.load(SeqCst)
}

#[test]
fn recursion_over_other_arguments_takes_each_once() {
    #[cached]
    fn fib(n: u32) -> u64 {
        if n < 2 { n.into() } else { fib(n - 1) + fib(n - 2) }
    }
    let numbers: Vec<u64> = (0..16).map(fib).collect();
    assert_eq!(numbers[15], 610);
    // As `functools` counts it for the same calls.
    let stats = fib_cache().stats();
    assert_eq!((stats.hits, stats.misses, stats.runs), (28, 16, 16));
    assert_eq!(fib(90), 2_880_067_194_370_816_120);
}

#[test]
fn recursion_over_the_same_arguments_runs_as_without_a_cache() {
    thread_local! { static DEPTH: Cell<u32> = const { Cell::new(0) }; }
    #[cached]
    fn nested(n: u32) -> u32 {
        let depth = DEPTH.get();
        DEPTH.set(depth + 1);
        if depth < 3 { nested(n) + 1 } else { n }
    }
    assert_eq!(nested(7), 10);
    let stats = nested_cache().stats();
    assert_eq!((stats.runs, stats.uncached), (4, 3));
    // Only the outermost result is kept.
    assert_eq!(nested(7), 10);
    assert_eq!(nested_cache().stats().runs, 4);
}

#[test]
fn errors_and_nothing_are_not_kept_unless_asked() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    #[cached]
    fn parse(text: &str) -> Result<u32, std::num::ParseIntError> {
        count!(RUNS);
        text.parse()
    }
    assert!(parse("x").is_err() && parse("x").is_err());
    assert_eq!((parse("7"), parse("7")), (Ok(7), Ok(7)));
    assert_eq!(runs(&RUNS), 3);
    assert_eq!(parse_cache().stats().failures, 2);
    assert_eq!(parse_call("x").explain(), Explanation::NotKept);

    static NEGATIVE: AtomicU64 = AtomicU64::new(0);
    #[cached(cache_errors)]
    fn negative(text: &str) -> Result<u32, String> {
        count!(NEGATIVE);
        text.parse().map_err(|error| format!("{error}"))
    }
    assert_eq!(negative("x"), negative("x"));
    assert_eq!(runs(&NEGATIVE), 1);

    static FINDS: AtomicU64 = AtomicU64::new(0);
    #[cached]
    fn find(text: &str, what: char) -> Option<usize> {
        count!(FINDS);
        text.find(what)
    }
    assert_eq!((find("abc", 'c'), find("abc", 'c')), (Some(2), Some(2)));
    assert_eq!((find("abc", 'x'), find("abc", 'x')), (None, None));
    assert_eq!(runs(&FINDS), 3);

    static ABSENT: AtomicU64 = AtomicU64::new(0);
    #[cached(cache_none)]
    fn absent(text: &str, what: char) -> Option<usize> {
        count!(ABSENT);
        text.find(what)
    }
    assert_eq!((absent("abc", 'x'), absent("abc", 'x')), (None, None));
    assert_eq!(runs(&ABSENT), 1);
}

#[test]
fn arguments_that_are_ignored_do_not_count() {
    #[cached(ignore(verbose, threads))]
    fn render(page: u32, verbose: bool, threads: usize) -> String {
        let _ = (verbose, threads);
        format!("page {page}")
    }
    assert_eq!(render(1, false, 1), render(1, true, 8));
    assert_eq!(render(2, false, 1), "page 2");
    assert_eq!(render_cache().stats().runs, 2);
    assert!(render_call(2, true, 64).is_cached());
}

#[test]
fn a_method_keys_by_self_unless_that_is_ignored() {
    #[derive(KeyEncode)]
    struct Adder {
        augend: i64,
    }

    impl Adder {
        #[cached]
        fn add(&self, addend: i64) -> i64 {
            self.augend + addend
        }

        #[cached(ignore(self))]
        fn double(&self, number: i64) -> i64 {
            number * 2
        }

        #[cached(associated)]
        fn half(number: i64) -> i64 {
            number / 2
        }
    }

    let (one, two) = (Adder { augend: 1 }, Adder { augend: 2 });
    assert_eq!((one.add(3), two.add(3), one.add(3), Adder { augend: 2 }.add(3)), (4, 5, 4, 5));
    let stats = Adder::add_cache().stats();
    assert_eq!((stats.hits, stats.misses), (2, 2));
    assert_eq!((one.double(3), two.double(3)), (6, 6));
    assert_eq!(Adder::double_cache().stats().runs, 1);
    assert_eq!((Adder::half(8), Adder::half(8)), (4, 4));
    assert_eq!(Adder::half_cache().stats().runs, 1);
    assert!(one.add_call(3).invalidate().unwrap());
    assert!(!one.add_call(3).is_cached() && two.add_call(3).is_cached());
}

#[test]
fn floats_within_the_tolerance_are_the_same_and_the_body_gets_the_exact_ones() {
    #[cached(tolerance = 0.1)]
    fn scale(by: f64, points: Vec<f64>, count: u32) -> Vec<f64> {
        points.iter().map(|point| point * by * f64::from(count)).collect()
    }
    assert_eq!(scale(2.01, vec![1.0, 3.02], 1), [2.01, 3.02 * 2.01]);
    assert_eq!(scale(1.99, vec![0.98, 2.99], 1), [2.01, 3.02 * 2.01]);
    // Integers are not rounded.
    assert_ne!(scale(2.0, vec![1.0, 3.0], 2), [2.01, 3.02 * 2.01]);
    assert_eq!(scale_cache().stats().runs, 2);

    #[cached(tolerance(x = 1.0))]
    fn sum(x: f64, y: f64) -> f64 {
        x + y
    }
    assert_eq!((sum(3.2, 1.0), sum(3.4, 1.0), sum(3.4, 1.1)), (4.2, 4.2, 4.5));
}

#[test]
fn a_key_of_its_own_is_all_that_counts() {
    #[cached(key = (name.to_lowercase(), number % 10))]
    fn greet(name: &str, number: u32) -> String {
        format!("{name} {number}")
    }
    assert_eq!(greet("Ann", 13), "Ann 13");
    assert_eq!(greet("ANN", 3), "Ann 13");
    assert_eq!(greet("Ann", 4), "Ann 4");
}

#[test]
fn only_what_is_wanted_is_kept_and_only_what_is_valid_is_used() {
    #[cached(cache_if = |text: &String| text.len() > 3)]
    fn repeat(text: &str, times: usize) -> String {
        text.repeat(times)
    }
    assert_eq!((repeat("a", 2), repeat("a", 2), repeat("a", 4), repeat("a", 4)).3, "aaaa");
    let stats = repeat_cache().stats();
    assert_eq!((stats.runs, stats.skipped, stats.hits), (3, 2, 1));

    static LEAST: AtomicU64 = AtomicU64::new(0);
    #[cached(valid_if = |made: &u64| *made >= LEAST.load(SeqCst))]
    fn made(_name: &str) -> u64 {
        LEAST.load(SeqCst)
    }
    assert_eq!((made("a"), made("b")), (0, 0));
    LEAST.store(5, SeqCst);
    assert_eq!(made_call("a").explain(), Explanation::Invalid);
    assert!(!made_call("a").is_cached());
    assert_eq!((made("a"), made("a")), (5, 5));
    let stats = made_cache().stats();
    assert_eq!((stats.runs, stats.invalid, stats.hits), (3, 1, 1));
}

#[test]
fn what_is_fresh_takes_the_place_of_what_was_kept() {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    #[cached]
    fn next(_of: u8) -> u64 {
        count!(NEXT)
    }
    assert_eq!(
        (next(0), next(0), next_fresh(0), next(0), next_uncached(0), next(0)),
        (0, 0, 1, 1, 2, 1)
    );
    let stats = next_cache().stats();
    assert_eq!((stats.runs, stats.fresh, stats.hits, stats.misses), (2, 1, 3, 1));
}

#[test]
fn a_generic_function_keeps_its_instances_apart() {
    trait Named: 'static {
        const NAME: &'static str;
    }
    struct One;
    struct Two;
    impl Named for One {
        const NAME: &'static str = "one";
    }
    impl Named for Two {
        const NAME: &'static str = "two";
    }

    #[cached]
    fn name<T: Named>() -> String {
        T::NAME.to_owned()
    }
    assert_eq!(
        (name::<One>(), name::<Two>(), name::<One>()),
        ("one".into(), "two".into(), "one".into())
    );
    assert_eq!(name_cache::<One>().stats().hits, 1);
    assert_eq!(name_cache::<Two>().stats().hits, 0);
    assert_ne!(name_cache::<One>().name(), name_cache::<Two>().name());

    struct Holder<T>(std::marker::PhantomData<T>);
    impl<T: Named> Holder<T> {
        // Nothing in it says that it is generic but the name in its body.
        #[cached(associated)]
        fn describe(times: usize) -> String {
            T::NAME.repeat(times)
        }
    }
    assert_eq!(
        (Holder::<One>::describe(2), Holder::<Two>::describe(2)),
        ("oneone".into(), "twotwo".into())
    );

    #[cached]
    fn largest<T, const N: usize>(of: [T; N]) -> Option<usize>
    where
        T: Ord + Clone + KeyEncode + 'static,
    {
        of.iter().enumerate().max_by_key(|(_, item)| (*item).clone()).map(|(at, _)| at)
    }
    assert_eq!(
        (largest([1, 3, 2]), largest(["b", "a"]), largest::<u8, 0>([])),
        (Some(1), Some(0), None)
    );
}

#[test]
fn names_of_arguments_and_patterns_do_not_matter() {
    #[cached]
    fn odd(mut key: u64, (function, value): (u64, u64), [one, ..]: [u64; 2], r#type: &str) -> u64 {
        key += 1;
        key + function + value + one + r#type.len() as u64
    }
    assert_eq!(odd(1, (2, 3), [4, 5], "x"), 12);
    assert_eq!(odd(1, (2, 3), [4, 5], "x"), 12);
    assert_eq!(odd_cache().stats().runs, 1);

    #[cached]
    fn longest<'a>(one: &'a str, two: &'a [&'a str]) -> Result<String, &'a str> {
        two.iter()
            .chain([&one])
            .max_by_key(|text| text.len())
            .map(|text| text.to_string())
            .ok_or(one)
    }
    assert_eq!(longest("a", &["bc"]).as_deref(), Ok("bc"));
}

#[test]
fn eight_threads_run_a_cold_body_once() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    #[cached]
    fn slow(n: u64) -> u64 {
        count!(RUNS);
        thread::sleep(Duration::from_millis(20));
        n + 1
    }
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(slow(7), 8);
            });
        }
    });
    assert_eq!(runs(&RUNS), 1);
}

#[test]
fn a_panic_keeps_nothing_and_holds_nobody_up() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    #[cached]
    fn fails_once(n: u64) -> u64 {
        assert_ne!(count!(RUNS), 0, "the first run fails");
        n
    }
    assert!(std::panic::catch_unwind(|| fails_once(1)).is_err());
    assert_eq!((fails_once(1), fails_once(1)), (1, 1));
    assert_eq!(runs(&RUNS), 2);
}

#[test]
fn no_capacity_is_no_cache() {
    #[cached(capacity = 0)]
    fn plain(n: u64) -> u64 {
        n
    }
    assert_eq!((plain(1), plain(1)), (1, 1));
    assert_eq!((plain_cache().stats().runs, plain_cache().stats().hits), (2, 0));
    assert!(!plain_call(1).is_cached());
    assert_eq!(plain_call(1).explain(), Explanation::Unavailable);
}

#[test]
fn a_capacity_is_kept_to_also_by_recursion() {
    #[cached(capacity = 10)]
    fn sum(n: u64) -> u64 {
        if n == 0 { 0 } else { n + sum(n - 1) }
    }
    assert_eq!(sum(200), 20_100);
    assert!(sum_cache().cache().len() <= 10);
    assert_eq!(sum_call(5_000).explain(), Explanation::NeverStored);
    let evicted = (0..=200).filter(|n| sum_call(*n).explain() == Explanation::Evicted).count();
    let kept = (0..=200).filter(|n| sum_call(*n).is_cached()).count();
    assert_eq!(evicted + kept, 201);
}

#[test]
fn what_a_cache_cannot_be_built_of_is_said_and_does_no_harm() {
    let file = tempfile::NamedTempFile::new().unwrap();
    static PATH: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    PATH.set(file.path().to_owned()).unwrap();
    #[cached(disk = PATH.get().unwrap())]
    fn square(n: u64) -> u64 {
        n * n
    }
    assert_eq!((square(3), square(3)), (9, 9));
    assert_eq!(square_cache().stats().runs, 1);
    assert!(square_cache().trouble().is_some());
}

#[test]
fn results_under_a_tag_are_forgotten_together() {
    #[cached(tags = ["pages", format!("user:{user}")])]
    fn page(user: u32, name: String) -> String {
        format!("{name} of {user}")
    }
    let call = |user, name: &str| page(user, name.to_owned());
    let all = [(7, "home"), (7, "mail"), (8, "home")];
    for (user, name) in all {
        call(user, name);
    }
    page_cache().invalidate_tag("user:7").unwrap();
    let cached = all.map(|(user, name)| page_call(user, name.to_owned()).is_cached());
    assert_eq!(cached, [false, false, true]);
    assert_eq!(page_call(7, "home".to_owned()).explain(), Explanation::Unknown);
    page_cache().invalidate_tag("pages").unwrap();
    assert_eq!(call(8, "home"), "home of 8");
    assert_eq!(page_cache().stats().runs, 4);
}

#[test]
fn what_is_stale_serves_while_it_is_computed_anew_or_cannot_be() {
    use std::sync::{Arc, LazyLock};

    static CLOCK: LazyLock<Arc<larder::ManualClock>> =
        LazyLock::new(|| Arc::new(larder::ManualClock::at(0)));
    static RUNS: AtomicU64 = AtomicU64::new(0);
    #[cached(ttl = "1s", serve_stale_on_error = "1m", setup = |builder| builder.clock(CLOCK.clone()))]
    fn fails_later(n: u64) -> Result<u64, String> {
        if count!(RUNS) == 0 { Ok(n) } else { Err("not any more".to_owned()) }
    }
    assert_eq!((fails_later(7), fails_later(7)), (Ok(7), Ok(7)));
    assert_eq!(fails_later_cache().stats().hits, 1);
    CLOCK.advance(2_000);
    assert!(!fails_later_call(7).is_cached(), "its time is over");
    assert_eq!(fails_later(7), Ok(7), "but it is better than none");
    CLOCK.advance(60_000);
    assert!(fails_later(7).is_err());
    assert_eq!(runs(&RUNS), 3);
}
