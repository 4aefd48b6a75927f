//! `#[cached]` on async functions: one run for all futures, nothing waits on the thread that polls.

#![cfg(all(feature = "async", feature = "macros"))]

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use futures_executor::block_on;
use futures_util::future::{join_all, poll_fn};
use larder::cached;

/// Pending until it was polled so often.
async fn after_polls(count: u32) {
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        cx.waker().wake_by_ref();
        if polls < count { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

#[test]
fn many_futures_run_a_cold_body_once() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    #[cached]
    async fn slow(n: u64, name: &str) -> String {
        RUNS.fetch_add(1, SeqCst);
        after_polls(5).await;
        format!("{name} {n}")
    }
    let all = block_on(join_all((0..8).map(|_| slow(7, "seven"))));
    assert_eq!(all, ["seven 7"; 8]);
    assert_eq!(RUNS.load(SeqCst), 1);
    let stats = slow_cache().stats();
    assert_eq!((stats.runs, stats.hits + stats.misses), (1, 8));
    assert_eq!(block_on(slow(7, "seven")), "seven 7");
    assert!(slow_call(7, "seven").is_cached());
    assert_eq!(RUNS.load(SeqCst), 1);
}

#[test]
fn errors_are_not_kept_and_what_is_fresh_is() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    #[cached]
    async fn even(n: u64) -> Result<u64, String> {
        let run = RUNS.fetch_add(1, SeqCst);
        after_polls(2).await;
        if n.is_multiple_of(2) { Ok(n + run) } else { Err(format!("{n} is odd")) }
    }
    block_on(async {
        assert!(even(1).await.is_err() && even(1).await.is_err());
        assert_eq!((even(2).await, even(2).await), (Ok(4), Ok(4)));
        assert_eq!((even_fresh(2).await, even(2).await), (Ok(5), Ok(5)));
    });
    assert_eq!((even_cache().stats().runs, even_cache().stats().failures), (4, 2));
}

#[test]
fn who_is_dropped_hands_over() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    #[cached]
    async fn slow(n: u64) -> u64 {
        RUNS.fetch_add(1, SeqCst);
        after_polls(3).await;
        n
    }
    {
        let mut dropped = pin!(slow(1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(dropped.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(block_on(slow(1)), 1);
    assert_eq!(RUNS.load(SeqCst), 2);
    assert_eq!(slow_cache().stats().failures, 0);
}

#[test]
fn a_future_that_calls_itself_with_the_same_arguments_runs_as_without_a_cache() {
    static DEPTH: AtomicU64 = AtomicU64::new(0);
    #[cached]
    async fn nested(n: u64) -> u64 {
        if DEPTH.fetch_add(1, SeqCst) < 3 { Box::pin(nested(n)).await + 1 } else { n }
    }
    assert_eq!(block_on(nested(7)), 10);
    assert_eq!((nested_cache().stats().runs, nested_cache().stats().uncached), (4, 3));
}

#[test]
fn results_on_disk_are_found_by_futures_too() {
    static DIR: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    #[cached(disk = DIR.get_or_init(|| tempfile::tempdir().expect("a directory")).path().join("store"))]
    async fn length(text: String) -> usize {
        after_polls(2).await;
        text.len()
    }
    assert_eq!(block_on(length("larder".to_owned())), 6);
    assert!(length_cache().trouble().is_none());
    assert_eq!(block_on(length("larder".to_owned())), 6);
    assert_eq!(length_cache().stats().runs, 1);
}

#[test]
fn their_futures_can_be_sent() {
    #[cached]
    async fn double(n: u64) -> u64 {
        after_polls(1).await;
        n * 2
    }
    fn sendable(_: &impl Send) {}
    sendable(&double(1));
}
