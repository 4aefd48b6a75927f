//! Promise: a value for which no room is ready becomes what its caller chose: it makes room,
//! waits for it, is rejected with a reason, or blocked; and writers that do not help create and
//! reclaim nothing. Whoever was told to try again gets through once the maintenance had its turn.
//! Method: small stores whose maintenance is done by hand, so that it is behind when it is to be.

use std::sync::Arc;
use std::time::Duration;

use larder_engine::{
    Admission, Atomic, Disk, DiskBuilder, Engine, Error, Maintenance, ManualClock, Outcome, Put,
    Rejection, Retain, WhenShort,
};

const SEGMENT: u64 = 64 << 10;

fn builder(dir: &tempfile::TempDir, segments: u64, when_short: WhenShort) -> DiskBuilder {
    let builder = Disk::builder(dir.path().join("store")).budget(segments * SEGMENT);
    let builder = builder.segment_len(64 << 10).writers(1).when_short(when_short);
    builder.maintenance(Maintenance::Manual)
}

#[expect(clippy::unwrap_used, reason = "a test")]
fn put(disk: &Disk, number: u64, len: usize, when_short: Option<WhenShort>) -> Outcome {
    disk.put(&number.to_le_bytes(), &vec![7; len], &Put { when_short, ..Put::default() }).unwrap()
}

#[expect(clippy::unwrap_used, reason = "a test")]
fn maintain(disk: &Disk) {
    while disk.maintain().unwrap().more {}
}

#[test]
fn who_is_blocked_has_made_no_room_and_gets_through_after_the_maintenance() {
    for segments in [16, 32] {
        let dir = tempfile::tempdir().unwrap();
        let disk = builder(&dir, segments, WhenShort::Block).open().unwrap();
        let mut blocked = 0;
        for number in 0..900 {
            while put(&disk, number, 6_000, None) == Outcome::Blocked {
                assert_eq!(disk.get(&number.to_le_bytes()).unwrap(), None);
                blocked += 1;
                assert!(blocked < 1_000, "blocked for ever at {number}: {:?}", disk.stats());
                maintain(&disk);
            }
            assert!(disk.get(&number.to_le_bytes()).unwrap().is_some());
        }
        let stats = disk.stats();
        assert_eq!((stats.blocked, stats.rejected, stats.inserts), (blocked, 0, 900));
        assert_eq!((stats.inline_rolls, stats.inline_reclaims), (0, 0));
        assert!(blocked > 10 && stats.evictions > 300, "{stats:?}");
        assert!(stats.used_bytes <= stats.budget_bytes, "{stats:?}");
    }
}

#[test]
fn a_small_budget_blocks_nobody_for_ever() {
    // With less than eight segments no spare is kept: only the wish of a writer makes one.
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::builder(dir.path().join("store")).budget(1 << 20).segment_len(256 << 10);
    let disk = disk.writers(1).maintenance(Maintenance::Manual).when_short(WhenShort::Block);
    let disk = disk.open().unwrap();
    for number in 0..500 {
        let mut tries = 0;
        while put(&disk, number, 6_000, None) == Outcome::Blocked {
            tries += 1;
            assert!(tries < 10, "{number}: {:?}", disk.stats());
            maintain(&disk);
        }
    }
    assert_eq!(disk.stats().inline_reclaims, 0);
}

#[test]
fn each_value_may_choose_for_itself_and_keeps_the_old_one_until_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir, 32, WhenShort::Reject).open().unwrap();
    let refused = Outcome::Rejected(Rejection::NoRoom);
    assert_eq!(put(&disk, 0, 10, None), refused);
    assert!(put(&disk, 0, 10, Some(WhenShort::Help)).is_admitted());
    // The first segment is there now, and takes some more.
    let next = (1..).find(|number| put(&disk, *number, 6_000, None) == refused).unwrap();
    assert!(next > 5);
    assert_eq!(put(&disk, 1, 7_000, Some(WhenShort::Block)), Outcome::Blocked);
    let soon = WhenShort::Wait(Duration::from_millis(5));
    assert_eq!(put(&disk, 1, 7_000, Some(soon)), Outcome::Blocked);
    assert_eq!(disk.get(&1_u64.to_le_bytes()).unwrap().unwrap().len(), 6_000);
    let stats = disk.stats();
    assert_eq!((stats.rejected, stats.blocked, stats.inline_rolls), (2, 2, 1));
    assert!(put(&disk, 1, 7_000, Some(WhenShort::Help)).is_admitted());
    assert_eq!(disk.get(&1_u64.to_le_bytes()).unwrap().unwrap().len(), 7_000);
}

#[test]
fn who_waits_is_served_by_the_thread_and_makes_no_room_itself() {
    let dir = tempfile::tempdir().unwrap();
    let wait = WhenShort::Wait(Duration::from_secs(60));
    let disk = builder(&dir, 32, wait).maintenance(Maintenance::Thread).writers(2);
    let disk = disk.open().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let disk = &disk;
            scope.spawn(move || {
                for number in 0..300 {
                    assert!(put(disk, thread << 32 | number, 6_000, None).is_admitted());
                }
            });
        }
    });
    let stats = disk.stats();
    assert_eq!((stats.inserts, stats.blocked, stats.rejected), (900, 0, 0));
    assert_eq!((stats.inline_rolls, stats.inline_reclaims), (0, 0));
    assert!(stats.evictions > 300, "{stats:?}");
}

#[test]
fn room_for_a_large_value_is_made_once_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir, 32, WhenShort::Help).open().unwrap();
    (0..600).for_each(|number| assert!(put(&disk, number, 6_000, None).is_admitted()));
    let large = 640 << 10;
    let block = Some(WhenShort::Block);
    assert_eq!(put(&disk, 1_000, large, block), Outcome::Blocked);
    let reclaims = disk.stats().inline_reclaims;
    let mut tries = 0;
    while put(&disk, 1_000, large, block) == Outcome::Blocked {
        tries += 1;
        assert!(tries < 10, "{:?}", disk.stats());
        maintain(&disk);
    }
    assert_eq!(disk.get(&1_000_u64.to_le_bytes()).unwrap().unwrap().len(), large);
    assert_eq!(disk.stats().inline_reclaims, reclaims);
}

#[test]
fn a_store_that_is_full_says_so_instead_of_blocking_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir, 32, WhenShort::Block).retain(Retain::All).open().unwrap();
    let mut stored = 0;
    let why = loop {
        match put(&disk, stored, 6_000, None) {
            Outcome::Rejected(why) => break why,
            Outcome::Blocked => maintain(&disk),
            _ => stored += 1,
        }
        assert!(disk.stats().blocked < 1_000, "{:?}", disk.stats());
    };
    assert!(matches!(why, Rejection::Full { .. }), "{why:?}");
    assert_eq!(disk.len(), stored);
    // Half of it goes: what blocks now is only that the space has not come back yet.
    for number in (0..stored).step_by(2) {
        assert!(disk.remove(&number.to_le_bytes()).unwrap());
    }
    let mut tries = 0;
    while !put(&disk, stored, 6_000, None).is_admitted() {
        tries += 1;
        assert!(tries < 10, "{:?}", disk.stats());
        maintain(&disk);
    }
    assert!((1..stored).step_by(2).all(|number| disk.contains(&number.to_le_bytes()).unwrap()));
}

#[test]
fn a_blocked_value_has_used_up_nothing_of_the_write_budget() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let admission = Admission { write_budget: Some(10_000), ..Admission::default() };
    let disk = builder(&dir, 32, WhenShort::Block).clock(clock).admission(admission);
    let disk = disk.open().unwrap();
    (0..5).for_each(|_| assert_eq!(put(&disk, 0, 9_000, None), Outcome::Blocked));
    maintain(&disk);
    assert!(put(&disk, 0, 9_000, None).is_admitted());
    assert!(put(&disk, 1, 9_000, None).is_admitted());
    let refused = Outcome::Rejected(Rejection::WriteBudget { per_second: 10_000 });
    assert_eq!(put(&disk, 2, 9_000, None), refused);
}

#[test]
fn what_cannot_be_blocked_by_name_is_an_error_that_passes() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir, 32, WhenShort::Block).open().unwrap();
    let error = disk.add_to(b"number", 1, Some(0), &Put::default()).expect_err("no segment yet");
    assert!(matches!(error, Error::Blocked { .. }) && error.is_transient(), "{error}");
    // The value that was made is returned, stored or not.
    let made = disk.get_or_add(b"key", &Put::default(), &mut || b"made".to_vec()).unwrap();
    assert_eq!(&*made, b"made");
    assert_eq!(disk.get(b"key").unwrap(), None);
    let mut reader = &b"streamed"[..];
    let outcome = disk.put_reader(b"key", &mut reader, None, &Put::default()).unwrap();
    assert_eq!(outcome, Outcome::Blocked);
    maintain(&disk);
    assert_eq!(disk.add_to(b"number", 1, Some(0), &Put::default()).unwrap(), Some(1));
}
