//! What happens once, however many want it to: adding a key, adding to a number, taking an item out of a
//! queue, clearing.

use std::collections::BTreeMap;

use larder_engine::{Atomic as _, Disk, Engine as _, Pushed, Put, Result};

use crate::peer::{Peer, Told};
use crate::{alone, builder};

const CHILDREN: usize = 4;
const KEYS: usize = 1_000;
const ADDITIONS: usize = 50;
const ITEMS: usize = 100;

/// Starts children that have a store open, and says a line to all of them; what each answers.
fn all(children: &mut [Peer], line: &str) -> Vec<String> {
    for child in &mut *children {
        child.tell(line);
    }
    children.iter_mut().map(Peer::hear).collect()
}

fn start(dir: &std::path::Path) -> Vec<Peer> {
    let mut children = Peer::start_all("joint", CHILDREN, dir);
    assert!(children.iter_mut().all(|child| child.hear() == "open"));
    children
}

#[test]
fn of_several_who_add_a_key_one_wins() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let mut children = start(&dir);
    let wins = all(&mut children, "add");
    let wins: Vec<usize> = wins.iter().map(|wins| wins.parse().unwrap()).collect();
    assert_eq!(wins.iter().sum::<usize>(), KEYS, "{wins:?}");
    drop(children);
    assert_eq!(alone(&dir, 64 << 20).len(), KEYS as u64);
}

#[test]
fn sums_are_exact() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let mut children = start(&dir);
    all(&mut children, "sum");
    let sum = all(&mut children[..1], "read the sum");
    assert_eq!(sum, [(CHILDREN * ADDITIONS).to_string()]);
}

#[test]
fn an_item_of_a_queue_comes_out_once_and_in_order() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let mut children = start(&dir);
    let pulled = all(&mut children, "queue");
    // What the others pushed after one had found the queue empty for the last time.
    let rest = all(&mut children[..1], "pull the rest");
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for items in pulled.iter().chain(&rest) {
        // Of what each pushed, whoever pulls sees a later part after an earlier one.
        let mut last = [None; CHILDREN];
        for item in items.split_whitespace() {
            let (from, number) = item.split_once('/').unwrap();
            let (from, number) = (from.parse::<usize>().unwrap(), number.parse::<usize>().unwrap());
            assert!(last[from] < Some(number), "{items}");
            last[from] = Some(number);
            *times.entry(item).or_default() += 1;
        }
    }
    assert_eq!(times.len(), CHILDREN * ITEMS);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    drop(children);
    assert_eq!(alone(&dir, 64 << 20).queue("q").len().unwrap(), 0);
}

#[test]
fn what_one_clears_is_gone_for_all() {
    let place = tempfile::tempdir().unwrap();
    let mut children = start(&place.path().join("store"));
    for round in 0..20 {
        all(&mut children, "fill");
        let clears = round % CHILDREN;
        all(&mut children[clears..=clears], "clear");
        assert!(all(&mut children, "count").iter().all(|found| found == "0 0"), "round {round}");
    }
}

pub(crate) fn child(told: &mut Told) -> Result<()> {
    let disk = builder(&told.dir).open()?;
    told.say("open");
    while let Some(line) = told.hear() {
        let answer = match &*line {
            "add" => add(&disk)?.to_string(),
            "sum" => {
                for _ in 0..ADDITIONS {
                    disk.add_to(b"sum", 1, Some(0), &Put::default())?;
                }
                String::new()
            }
            "read the sum" => {
                let sum = disk.get(b"sum")?.and_then(|bytes| (*bytes).try_into().ok());
                sum.map_or(0, i64::from_le_bytes).to_string()
            }
            "queue" => queue(&disk, told.number)?,
            "pull the rest" => pull(&disk, usize::MAX)?,
            "fill" => {
                for n in 0..20 {
                    let key = format!("{}/{n}", told.number);
                    let len = if n == 0 { 100_000 } else { 2_000 };
                    assert!(
                        disk.put(key.as_bytes(), &vec![7; len], &Put::default())?.is_admitted()
                    );
                }
                String::new()
            }
            "clear" => disk.clear()?.to_string(),
            "count" => {
                let keys =
                    (0..CHILDREN).flat_map(|from| (0..20).map(move |n| format!("{from}/{n}")));
                let mut found = 0;
                for key in keys {
                    found += usize::from(disk.get(key.as_bytes())?.is_some());
                }
                format!("{found} {}", disk.iter().count())
            }
            line => panic!("{line}"),
        };
        told.say(&answer);
    }
    Ok(())
}

/// How many of the keys this process was the first to add.
fn add(disk: &Disk) -> Result<usize> {
    let mut wins = 0;
    for n in 0..KEYS {
        let outcome = disk.add(&format!("{n}").into_bytes(), b"mine", &Put::default())?;
        wins += usize::from(outcome.is_admitted());
    }
    Ok(wins)
}

/// Pushes, and pulls as much; what was pulled.
fn queue(disk: &Disk, number: usize) -> Result<String> {
    let mut pulled = Vec::new();
    for n in 0..ITEMS {
        let item = format!("{number}/{n}");
        let pushed = disk.queue("q").push_back(item.as_bytes(), &Put::default())?;
        assert!(matches!(pushed, Pushed::At(_)), "{pushed:?}");
        if n % 2 == 1 {
            pulled.push(pull(disk, 2)?);
        }
    }
    Ok(pulled.join(" "))
}

fn pull(disk: &Disk, most: usize) -> Result<String> {
    let mut pulled = Vec::new();
    while pulled.len() < most
        && let Some((_, item)) = disk.queue("q").pull_front()?
    {
        pulled.push(String::from_utf8_lossy(&item).into_owned());
    }
    Ok(pulled.join(" "))
}
