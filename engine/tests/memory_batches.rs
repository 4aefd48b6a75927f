//! Promise: a memory engine makes the changes of a batch all or none, refuses rather than evicts if
//! it is to keep everything, and threads that count by batches lose no count.

use std::sync::Arc;
use std::thread;

use larder_engine::memory::{ENTRY_OVERHEAD, Memory};
use larder_engine::{
    BatchOutcome, Batched, Clock, Durability, Engine, Expected, ManualClock, Outcome, Put,
    Rejection, Retain, Ttl, WriteBatch,
};
use std::time::Duration;

const NONE: Durability = Durability::None;

#[test]
fn a_batch_takes_place_as_a_whole_or_not_at_all() {
    let memory = Memory::builder(1 << 20).build().unwrap();
    let Outcome::Admitted { version } = memory.put(b"a", b"1", &Put::default()).unwrap() else {
        panic!("there is room")
    };
    let mut batch = WriteBatch::new();
    batch.expect(b"a", Expected::Version(version));
    batch.put(b"b", b"first", &Put::default()).put(b"b", b"2", &Put::default()).remove(b"a");
    assert!(memory.write(&batch, NONE).unwrap().is_committed());
    assert_eq!(memory.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));
    assert!(!memory.contains(b"a").unwrap());
    let again = memory.write(&batch, NONE).unwrap();
    assert_eq!(again, BatchOutcome::Conflict { key: b"a".to_vec(), version: None });

    let mut large = WriteBatch::new();
    large.put(b"b", b"3", &Put::default()).put(b"c", &[0; 1 << 20], &Put::default());
    let BatchOutcome::Rejected(Rejection::TooLarge { limit, .. }) =
        memory.write(&large, NONE).unwrap()
    else {
        panic!("it is larger than all")
    };
    assert_eq!(limit, 1 << 20);
    assert_eq!(memory.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));
    let off = Memory::builder(0).build().unwrap();
    let refused = off.write(&large, NONE).unwrap();
    assert_eq!(refused, BatchOutcome::Rejected(Rejection::Disabled));
}

#[test]
fn who_keeps_everything_refuses_what_does_not_fit() {
    let entry = ENTRY_OVERHEAD + 1 + 99;
    let clock = Arc::new(ManualClock::at(1_000));
    let memory = Memory::builder(10 * entry)
        .retain(Retain::All)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build()
        .unwrap();
    assert!(memory.keeps_all());
    let put = |key: u8| memory.put(&[key], &[key; 99], &Put::default()).unwrap();
    assert!((0..10).all(|key| put(key).is_admitted()));
    let full = Rejection::Full { needed: entry, budget: 10 * entry };
    assert_eq!(put(10), Outcome::Rejected(full));
    assert!(put(3).is_admitted(), "it takes the place of the old one");

    // One in place of another: what is to go may go only after what comes.
    let mut swap = WriteBatch::new();
    swap.put(&[10], &[0; 99], &Put::default()).remove(&[0]);
    assert_eq!(memory.write(&swap, NONE).unwrap(), BatchOutcome::Rejected(full));
    let mut two = WriteBatch::new();
    two.put(&[1], &[7; 99], &Put::default()).put(&[2], &[7; 99], &Put::default());
    assert!(memory.write(&two, NONE).unwrap().is_committed());
    for key in 0..10 {
        let value = if (1..3).contains(&key) { 7 } else { key };
        assert_eq!(memory.get(&[key]).unwrap().as_deref(), Some(&[value; 99][..]), "{key}");
    }
    // What has expired makes room, also for a batch.
    let soon = Put { ttl: Ttl::After(Duration::from_millis(5)), ..Put::default() };
    assert!(memory.put(&[9], &[9; 99], &soon).unwrap().is_admitted());
    clock.advance(5);
    assert!(memory.write(&swap, NONE).unwrap().is_committed());
    assert!(!memory.contains(&[0]).unwrap() && memory.contains(&[10]).unwrap());
}

#[test]
fn threads_that_count_by_batches_lose_no_count() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 200;
    let memory = Memory::builder(1 << 20).build().unwrap();
    let number = |key: &[u8]| {
        let found = memory.get(key).unwrap();
        let expected =
            found.as_ref().map_or(Expected::Absent, |old| Expected::Version(old.meta().version));
        (found.map_or(0, |old| u64::from_le_bytes(old[..].try_into().unwrap())), expected)
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let number = &number;
            let memory = &memory;
            scope.spawn(move || {
                // Each in an order of its own: nobody may wait for another for ever.
                let mut keys = [b"x", b"y", b"z"];
                keys.rotate_left(usize::try_from(thread % 3).unwrap());
                for _ in 0..ROUNDS {
                    loop {
                        let mut batch = WriteBatch::new();
                        for key in keys {
                            let (count, expected) = number(key);
                            batch.expect(key, expected);
                            batch.put(key, &(count + 1).to_le_bytes(), &Put::default());
                        }
                        if memory.write(&batch, NONE).unwrap().is_committed() {
                            break;
                        }
                    }
                }
            });
        }
    });
    for key in [b"x", b"y", b"z"] {
        assert_eq!(number(key).0, THREADS * ROUNDS);
    }
}
