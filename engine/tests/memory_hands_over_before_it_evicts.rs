//! Promise: what is evicted is handed to `before_evict` while it can still be found, so that
//! who copies it elsewhere from there leaves no moment in which it is in neither place.
//!
//! Method: a map stands for the other place. Readers ask the tier first and the map second,
//! while writers push everything through a small tier; a reader that finds a key in neither
//! has seen the gap.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use larder_engine::memory::{Capacity, Cause, Tier};

#[test]
fn a_reader_finds_it_in_one_place_or_the_other() {
    for shards in [1, 4] {
        let other_place: Arc<Mutex<HashMap<u64, u64>>> = Arc::default();
        let copy = Arc::clone(&other_place);
        let tier = Tier::builder(Capacity::items(16))
            .shards(shards)
            .before_evict(move |&key, &value, cause| {
                assert_eq!(cause, Cause::Capacity);
                copy.lock().unwrap().insert(key, value);
            })
            .build()
            .unwrap();
        let inserted = AtomicU64::new(0);
        const KEYS: u64 = 20_000;
        thread::scope(|scope| {
            scope.spawn(|| {
                for key in 0..KEYS {
                    tier.insert(key, key * 3, u64::MAX).unwrap();
                    inserted.store(key + 1, Ordering::Release);
                }
            });
            scope.spawn(|| {
                let mut step = 0_u64;
                while inserted.load(Ordering::Acquire) < KEYS {
                    let newest = inserted.load(Ordering::Acquire);
                    step += 1;
                    // Those that are about to leave: around the capacity, from the newest.
                    let Some(key) = newest.checked_sub(1 + step % 24) else { continue };
                    let found = tier.get(&key);
                    let found = found.or_else(|| other_place.lock().unwrap().get(&key).copied());
                    assert_eq!(found, Some(key * 3));
                }
            });
        });
        assert_eq!(other_place.lock().unwrap().len() as u64 + tier.len(), KEYS);
    }
}
