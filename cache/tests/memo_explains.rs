//! A miss is explained as far as it can be known, over restarts and changes of the code too.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::Flaky;
use larder::{Cache, Disk, Engine, Error, Explanation, Handle, ManualClock, Memo, Put, Recovery};

type Squares = Cache<u64, u64>;

fn square(n: &u64) -> u64 {
    n * n
}

fn on_disk(dir: &Path) -> Squares {
    Squares::builder().memory_items(100).disk(dir).disk_budget(64 << 20).build().unwrap()
}

#[test]
fn what_becomes_of_a_result_is_told_apart() {
    let clock = Arc::new(ManualClock::at(0));
    let cache = Squares::builder().memory_items(8).clock(clock.clone()).build().unwrap();
    let memo = Memo::builder(cache).name("square").ttl(Duration::from_secs(1));
    let memo = memo.cache_if(|square| *square != 9).build(square).unwrap();
    assert_eq!(memo.explain(&1), Explanation::NeverStored);
    memo.call(&1);
    assert_eq!(memo.explain(&1), Explanation::Cached);
    memo.call(&3);
    assert_eq!(memo.explain(&3), Explanation::NotKept);
    assert!(memo.invalidate(&1).unwrap());
    assert!(!memo.invalidate(&1).unwrap(), "there is none any more");
    assert_eq!(memo.explain(&1), Explanation::Invalidated);
    memo.call(&1);
    clock.advance(1_000);
    assert_eq!(memo.explain(&1), Explanation::Expired);
    for n in 100..200 {
        memo.call(&n);
    }
    let evicted = (100..200).filter(|n| memo.explain(n) == Explanation::Evicted).count();
    let kept = (100..200).filter(|n| memo.explain(n) == Explanation::Cached).count();
    assert_eq!(evicted + kept, 100);
    assert!((1..=8).contains(&kept));
    assert_eq!(memo.clear().unwrap(), kept as u64);
    let kept = (100..200).filter(|n| memo.explain(n) == Explanation::Invalidated).count();
    assert_eq!(kept, 100, "whatever was stored before is invalidated by a clear");
    assert_eq!(memo.explain(&1_000), Explanation::NeverStored);
    memo.function().cache().close().unwrap();
    assert_eq!(memo.explain(&1), Explanation::Unavailable);
    assert_eq!(memo.call(&5), 25, "a function answers");
}

#[test]
fn another_version_is_a_miss_and_the_old_results_stay() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    {
        let memo = Memo::builder(on_disk(&dir)).name("square").version(1).build(square).unwrap();
        assert_eq!(memo.explain(&7), Explanation::NeverStored);
        memo.call(&7);
        memo.function().cache().close().unwrap();
    }
    {
        let cube = |n: &u64| n * n * n;
        let memo = Memo::builder(on_disk(&dir)).name("square").version(2).build(cube).unwrap();
        assert_eq!(memo.explain(&7), Explanation::VersionChanged);
        assert_eq!(memo.explain(&8), Explanation::NeverStored, "of neither version");
        assert_eq!(memo.call(&7), 343);
        memo.function().cache().close().unwrap();
    }
    // Back to the old code: its results are still there.
    let memo = Memo::builder(on_disk(&dir)).name("square").version(1).build(square).unwrap();
    assert_eq!(memo.explain(&7), Explanation::Cached);
    assert_eq!((memo.call(&7), memo.stats().runs), (49, 0));
    assert_eq!(memo.explain(&9), Explanation::Unknown, "it may have been evicted since");
}

#[test]
fn what_cannot_be_read_is_corrupt_or_of_another_codec() {
    let engine = Flaky::new();
    let cache = Cache::<u64, String>::builder().no_memory().engine(engine.clone()).build().unwrap();
    let memo = Memo::builder(cache).build(|n: &u64| n.to_string()).unwrap();
    memo.call(&7);
    let key = common::bytes(7_u64);
    assert_eq!(engine.peek(&key).unwrap(), b"7");
    engine.plant(&key, b"\xff", &Put::default());
    assert_eq!(memo.explain(&7), Explanation::Corrupt);
    assert_eq!((memo.call(&7), memo.explain(&7)), ("7".to_owned(), Explanation::Cached));
    let codec = larder::CodecId { id: 200, version: 1 };
    engine.plant(&key, b"7", &Put { codec, ..Put::default() });
    assert_eq!(memo.explain(&7), Explanation::CodecChanged);
    // Who cannot be asked knows nothing, and the function goes on.
    engine.fail(common::Trouble::Before);
    assert_eq!(memo.call(&8), "8");
}

#[test]
fn handles_are_small_and_good_in_another_process() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let bytes = {
        let memo = Memo::builder(on_disk(&dir)).name("square").build(square).unwrap();
        assert_eq!(memo.handle(&7), None, "there is nothing to refer to");
        memo.call(&7);
        let handle = memo.handle(&7).unwrap();
        assert_eq!(memo.fetch(&handle).unwrap(), Some(49));
        let bytes = postcard::to_stdvec(&handle).unwrap();
        memo.function().cache().close().unwrap();
        bytes
    };
    assert!(bytes.len() < 32, "{} bytes", bytes.len());
    let handle: Handle<u64> = postcard::from_bytes(&bytes).unwrap();
    let cache = on_disk(&dir);
    let memo = Memo::builder(cache.clone()).name("square").build(square).unwrap();
    assert_eq!(memo.fetch(&handle).unwrap(), Some(49));
    assert_eq!(memo.handle(&7), Some(handle.clone()));
    let other = Memo::builder(cache).name("other").build(square).unwrap();
    assert_eq!(other.fetch(&handle).unwrap(), None, "it is none of this function's");
    assert!(memo.function().invalidate_handle(&handle).unwrap());
    assert_eq!(memo.fetch(&handle).unwrap(), None);
    assert_eq!(memo.explain(&7), Explanation::Invalidated);
}

#[test]
fn functions_in_one_cache_do_not_meet() {
    let cache = Squares::builder().build().unwrap();
    let squares = Memo::builder(cache.clone()).name("square").build(square).unwrap();
    let cubes = Memo::builder(cache.clone()).name("cube").build(|n: &u64| n * n * n).unwrap();
    assert_eq!((squares.call(&3), cubes.call(&3)), (9, 27));
    assert_eq!((squares.call(&3), cubes.call(&3)), (9, 27));
    assert_eq!((squares.stats().hits, cubes.stats().hits, cache.len()), (1, 1, 2));
    assert!(cache.insert(3, 3).unwrap().is_admitted(), "a plain key is another one, too");
    assert_eq!(squares.clear().unwrap(), 1);
    assert!(!squares.is_cached(&3) && cubes.is_cached(&3));
    assert_eq!(cache.get(&3).unwrap(), Some(3));
    // Two bodies under one name would take each other's results for their own.
    let collision = Memo::builder(cache.clone()).name("cube").build(|n: &u64| n + 1);
    assert!(matches!(collision, Err(Error::Config { option: "name", .. })));
    // As another version they may.
    assert!(Memo::builder(cache).name("cube").version(2).build(|n: &u64| n + 1).is_ok());
}

#[test]
fn results_outlive_the_process_and_are_found_on_disk() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    for round in 0..2 {
        let engine: Arc<dyn Engine> = Arc::new(Disk::builder(&dir).open().unwrap());
        let open = |name: &str| {
            Squares::builder().engine(Arc::clone(&engine)).namespace(name).build().unwrap()
        };
        let squares = Memo::new(open("squares"), square);
        let halves = Memo::new(open("halves"), |n: &u64| n.is_multiple_of(2).then_some(n / 2));
        for n in 0..10 {
            assert_eq!((squares.call(&n), halves.call(&n).is_some()), (n * n, n % 2 == 0));
        }
        let (once, odd) = if round == 0 { (10, 10) } else { (0, 5) };
        assert_eq!((squares.stats().runs, halves.stats().runs), (once, odd));
        assert_eq!(engine.stats().recovery == Recovery::Created, round == 0);
        engine.close().unwrap();
    }
}

#[test]
fn arguments_of_any_length_are_told_apart() {
    let memo = Memo::new(Cache::<String, usize>::builder().build().unwrap(), str::len);
    let long = "x".repeat(1 << 20);
    let other = long[1..].to_owned() + "y";
    assert_eq!(
        (memo.call(&*long), memo.call(&*long), memo.call(&*other)),
        (1 << 20, 1 << 20, 1 << 20)
    );
    assert_eq!((memo.stats().runs, memo.stats().hits), (2, 1));
    assert!(memo.invalidate(&*long).unwrap());
    assert!(!memo.is_cached(&*long) && memo.is_cached(&*other));
    let handle = memo.handle(&*other).unwrap();
    assert_eq!(memo.fetch(&handle).unwrap(), Some(1 << 20));
    assert!(postcard::to_stdvec(&handle).unwrap().len() < 64);
}
