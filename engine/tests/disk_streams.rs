//! Values that come and go in pieces are what they would be in one, or leave nothing behind.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::fs;
use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{
    Admission, Disk, DiskBuilder, Durability, Engine, Error, Maintenance, ManualClock, Outcome,
    Put, Rejection, Retain, Ttl,
};
use tempfile::TempDir;

const BUDGET: u64 = 32 << 20;

/// Segments of 64 KiB: values of 8 KiB and more are files.
fn builder(dir: &TempDir) -> DiskBuilder {
    Disk::builder(dir.path()).budget(BUDGET).segment_len(64 << 10).writers(1)
}

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + len) as u8).collect()
}

/// Yields bytes in pieces of many lengths, with interruptions, and may fail at some point.
struct Pieces<'a> {
    bytes: &'a [u8],
    calls: usize,
    fails: bool,
}

fn pieces(bytes: &[u8]) -> Pieces<'_> {
    Pieces { bytes, calls: 0, fails: false }
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(5) {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.bytes.is_empty() && self.fails {
            return Err(io::Error::new(ErrorKind::StorageFull, "the source is gone"));
        }
        let most = [1, 7, 4096, 70_000, 8191][self.calls % 5];
        let len = most.min(into.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(len);
        into[..len].copy_from_slice(now);
        self.bytes = later;
        Ok(len)
    }
}

fn lens() -> Vec<usize> {
    let edges = [0, 1024, 8 << 10, 16 << 10, 64 << 10, 128 << 10, 1 << 20];
    let near = edges.into_iter().flat_map(|edge: usize| edge.saturating_sub(2)..edge + 3);
    near.chain((0..70 << 10).step_by(3001)).collect()
}

fn files(dir: &TempDir) -> usize {
    fs::read_dir(dir.path().join("big")).unwrap().count()
}

fn is_io(outcome: larder_engine::Result<Outcome>, kind: ErrorKind) -> bool {
    match outcome {
        Err(Error::Io { op, source, .. }) => {
            op.starts_with("read the value") && source.kind() == kind
        }
        _ => false,
    }
}

#[test]
fn every_length_comes_back_however_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let key = |how: u8, len: usize| [&[how][..], &(len as u64).to_le_bytes()].concat();
    for len in lens() {
        let value = value(len);
        let options = Put {
            durability: if len % 5 == 0 { Durability::Sync } else { Durability::None },
            ..Put::default()
        };
        let outcome = disk.put_reader(&key(0, len), &mut pieces(&value), None, &options);
        assert!(outcome.unwrap().is_admitted());
        let mut source = pieces(&value);
        let outcome = disk.put_reader(&key(1, len), &mut source, Some(len as u64), &options);
        assert!(outcome.unwrap().is_admitted());
        let mut reserved = disk.reserve(&key(2, len), len as u64 + 9, &options).unwrap();
        for piece in value.chunks(len / 3 + 1) {
            reserved.write_all(piece).unwrap();
        }
        assert_eq!(reserved.left(), 9);
        assert!(reserved.commit().unwrap().is_admitted());
    }
    let holds = |disk: &Disk| {
        for len in lens() {
            let value = value(len);
            for how in 0..3 {
                assert!(*disk.get(&key(how, len)).unwrap().unwrap() == *value, "{how}, {len}");
                let mut reader = disk.get_reader(&key(how, len)).unwrap().unwrap();
                let mut read = Vec::new();
                reader.read_to_end(&mut read).unwrap();
                assert!(read == value, "{how}, {len}");
                let end = reader.seek(SeekFrom::End(-(len.min(9) as i64))).unwrap();
                assert_eq!(reader.fill_buf().unwrap(), &value[end as usize..]);
            }
        }
        let report = disk.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
    };
    holds(&disk);
    let used = disk.stats().used_bytes;
    drop(disk);
    let disk = builder(&dir).open().unwrap();
    holds(&disk);
    // What the directory takes was counted while it was written as it is found.
    assert!(disk.stats().used_bytes.abs_diff(used) <= 64 << 10);
    disk.close().unwrap();
    drop(disk);
    holds(&builder(&dir).distrust().open().unwrap());
}

#[test]
fn a_reader_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).maintenance(Maintenance::Manual).open().unwrap();
    assert!(disk.put(b"key", b"old", &Put::default()).unwrap().is_admitted());
    let used = disk.stats().used_bytes;
    for len in lens() {
        let value = value(len);
        for known in [None, Some(len as u64 + 1)] {
            let mut reader = Pieces { fails: true, ..pieces(&value) };
            let outcome = disk.put_reader(b"key", &mut reader, known, &Put::default());
            assert!(is_io(outcome, ErrorKind::StorageFull), "{len}");
        }
        // It ends before it should.
        let known = Some(len as u64 + 1);
        let outcome = disk.put_reader(b"key", &mut pieces(&value), known, &Put::default());
        assert!(is_io(outcome, ErrorKind::UnexpectedEof), "{len}");
        drop(disk.reserve(b"key", 2 << 20, &Put::default()).unwrap().write_all(&value));
        assert_eq!(disk.get(b"key").unwrap().as_deref(), Some(&b"old"[..]));
        assert_eq!(files(&dir), 0);
        assert_eq!(disk.stats().used_bytes, used);
    }
    assert_eq!((disk.stats().inserts, disk.stats().rejected), (1, 0));
}

#[test]
fn no_more_is_read_than_was_stated() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    for len in [10, 9 << 10, 200 << 10] {
        let value = value(len + 5);
        let mut source = &value[..];
        let outcome = disk.put_reader(b"key", &mut source, Some(len as u64), &Put::default());
        assert!(outcome.unwrap().is_admitted());
        assert_eq!(source, &value[len..]);
        assert!(*disk.get(b"key").unwrap().unwrap() == value[..len]);
    }
}

#[test]
fn what_is_too_large_is_refused_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let used = disk.stats().used_bytes;
    let mut endless = io::repeat(1);
    let stated = disk.put_reader(b"key", &mut endless, Some(BUDGET), &Put::default()).unwrap();
    let too_large = |outcome| match outcome {
        Outcome::Rejected(Rejection::TooLarge { weight, limit }) => weight > limit,
        _ => false,
    };
    assert!(too_large(stated));
    assert!(too_large(disk.put_reader(b"key", &mut endless, None, &Put::default()).unwrap()));
    let mut reserved = disk.reserve(b"key", u64::MAX, &Put::default()).unwrap();
    reserved.write_all(b"ignored").unwrap();
    assert!(too_large(reserved.commit().unwrap()));
    assert_eq!((disk.stats().rejected, disk.len(), files(&dir)), (3, 0, 0));
    assert!(disk.stats().used_bytes <= used + (256 << 10));
}

#[test]
fn a_store_that_keeps_everything_refuses_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).retain(Retain::All).open().unwrap();
    let put = |n: u8, known| {
        let mut source = io::repeat(n).take(5 << 20);
        disk.put_reader(&[n], &mut source, known, &Put::default()).unwrap()
    };
    let (mut kept, mut refused) = (Vec::new(), 0);
    for n in 0..12 {
        match put(n, (n % 2 == 0).then_some(5 << 20)) {
            Outcome::Admitted { .. } => kept.push(n),
            Outcome::Rejected(Rejection::Full { .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(kept.len() >= 4 && refused >= 5, "{kept:?}");
    assert_eq!(files(&dir), kept.len());
    assert!(disk.stats().used_bytes <= BUDGET);
    assert_eq!(disk.stats().rejected, refused);
    for n in kept {
        assert!(disk.get(&[n]).unwrap().unwrap().iter().all(|byte| *byte == n));
    }
}

#[test]
fn a_cache_makes_room_for_what_is_streamed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    for n in 0..60_u8 {
        let mut source = io::repeat(n).take(3 << 20);
        assert!(disk.put_reader(&[n], &mut source, None, &Put::default()).unwrap().is_admitted());
        let stats = disk.stats();
        assert!(stats.used_bytes - stats.retired_bytes <= BUDGET, "{stats:?}");
        assert!(disk.get(&[n]).unwrap().unwrap().iter().all(|byte| *byte == n));
    }
    assert!(disk.stats().evictions > 40);
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn options_hold_for_streams() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let disk = builder(&dir).clock(clock.clone()).open().unwrap();
    for len in [100, 100 << 10] {
        let value = value(len);
        let ttl = Ttl::After(Duration::from_secs(10));
        let put = Put { ttl, tags: &[b"tag"], ..Put::default() };
        let stream = |key: &[u8], put: &Put<'_>| {
            disk.put_reader(key, &mut &value[..], None, put).unwrap().is_admitted()
        };
        assert!(stream(b"tagged", &put));
        assert!(stream(b"short", &Put { tags: &[], ..put }));
        disk.invalidate_tag(b"tag").unwrap();
        assert_eq!(disk.get(b"tagged").unwrap(), None);
        assert!(disk.get(b"short").unwrap().is_some());
        clock.advance(11_000);
        assert_eq!(disk.get(b"short").unwrap(), None);
        // Dead on arrival: the old value goes.
        assert!(stream(b"key", &Put::default()));
        assert!(stream(b"key", &Put { ttl: Ttl::After(Duration::ZERO), ..Put::default() }));
        assert_eq!(disk.get(b"key").unwrap(), None);
    }
    let tags = [&b"tag"[..]; 16];
    let many = Put { tags: &tags, ..Put::default() };
    let refused = disk.reserve(b"key", 10, &many).map(drop);
    assert!(matches!(refused, Err(Error::TooManyTags { count: 16, .. })));
    let refused = disk.reserve(&[0; 40_000], 10, &Put::default()).map(drop);
    assert!(matches!(refused, Err(Error::KeyTooLong { .. })));
}

#[test]
fn admission_counts_what_is_streamed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let admission = Admission { write_budget: Some(1 << 20), ..Admission::default() };
    let disk = builder(&dir).clock(clock.clone()).admission(admission).open().unwrap();
    for known in [None, Some(3 << 20)] {
        clock.advance(10_000);
        let put = |key: &[u8]| {
            let mut source = io::repeat(7).take(3 << 20);
            disk.put_reader(key, &mut source, known, &Put::default()).unwrap()
        };
        let name = [known.is_some().into()];
        assert!(put(&name).is_admitted());
        let refused = put(b"other");
        assert!(matches!(refused, Outcome::Rejected(Rejection::WriteBudget { .. })), "{refused:?}");
    }
}

#[test]
fn what_is_reserved_takes_no_more_and_vanishes_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    for len in [10_usize, 100 << 10] {
        let mut reserved = disk.reserve(b"key", len as u64, &Put::default()).unwrap();
        let refused = reserved.write_all(&vec![1; len + 1]);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::WriteZero);
        assert_eq!(reserved.left(), 0);
        // The store can be used meanwhile.
        assert!(disk.put(b"other", b"value", &Put::default()).unwrap().is_admitted());
        assert_eq!(disk.get(b"key").unwrap(), None);
        assert!(reserved.commit().unwrap().is_admitted());
        assert!(*disk.get(b"key").unwrap().unwrap() == vec![1; len]);
        assert!(disk.remove(b"key").unwrap());
        let mut dropped = disk.reserve(b"key", len as u64, &Put::default()).unwrap();
        dropped.write_all(&vec![1; len]).unwrap();
        drop(dropped);
        assert_eq!(disk.get(b"key").unwrap(), None);
    }
}

#[test]
fn what_a_death_cuts_off_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let mut reserved = disk.reserve(b"key", 1 << 20, &Put::default()).unwrap();
    reserved.write_all(&value(500 << 10)).unwrap();
    std::mem::forget(reserved);
    assert_eq!(files(&dir), 1);
    drop(disk);
    let disk = builder(&dir).open().unwrap();
    assert_eq!((files(&dir), disk.len()), (0, 0));
    assert!(disk.stats().used_bytes < 512 << 10);
}

#[test]
fn a_closed_store_takes_no_stream() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    for len in [10, 300 << 10] {
        let mut reserved = disk.reserve(b"key", len, &Put::default()).unwrap();
        reserved.write_all(&value(len as usize)).unwrap();
        if len > 10 {
            disk.close().unwrap();
            assert!(matches!(reserved.commit(), Err(Error::Closed)));
        }
    }
    assert!(matches!(disk.get_reader(b"key"), Err(Error::Closed)));
    assert!(matches!(disk.reserve(b"key", 1, &Put::default()), Err(Error::Closed)));
    assert_eq!(files(&dir), 0);
}

#[test]
fn a_reader_outlives_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let value = value(300 << 10);
    let put = Put::default();
    assert!(disk.put_reader(b"key", &mut &value[..], None, &put).unwrap().is_admitted());
    let mut reader = disk.get_reader(b"key").unwrap().unwrap();
    assert!(reader.value().is_mapped());
    assert_eq!(Some(reader.meta().version), disk.version(b"key").unwrap());
    assert!(disk.remove(b"key").unwrap());
    disk.compact().unwrap();
    drop(disk);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == value);
    assert!(reader.seek(SeekFrom::Current(-(1 << 30))).is_err());
}
