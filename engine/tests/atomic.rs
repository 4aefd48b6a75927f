//! Promise: changes of a key that read and write it take place at one moment, whoever else
//! changes it; a batch takes place as a whole; an invalidated tag takes everything with it.
//! Method: many threads at few keys, and counts that must come out; a manual clock; reopening.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use larder_engine::memory::Memory;
use larder_engine::{
    Atomic, BatchOutcome, Disk, Durability, Engine, Error, Expected, Maintenance, ManualClock,
    Outcome, Put, Retain, Ttl, WriteBatch,
};
use tempfile::TempDir;

const PUT: Put<'static> = Put {
    ttl: Ttl::Never,
    durability: Durability::None,
    codec: larder_engine::CodecId::RAW,
    tags: &[],
    cost: larder_engine::Cost::NONE,
    when_short: None,
};

fn open(dir: &TempDir) -> Disk {
    Disk::builder(dir.path().join("store")).budget(32 << 20).writers(4).open().unwrap()
}

fn fresh() -> (TempDir, Disk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir);
    (dir, disk)
}

fn text(disk: &Disk, key: &[u8]) -> Option<String> {
    disk.get(key).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn version(outcome: Outcome) -> u64 {
    let Outcome::Admitted { version } = outcome else { panic!("{outcome:?}") };
    version
}

/// Does something with every engine that changes keys atomically.
fn with_each(check: impl Fn(&dyn Atomic)) {
    check(&fresh().1);
    check(&Memory::builder(64 << 20).build().unwrap());
}

#[test]
fn of_many_that_add_a_key_one_succeeds() {
    with_each(of_many_one_adds);
}

fn of_many_one_adds(disk: &dyn Atomic) {
    let won = AtomicU64::new(0);
    thread::scope(|scope| {
        for id in 0..16_u64 {
            let won = &won;
            scope.spawn(move || {
                for key in 0..500_u32 {
                    let key = key.to_le_bytes();
                    if disk.add(&key, &id.to_le_bytes(), &PUT).unwrap().is_admitted() {
                        won.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(*disk.get(&key).unwrap().unwrap(), id.to_le_bytes());
                    }
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 500);
    assert_eq!(disk.len(), 500);
}

#[test]
fn additions_from_many_threads_all_count() {
    let (dir, disk) = fresh();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for i in 0..1_000_u32 {
                    let key = (i % 3).to_le_bytes();
                    disk.add_to(&key, 1, Some(0), &PUT).unwrap().unwrap();
                }
            });
        }
    });
    let sum = |disk: &Disk| -> i64 {
        (0..3_u32).map(|key| disk.add_to(&key.to_le_bytes(), 0, None, &PUT).unwrap().unwrap()).sum()
    };
    assert_eq!(sum(&disk), 8_000);
    drop(disk);
    assert_eq!(sum(&open(&dir)), 8_000);
}

#[test]
fn additions_race_with_puts_and_removals_and_are_never_half_seen() {
    let (_dir, disk) = fresh();
    // Each addition returns a sum that nobody else gets, unless the key was set anew between.
    thread::scope(|scope| {
        for id in 0..4_i64 {
            let disk = &disk;
            scope.spawn(move || {
                for i in 0..2_000_i64 {
                    match (id, i % 50) {
                        (0, 0) => {
                            let _ = disk.put(b"n", &(i * 1_000_000).to_le_bytes(), &PUT).unwrap();
                        }
                        (1, 7) => {
                            disk.remove(b"n").unwrap();
                        }
                        _ => {
                            disk.add_to(b"n", 1, Some(0), &PUT).unwrap().unwrap();
                        }
                    }
                }
            });
        }
    });
    assert!(disk.len() <= 1);
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn a_conditional_put_takes_place_only_as_expected() {
    let (dir, disk) = fresh();
    let first = version(disk.put_if(b"k", b"1", &PUT, Expected::Absent).unwrap());
    assert_eq!(
        disk.put_if(b"k", b"2", &PUT, Expected::Absent).unwrap(),
        Outcome::Conflict { version: Some(first) }
    );
    let second = version(disk.put_if(b"k", b"2", &PUT, Expected::Version(first)).unwrap());
    assert!(second > first);
    assert_eq!(
        disk.put_if(b"k", b"3", &PUT, Expected::Version(first)).unwrap(),
        Outcome::Conflict { version: Some(second) }
    );
    assert_eq!(text(&disk, b"k").unwrap(), "2");
    assert!(disk.remove(b"k").unwrap());
    assert_eq!(
        disk.put_if(b"k", b"3", &PUT, Expected::Version(second)).unwrap(),
        Outcome::Conflict { version: None }
    );
    // A large value that meets a conflict leaves no file behind.
    let large_files = || std::fs::read_dir(dir.path().join("store/big")).unwrap().count();
    let before = large_files();
    let large = vec![7; 1 << 20];
    let outcome = disk.put_if(b"k", &large, &PUT, Expected::Version(second)).unwrap();
    assert_eq!(outcome, Outcome::Conflict { version: None });
    assert_eq!(large_files(), before);
}

#[test]
fn swaps_from_many_threads_lose_nothing() {
    with_each(swaps_lose_nothing);
}

fn swaps_lose_nothing(disk: &dyn Atomic) {
    let _ = disk.put(b"list", b"", &PUT).unwrap();
    thread::scope(|scope| {
        for id in 0..4_u8 {
            scope.spawn(move || {
                for _ in 0..200 {
                    loop {
                        let old = disk.get(b"list").unwrap().unwrap();
                        let mut new = old.to_vec();
                        new.push(id);
                        let expected = Expected::Version(old.meta().version);
                        if disk.put_if(b"list", &new, &PUT, expected).unwrap().is_admitted() {
                            break;
                        }
                    }
                }
            });
        }
    });
    let list = disk.get(b"list").unwrap().unwrap();
    for id in 0..4 {
        assert_eq!(list.iter().filter(|&&found| found == id).count(), 200);
    }
}

#[test]
fn what_is_taken_is_taken_once() {
    with_each(taken_once);
}

fn taken_once(disk: &dyn Atomic) {
    for key in 0..1_000_u32 {
        let _ = disk.put(&key.to_le_bytes(), &key.to_le_bytes(), &PUT).unwrap();
    }
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for key in 0..1_000_u32 {
                    if let Some(value) = disk.take(&key.to_le_bytes()).unwrap() {
                        assert_eq!(*value, key.to_le_bytes());
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!((taken.into_inner(), disk.len()), (1_000, 0));
}

#[test]
fn touching_moves_the_deadline_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = Disk::builder(dir.path().join("store")).clock(clock.clone()).open().unwrap();
    let second = Ttl::After(Duration::from_secs(1));
    let put = Put { ttl: second, tags: &[b"t"], ..Put::default() };
    let _ = disk.put(b"k", b"v", &put).unwrap();
    clock.advance(900);
    assert!(disk.touch(b"k", second).unwrap());
    clock.advance(900);
    assert_eq!(text(&disk, b"k").unwrap(), "v");
    assert!(disk.touch(b"k", Ttl::Never).unwrap());
    clock.advance(10_000);
    assert_eq!(text(&disk, b"k").unwrap(), "v");
    disk.invalidate_tag(b"t").unwrap();
    assert!(!disk.touch(b"k", second).unwrap(), "the tag was kept, and is invalid");
    assert_eq!(text(&disk, b"k"), None);
    let _ = disk.put(b"k", b"v", &PUT).unwrap();
    assert!(disk.touch(b"k", Ttl::After(Duration::ZERO)).unwrap());
    assert_eq!(text(&disk, b"k"), None);
    assert!(!disk.touch(b"absent", Ttl::Never).unwrap());
}

#[test]
fn a_number_keeps_its_deadline_and_never_wraps() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = Disk::builder(dir.path().join("store")).clock(clock.clone()).open().unwrap();
    number_keeps_its_deadline(&disk, &clock);
    let memory = Memory::builder(64 << 20).clock(clock.clone()).build().unwrap();
    number_keeps_its_deadline(&memory, &clock);
}

fn number_keeps_its_deadline(disk: &dyn Atomic, clock: &ManualClock) {
    assert_eq!(disk.add_to(b"n", 5, None, &PUT).unwrap(), None);
    let put = Put { ttl: Ttl::After(Duration::from_secs(1)), ..PUT };
    assert_eq!(disk.add_to(b"n", 5, Some(10), &put).unwrap(), Some(15));
    clock.advance(999);
    assert_eq!(disk.add_to(b"n", -20, None, &PUT).unwrap(), Some(-5));
    clock.advance(1);
    assert_eq!(disk.add_to(b"n", 1, None, &PUT).unwrap(), None, "its deadline was kept");
    assert_eq!(disk.add_to(b"n", i64::MAX, Some(0), &PUT).unwrap(), Some(i64::MAX));
    assert!(matches!(disk.add_to(b"n", 1, None, &PUT), Err(Error::Overflow { .. })));
    assert_eq!(disk.add_to(b"n", 0, None, &PUT).unwrap(), Some(i64::MAX));
    let _ = disk.put(b"n", b"text", &PUT).unwrap();
    assert!(matches!(disk.add_to(b"n", 1, Some(0), &PUT), Err(Error::NotANumber { len: 4 })));
}

#[test]
fn an_invalidated_tag_takes_what_was_put_before_and_nothing_else() {
    let (dir, disk) = fresh();
    let put = |disk: &Disk, key: u32, tags: &[&[u8]]| {
        let _ = disk.put(&key.to_le_bytes(), b"v", &Put { tags, ..PUT }).unwrap();
    };
    for key in 0..90 {
        let names: [&[u8]; 3] = [b"user:1", b"user:10", b"user"];
        put(&disk, key, &[names[key as usize % 3]]);
    }
    put(&disk, 90, &[b"user:1", b"other"]);
    assert_eq!(disk.keys_by_tag(b"user:1").unwrap().len(), 31);
    disk.invalidate_tag(b"user:1").unwrap();
    let check = |disk: &Disk| {
        for key in 0..=90_u32 {
            let is_there = key % 3 != 0;
            let found = disk.get(&key.to_le_bytes()).unwrap();
            assert_eq!(found.is_some(), is_there && key != 90 || key == 3, "key {key}");
        }
    };
    put(&disk, 3, &[b"user:1"]);
    check(&disk);
    drop(disk);
    let disk = open(&dir);
    check(&disk);
    disk.close().unwrap();
    drop(disk);
    let builder = Disk::builder(dir.path().join("store")).budget(32 << 20);
    let disk = builder.distrust().open().unwrap();
    check(&disk);
    assert_eq!(disk.keys_by_tag(b"user:1").unwrap(), [3_u32.to_le_bytes()]);
    let too_many = [&b"t"[..]; 16];
    let refused = disk.put(b"k", b"v", &Put { tags: &too_many, ..PUT });
    assert!(matches!(refused, Err(Error::TooManyTags { count: 16, max: 15 })));
}

#[test]
fn an_invalidation_outlives_the_reclaiming_of_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::builder(dir.path().join("store"))
        .budget(1 << 20)
        .segment_len(64 << 10)
        .writers(2)
        .open()
        .unwrap();
    let tagged = Put { tags: &[b"t"], ..PUT };
    for round in 0..40_u32 {
        // Hit, so that reclaiming would move them.
        for key in 0..50_u32 {
            let _ = disk.put(&key.to_le_bytes(), &round.to_le_bytes(), &tagged).unwrap();
            disk.get(&key.to_le_bytes()).unwrap();
        }
        disk.invalidate_tag(b"t").unwrap();
        for filler in 0..700_u32 {
            let _ = disk.put(&(1_000 + filler).to_le_bytes(), &[0; 100], &PUT).unwrap();
            let tagged = disk.get(&(filler % 50).to_le_bytes()).unwrap();
            assert!(tagged.is_none(), "round {round}: an invalidated value came back");
        }
    }
}

#[test]
fn a_batch_takes_place_as_a_whole_or_not_at_all() {
    let (dir, disk) = fresh();
    let _ = disk.put(b"a", b"1", &PUT).unwrap();
    let _ = disk.put(b"b", b"1", &PUT).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(b"a", b"lost", &PUT).put(b"a", b"2", &PUT).remove(b"b").put(b"c", b"2", &PUT);
    batch.put(b"large", &vec![7; 2 << 20], &PUT).remove(b"absent");
    batch.expect(b"b", Expected::Absent);
    let conflict = disk.write(&batch, Durability::None).unwrap();
    assert!(matches!(conflict, BatchOutcome::Conflict { key, version: Some(_) } if key == b"b"));
    assert_eq!(text(&disk, b"a").unwrap(), "1");
    assert!(disk.get(b"c").unwrap().is_none());
    disk.remove(b"b").unwrap();
    assert!(disk.write(&batch, Durability::Sync).unwrap().is_committed());
    let check = |disk: &Disk| {
        assert_eq!(text(disk, b"a").unwrap(), "2");
        assert_eq!(text(disk, b"b"), None);
        assert_eq!(text(disk, b"c").unwrap(), "2");
        assert_eq!(disk.get(b"large").unwrap().unwrap().len(), 2 << 20);
        assert_eq!(disk.len(), 3);
        assert!(disk.verify().unwrap().is_clean());
    };
    check(&disk);
    drop(disk);
    let disk = open(&dir);
    check(&disk);
    drop(disk);
    let builder = Disk::builder(dir.path().join("store")).budget(32 << 20);
    check(&builder.distrust().open().unwrap());
}

#[test]
fn a_batch_outlives_its_large_value() {
    let large = vec![7; 2 << 20];
    let removals: [fn(&Disk); 4] = [
        |disk| assert!(disk.remove(b"large").unwrap()),
        |disk| assert!(disk.put(b"large", b"small", &PUT).unwrap().is_admitted()),
        |disk| disk.invalidate_tag(b"t").unwrap(),
        |disk| {
            let mut batch = WriteBatch::new();
            batch.remove(b"large").put(b"other", &vec![7; 2 << 20], &PUT);
            assert!(disk.write(&batch, Durability::None).unwrap().is_committed());
            assert!(disk.remove(b"other").unwrap());
        },
    ];
    for (number, remove) in removals.into_iter().enumerate() {
        let (dir, disk) = fresh();
        let mut batch = WriteBatch::new();
        batch.put(b"a", b"1", &PUT).put(b"large", &large, &Put { tags: &[b"t"], ..PUT });
        batch.put(b"z", b"1", &PUT);
        assert!(disk.write(&batch, Durability::Sync).unwrap().is_committed());
        remove(&disk);
        assert!(disk.get(b"large").unwrap().is_none_or(|value| *value == *b"small"));
        disk.close().unwrap();
        drop(disk);
        for _ in 0..2 {
            let builder = Disk::builder(dir.path().join("store")).budget(32 << 20);
            let disk = builder.distrust().open().unwrap();
            let found = (text(&disk, b"a").unwrap(), text(&disk, b"z").unwrap());
            assert_eq!(found, ("1".to_owned(), "1".to_owned()), "removal {number}");
            assert_eq!(text(&disk, b"large"), (number == 1).then(|| "small".to_owned()));
            assert!(disk.verify().unwrap().is_clean());
            disk.close().unwrap();
        }
    }
}

#[test]
fn a_reader_sees_all_of_a_batch_or_nothing() {
    let (_dir, disk) = fresh();
    let write = |round: u64| {
        let mut batch = WriteBatch::new();
        for key in 0..20_u32 {
            // Now and then a key goes and comes back.
            if (round + u64::from(key)).is_multiple_of(7) {
                batch.remove(&key.to_le_bytes());
            } else {
                batch.put(&key.to_le_bytes(), &round.to_le_bytes(), &PUT);
            }
        }
        assert!(disk.write(&batch, Durability::None).unwrap().is_committed());
    };
    write(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut newest = 0;
                let mut key = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    key = (key * 7 + 3) % 20;
                    if let Some(value) = disk.get(&key.to_le_bytes()).unwrap() {
                        let round = u64::from_le_bytes((*value).try_into().unwrap());
                        // Every batch sets every key: none may be older than what was seen of
                        // any other.
                        assert!(round >= newest, "key {key} of batch {round} after {newest}");
                        newest = round;
                    }
                }
            });
        }
        for round in 1..3_000 {
            write(round);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn get_or_add_returns_what_the_first_one_made() {
    with_each(first_one_made);
}

fn first_one_made(disk: &dyn Atomic) {
    let values: Vec<Vec<u8>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u8)
            .map(|id| {
                scope.spawn(move || disk.get_or_add(b"k", &PUT, &mut || vec![id]).unwrap().to_vec())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(values.iter().all(|value| *value == values[0]));
}

#[test]
fn batches_go_on_while_a_full_store_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::builder(dir.path().join("store"))
        .budget(2 << 20)
        .segment_len(64 << 10)
        .retain(Retain::All)
        .maintenance(Maintenance::Manual)
        .open()
        .unwrap();
    // 20 times the budget: dead records have to go, and nothing live.
    for round in 0..2_000_u32 {
        let mut batch = WriteBatch::new();
        for key in 0..20_u32 {
            batch.put(&key.to_le_bytes(), &[round.to_le_bytes(); 250].concat(), &PUT);
        }
        assert!(disk.write(&batch, Durability::None).unwrap().is_committed(), "round {round}");
    }
    for key in 0..20_u32 {
        assert_eq!(disk.get(&key.to_le_bytes()).unwrap().unwrap()[..4], 1_999_u32.to_le_bytes());
    }
}
