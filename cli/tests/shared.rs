//! Promise: a store that other processes share can be looked into and changed meanwhile, with
//! `--shared`; without that the command says what to type; and `ps` tells who has a store open.
//! Method: the commands beside a store that this process has open.

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use common::{arg, larder, run};
use larder_engine::{Disk, Engine as _, Put};

#[test]
fn commands_join_who_shares_and_say_how() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let disk = Disk::builder(&dir).budget(64 << 20).shared().open().unwrap();
    let _ = disk.put(b"ours", b"value", &Put::default()).unwrap();
    run(["get", arg(&dir), "ours"]).refused("say --shared");
    run(["ls", arg(&dir)]).refused(&std::process::id().to_string());
    assert_eq!(run(["get", arg(&dir), "ours", "--shared"]).ended(0).stdout, "value");
    run(["put", arg(&dir), "theirs", "there", "--shared"]).ended(0);
    assert_eq!(disk.get(b"theirs").unwrap().as_deref(), Some(&b"there"[..]));
    run(["put", arg(&dir), "a", "b", "--shared", "--disk", "1GiB"]).refused("--disk");
    assert_eq!(run(["ls", arg(&dir), "--shared"]).ended(0).stdout.lines().count(), 2);
    run(["rm", arg(&dir), "ours", "--shared"]).ended(0);
    assert!(disk.get(b"ours").unwrap().is_none());
    let stats = run(["stats", arg(&dir), "--shared", "--json"]).ended(0);
    assert_eq!((stats.number("processes"), stats.number("entries")), (2, 1));
    run(["backup", arg(&dir), arg(&place.path().join("backup")), "--shared"]).ended(0);
    disk.close().unwrap();
    // With nobody to join, the flag changes nothing.
    assert_eq!(run(["get", arg(&dir), "theirs", "--shared"]).ended(0).stdout, "there");
    run(["stats", arg(&dir), "--watch", "1"]).refused("no process shares");
    run(["verify", arg(&dir)]).ended(0);
}

#[test]
fn who_has_a_store_open_is_told() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    run(["ps", arg(&dir)]).refused("cannot open");
    let me = u64::from(std::process::id());
    {
        let _disk = Disk::builder(&dir).budget(64 << 20).open().unwrap();
        let alone = run(["ps", arg(&dir), "--json"]).ended(0).json();
        assert_eq!(alone["processes"][0]["pid"], me);
        assert_eq!(alone["processes"][0]["shares"], false);
        assert!(run(["ps", arg(&dir)]).ended(0).stdout.contains("alone"));
    }
    assert_eq!(run(["ps", arg(&dir)]).ended(0).stdout, "no process has it open\n");
    let open = || Disk::builder(&dir).budget(64 << 20).shared().open().unwrap();
    let disks = [open(), open()];
    let _ = disks[0].put(b"key", b"value", &Put::default()).unwrap();
    for _ in 0..2 {
        let shared = run(["ps", arg(&dir), "--json"]).ended(0).json();
        let processes = shared["processes"].as_array().unwrap();
        // Who looks is not counted.
        assert_eq!(processes.len(), 2);
        for process in processes {
            assert_eq!(process["pid"], me);
            assert!(process["opened_ms"].as_u64().unwrap() > 0);
        }
        let segments = processes.iter().map(|process| process["segments"].as_u64().unwrap());
        assert!(segments.sum::<u64>() > 0);
    }
    assert_eq!(run(["ps", arg(&dir)]).ended(0).stdout.lines().count(), 3);
}

#[test]
fn figures_are_watched_while_others_write() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let disk = Disk::builder(&dir).budget(64 << 20).shared().open().unwrap();
    let mut child =
        larder(["stats", arg(&dir), "--watch", "0.02"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let shown = lines.map_while(Result::ok).filter_map(|line| {
        line.trim_start().strip_prefix("entries").map(|entries| entries.trim().to_owned())
    });
    // What it shows follows what is there.
    let mut wanted = 0_u32;
    for entries in shown {
        if entries == wanted.to_string() {
            if wanted == 3 {
                break;
            }
            wanted += 1;
            let _ = disk.put(&wanted.to_le_bytes(), b"value", &Put::default()).unwrap();
        }
    }
    assert_eq!(wanted, 3);
    child.kill().unwrap();
    child.wait().unwrap();
}
