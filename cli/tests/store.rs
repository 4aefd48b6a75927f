//! Promise: a value comes back as it was put, by whichever process, until it is removed or
//! expires; and every refusal says why, with its exit code.
//! Method: the commands on stores in temporary directories.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;

use common::{Ran, arg, larder, run};

fn on(store: &Path, command: &str, rest: &[&str]) -> Ran {
    run([[command, arg(store)].as_slice(), rest].concat())
}

#[test]
fn values_come_back_until_they_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    on(&store, "put", &["greeting", "good morning"]).ended(0);
    on(&store, "put", &["0x00ff", "-5"]).ended(0);
    assert_eq!(on(&store, "get", &["greeting"]).ended(0).stdout, "good morning");
    assert_eq!(on(&store, "get", &["0x00FF"]).ended(0).stdout, "-5");

    let mut keys: Vec<_> = on(&store, "ls", &[]).stdout.lines().map(str::to_owned).collect();
    keys.sort();
    assert_eq!(keys, ["0x00ff", "greeting"]);

    on(&store, "rm", &["greeting"]).ended(0);
    let gone = on(&store, "get", &["greeting"]).ended(1);
    assert!(gone.stderr.contains("greeting"), "{gone:?}");
    assert_eq!(gone.stdout, "");
    on(&store, "rm", &["greeting", "0x00ff"]).ended(1);
    assert_eq!(on(&store, "ls", &[]).ended(0).stdout, "");
}

#[test]
fn values_come_from_files_and_pipes_and_go_to_files() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file, out) =
        (dir.path().join("store"), dir.path().join("file"), dir.path().join("out"));
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    fs::write(&file, &bytes).unwrap();
    on(&store, "put", &["file", "--file", arg(&file), "--sync"]).ended(0);
    on(&store, "get", &["file", "--out", arg(&out)]).ended(0);
    assert_eq!(fs::read(&out).unwrap(), bytes);

    let mut child =
        larder(["put", arg(&store), "pipe", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"piped\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(on(&store, "get", &["pipe", "--raw"]).ended(0).stdout, "piped\n");
}

#[test]
fn a_value_expires() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    on(&store, "put", &["short", "x", "--ttl", "0s"]).ended(0);
    on(&store, "put", &["long", "x", "--ttl", "2days"]).ended(0);
    on(&store, "get", &["short"]).ended(1);
    on(&store, "get", &["long"]).ended(0);
    let listing = on(&store, "ls", &["--long"]).ended(0).stdout;
    assert!(listing.contains("1day 23h"), "{listing}");
}

#[test]
fn listings_and_statistics_are_json_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    for key in ["a", "b", "c"] {
        on(&store, "put", &[key, "four"]).ended(0);
    }
    let listing = on(&store, "ls", &["--json", "--limit", "2"]).ended(0);
    assert_eq!(listing.stdout.lines().count(), 2);
    for line in listing.stdout.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["len"], 4);
        assert!(entry["expires_at_ms"].is_null());
    }
    let stats = on(&store, "stats", &["--json"]).ended(0);
    assert_eq!(stats.number("entries"), 3);
    assert_eq!(stats.json()["recovery"], "clean");
    assert!(on(&store, "stats", &[]).ended(0).stdout.contains("entries "));
}

#[test]
fn a_closed_pipe_ends_a_listing_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    on(&store, "put", &["key", "value"]).ended(0);
    let mut child =
        larder(["ls", arg(&store)]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_store_that_is_not_there_is_refused_and_not_created() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    for (command, rest) in
        [("get", ["k"].as_slice()), ("rm", &["k"]), ("ls", &[]), ("stats", &[]), ("verify", &[])]
    {
        on(&store, command, rest).refused("store");
        assert!(!store.exists(), "{command}");
    }
}

#[test]
fn keys_over_the_limit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    on(&store, "put", &[&"k".repeat(40_000), "v"]).refused("40000 bytes");
}

#[test]
fn values_over_the_budget_are_refused_and_the_old_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("store"), dir.path().join("file"));
    fs::write(&file, vec![7; 3 << 20]).unwrap();
    on(&store, "put", &["key", "old", "--disk", "2MiB"]).ended(0);
    on(&store, "put", &["key", "--file", arg(&file), "--disk", "2MiB"]).refused("raise --disk");
    assert_eq!(on(&store, "get", &["key"]).ended(0).stdout, "old");
}

#[test]
fn bad_usage_is_told_with_code_2_and_help_with_code_0() {
    assert!(run(["put"]).ended(2).stderr.contains("Usage"));
    assert!(run(["nonsense"]).ended(2).stderr.contains("nonsense"));
    let help = run(["--help"]).ended(0);
    for word in ["demo", "replay", "verify", "dump", "Exit codes", "130"] {
        assert!(help.stdout.contains(word), "{word}");
    }
}
