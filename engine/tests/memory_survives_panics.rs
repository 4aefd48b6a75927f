//! Promise: a panic in a closure of the user, or in the code of a key or a value, reaches the
//! caller and leaves the tier whole: every invariant holds and every other entry is served.
//!
//! Method: each closure panics in the middle of an operation that has to change something.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_engine::memory::{Capacity, PolicyKind, Tier};

fn panics<R>(operation: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(operation)).is_err()
}

#[test]
fn in_closures_of_single_calls() {
    for &policy in PolicyKind::ALL {
        let tier = Tier::builder(Capacity::items(4)).policy(policy).build().unwrap();
        (0..4).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
        assert!(panics(|| tier.get_with(&0, |_| panic!("look"))));
        assert!(panics(|| tier.peek_with(&0, |_| panic!("look"))));
        assert!(panics(|| tier.remove_if(&0, |_| panic!("decide"))));
        assert!(panics(|| tier.insert_if(0, 9, u64::MAX, |_| panic!("decide"))));
        assert_eq!(tier.get(&0), Some(0));
        assert_eq!(tier.len(), 4);
        // Here room has been made when the condition is asked.
        assert!(panics(|| tier.insert_if(5, 5, u64::MAX, |_| panic!("decide"))));
        assert_eq!((tier.len(), tier.weight(), tier.contains(&5)), (3, 3, false));
        assert_eq!(tier.validate(), Ok(()));
    }
}

#[test]
fn in_hooks() {
    for hook in ["weigher", "before_evict", "listener"] {
        let armed = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicU64::new(0));
        let fail_in = |name: &'static str| {
            let (armed, calls) = (Arc::clone(&armed), Arc::clone(&calls));
            move || {
                calls.fetch_add(u64::from(name == "listener"), Ordering::Relaxed);
                assert!(name != hook || !armed.load(Ordering::Relaxed), "{name} has a bug");
            }
        };
        let (weigh, before, listen) =
            (fail_in("weigher"), fail_in("before_evict"), fail_in("listener"));
        let tier = Tier::builder(Capacity::weight(4))
            .weigher(move |_, _| {
                weigh();
                1
            })
            .before_evict(move |_, _, _| before())
            .listener(move |_, _, _| listen())
            .build()
            .unwrap();
        (0..4).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
        armed.store(true, Ordering::Relaxed);
        assert!(panics(|| tier.insert(4, 4, u64::MAX)), "{hook}");
        armed.store(false, Ordering::Relaxed);
        assert_eq!(tier.validate(), Ok(()), "{hook}");
        assert_eq!(tier.len(), 4, "{hook}");
        let evicted = u64::from(hook != "weigher");
        assert_eq!((tier.stats().evictions, calls.load(Ordering::Relaxed)), (evicted, evicted));
        tier.insert(5, 5, u64::MAX).unwrap();
        assert_eq!(tier.get(&5), Some(5), "{hook}");
    }
}

#[test]
fn in_the_code_of_keys_and_values() {
    #[derive(Debug)]
    struct Fragile(u32);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            panic!("a clone of {} fails", self.0)
        }
    }
    impl Drop for Fragile {
        fn drop(&mut self) {
            assert!(self.0 != 7 || std::thread::panicking(), "a destructor fails");
        }
    }
    let tier = Tier::builder(Capacity::items(2)).shards(1).build().unwrap();
    tier.insert(7, Fragile(7), u64::MAX).unwrap();
    tier.insert(8, Fragile(8), u64::MAX).unwrap();
    assert!(panics(|| tier.get(&8)));
    // A lookup of another test may be in the way for a moment.
    assert!((0..1_000).any(|_| panics(|| tier.clear())));
    assert_eq!((tier.len(), tier.weight()), (0, 0));
    assert_eq!(tier.validate(), Ok(()));
}
