//! Promise: what weighs more than the whole tier is refused by name, comes back to the
//! caller, and changes nothing.
//!
//! Method: a tier with a value under the key, for every way of inserting.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use larder_engine::memory::{Capacity, PolicyKind, Tier};
use larder_engine::{Rejection, Stats};

fn texts() -> Tier<&'static str, String> {
    let by_length = |_: &&str, text: &String| text.len() as u64;
    Tier::builder(Capacity::weight(10)).weigher(by_length).build().unwrap()
}

#[test]
fn the_old_value_stays_and_the_new_one_comes_back() {
    let tier = texts();
    tier.insert("key", "old".to_owned(), u64::MAX).unwrap();
    tier.insert("other", "neighbor".chars().take(7).collect(), u64::MAX).unwrap();
    let refused = tier.insert("key", "eleven long".to_owned(), u64::MAX).unwrap_err();
    assert_eq!(refused.why, Rejection::TooLarge { weight: 11, limit: 10 });
    assert_eq!((refused.key, refused.value.as_str()), ("key", "eleven long"));
    let text = refused.to_string();
    assert!(text.contains("11") && text.contains("10"), "{text}");

    assert_eq!(tier.get("key").as_deref(), Some("old"));
    assert_eq!(tier.get("other").as_deref(), Some("neighbo"));
    let Stats { inserts, rejected, evictions, .. } = tier.stats();
    assert_eq!((inserts, rejected, evictions), (2, 1, 0));
}

#[test]
fn the_condition_is_not_asked() {
    let tier = texts();
    let refused = tier.insert_if("key", "eleven long".to_owned(), u64::MAX, |_| unreachable!());
    assert!(refused.is_err());
}

#[test]
fn exactly_the_limit_is_not_too_large() {
    let tier = texts();
    tier.insert("key", "ten is fit".to_owned(), u64::MAX).unwrap();
    assert_eq!(tier.weight(), 10);
}

#[test]
fn a_tier_that_is_switched_off_says_so() {
    for capacity in [Capacity::Disabled, Capacity::items(0), Capacity::weight(0)] {
        let tier = Tier::builder(capacity).weigher(|_, _| 0).build().unwrap();
        let refused = tier.insert(1, 1, u64::MAX).unwrap_err();
        assert_eq!(refused.why, Rejection::Disabled);
        assert_eq!((tier.get(&1), tier.len()), (None, 0));
    }
}

#[test]
fn items_are_counted_whatever_they_weigh() {
    for &policy in PolicyKind::ALL {
        let tier = Tier::builder(Capacity::items(3)).weigher(|_, _| 1_000).policy(policy);
        let tier = tier.build().unwrap();
        (0..10).for_each(|key| tier.insert(key, (), u64::MAX).unwrap());
        assert_eq!((tier.len(), tier.weight()), (3, 3));
    }
}

#[test]
fn nothing_leaves_a_tier_without_bounds() {
    let tier = Tier::builder(Capacity::Unbounded).weigher(|_, _| 1 << 30).build().unwrap();
    (0..10_000).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
    assert_eq!((tier.len(), tier.weight()), (10_000, 10_000 << 30));
    assert_eq!(tier.stats().budget_bytes, u64::MAX);
}
