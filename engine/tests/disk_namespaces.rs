//! Promise: a namespace has keys of its own, whatever it and they are called, and invalidating
//! it takes all of them and nothing else.
//! Method: names and keys that would run into each other side by side; reopening, and an index
//! built anew.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{
    BatchOutcome, Disk, Durability, Engine, Error, Expected, ManualClock, Outcome, Put, Ttl,
    WriteBatch,
};
use tempfile::TempDir;

/// The names of namespaces, prefixes of each other; keys as well.
const NAMES: [&[u8]; 8] =
    [b"", b"a", b"ab", b"abc", b"\x01", b"\x01a", b"\xFFlr\xFE", b"\xFFlr\xFE\x01\x01a"];

fn put(tags: &'static [&'static [u8]]) -> Put<'static> {
    Put { tags, ..Put::default() }
}

fn open(dir: &TempDir, distrust: bool) -> Disk {
    let builder = Disk::builder(dir.path().join("store")).budget(32 << 20).writers(2);
    if distrust { builder.distrust() } else { builder }.open().unwrap()
}

/// The value of a key of a namespace, or of none.
fn value(name: Option<&[u8]>, key: &[u8]) -> Vec<u8> {
    format!("{name:?} {key:?}").into_bytes()
}

/// Checks all keys of all namespaces, of which one may be gone.
fn check(disk: &Disk, gone: Option<&[u8]>) {
    for name in NAMES {
        let space = disk.namespace(name);
        let is_there = gone != Some(name);
        let mut expected = BTreeMap::new();
        for key in NAMES {
            let found = space.get(key).unwrap();
            assert_eq!(found.is_some(), is_there, "{name:?} {key:?}");
            assert_eq!(space.contains(key).unwrap(), is_there);
            if let Some(found) = found {
                assert_eq!(*found, *value(Some(name), key));
                expected.insert(key.to_vec(), found.to_vec());
            }
        }
        let walked = space.iter().unwrap().map(Result::unwrap);
        let walked: BTreeMap<_, _> = walked.map(|(key, value)| (key, value.to_vec())).collect();
        assert_eq!(walked, expected, "{name:?}");
        let mut keys = space.keys().unwrap();
        keys.sort();
        assert!(keys.iter().eq(expected.keys()));
    }
    let mut plain: Vec<_> = disk.iter().map(|entry| entry.unwrap().0).collect();
    plain.sort();
    let mut names = NAMES.map(<[u8]>::to_vec);
    names.sort();
    assert_eq!(plain, names);
    for key in NAMES {
        assert_eq!(disk.get(key).unwrap().unwrap(), value(None, key).into());
    }
    let many = disk.get_many(&NAMES).unwrap();
    assert!(
        many.iter().zip(NAMES).all(|(found, key)| **found.as_ref().unwrap() == *value(None, key))
    );
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn names_that_are_prefixes_of_each_other_have_nothing_in_common() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, false);
    for key in NAMES {
        let _ = disk.put(key, &value(None, key), &Put::default()).unwrap();
        for name in NAMES {
            let put = disk.namespace(name).put(key, &value(Some(name), key), &Put::default());
            assert!(put.unwrap().is_admitted());
        }
    }
    check(&disk, None);
    disk.namespace("never used").invalidate().unwrap();
    // A tag that is called as the namespace is another one.
    disk.invalidate_tag(b"a").unwrap();
    check(&disk, None);
    disk.invalidate_namespace("a").unwrap();
    check(&disk, Some(b"a"));
    drop(disk);
    let disk = open(&dir, false);
    check(&disk, Some(b"a"));
    disk.close().unwrap();
    drop(disk);
    let disk = open(&dir, true);
    check(&disk, Some(b"a"));
    for key in NAMES {
        let _ = disk.namespace("a").put(key, &value(Some(b"a"), key), &Put::default()).unwrap();
    }
    disk.close().unwrap();
    drop(disk);
    check(&open(&dir, true), None);
}

#[test]
fn tags_of_the_caller_stand_beside_the_implied_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, false);
    let space = disk.namespace("space");
    let most = put(const { &[b"t".as_slice(); 14] });
    let _ = space.put(b"k", b"v", &most).unwrap();
    let _ = disk.put(b"k", b"plain", &put(&[b"t"])).unwrap();
    let too_many = put(const { &[b"t".as_slice(); 15] });
    let refused = [
        space.put(b"k", b"w", &too_many).map(drop),
        space.add(b"l", b"w", &too_many).map(drop),
        space.add_to(b"n", 1, Some(0), &too_many).map(drop),
        space.write(WriteBatch::new().put(b"k", b"w", &too_many), Durability::None).map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::TooManyTags { count: 15, max: 14 })), "{refused:?}");
    }
    assert_eq!(disk.keys_by_tag(b"t").unwrap(), [b"k"]);
    // The namespace's own tag cannot be named by a caller, whatever the bytes.
    for tag in [&b"space"[..], b"\xFFlr\xFE\x01space", b"\xFFlr\xFE\x01\x05space"] {
        disk.invalidate_tag(tag).unwrap();
    }
    assert!(space.contains(b"k").unwrap());
    // The caller's tags are the store's: one goes through all namespaces.
    disk.invalidate_tag(b"t").unwrap();
    assert!(!space.contains(b"k").unwrap() && !disk.contains(b"k").unwrap());
    let odd = put(&[b"\xFFlr\xFE\x01space"]);
    let _ = disk.put(b"k", b"plain", &odd).unwrap();
    space.invalidate().unwrap();
    assert_eq!(disk.get(b"k").unwrap().as_deref(), Some(&b"plain"[..]));
    assert_eq!(disk.keys_by_tag(odd.tags[0]).unwrap(), [b"k"]);
    disk.invalidate_tag(odd.tags[0]).unwrap();
    assert!(!disk.contains(b"k").unwrap());
}

#[test]
fn whatever_is_written_in_a_namespace_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = Disk::builder(dir.path().join("store")).clock(clock.clone()).open().unwrap();
    let space = disk.namespace("space");
    let Outcome::Admitted { version } = space.add(b"added", b"1", &Put::default()).unwrap() else {
        panic!()
    };
    let expected = Expected::Version(version);
    assert!(space.put_if(b"added", b"2", &Put::default(), expected).unwrap().is_admitted());
    assert!(!space.put_if(b"added", b"3", &Put::default(), expected).unwrap().is_admitted());
    assert_eq!(space.add_to(b"number", 2, Some(1), &Put::default()).unwrap(), Some(3));
    assert_eq!(space.add_to(b"number", 2, Some(1), &Put::default()).unwrap(), Some(5));
    let second = Ttl::After(Duration::from_secs(1));
    let _ = space.put(b"touched", b"1", &Put { ttl: second, ..Put::default() }).unwrap();
    assert!(space.touch(b"touched", Ttl::Never).unwrap());
    clock.advance(2_000);
    let mut batch = WriteBatch::new();
    batch.put(b"batched", b"1", &Put::default()).remove(b"absent");
    batch.expect(b"batched", Expected::Absent);
    assert!(space.write(&batch, Durability::None).unwrap().is_committed());
    let conflict = space.write(&batch, Durability::None).unwrap();
    assert!(
        matches!(&conflict, BatchOutcome::Conflict { key, version: Some(_) } if key == b"batched")
    );
    let _ = space.put(b"taken", b"1", &Put::default()).unwrap();
    assert_eq!(space.take(b"taken").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(!space.remove(b"taken").unwrap());
    assert_eq!(space.get_with(b"added", |bytes, _| bytes.to_vec()).unwrap().unwrap(), b"2");
    let mut keys = space.keys().unwrap();
    keys.sort();
    assert_eq!(keys, [&b"added"[..], b"batched", b"number", b"touched"]);
    space.invalidate().unwrap();
    assert_eq!(space.keys().unwrap(), Vec::<Vec<u8>>::new());
    for key in keys {
        assert!(space.get(&key).unwrap().is_none(), "{key:?}");
    }
    assert_eq!(space.add_to(b"number", 2, None, &Put::default()).unwrap(), None);
    assert!(disk.iter().next().is_none());
}

#[test]
fn what_becomes_too_long_is_refused_by_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir, false);
    let key = vec![b'k'; (32 << 10) - 7 - 5];
    let space = disk.namespace("names");
    // Four bytes and one for the owner, two for the length and the name: 5 + 1 + 5.
    assert!(space.put(&key, b"v", &Put::default()).unwrap().is_admitted());
    assert_eq!(space.keys().unwrap(), std::slice::from_ref(&key));
    let longer = [&*key, b"kk"].concat();
    let refused = space.put(&longer, b"v", &Put::default());
    assert!(matches!(refused, Err(Error::KeyTooLong { len: 32_769, max: 32_768 })), "{refused:?}");
    assert!(matches!(space.get(&longer), Err(Error::KeyTooLong { .. })));
    let name = vec![b'n'; 40_000];
    assert!(matches!(disk.namespace(&name).get(b"k"), Err(Error::KeyTooLong { .. })));
    assert!(matches!(disk.invalidate_namespace(&name), Err(Error::KeyTooLong { .. })));
}
