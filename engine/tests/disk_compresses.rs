//! Values are the same whether they were compressed or not, and packed bytes that lie are a
//! miss.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::fs;
use std::path::Path;

use larder_engine::{Disk, Engine, Put};
use larder_format::layout::SEGMENT_DATA;
use larder_format::{Flags, Kind, RecordHeader, Salt, Superblock};

fn put(disk: &Disk, key: &[u8], value: &[u8]) {
    assert!(disk.put(key, value, &Put::default()).unwrap().is_admitted());
}

/// Marks the values in a closed store whose keys begin with `prefix` as compressed.
fn mark_as_compressed(dir: &Path, prefix: &[u8]) -> usize {
    let uuid = Superblock::decode(&fs::read(dir.join("store")).unwrap()).unwrap().uuid;
    let mut marked = 0;
    for entry in fs::read_dir(dir.join("seg")).unwrap() {
        let path = entry.unwrap().path();
        let id = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        let salt = Salt::new(&uuid, id);
        let mut bytes = fs::read(&path).unwrap();
        for at in (SEGMENT_DATA..bytes.len()).step_by(16) {
            let Ok(mut header) = RecordHeader::decode(&bytes[at..], salt, at as u64) else {
                continue;
            };
            let extent = header.extent(at);
            if header.kind == Kind::Value && bytes[extent.key_at..].starts_with(prefix) {
                header.flags = header.flags.with(Flags::COMPRESSED);
                let encoded = header.encode(salt, at as u64, &[]);
                let encoded = encoded.as_bytes();
                bytes[at..at + encoded.len()].copy_from_slice(encoded);
                marked += 1;
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    marked
}

/// A closed store in which these bytes stand for compressed values, key by key.
fn forge(dir: &Path, packed: &[Vec<u8>]) {
    let disk = Disk::builder(dir).budget(16 << 20).segment_len(64 << 10).open().unwrap();
    put(&disk, b"plain", b"value");
    for (number, packed) in packed.iter().enumerate() {
        let key = [&b"packed"[..], &(number as u32).to_le_bytes()].concat();
        put(&disk, &key, packed);
    }
    disk.close().unwrap();
    drop(disk);
    assert_eq!(mark_as_compressed(dir, b"packed"), packed.len());
}

/// Length and frame.
fn packed(len: u64, frame: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes()[..], frame].concat()
}

#[cfg(not(feature = "zstd"))]
#[test]
fn without_zstd_a_compressed_value_is_a_miss_that_says_why() {
    let dir = tempfile::tempdir().unwrap();
    forge(dir.path(), &[packed(40, &[7; 30])]);
    let disk = Disk::builder(dir.path()).budget(16 << 20).open().unwrap();
    assert_eq!(disk.get(b"packed\0\0\0\0").unwrap(), None);
    assert_eq!(disk.stats().corrupt, 1);
    assert_eq!(disk.get(b"plain").unwrap().as_deref(), Some(&b"value"[..]));
    let report = disk.verify().unwrap();
    assert_eq!(report.findings.len(), 1);
    assert!(report.findings[0].what.contains("feature zstd"), "{report:?}");
}

#[cfg(feature = "zstd")]
mod with_zstd {
    use std::collections::HashMap;
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Duration;

    use larder_engine::{
        Atomic, Compression, DiskBuilder, Durability, Error, Expected, Outcome, Rejection, Retain,
        Ttl, WriteBatch,
    };
    use tempfile::TempDir;

    use super::*;

    const BUDGET: u64 = 32 << 20;

    /// Segments of 64 KiB: values of 8 KiB and more are files.
    fn builder(dir: &TempDir) -> DiskBuilder {
        Disk::builder(dir.path()).budget(BUDGET).segment_len(64 << 10).writers(1)
    }

    fn compression(level: i32, min_len: usize) -> Compression {
        Compression { level, min_len, dictionary: None }
    }

    /// Bytes that cannot be compressed, or hardly, or well.
    fn value(seed: u32, len: usize, repeats: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut bytes: Vec<u8> = Vec::with_capacity(len);
        while bytes.len() < len {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            bytes.extend(std::iter::repeat_n((state >> 11) as u8, repeats));
        }
        bytes.truncate(len);
        bytes
    }

    fn lens() -> Vec<usize> {
        let edges = [0, 8, 64, 128, 1024, 4096, 8192, 16 << 10, 64 << 10, 128 << 10, 256 << 10];
        let near = edges.into_iter().flat_map(|edge: usize| edge.saturating_sub(2)..edge + 3);
        let between = (0..64 << 10).step_by(997);
        let mut lens: Vec<usize> = near.chain(between).collect();
        lens.sort_unstable();
        lens.dedup();
        lens
    }

    /// All that the round trips put: key and value.
    fn entries() -> HashMap<Vec<u8>, Vec<u8>> {
        let mut entries = HashMap::new();
        for len in lens() {
            for repeats in [1, 2, 50] {
                let seed = (len * 100 + repeats) as u32;
                entries.insert(seed.to_le_bytes().to_vec(), value(seed, len, repeats));
            }
        }
        entries
    }

    fn holds(disk: &Disk, entries: &HashMap<Vec<u8>, Vec<u8>>) {
        for (key, value) in entries {
            let found = disk.get(key).unwrap().expect("there");
            assert!(*found == **value, "{} bytes", value.len());
            let same = disk.get_with(key, |bytes, _| bytes == &**value).unwrap();
            assert_eq!(same, Some(true), "{} bytes", value.len());
        }
        let keys: Vec<_> = entries.keys().collect();
        let mut shown = 0;
        let look = |number: usize, seen: Option<(&[u8], &larder_engine::Meta)>| {
            shown += usize::from(seen.unwrap().0 == &*entries[keys[number]]);
        };
        disk.get_many_with(&keys, look).unwrap();
        assert_eq!(shown, entries.len());
        let walked: HashMap<_, _> = disk
            .iter()
            .map(|item| item.map(|(key, value)| (key, value.to_vec())).unwrap())
            .collect();
        assert!(walked == *entries);
        assert_eq!(disk.stats().corrupt, 0);
        let report = disk.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
    }

    #[test]
    fn every_length_comes_back_under_any_settings() {
        let dir = tempfile::tempdir().unwrap();
        let entries = entries();
        let disk = builder(&dir).compression(compression(3, 64)).open().unwrap();
        for (number, (key, value)) in entries.iter().enumerate() {
            match number % 3 {
                0 => put(&disk, key, value),
                1 => {
                    let put = Put::default();
                    assert!(disk.put_if(key, value, &put, Expected::Absent).unwrap().is_admitted());
                }
                _ => {
                    let mut batch = WriteBatch::default();
                    batch.put(key, value, &Put::default());
                    assert!(disk.write(&batch, Durability::None).unwrap().is_committed());
                }
            }
        }
        let put_bytes: usize = entries.values().map(Vec::len).sum();
        let saved = disk.stats().compressed_saved_bytes as usize;
        assert!(saved > put_bytes / 5 && saved < put_bytes / 2, "{saved} of {put_bytes}");
        assert!((disk.stats().written_bytes as usize) < put_bytes - saved / 2);
        holds(&disk, &entries);
        drop(disk);
        // Off; rebuilt; at another level, which writes half of it anew.
        holds(&builder(&dir).open().unwrap(), &entries);
        holds(&builder(&dir).distrust().open().unwrap(), &entries);
        let disk = builder(&dir).compression(compression(9, 1 << 10)).open().unwrap();
        for (key, value) in entries.iter().step_by(2) {
            put(&disk, key, value);
        }
        holds(&disk, &entries);
        disk.close().unwrap();
        drop(disk);
        let disk = builder(&dir).distrust().open().unwrap();
        holds(&disk, &entries);
        for (key, value) in &entries {
            assert!(*disk.take(key).unwrap().expect("there") == **value);
        }
        assert_eq!(disk.len(), 0);
    }

    #[test]
    fn what_saves_less_than_an_eighth_is_stored_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let disk = builder(&dir).compression(compression(3, 0)).open().unwrap();
        // All but an eighth cannot be compressed; then all but a fourth.
        let mixed = |share: usize| [value(1, 4096 - share, 1), vec![0; share]].concat();
        put(&disk, b"eighth", &mixed(512));
        assert_eq!(disk.stats().compressed_saved_bytes, 0);
        assert!(disk.get(b"eighth").unwrap().unwrap().is_mapped());
        put(&disk, b"fourth", &mixed(1024));
        let saved = disk.stats().compressed_saved_bytes;
        assert!((900..1024).contains(&saved), "{saved}");
        let found = disk.get(b"fourth").unwrap().unwrap();
        assert!(!found.is_mapped() && found.pinned_len() == 0);
        assert_eq!(*found, *mixed(1024));
        for len in 0..32 {
            put(&disk, b"short", &vec![0; len]);
            assert_eq!(*disk.get(b"short").unwrap().unwrap(), *vec![0; len]);
        }
    }

    #[test]
    fn a_value_is_external_if_it_is_large_once_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let files = || fs::read_dir(dir.path().join("big")).unwrap().count();
        let disk = builder(&dir).compression(compression(3, 64)).open().unwrap();
        put(&disk, b"shrinks", &vec![9; 1 << 20]);
        assert_eq!(files(), 0);
        let stays = value(3, 1 << 20, 12);
        put(&disk, b"stays", &stays);
        assert_eq!(files(), 1);
        let found = disk.get(b"stays").unwrap().unwrap();
        assert!(*found == *stays && !found.is_mapped());
        let file = fs::read_dir(dir.path().join("big")).unwrap().next().unwrap().unwrap();
        assert!(file.metadata().unwrap().len() < 1 << 19);
        // A damaged file is a miss.
        disk.close().unwrap();
        drop(disk);
        let mut bytes = fs::read(file.path()).unwrap();
        bytes[1000] ^= 1;
        fs::write(file.path(), bytes).unwrap();
        let disk = builder(&dir).open().unwrap();
        assert_eq!(disk.get(b"stays").unwrap(), None);
        assert_eq!(disk.stats().corrupt, 1);
        assert_eq!(*disk.get(b"shrinks").unwrap().unwrap(), *vec![9; 1 << 20]);
    }

    #[test]
    fn touching_moving_and_adding_keep_values() {
        let dir = tempfile::tempdir().unwrap();
        let retaining = || builder(&dir).retain(Retain::All);
        let disk = retaining().compression(compression(3, 16)).open().unwrap();
        let entries: HashMap<Vec<u8>, Vec<u8>> = (0..400_u32)
            .map(|n| (n.to_le_bytes().to_vec(), value(n, n as usize * 101, 1 + n as usize % 40)))
            .collect();
        for (key, value) in &entries {
            put(&disk, key, value);
            put(&disk, &[key, &b"dead"[..]].concat(), value);
        }
        for key in entries.keys() {
            assert!(disk.remove(&[key, &b"dead"[..]].concat()).unwrap());
        }
        for key in entries.keys().step_by(3) {
            assert!(disk.touch(key, Ttl::After(Duration::from_secs(9000))).unwrap());
        }
        let saved = disk.stats().compressed_saved_bytes;
        assert!(disk.compact().unwrap() > 0);
        assert!(disk.stats().moved_bytes > 0);
        assert_eq!(disk.stats().compressed_saved_bytes, saved);
        holds(&disk, &entries);
        drop(disk);
        // Without compression, what is touched and moved stays as it is stored.
        let disk = retaining().distrust().open().unwrap();
        for key in entries.keys() {
            assert!(disk.touch(key, Ttl::Never).unwrap());
        }
        disk.compact().unwrap();
        holds(&disk, &entries);
        let disk_bytes: u64 = disk.stats().used_bytes;
        let bytes: usize = entries.values().map(Vec::len).sum();
        assert!(disk_bytes < bytes as u64 / 2, "{disk_bytes} of {bytes}");
        assert_eq!(disk.add_to(b"number", 5, Some(1), &Put::default()).unwrap(), Some(6));
        assert_eq!(disk.add_to(b"number", 5, Some(1), &Put::default()).unwrap(), Some(11));
        let compressed = entries.iter().find(|(_, value)| value.len() > 5000).unwrap();
        let refused = disk.add_to(compressed.0, 1, None, &Put::default());
        let len = compressed.1.len();
        assert!(matches!(refused, Err(Error::NotANumber { len: found }) if found == len));
    }

    #[test]
    fn too_large_is_judged_on_what_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let disk = builder(&dir).compression(compression(1, 64)).open().unwrap();
        let value = vec![0; BUDGET as usize + 1];
        let outcome = disk.put(b"key", &value, &Put::default()).unwrap();
        assert!(matches!(
            outcome,
            Outcome::Rejected(Rejection::TooLarge { weight, .. }) if weight == BUDGET + 4
        ));
        let mut batch = WriteBatch::default();
        batch.put(b"key", &value, &Put::default());
        assert!(!disk.write(&batch, Durability::None).unwrap().is_committed());
        assert_eq!(disk.len(), 0);
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = [
            compression(23, 0),
            Compression { dictionary: Some(Arc::from(&b"no dictionary"[..])), ..compression(3, 0) },
        ];
        for wrong in wrong {
            let opened = builder(&dir).compression(wrong).open();
            assert!(matches!(opened, Err(Error::Config { .. })), "{opened:?}");
        }
        let none: [&[u8]; 0] = [];
        assert!(matches!(Disk::train_dictionary(&none), Err(Error::Config { .. })));
    }

    fn user(n: u32) -> Vec<u8> {
        let name = format!("user {}", n % 77);
        format!(
            r#"{{"id": {n}, "name": "{name}", "mail": "{n}@example.org", "active": true, "roles": ["reader", "writer"]}}"#
        )
        .into()
    }

    fn dictionary(of: impl Fn(u32) -> Vec<u8>) -> Arc<[u8]> {
        let samples: Vec<_> = (0..3000).map(of).collect();
        Disk::train_dictionary(&samples).unwrap()
    }

    #[test]
    fn a_dictionary_is_needed_by_what_was_written_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let with = |dictionary: &Arc<[u8]>| {
            let dictionary = Some(Arc::clone(dictionary));
            builder(&dir).compression(Compression { dictionary, ..compression(3, 16) })
        };
        let right = dictionary(user);
        let other = dictionary(|n| [user(n * 7), value(n, 8, 1)].concat());
        assert_ne!(right, other);
        let disk = with(&right).open().unwrap();
        let large = value(1, 200 << 10, 9);
        put(&disk, b"large", &large);
        let before = disk.stats().compressed_saved_bytes;
        for n in 50_000..50_100_u32 {
            put(&disk, &n.to_le_bytes(), &user(n));
        }
        let saved = disk.stats().compressed_saved_bytes - before;
        assert!(saved > 100 * 40, "{saved}");
        let written_without = builder(&dir);
        let has_all = |disk: &Disk| {
            assert!(*disk.get(b"large").unwrap().unwrap() == *large);
            for n in 50_000..50_100_u32 {
                assert_eq!(*disk.get(&n.to_le_bytes()).unwrap().unwrap(), *user(n));
            }
        };
        has_all(&disk);
        drop(disk);
        let misses = |disk: &Disk, why: &str| {
            for n in 50_000..50_100_u32 {
                assert_eq!(disk.get(&n.to_le_bytes()).unwrap(), None);
            }
            assert_eq!(disk.stats().corrupt, 100);
            let report = disk.verify().unwrap();
            assert_eq!(report.findings.len(), 101);
            assert!(report.findings.iter().all(|found| found.what.contains(why)), "{report:?}");
        };
        misses(&written_without.open().unwrap(), "none was given");
        misses(&with(&other).open().unwrap(), "was given");
        // What was compressed without a dictionary is read with one as well.
        let disk = builder(&dir).compression(compression(3, 16)).open().unwrap();
        put(&disk, b"without", &large);
        drop(disk);
        let disk = with(&right).distrust().open().unwrap();
        assert!(*disk.get(b"without").unwrap().unwrap() == *large);
        has_all(&disk);
    }

    #[test]
    fn another_dictionary_of_the_same_id_gives_no_wrong_value() {
        let dir = tempfile::tempdir().unwrap();
        let with = |dictionary: &[u8]| {
            let dictionary = Some(Arc::from(dictionary));
            builder(&dir).compression(Compression { dictionary, ..compression(3, 16) })
        };
        let right = dictionary(user);
        let disk = with(&right).open().unwrap();
        (0..100_u32).for_each(|n| put(&disk, &n.to_le_bytes(), &user(n)));
        drop(disk);
        let mut wrong = right.to_vec();
        let content = wrong.len() / 2;
        wrong[content..].iter_mut().for_each(|byte| *byte ^= 0x15);
        let disk = with(&wrong).open().unwrap();
        for n in 0..100_u32 {
            let found = disk.get(&n.to_le_bytes()).unwrap();
            assert!(found.is_none_or(|found| *found == *user(n)));
        }
        assert!(disk.stats().corrupt > 0);
    }

    #[test]
    fn a_damaged_record_is_a_miss_or_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let expected = value(1, 300, 60);
        let disk = builder(&dir).compression(compression(3, 16)).open().unwrap();
        put(&disk, b"key", &expected);
        assert!(disk.stats().compressed_saved_bytes > 200);
        disk.close().unwrap();
        drop(disk);
        let seg = fs::read_dir(dir.path().join("seg")).unwrap();
        let mut files = seg.map(|entry| entry.unwrap().path());
        let file = files.find(|path| fs::read(path).unwrap()[SEGMENT_DATA] != 0).unwrap();
        let whole = fs::read(&file).unwrap();
        let mut misses = 0;
        for at in SEGMENT_DATA..SEGMENT_DATA + 112 {
            for bit in [1, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= bit;
                fs::write(&file, bytes).unwrap();
                let disk = builder(&dir).open().unwrap();
                match disk.get(b"key").unwrap() {
                    Some(found) => assert_eq!(*found, *expected),
                    None => misses += 1,
                }
                disk.close().unwrap();
            }
            fs::write(&file, &whole).unwrap();
        }
        assert!(misses > 100, "{misses}");
    }

    #[test]
    fn packed_bytes_that_lie_are_counted_misses() {
        let frame = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
        let zeros = frame(&vec![0; 8 << 20]);
        let honest = frame(&[5; 300]);
        let mut unsized_frame = Vec::new();
        let mut encoder = zstd::stream::write::Encoder::new(&mut unsized_frame, 3).unwrap();
        encoder.write_all(&[5; 300]).unwrap();
        encoder.finish().unwrap();
        let lies = vec![
            packed(1 << 40, &honest),
            packed(1 << 40, &zeros),
            packed(u64::MAX, &honest),
            packed(299, &honest),
            packed(301, &honest),
            packed(0, &honest),
            packed(15 << 20, &honest),
            packed(300, &zeros),
            packed((8 << 20) + 1, &zeros),
            packed(600, &[&honest[..], &honest].concat()),
            packed(300, &[&honest[..], &[0]].concat()),
            packed(300, &honest[..honest.len() - 1]),
            packed(300, &unsized_frame),
            packed(0, b""),
            packed(300, b"no frame of zstd at all"),
            b"short".to_vec(),
            Vec::new(),
        ];
        let dir = tempfile::tempdir().unwrap();
        let truths = [packed(300, &honest), packed(8 << 20, &zeros)];
        forge(dir.path(), &[&lies[..], &truths].concat());
        let disk = Disk::builder(dir.path()).budget(16 << 20).open().unwrap();
        let key = |n: usize| [&b"packed"[..], &(n as u32).to_le_bytes()].concat();
        for n in 0..lies.len() {
            assert_eq!(disk.get(&key(n)).unwrap(), None, "lie {n}");
            assert_eq!(disk.stats().corrupt, n as u64 + 1, "lie {n}");
        }
        let report = disk.verify().unwrap();
        assert_eq!(report.findings.len(), lies.len(), "{report:?}");
        assert_eq!(disk.iter().map(Result::unwrap).count(), 3);
        assert_eq!(*disk.get(&key(lies.len())).unwrap().unwrap(), [5; 300]);
        assert_eq!(disk.get(&key(lies.len() + 1)).unwrap().unwrap().len(), 8 << 20);
        assert_eq!(disk.take(&key(0)).unwrap(), None);
    }

    #[test]
    fn any_change_of_a_frame_is_survived() {
        let expected = value(9, 200, 5);
        let frame = zstd::bulk::compress(&expected, 3).unwrap();
        let whole = packed(200, &frame);
        let flipped = |at: usize, bit: u8| {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            bytes
        };
        let all: Vec<_> =
            (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, 1 << bit))).collect();
        let forged: Vec<_> = all.iter().map(|(at, bit)| flipped(*at, *bit)).collect();
        let dir = tempfile::tempdir().unwrap();
        forge(dir.path(), &forged);
        let disk = Disk::builder(dir.path()).budget(16 << 20).open().unwrap();
        let mut misses = 0;
        for n in 0..forged.len() as u32 {
            // Checksums that were forged as well vouch for nothing but the length.
            match disk.get(&[&b"packed"[..], &n.to_le_bytes()].concat()).unwrap() {
                Some(found) => assert_eq!(found.len(), 200),
                None => misses += 1,
            }
        }
        assert!(misses >= 64);
    }
}
