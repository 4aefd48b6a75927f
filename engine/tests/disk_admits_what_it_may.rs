//! A cache takes in no more than it was told to, says why it refuses, and never keeps an old
//! value by refusing a new one. By a clock that is set.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use larder_engine::{
    Admission, Cost, Disk, Engine, Error, Maintenance, ManualClock, Outcome, Put, Rejection, Retain,
};
use tempfile::TempDir;

fn open(dir: &TempDir, clock: &Arc<ManualClock>, admission: Admission) -> Disk {
    Disk::builder(dir.path().join("store"))
        .budget(64 << 20)
        .clock(clock.clone())
        .maintenance(Maintenance::Manual)
        .admission(admission)
        .open()
        .unwrap()
}

fn put(disk: &Disk, key: u32, len: usize) -> Outcome {
    disk.put(&key.to_le_bytes(), &vec![1; len], &Put::default()).unwrap()
}

#[test]
fn no_more_is_written_a_second_than_the_budget_allows() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let admission = Admission { write_budget: Some(100_000), ..Admission::default() };
    let disk = open(&dir, &clock, admission);
    let refused = Outcome::Rejected(Rejection::WriteBudget { per_second: 100_000 });
    let mut key = 0;
    let mut fill = || {
        let mut count = 0;
        loop {
            key += 1;
            match put(&disk, key, 996) {
                Outcome::Admitted { .. } => count += 1,
                outcome => {
                    assert_eq!(outcome, refused);
                    assert!(!disk.contains(&key.to_le_bytes()).unwrap());
                    return count;
                }
            }
        }
    };
    assert_eq!(fill(), 100, "values of 1000 bytes");
    clock.advance(100);
    assert_eq!(fill(), 10);
    // What is not used is kept for a second.
    clock.advance(60_000);
    assert_eq!(fill(), 100);
    // Many moments that are too short for a byte each add up.
    (0..1_000).for_each(|_| clock.advance(1));
    assert_eq!(fill(), 100);
    // A large value is taken off what comes.
    clock.advance(1_000);
    assert!(put(&disk, 0, 299_996).is_admitted());
    clock.advance(2_000);
    assert_eq!(fill(), 0);
    clock.advance(10);
    assert_eq!(fill(), 1);
    assert_eq!(disk.stats().rejected, 6);
}

#[test]
fn a_slow_budget_comes_in_while_puts_keep_asking() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = open(&dir, &clock, Admission { write_budget: Some(10), ..Admission::default() });
    assert!(put(&disk, 1, 6).is_admitted());
    // Fractions of bytes count as well.
    let mut taken = 0;
    for key in 2..10_002 {
        clock.advance(1);
        taken += u32::from(put(&disk, key, 6).is_admitted());
    }
    assert_eq!(taken, 10, "10 bytes a second over 10 seconds");
}

#[test]
fn a_key_is_taken_when_it_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let admission = Admission { second_hit: true, ..Admission::default() };
    let disk = open(&dir, &clock, admission);
    // The budget makes it remember 16384 keys.
    let mut mistaken = 0;
    for key in 0..4_000 {
        match put(&disk, key, 100) {
            Outcome::Admitted { .. } => mistaken += 1,
            outcome => assert_eq!(outcome, Outcome::Rejected(Rejection::FirstSeen)),
        }
    }
    assert!(mistaken <= 4, "{mistaken} of 4000: one is likely at most");
    let taken = (0..4_000).filter(|key| put(&disk, *key, 100).is_admitted()).count();
    // Five keys that share a place for four push each other out: 70 or so of the 4000.
    assert!(taken > 3_800, "{taken} came again");
    // What was offered long ago is forgotten.
    for key in 4_000..400_000 {
        let _ = put(&disk, key, 0);
    }
    let key = (0_u32..).find(|key| disk.remove(&key.to_le_bytes()).unwrap()).unwrap();
    assert_eq!(put(&disk, key, 100), Outcome::Rejected(Rejection::FirstSeen));
}

#[test]
fn a_value_that_replaces_one_is_always_taken() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = open(&dir, &clock, Admission::default());
    assert!(put(&disk, 1, 100).is_admitted());
    disk.close().unwrap();
    drop(disk);
    let admission = Admission { write_budget: Some(10), second_hit: true };
    let disk = open(&dir, &clock, admission);
    for len in 0..1_000 {
        assert!(put(&disk, 1, len).is_admitted());
        assert_eq!(disk.get(&1_u32.to_le_bytes()).unwrap().unwrap().len(), len);
    }
    assert!(!put(&disk, 2, 100).is_admitted());
    assert_eq!(
        put(&disk, 2, 100),
        Outcome::Rejected(Rejection::WriteBudget { per_second: 10 }),
        "they are taken off the budget"
    );
    let large = put(&disk, 3, 65 << 20);
    assert!(matches!(large, Outcome::Rejected(Rejection::TooLarge { .. })), "{large:?}");
}

#[test]
fn a_store_that_keeps_everything_takes_no_admission() {
    let dir = tempfile::tempdir().unwrap();
    let builder = || Disk::builder(dir.path().join("store"));
    let admission = Admission { second_hit: true, ..Admission::default() };
    let refused = builder().retain(Retain::All).admission(admission).open();
    assert!(matches!(refused, Err(Error::Config { option: "admission", .. })), "{refused:?}");
    let admission = Admission { write_budget: Some(0), ..Admission::default() };
    let refused = builder().admission(admission).open();
    assert!(matches!(refused, Err(Error::Config { option: "write_budget", .. })), "{refused:?}");
}

/// Offers values of 1000 bytes at ten times the write budget for a minute, of which every 20th
/// saves `dear` and the others `cheap`. How many of either were stored, and what was refused.
fn offer(dear: Cost, cheap: Cost) -> ([u32; 2], Vec<Rejection>) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let admission = Admission { write_budget: Some(100_000), ..Admission::default() };
    let disk = open(&dir, &clock, admission);
    let (mut stored, mut refused) = ([0; 2], Vec::new());
    for number in 0..60_000_u32 {
        clock.advance(1);
        // One in 20, out of step with the budget, which has room for every tenth.
        let is_dear = (number.wrapping_mul(0x9E37_79B1) >> 16) % 20 == 7;
        let cost = if is_dear { dear } else { cheap };
        let put = Put { cost, ..Put::default() };
        match disk.put(&number.to_le_bytes(), &[1; 996], &put).unwrap() {
            Outcome::Rejected(why) => refused.push(why),
            outcome => {
                assert!(outcome.is_admitted(), "{outcome:?}");
                stored[usize::from(!is_dear)] += 1;
            }
        }
    }
    assert_eq!(disk.stats().rejected, refused.len() as u64);
    (stored, refused)
}

#[test]
fn while_the_write_budget_is_short_what_saves_most_goes_first() {
    let (second, millisecond) = (Duration::from_secs(1), Duration::from_millis(1));
    let ([dear, cheap], refused) = offer(Cost::of(second), Cost::of(millisecond));
    // All of the dear ones, and of the others what is left: 100 values a second, 50 of them dear.
    assert!(dear >= 2_900, "{dear} of 3000");
    assert!((2_900..=3_200).contains(&cheap), "{cheap}");
    let worth = |why: &&Rejection| matches!(why, Rejection::NotWorthIt { .. });
    assert!(refused.iter().filter(worth).count() > 50_000);
    assert!(refused.iter().all(|why| match why {
        Rejection::NotWorthIt { better_percent, left_percent } => better_percent >= left_percent,
        Rejection::WriteBudget { per_second } => *per_second == 100_000,
        _ => false,
    }));

    // The chance counts as the time does.
    let ([rare, cheap], _) = offer(Cost::of(second).with_chance(0.0001), Cost::of(millisecond));
    assert!(rare < cheap / 20, "{rare} and {cheap}");

    // Where none is better, none is refused for it, whether they are dear or say nothing.
    for cost in [Cost::NONE, Cost::of(second)] {
        let ([some, others], refused) = offer(cost, cost);
        assert!((250..=350).contains(&some), "{some}");
        assert!((5_900..=6_200).contains(&(some + others)), "{some} and {others}");
        assert!(!refused.iter().any(|why| worth(&why)));
    }
}

#[test]
fn a_value_of_little_worth_is_taken_while_nothing_is_short_and_wherever_it_replaces_one() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let admission = Admission { write_budget: Some(100_000), ..Admission::default() };
    let disk = open(&dir, &clock, admission);
    let with = |key: u32, ms: u64| {
        let put = Put { cost: Cost::of(Duration::from_millis(ms)), ..Put::default() };
        disk.put(&key.to_le_bytes(), &[1; 9_996], &put).unwrap()
    };
    assert!(with(0, 1).is_admitted());
    (1..6).for_each(|key| assert!(with(key, 1_000).is_admitted()));
    // 40 % are left, and five sixths were better.
    let refused = Rejection::NotWorthIt { better_percent: 71, left_percent: 40 };
    assert_eq!(with(6, 1), Outcome::Rejected(refused));
    assert!(with(0, 1).is_admitted());
    clock.advance(1_000);
    assert!(with(6, 1).is_admitted());
}
