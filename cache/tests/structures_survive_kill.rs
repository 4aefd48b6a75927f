//! Promise: whoever is killed in the middle of a change leaves a structure as it was before, or as it
//! is after it. A child process works until it is killed, again and again; what it says that it has
//! done is compared with what is there.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use larder::structures::{Deque, Index, Structures};

const CHILD: &str = "LARDER_TEST_STRUCTURES";
const ROUNDS: u64 = 6;

struct Opened {
    queue: Deque<u64>,
    index: Index<u64, u64>,
    structures: Structures,
}

fn open(dir: &Path) -> Opened {
    let structures = Structures::open(dir).unwrap();
    let queue = structures.deque("queue").unwrap();
    let index = structures.index("index").unwrap();
    Opened { queue, index, structures }
}

/// The next number comes in at the back, and the oldest goes at the front, of both; with some turning
/// round, so that the middle is worked on as well.
fn work(dir: &Path) {
    let Opened { queue, index, structures } = open(dir);
    let counter = structures.counter("next").unwrap();
    loop {
        let number = counter.add(1).unwrap().cast_unsigned();
        queue.push_back(number).unwrap();
        index.insert(&number, 10 * number).unwrap();
        if number > 20 {
            queue.pop_front().unwrap();
            index.pop_first().unwrap();
        }
        if number.is_multiple_of(50) {
            index.clear().unwrap();
        }
        // What was printed was done.
        #[expect(clippy::print_stdout, reason = "what the parent reads")]
        {
            println!("{number}");
        }
    }
}

#[test]
fn as_a_child() {
    if let Some(dir) = std::env::var_os(CHILD) {
        work(Path::new(&dir));
    }
}

#[test]
fn what_is_killed_leaves_whole_changes() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let mut last = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["as_a_child", "--exact", "--nocapture"])
            .env(CHILD, &dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = last + 30 + 7 * round;
        while last < wanted {
            let line = lines.next().expect("the child works until it is killed").unwrap();
            last = line.trim().parse().unwrap_or(last);
        }
        child.kill().unwrap();
        // What it said before it heard of it was done as well.
        last =
            lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).fold(last, u64::max);
        child.wait().unwrap();

        let Opened { queue, index, structures } = open(&dir);
        let next = structures.counter("next").unwrap().get().unwrap().cast_unsigned();
        assert!((last..=last + 1).contains(&next), "round {round}: {next} after {last}");
        let items: Vec<u64> = queue.iter().unwrap().map(Result::unwrap).collect();
        assert_eq!(items.len() as u64, queue.len().unwrap());
        assert!(items.is_sorted() && items.last().is_some_and(|item| *item >= last));
        // A number that was drawn and not added leaves one out; nothing else does.
        assert!(items.windows(2).all(|pair| pair[1] - pair[0] <= 2), "{items:?}");
        let entries: Vec<(u64, u64)> = index.iter().unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len() as u64, index.len().unwrap());
        assert!(entries.is_sorted() && entries.iter().all(|(key, value)| *value == 10 * key));
        assert_eq!((queue.lost().unwrap(), index.lost().unwrap()), (0, 0));
        // A lease of a process that died would be over some day; there is none here.
        let lock = structures.lock("lock", Duration::from_secs(60)).unwrap();
        lock.run(|| ()).unwrap();
    }
}
