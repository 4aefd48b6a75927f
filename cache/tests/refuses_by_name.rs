//! What cannot be is refused with the option, the value and what would be accepted; a key that
//! is too long, with its length and the limit.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::fs;
use std::time::Duration;

use common::Flaky;
use larder::{Builder, Cache, Error, Mode, Retain};

fn refused(set: impl FnOnce(Builder<String, u32>) -> Builder<String, u32>) -> String {
    let error = set(Cache::builder()).build().unwrap_err();
    assert!(!error.is_transient());
    error.to_string()
}

#[test]
fn options_that_cannot_be() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let long = "n".repeat(256);
    let cases = [
        (refused(|b| b.no_memory()), "memory", "store"),
        (refused(|b| b.memory(0)), "memory", "at least 1 byte"),
        (refused(|b| b.disk(&dir).engine(Flaky::new())), "engine", "either"),
        (refused(|b| b.disk_budget(1 << 30)), "disk_budget", ".disk(dir)"),
        (refused(|b| b.disk(&dir).disk_budget(1)), "disk_budget", "MiB"),
        (refused(|b| b.retain(Retain::All)), "retain", ".disk(dir)"),
        (refused(|b| b.mode(Mode::WriteOnEvict)), "mode", "store"),
        (refused(|b| b.no_memory().disk(&dir).mode(Mode::WriteOnEvict)), "mode", "memory"),
        (refused(|b| b.ttl(Duration::ZERO)), "ttl", "1 ms"),
        (refused(|b| b.namespace("")), "namespace", "255"),
        (refused(|b| b.namespace(&long)), "namespace", "255"),
        (refused(|b| b.offline_after(0)), "offline_after", "at least 1"),
        (
            refused(|b| b.backoff(Duration::from_secs(2), Duration::from_secs(1))),
            "backoff",
            "longest",
        ),
    ];
    for (message, option, accepted) in cases {
        assert!(message.starts_with(&format!("option {option} is ")), "{message}");
        assert!(message.contains(accepted), "{message}");
    }
    assert!(!dir.exists(), "nothing is created for a cache that is refused");
}

#[test]
fn a_directory_that_cannot_be_used() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let error = Cache::<String, u32>::builder().disk(&file).build().unwrap_err();
    assert!(matches!(error, Error::Engine { .. }), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("file"), "{source}");
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn everything_but_close_says_that_the_cache_is_closed() {
    let cache = Cache::<u32, u32>::builder().engine(Flaky::new()).build().unwrap();
    let other = cache.clone();
    assert!(cache.insert(1, 1).unwrap().is_admitted());
    cache.close().unwrap();
    let closed = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Closed)));
    closed(other.get(&1).map(|_| ()));
    closed(other.insert(1, 1).map(|_| ()));
    closed(other.remove(&1).map(|_| ()));
    closed(other.take(&1).map(|_| ()));
    closed(other.contains(&1).map(|_| ()));
    closed(other.get_or_insert_with(&1, || 1).map(|_| ()));
    closed(other.iter().map(|_| ()));
    closed(other.clear().map(|_| ()));
    closed(other.flush().map(|_| ()));
    closed(other.sync());
    closed(other.close());
}
