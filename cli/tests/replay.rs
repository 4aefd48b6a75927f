//! Promise: a replay finds every value right, and a second one starts warm.
//! Method: small generated traces in every format, replayed twice over one directory.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Ran, arg, random, record, run};

const OBJECTS: u64 = 300;
const REQUESTS: u64 = 5_000;

fn requests() -> Vec<(u64, u32)> {
    let mut random = random(7);
    let mut request = || {
        // The smaller of two: some objects are asked for more often than others.
        let id = (random() % OBJECTS).min(random() % OBJECTS);
        (id, u32::try_from(id * id % 3_000).expect("it is small"))
    };
    (0..REQUESTS).map(|_| request()).collect()
}

fn oracle(dir: &Path) -> PathBuf {
    let path = dir.join("small.oracleGeneral");
    let bytes: Vec<u8> = requests().iter().flat_map(|&(id, size)| record(id, size)).collect();
    fs::write(&path, bytes).expect("it can be written");
    path
}

fn replay(trace: &Path, more: &[&str]) -> Ran {
    run([["replay", arg(trace), "--json"].as_slice(), more].concat())
}

fn sums_up(ran: &Ran) {
    let parts = ["memory_hits", "disk_hits", "misses"].map(|part| ran.number(part));
    assert_eq!(parts.iter().sum::<u64>(), ran.number("requests"), "{ran:?}");
    assert_eq!(ran.number("wrong"), 0, "{ran:?}");
}

#[test]
fn a_second_replay_over_one_directory_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let trace = oracle(dir.path());
    for mode in ["write-through", "write-on-evict"] {
        let cache = dir.path().join(mode);
        let more = ["--dir", arg(&cache), "--mode", mode];
        let first = replay(&trace, &more).ended(0);
        sums_up(&first);
        assert_eq!(first.number("requests"), REQUESTS);
        assert!(first.number("misses") <= OBJECTS, "{first:?}");
        assert!(first.number("bytes_written") > 0 || mode == "write-on-evict", "{first:?}");

        let second = replay(&trace, &more).ended(0);
        sums_up(&second);
        assert_eq!(second.number("misses"), 0, "{mode}: {second:?}");
        assert!(second.number("disk_hits") > 0, "{mode}: {second:?}");
    }
}

#[test]
fn formats_agree() {
    let dir = tempfile::tempdir().unwrap();
    let plain = oracle(dir.path());
    let packed = dir.path().join("small.oracleGeneral.zst");
    fs::write(&packed, zstd::encode_all(&fs::read(&plain).unwrap()[..], 1).unwrap()).unwrap();
    let text = dir.path().join("small.csv");
    let lines = requests().iter().map(|(id, size)| format!("{id},{size}\n")).collect::<String>();
    fs::write(&text, format!("id,size\n{lines}")).unwrap();
    let [a, b, c] = [plain, packed, text].map(|trace| replay(&trace, &[]).ended(0));
    for field in ["requests", "misses", "bytes_requested"] {
        assert_eq!(a.number(field), b.number(field), "{field}");
        assert_eq!(a.number(field), c.number(field), "{field}");
    }
}

#[test]
fn policies_threads_and_small_budgets_find_no_wrong_value() {
    let dir = tempfile::tempdir().unwrap();
    let trace = oracle(dir.path());
    for policy in ["s3fifo", "lru", "fifo"] {
        for threads in ["1", "3"] {
            let more = ["--policy", policy, "--threads", threads, "--memory", "64KiB"];
            let ran = replay(&trace, &more).ended(0);
            sums_up(&ran);
            assert_eq!(ran.number("requests"), REQUESTS);
            assert!(ran.number("disk_hits") > 0, "{ran:?}");
        }
    }
}

#[test]
fn the_limit_and_the_value_size_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let ran = replay(&oracle(dir.path()), &["--limit", "100", "--value-size", "1KiB"]).ended(0);
    assert_eq!(ran.number("requests"), 100);
    assert_eq!(ran.number("bytes_requested"), 100 << 10);
}

#[test]
fn what_was_acknowledged_is_there_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, acked) = (dir.path().join("cache"), dir.path().join("acked"));
    let first = replay(&oracle(dir.path()), &["--dir", arg(&cache), "--ack", arg(&acked)]).ended(0);
    let verdict =
        run(["replay", "--json", "--dir", arg(&cache), "--verify-acked", arg(&acked)]).ended(0);
    assert_eq!(verdict.number("acked"), first.number("misses"));
    assert_eq!(verdict.number("present"), first.number("misses"));
    assert_eq!(verdict.number("missing") + verdict.number("wrong"), 0);

    fs::write(&acked, "99999999,5\n").unwrap();
    let lost = run(["replay", "--json", "--dir", arg(&cache), "--verify-acked", arg(&acked)]);
    assert_eq!(lost.ended(1).number("missing"), 1);
}

#[test]
fn the_table_has_the_figures() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(["replay", arg(&oracle(dir.path()))]).ended(0);
    for line in ["requests ", "memory hits ", "disk hits ", "misses ", "wrong values ", "written "]
    {
        assert!(ran.stdout.contains(line), "{line}: {ran:?}");
    }
    assert_eq!(ran.stderr, "");
}

#[test]
fn what_is_no_trace_is_refused_and_leaves_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "empty"),
        ("cut.oracleGeneral", &[0; 25], "24"),
        ("text.oracleGeneral", &[b'l'; 48], "record 1"),
        ("bad.csv", b"id,size\n1,2\nx,3\n", "line 3"),
        ("cut.zst", &[0x28, 0xB5, 0x2F, 0xFD, 0], "cut.zst"),
    ];
    for (name, bytes, what) in cases {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        replay(&path, &["--dir", arg(&cache)]).refused(what);
    }
    replay(&dir.path().join("nowhere"), &["--dir", arg(&cache)]).refused("nowhere");
    replay(dir.path(), &["--dir", arg(&cache)]).refused("directory");
}
