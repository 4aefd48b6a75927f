//! Whoever wants to know is told when a budget gets used up, once for each share and each way.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::sync::{Arc, Mutex};

use larder::{Cache, Error, Event};

type Told = Arc<Mutex<Vec<(&'static str, u8, bool)>>>;

fn watch(told: &Told) -> impl Fn(&Event) + Send + Sync + 'static {
    let told = Arc::clone(told);
    move |event| {
        if let Event::Usage { tier, percent, is_rising, used, budget } = event {
            assert_eq!(used * 100 >= budget * u64::from(*percent), *is_rising);
            told.lock().unwrap().push((tier, *percent, *is_rising));
        }
    }
}

#[test]
fn memory_is_told_of_as_it_fills_and_empties() {
    let told = Told::default();
    let builder = Cache::<u32, u32>::builder().memory_items(1_000).watch_usage([90, 50, 50]);
    let cache = builder.on_event(watch(&told)).build().unwrap();
    (0..2_000).for_each(|key| assert!(cache.insert(key, key).unwrap().is_admitted()));
    assert_eq!(*told.lock().unwrap(), [("memory", 50, true), ("memory", 90, true)]);
    (0..2_000).for_each(|key| assert!(cache.remove(&key).is_ok()));
    let all =
        [("memory", 50, true), ("memory", 90, true), ("memory", 90, false), ("memory", 50, false)];
    assert_eq!(*told.lock().unwrap(), all);
}

#[test]
fn so_is_the_store() {
    let home = tempfile::tempdir().unwrap();
    let told = Told::default();
    let builder = Cache::<u32, Vec<u8>>::builder().disk(home.path().join("store"));
    let builder = builder.disk_budget(16 << 20).memory(256 << 20).watch_usage([75]);
    let cache = builder.on_event(watch(&told)).build().unwrap();
    (0..3_000).for_each(|key| {
        assert!(cache.insert(key, vec![7; 10_000]).unwrap().is_admitted());
    });
    assert_eq!(told.lock().unwrap().first(), Some(&("store", 75, true)));
}

#[test]
fn shares_are_percents() {
    for percents in [[0], [101]] {
        let cache = Cache::<u32, u32>::builder().watch_usage(percents).build();
        assert!(matches!(cache, Err(Error::Config { option: "watch_usage", .. })));
    }
}
