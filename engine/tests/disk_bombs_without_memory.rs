//! Small files that claim to hold much take no more memory than the store says that a value may
//! have. By itself, as memory is the process's.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_engine::{Atomic, Disk, Engine, Put};
use larder_format::layout::SEGMENT_DATA;
use larder_format::record::payload_crc;
use larder_format::{ExternalRef, Flags, Kind, RecordHeader, Salt, Superblock};

const BUDGET: u64 = 64 << 20;
const SEGMENT: u32 = 64 << 10;
/// What memory may grow by beside the longest value that a store takes.
const SPARE: u64 = 16 << 20;

/// Bytes of the process's memory that are no file's.
fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// By how much memory grew at most while something was done.
fn growth(act: impl FnOnce()) -> u64 {
    let (before, most, is_done) = (anonymous(), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                most.fetch_max(anonymous(), Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        act();
        is_done.store(true, Ordering::Release);
    });
    most.into_inner().max(anonymous()).saturating_sub(before)
}

/// Changes the header and the value, of the same length, of each record in a closed store whose
/// key begins with `prefix`; what is changed agrees with its checksums. Returns how many there are.
fn forge(dir: &Path, prefix: &[u8], change: impl Fn(&[u8], &mut RecordHeader, &mut [u8])) -> usize {
    let uuid = Superblock::decode(&fs::read(dir.join("store")).unwrap()).unwrap().uuid;
    let mut forged = 0;
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
            if header.kind != Kind::Value || !bytes[extent.key_at..].starts_with(prefix) {
                continue;
            }
            let key = bytes[extent.key_at..][..header.key_len.into()].to_vec();
            change(&key, &mut header, &mut bytes[extent.value_at..extent.chunks_at]);
            let payload = &bytes[extent.key_at..extent.chunks_at];
            header.payload_crc = payload_crc(header.seq, payload, &[]);
            let encoded = header.encode(salt, at as u64, &[]);
            bytes[at..at + encoded.as_bytes().len()].copy_from_slice(encoded.as_bytes());
            forged += 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    forged
}

fn open(dir: &Path) -> Disk {
    Disk::builder(dir).budget(BUDGET).segment_len(SEGMENT).open().unwrap()
}

/// The key of a forged record.
fn key(number: usize) -> [u8; 12] {
    let mut key = *b"bomb\0\0\0\0\0\0\0\0";
    key[4..].copy_from_slice(&(number as u64).to_le_bytes());
    key
}

fn number_of(key: &[u8]) -> usize {
    usize::try_from(u64::from_le_bytes(key[4..].try_into().unwrap())).unwrap()
}

/// A closed store with these values.
fn fill(dir: &Path, values: &[Vec<u8>]) {
    let disk = open(dir);
    for (number, value) in values.iter().enumerate() {
        assert!(disk.put(&key(number), value, &Put::default()).unwrap().is_admitted());
    }
    disk.close().unwrap();
}

/// Reads all of a store in every way there is, and says what memory that took.
fn read_all(dir: &Path, count: usize, check: impl Fn(usize, Option<usize>)) {
    let mut values: Vec<Option<usize>> = Vec::new();
    let grown = growth(|| {
        let disk = open(dir);
        values = (0..count)
            .map(|number| disk.get(&key(number)).unwrap().map(|value| value.len()))
            .collect();
        for number in 0..count {
            let _ = disk.get_with(&key(number), |value, _| value.len()).unwrap();
        }
        disk.iter().for_each(drop);
        disk.verify().unwrap();
        (0..count).for_each(|number| drop(disk.take(&key(number)).unwrap()));
    });
    assert!(grown <= BUDGET + SPARE, "grown by {grown} bytes");
    values.into_iter().enumerate().for_each(|(number, len)| check(number, len));
}

#[test]
fn what_claims_to_be_long_takes_no_more_memory_than_a_value_may() {
    // Lengths of records that reach over others, out of the segment, and out of anything.
    let lens = [4_000, 50 << 10, u32::from(u16::MAX), 1 << 30, 1 << 31, u32::MAX];
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &vec![vec![7; 100]; lens.len()]);
    let change = |key: &[u8], header: &mut RecordHeader, _: &mut [u8]| {
        header.value_len = lens[number_of(key)];
    };
    assert_eq!(forge(dir.path(), b"bomb", change), lens.len());
    read_all(dir.path(), lens.len(), |number, len| assert_eq!(len, None, "record {number}"));

    // Files of large values that are said to be longer than they are.
    let lens = [1 << 31, 1 << 40, 1 << 63, u64::MAX];
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &vec![vec![7; 100 << 10]; lens.len()]);
    let change = |key: &[u8], header: &mut RecordHeader, value: &mut [u8]| {
        assert!(header.flags.has(Flags::EXTERNAL));
        let named = ExternalRef::decode(value).unwrap();
        let longer = ExternalRef { data_len: lens[number_of(key)], ..named };
        value.copy_from_slice(&longer.encode());
    };
    assert_eq!(forge(dir.path(), b"bomb", change), lens.len());
    read_all(dir.path(), lens.len(), |number, len| assert_eq!(len, None, "file {number}"));
}

#[cfg(feature = "zstd")]
#[test]
fn what_unpacks_to_much_takes_no_more_memory_than_a_value_may() {
    use std::io::{Read as _, Write as _};

    /// Zeros, packed; whether the frame says how many.
    fn zeros(len: u64, is_said: bool) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_pledged_src_size(is_said.then_some(len)).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(len), &mut encoder).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }
    let stated = |len: u64, frame: &[u8]| [&len.to_le_bytes()[..], frame].concat();
    let (huge, unsaid, fits) = (zeros(1 << 30, true), zeros(1 << 30, false), zeros(40 << 20, true));
    let nested = zstd::bulk::compress(&huge, 3).unwrap();
    let bombs = [
        stated(1 << 30, &huge),
        stated(60 << 20, &huge),
        stated(100, &huge),
        stated(u64::MAX, &huge),
        stated(60 << 20, &unsaid),
        stated(60 << 20, &[&fits[..], &fits].concat()),
        stated(80 << 20, &[&fits[..], &fits].concat()),
        // What is packed twice is unpacked once.
        stated(huge.len() as u64, &nested),
        stated(40 << 20, &fits),
    ];
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &bombs);
    let packed = |_: &[u8], header: &mut RecordHeader, _: &mut [u8]| {
        header.flags = header.flags.with(Flags::COMPRESSED);
    };
    assert_eq!(forge(dir.path(), b"bomb", packed), bombs.len());
    let honest = [(bombs.len() - 2, huge.len()), (bombs.len() - 1, 40 << 20)];
    read_all(dir.path(), bombs.len(), |number, len| {
        let expected = honest.iter().find(|(honest, _)| *honest == number).map(|(_, len)| *len);
        assert_eq!(len, expected, "bomb {number}");
    });
}
