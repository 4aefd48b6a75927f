//! Promise: operations on one key are linearizable, also while others evict, replace and insert in the
//! same shard without end.
//!
//! Method: each key has one writer, who counts up, and removes it at times. Every reader notes what is
//! certain when it begins and what may be when it ends: the value found lies in between, and never
//! before what the same reader found earlier. A miss is always possible, but of a key that is pinned.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]
#![expect(clippy::cast_possible_truncation, reason = "keys are few")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use larder_engine::memory::{Capacity, PolicyKind, Tier};

const KEYS: u64 = 8;
const PINNED: u64 = 3;
const STEPS: u64 = if cfg!(miri) { 40 } else { 3_000 };

#[derive(Default)]
struct Written {
    /// The last that is certain to be there, or to have been.
    done: AtomicU64,
    /// The last that may be.
    begun: AtomicU64,
}

fn check(policy: PolicyKind, shards: usize) {
    let tier = Tier::<u64, u64>::builder(Capacity::items(24)).policy(policy).shards(shards);
    let tier = tier.build().unwrap();
    let written: [Written; KEYS as usize] = std::array::from_fn(|_| Written::default());
    for key in 0..PINNED {
        tier.insert(key, 0, u64::MAX).unwrap();
        tier.pin(&key);
    }
    let is_done = AtomicBool::new(false);
    let (tier, written, is_done) = (&tier, &written, &is_done);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                scope.spawn(move || {
                    for step in 1..=STEPS {
                        for key in (0..KEYS).filter(|key| key % 2 == writer) {
                            let of = &written[key as usize];
                            of.begun.store(step, Ordering::SeqCst);
                            tier.insert(key, step, u64::MAX).unwrap();
                            of.done.store(step, Ordering::SeqCst);
                            if key >= PINNED && step % 7 == 0 {
                                tier.remove(&key);
                                assert_eq!(tier.get(&key), None, "nobody else writes it");
                            }
                        }
                        tier.insert(KEYS + step * 2 + writer, step, u64::MAX).unwrap();
                    }
                })
            })
            .collect();
        for reader in 0..2 {
            scope.spawn(move || {
                let mut seen = [0; KEYS as usize];
                let mut key = reader;
                while !is_done.load(Ordering::SeqCst) {
                    key = (key + 1) % KEYS;
                    let of = &written[key as usize];
                    let done = of.done.load(Ordering::SeqCst);
                    let found = tier.get(&key);
                    let begun = of.begun.load(Ordering::SeqCst);
                    let Some(found) = found else {
                        assert!(key >= PINNED, "a pinned key was missed");
                        continue;
                    };
                    assert!(done <= found && found <= begun, "{found} in {done}..={begun}");
                    assert!(seen[key as usize] <= found, "{found} after {}", seen[key as usize]);
                    seen[key as usize] = found;
                }
            });
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_done.store(true, Ordering::SeqCst);
    });
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn with_the_default_policy() {
    check(PolicyKind::S3Fifo, 1);
    check(PolicyKind::S3Fifo, 4);
}

#[test]
fn with_a_policy_that_hears_of_hits() {
    check(PolicyKind::Lru, 1);
}

/// Where nothing is pinned, and nothing said, inserts go straight through.
#[test]
fn without_pins_and_removals() {
    let tier = Tier::<u64, u64>::builder(Capacity::items(16)).shards(1).build().unwrap();
    let is_done = AtomicBool::new(false);
    let (tier, is_done) = (&tier, &is_done);
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for step in 1..=STEPS * 4 {
                tier.insert(step % 4, step, u64::MAX).unwrap();
                tier.insert(4 + step % 64, step, u64::MAX).unwrap();
            }
            is_done.store(true, Ordering::SeqCst);
        });
        for _ in 0..2 {
            scope.spawn(move || {
                let mut seen = [0; 68];
                while !is_done.load(Ordering::SeqCst) {
                    for key in 0..68 {
                        let Some(found) = tier.get(&key) else { continue };
                        let is_of = if key < 4 { found % 4 == key } else { found % 64 == key - 4 };
                        assert!(is_of && seen[key as usize] <= found, "{key}: {found}");
                        seen[key as usize] = found;
                    }
                }
            });
        }
        writer.join().unwrap();
    });
    assert_eq!(tier.validate(), Ok(()));
}
