//! Promise: operations on many entries do to each what the ones on a single entry do.
//!
//! Method: a tier with a listener, over one shard and over several.

use std::sync::{Arc, Mutex};

use larder_engine::memory::{Capacity, Cause, Tier};
use larder_engine::{Clock, ManualClock};

#[test]
fn retain_keeps_what_it_is_told_to_and_tells_of_the_rest() {
    for shards in [1, 4] {
        let heard: Arc<Mutex<Vec<(u32, Cause)>>> = Arc::default();
        let tell = Arc::clone(&heard);
        let clock = Arc::new(ManualClock::at(1));
        let tier = Tier::<u32, u32>::builder(Capacity::Unbounded)
            .shards(shards)
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .listener(move |&key, _, cause| tell.lock().unwrap().push((key, cause)))
            .build()
            .unwrap();
        (0..100).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
        (100..110).for_each(|key| tier.insert(key, key, 5).unwrap());
        clock.advance(10);
        assert_eq!(tier.retain(|&key, &value| key == value && key % 2 == 0), 50);
        assert_eq!((tier.len(), tier.weight()), (50, 50));
        assert!((0..100).all(|key| tier.peek(&key).is_some() == (key % 2 == 0)));
        let mut heard = heard.lock().unwrap().clone();
        heard.sort_by_key(|&(key, _)| key);
        let odd = (0..50).map(|half| (2 * half + 1, Cause::Invalidated));
        let expired = (100..110).map(|key| (key, Cause::Expired));
        assert_eq!(heard, odd.chain(expired).collect::<Vec<_>>());
        assert_eq!(tier.validate(), Ok(()));
    }
}

#[test]
fn get_many_counts_each_and_peek_counts_none() {
    let tier = Tier::builder(Capacity::Unbounded).build().unwrap();
    (0..4).for_each(|key| tier.insert(key, key * 10, u64::MAX).unwrap());
    assert_eq!(tier.get_many(&[3, 9, 1]), [Some(30), None, Some(10)]);
    assert_eq!((tier.peek(&2), tier.peek(&9)), (Some(20), None));
    assert_eq!((tier.stats().hits, tier.stats().misses), (2, 1));
}
