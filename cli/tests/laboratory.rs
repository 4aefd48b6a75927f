//! Promise: the laboratory's figures are exact where it says so, its output can be read by people
//! and programs, and traces that are none are refused with their place.
//! Method: the real command over tiny traces worked out by hand, and over generated ones.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Ran, arg, record, run};

fn simulate(trace: &Path, more: &[&str]) -> Ran {
    run([["simulate", arg(trace)].as_slice(), more].concat())
}

/// Lines of `--csv`, split.
fn lines_of(ran: &Ran) -> Vec<Vec<String>> {
    ran.stdout.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn generated(dir: &Path, name: &str, more: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let args = ["generate", "--out", arg(&path), "--requests", "12000", "--objects", "2000"];
    let ran = run([args.as_slice(), more].concat()).ended(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    path
}

fn tiny(dir: &Path) -> PathBuf {
    let path = dir.join("tiny.csv");
    // With room for two: FIFO hits the second 1; LRU the third as well; the optimum the second 3, too.
    fs::write(&path, "1\n2\n1\n3\n1\n2\n3\n").unwrap();
    path
}

#[test]
fn a_trace_worked_out_by_hand_comes_out_right() {
    let dir = tempfile::tempdir().unwrap();
    let ran =
        simulate(&tiny(dir.path()), &["--policy", "fifo,lru,belady", "--capacity", "2,3", "--csv"])
            .ended(0);
    let found = lines_of(&ran);
    let head = "trace,policy,capacity,requests,hits,miss_ratio,byte_miss_ratio,seconds";
    assert_eq!(found[0].join(","), head);
    let cells: Vec<String> = found[1..].iter().map(|line| line[..7].join(",")).collect();
    let expected = [
        "tiny,fifo,2,7,1,0.857143,0.857143",
        "tiny,fifo,3,7,4,0.428571,0.428571",
        "tiny,lru,2,7,2,0.714286,0.714286",
        "tiny,lru,3,7,4,0.428571,0.428571",
        "tiny,belady,2,7,3,0.571429,0.571429",
        "tiny,belady,3,7,4,0.428571,0.428571",
    ];
    assert_eq!(cells, expected);
    assert!(found[1..].iter().all(|line| line[7].parse::<f64>().unwrap() >= 0.0));
}

#[test]
fn bytes_and_requests_are_counted_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sized.csv");
    // In 10 bytes: 1 and 2 fit together, 3 drives both out.
    fs::write(&path, "1,2\n2,6\n2,6\n1,2\n3,10\n1,2\n").unwrap();
    let sized = simulate(&path, &["--policy", "lru", "--capacity", "10,100%", "--csv"]).ended(0);
    let cells: Vec<String> =
        lines_of(&sized)[1..].iter().map(|line| line[1..7].join(",")).collect();
    assert_eq!(cells, ["lru,10,6,2,0.666667,0.714286", "lru,18,6,3,0.500000,0.642857"]);
    let more = ["--policy", "lru", "--capacity", "2,100%", "--ignore-size", "--csv"];
    let counted = simulate(&path, &more).ended(0);
    let cells: Vec<String> =
        lines_of(&counted)[1..].iter().map(|line| line[1..7].join(",")).collect();
    assert_eq!(cells, ["lru,2,6,3,0.500000,0.500000", "lru,3,6,3,0.500000,0.500000"]);
    simulate(&path, &["--capacity", "1KiB", "--ignore-size"]).refused("--ignore-size");
}

#[test]
fn figures_do_not_depend_on_threads_or_on_how_the_trace_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--kind", "mix", "--size", "100", "--size-sigma", "1"];
    let names = ["mix.csv", "mix.oracleGeneral", "mix.oracleGeneral.zst"];
    let traces = names.map(|name| generated(dir.path(), name, &more));
    let figures = |trace: &Path, threads: &str| -> Vec<Vec<String>> {
        let more = ["--capacity", "0.1", "--csv", "--threads", threads];
        let found = lines_of(&simulate(trace, &more).ended(0));
        found.into_iter().map(|line| line[..7].to_vec()).collect()
    };
    let one = figures(&traces[0], "1");
    assert!(one.len() > 6);
    assert_eq!(one, figures(&traces[0], "3"));
    assert_eq!(one, figures(&traces[1], "2"));
    assert_eq!(one, figures(&traces[2], "2"));
}

#[test]
fn json_and_tables_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let trace = generated(dir.path(), "a.oracleGeneral", &["--kind", "zipf", "--seed", "9"]);
    let more = ["--policy", "lru,s3fifo", "--capacity", "1%,10%"];
    let json = simulate(&trace, &[more.as_slice(), &["--json"]].concat()).ended(0).json();
    let found = &json["traces"][0];
    assert_eq!(found["requests"], 12_000);
    assert!(found["survey"]["objects"].as_u64().unwrap() <= 2_000);
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let table = simulate(&trace, &more).ended(0);
    assert_eq!(table.stderr, "");
    for row in rows {
        let miss_ratio = row["miss_ratio"].as_f64().unwrap();
        assert!(table.stdout.contains(&format!("{:.2}", 100.0 * miss_ratio)), "{row} {table:?}");
        assert_eq!(row["requests"], 12_000);
    }
    assert!(
        rows[0]["miss_ratio"].as_f64() > rows[1]["miss_ratio"].as_f64(),
        "more room, fewer misses"
    );
}

#[test]
fn links_that_are_wrong_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let text = generated(dir.path(), "a.csv", &["--kind", "zipf"]);
    // The same requests, each saying that its object never comes again.
    let lines = fs::read_to_string(&text).unwrap();
    let ids = lines.lines().skip(1).map(|line| line.split_once(',').unwrap().0.parse().unwrap());
    let unlinked = dir.path().join("a.oracleGeneral");
    fs::write(&unlinked, ids.flat_map(|id| record(id, 1)).collect::<Vec<u8>>()).unwrap();
    let figures = |trace: &Path| {
        let more = ["--policy", "belady,belady-bypass,belady-size,lru", "--csv", "--temp"];
        let found =
            lines_of(&simulate(trace, &[more.as_slice(), &[arg(dir.path())]].concat()).ended(0));
        found.into_iter().map(|line| line[..7].to_vec()).collect::<Vec<_>>()
    };
    let found = figures(&text);
    assert_eq!(found, figures(&unlinked));
    let hits = |policy: &str| -> u64 {
        let rows = found.iter().filter(|row| row[1] == policy);
        rows.map(|row| row[4].parse::<u64>().unwrap()).sum()
    };
    assert!(hits("belady-bypass") >= hits("belady") && hits("belady") > hits("lru"), "{found:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    let nowhere = dir.path().join("nowhere");
    simulate(&text, &["--policy", "belady", "--temp", arg(&nowhere)]).refused("nowhere");
}

#[test]
fn the_limit_ends_every_pass() {
    let dir = tempfile::tempdir().unwrap();
    let trace = generated(dir.path(), "a.csv", &["--kind", "one-hit"]);
    let ran = simulate(&trace, &["--policy", "lru,belady", "--limit", "500", "--json"]).ended(0);
    let found = &ran.json()["traces"][0];
    assert_eq!((&found["requests"], &found["survey"]["requests"]), (&500.into(), &500.into()));
    let ran = run(["mrc", arg(&trace), "--limit", "500", "--json"]).ended(0);
    assert_eq!(ran.number("requests"), 500);
}

#[test]
fn pictures_are_drawn_of_each_trace() {
    let dir = tempfile::tempdir().unwrap();
    let traces = ["a.csv", "b.csv"].map(|name| generated(dir.path(), name, &["--kind", "scan"]));
    let plot = dir.path().join("out.svg");
    let args = ["simulate", arg(&traces[0]), arg(&traces[1]), "--plot", arg(&plot), "--json"];
    assert_eq!(run(args).ended(0).json()["traces"].as_array().map(Vec::len), Some(2));
    for name in ["out-a.svg", "out-b.svg"] {
        let svg = fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("s3fifo") && svg.contains("miss ratio"));
    }
    let png = dir.path().join("mrc.png");
    run(["mrc", arg(&traces[0]), "--plot", arg(&png)]).ended(0);
    let bytes = fs::read(png).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000);
    simulate(&traces[0], &["--plot", "out.gif"]).refused("end its name in .svg or .png");
}

#[test]
fn the_curve_of_a_whole_sample_is_that_of_the_simulator() {
    let dir = tempfile::tempdir().unwrap();
    let trace = generated(dir.path(), "a.oracleGeneral.zst", &["--kind", "shifting"]);
    // Ends of the sampler's buckets, where it is exact.
    let capacities = "31,63,127,255,511,1023";
    let exact = simulate(&trace, &["--policy", "lru", "--capacity", capacities, "--json"]).ended(0);
    let curve =
        run(["mrc", arg(&trace), "--rate", "1", "--capacity", capacities, "--json"]).ended(0);
    let (exact, curve) = (exact.json(), curve.json());
    let points = curve["curves"][0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 6);
    for (row, point) in exact["traces"][0]["rows"].as_array().unwrap().iter().zip(points) {
        assert_eq!(row["capacity"], point["capacity"]);
        let [exact, found] = [row, point].map(|at| at["miss_ratio"].as_f64().unwrap());
        assert!((exact - found).abs() < 1e-9, "{row} {point}");
    }
}

#[test]
fn bounds_hold_what_the_simulator_finds() {
    let dir = tempfile::tempdir().unwrap();
    let trace = generated(dir.path(), "a.oracleGeneral", &["--kind", "zipf", "--skew", "0.7"]);
    let more = ["--policy", "lru,fifo,s3fifo", "--capacity", "400,800,1600", "--json"];
    let exact = simulate(&trace, &more).ended(0).json();
    let args = [["mrc", arg(&trace), "--samples", "800"].as_slice(), &more].concat();
    let found = run(args).ended(0).json();
    assert!(found["rate"].as_f64().unwrap() < 0.5, "{found}");
    let mut compared = 0;
    for row in exact["traces"][0]["rows"].as_array().unwrap() {
        let curves = found["curves"].as_array().unwrap();
        let curve = curves.iter().find(|curve| curve["policy"] == row["policy"]).unwrap();
        let mut points = curve["points"].as_array().unwrap().iter();
        let point = points.find(|point| point["capacity"] == row["capacity"]).unwrap();
        let number = |name: &str| point[name].as_f64().unwrap();
        let exact = row["miss_ratio"].as_f64().unwrap();
        assert!((number("low")..=number("high")).contains(&exact), "{row} {point}");
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn a_curve_is_a_table_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let trace = generated(dir.path(), "a.csv", &["--kind", "bursts"]);
    let ran = run(["mrc", arg(&trace), "--policy", "lru,s3fifo", "--samples", "500"]).ended(0);
    for part in ["12,000 requests", "lru", "s3fifo", " to ", "99 %"] {
        assert!(ran.stdout.contains(part), "{part}: {ran:?}");
    }
}

#[test]
fn a_seed_makes_the_same_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name, seed| {
        fs::read(generated(dir.path(), name, &["--kind", "mix", "--seed", seed])).unwrap()
    };
    let first = make("a.oracleGeneral", "5");
    assert_eq!(first.len(), 12_000 * 24);
    assert_eq!(first, make("b.oracleGeneral", "5"));
    assert_ne!(first, make("c.oracleGeneral", "6"));
}

#[test]
fn what_is_no_trace_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &str, &str); 9] = [
        ("empty", b"", "auto", "empty: it is empty"),
        ("cut.oracleGeneral", &[0; 25], "auto", "25 bytes"),
        ("text.oracleGeneral", &[b'l'; 48], "auto", "record 1"),
        ("bad.csv", b"id,size\n1,2\nx,3\n", "auto", "line 3 has \"x\": expected a number"),
        ("bad.lis", b"1 2 3 4\n5 6 7\n", "auto", "line 2"),
        ("bad.trc", b"1\n*\nx\n", "auto", "line 3"),
        ("twitter", b"0,k,1,1,1,get,0\n0,k,1,1,1,fetch,0\n", "twitter", "line 2"),
        ("msr", b"1,a,0,Read,0,512,1\n1,a,0,Trim,0,512,1\n", "msr", "line 2"),
        ("cut.zst", &[0x28, 0xB5, 0x2F, 0xFD, 0], "auto", "cut.zst"),
    ];
    for (name, bytes, format, what) in cases {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        simulate(&path, &["--format", format]).refused(what);
        run(["mrc", arg(&path), "--format", format]).refused(what);
    }
    simulate(&dir.path().join("nowhere"), &[]).refused("nowhere");
    simulate(dir.path(), &[]).refused("directory");
}

#[test]
fn what_cannot_be_made_up_is_refused_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (text, odd) = (dir.path().join("a.csv"), dir.path().join("a.txt"));
    run(["generate", "--kind", "zipf", "--out", arg(&odd)]).refused("a.txt");
    let out = ["generate", "--out", arg(&text), "--kind", "zipf"];
    run([out.as_slice(), &["--skew", "-1"]].concat()).ended(2);
    run([out.as_slice(), &["--objects", "0"]].concat()).refused("objects cannot be 0");
    run([out.as_slice(), &["--size", "2GiB"]].concat()).refused("1 GiB");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
