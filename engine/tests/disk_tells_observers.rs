//! Promise: an observer is told what goes on in a store, can use the store when it is told, and
//! the events agree with the counters.
//! Method: a small store that rolls, reclaims, grows, is damaged and refuses, step by step.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use larder_engine::{
    Disk, DiskBuilder, Engine, Event, Maintenance, Observer, Outcome, Put, Recovery, Rejection,
    Retain,
};

#[derive(Debug, Default)]
struct Log {
    events: Mutex<Vec<Event>>,
    /// What is used whenever something is told.
    disk: OnceLock<Arc<Disk>>,
}

impl Observer for Log {
    fn event(&self, event: &Event) {
        if let Some(disk) = self.disk.get() {
            // A lock that the caller held would stop us here.
            let _ = disk.put(b"told", b"value", &Put::default());
            let _ = disk.stats();
        }
        self.events.lock().unwrap().push(event.clone());
    }
}

impl Log {
    fn count(&self, is: impl Fn(&Event) -> bool) -> u64 {
        self.events.lock().unwrap().iter().filter(|event| is(event)).count() as u64
    }
}

fn builder(dir: &Path, log: &Arc<Log>) -> DiskBuilder {
    let builder = Disk::builder(dir).budget(2 << 20).segment_len(64 << 10).writers(1);
    builder.maintenance(Maintenance::Manual).observer(Arc::clone(log) as _)
}

fn put(disk: &Disk, number: u64, len: usize) -> Outcome {
    disk.put(&number.to_le_bytes(), &vec![7; len], &Put::default()).unwrap()
}

#[test]
fn segments_that_come_and_go_are_told_of_without_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::default());
    let disk = Arc::new(builder(dir.path(), &log).open().unwrap());
    log.disk.set(Arc::clone(&disk)).unwrap();
    assert!(matches!(
        log.events.lock().unwrap()[..],
        [Event::Recovered { recovery: Recovery::Created, records: 0, .. }]
    ));
    (0..800).for_each(|number| assert!(put(&disk, number, 8_000).is_admitted()));
    disk.sync().unwrap();
    let stats = disk.stats();
    let rolled = log.count(|event| matches!(event, Event::Rolled { .. }));
    let reclaimed = log.count(|event| matches!(event, Event::Reclaimed { .. }));
    assert_eq!(rolled - reclaimed, stats.segments);
    let dropped: u64 = log.events.lock().unwrap().iter().fold(0, |sum, event| match event {
        Event::Reclaimed { dropped, .. } => sum + dropped,
        _ => sum,
    });
    assert_eq!(dropped, stats.evictions);
    assert!(dropped > 300);
}

#[test]
fn growth_damage_and_refusals_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::default());
    let open = || builder(dir.path(), &log).retain(Retain::All).open().unwrap();
    let disk = open();
    let slots = disk.stats().index_slots;
    (0..slots).for_each(|number| assert!(put(&disk, number, 10).is_admitted()));
    let grown = disk.stats().index_slots;
    let told = log.count(|event| matches!(event, Event::Grown { slots } if *slots == grown));
    assert_eq!(told, 1);
    let refused = (slots..slots * 2).find(|number| {
        let outcome = put(&disk, *number, 5_000);
        matches!(outcome, Outcome::Rejected(Rejection::Full { .. }))
    });
    assert!(refused.is_some());
    assert_eq!(log.count(|event| matches!(event, Event::Full { .. })), 1);
    disk.close().unwrap();
    drop(disk);
    let needle = [7; 4_000];
    for entry in fs::read_dir(dir.path().join("seg")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let disk = open();
    let values = (0..slots * 2).filter_map(|number| disk.get(&number.to_le_bytes()).unwrap());
    assert!(values.count() > 0);
    let corrupt = disk.stats().corrupt;
    assert!(corrupt > 0);
    assert_eq!(log.count(|event| matches!(event, Event::Corrupt)), corrupt);
}
