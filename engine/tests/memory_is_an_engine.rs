//! Promise: `Memory` keeps the contract of `Engine` for what is peculiar to it: weight,
//! versions, default time to live, closing.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use larder_engine::memory::{ENTRY_OVERHEAD, Memory, PolicyKind};
use larder_engine::{Clock, CodecId, Engine, Error, ManualClock, Outcome, Put, Rejection, Ttl};

fn put(memory: &Memory, key: &[u8], value: &[u8]) -> u64 {
    match memory.put(key, value, &Put::default()).unwrap() {
        Outcome::Admitted { version } => version,
        Outcome::Rejected(why) => panic!("refused: {why:?}"),
        Outcome::Blocked => panic!("memory waits for nothing"),
        Outcome::Conflict { .. } => panic!("a conflict without a condition"),
    }
}

#[test]
fn an_entry_weighs_its_bytes_and_what_it_costs_to_keep_them() {
    let memory = Memory::builder(1_000 + ENTRY_OVERHEAD).build().unwrap();
    put(&memory, b"key", &[0; 900]);
    assert_eq!(memory.stats().used_bytes, 3 + 900 + ENTRY_OVERHEAD);
    let refused = memory.put(b"key", &[0; 998], &Put::default()).unwrap();
    let limit = 1_000 + ENTRY_OVERHEAD;
    assert_eq!(refused, Outcome::Rejected(Rejection::TooLarge { weight: limit + 1, limit }));
    assert_eq!(memory.get(b"key").unwrap().unwrap().len(), 900);
    put(&memory, b"key", &[0; 997]);
    assert_eq!((memory.stats().put_bytes, memory.len()), (903 + 1_000, 1));
    let off = Memory::builder(0).build().unwrap();
    assert_eq!(off.put(b"", b"", &Put::default()).unwrap(), Outcome::Rejected(Rejection::Disabled));
}

#[test]
fn versions_grow_and_metadata_comes_back() {
    let clock = Arc::new(ManualClock::at(5_000));
    let memory = Memory::builder(1 << 20)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .ttl(Duration::from_millis(100))
        .policy(PolicyKind::Lru)
        .build()
        .unwrap();
    let first = put(&memory, b"key", b"one");
    let second = put(&memory, b"key", b"two");
    assert!(first < second);
    assert_eq!(memory.version(b"key").unwrap(), Some(second));
    let options = Put { ttl: Ttl::Never, codec: CodecId::RAW, ..Put::default() };
    assert!(memory.put(b"kept", b"", &options).unwrap().is_admitted());
    let meta = *memory.get(b"key").unwrap().unwrap().meta();
    assert_eq!((meta.written_at_ms, meta.expires_at_ms), (5_000, 5_100));
    clock.advance(100);
    assert!(!memory.contains(b"key").unwrap());
    assert_eq!(memory.get(b"key").unwrap(), None);
    assert_eq!(memory.get(b"kept").unwrap().as_deref(), Some(&b""[..]));
}

#[test]
fn iteration_yields_what_is_live_once() {
    let memory = Memory::builder(1 << 20).shards(4).build().unwrap();
    for key in 0..100 {
        put(&memory, &[key], &[key; 3]);
    }
    let mut found: Vec<_> = memory.iter().map(|entry| entry.unwrap()).collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(found.len(), 100);
    for (key, (found, value)) in (0..).zip(found) {
        assert_eq!((found, &*value), (vec![key], &[key; 3][..]));
    }
    assert_eq!(memory.clear().unwrap(), 100);
    assert!(memory.is_empty() && memory.iter().next().is_none());
}

#[test]
fn a_key_that_no_engine_could_store_is_refused() {
    let memory = Memory::builder(1 << 30).build().unwrap();
    let refused = memory.put(&[0; (32 << 10) + 1], b"", &Put::default());
    assert!(matches!(refused, Err(Error::KeyTooLong { len: 32_769, max: 32_768 })));
}

#[test]
fn after_close_nothing_works_and_nothing_is_kept() {
    let memory = Memory::builder(1 << 20).build().unwrap();
    put(&memory, b"key", b"value");
    memory.close().unwrap();
    assert!(matches!(memory.get(b"key"), Err(Error::Closed)));
    assert!(matches!(memory.put(b"key", b"", &Put::default()), Err(Error::Closed)));
    assert!(matches!(memory.remove(b"key"), Err(Error::Closed)));
    assert!(matches!(memory.clear(), Err(Error::Closed)));
    assert!(matches!(memory.sync(), Err(Error::Closed)));
    assert!(matches!(memory.close(), Err(Error::Closed)));
    assert!(matches!(memory.iter().next(), Some(Err(Error::Closed))));
    assert_eq!(memory.stats().used_bytes, 0);
}

#[test]
fn of_puts_at_the_same_time_the_highest_version_stays() {
    let memory = Memory::builder(1 << 20).build().unwrap();
    let last = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..2_000).map(|_| put(&memory, b"key", b"v")).max()))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).max()
    });
    assert_eq!(memory.version(b"key").unwrap(), last);
    assert_eq!(last, Some(8_000));
}
