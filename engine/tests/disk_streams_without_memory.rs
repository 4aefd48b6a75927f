//! A value of any length passes through little memory. By itself, as memory is the process's.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{self, Read, Write};

use larder_engine::{Disk, Put};

const LEN: u64 = 100 << 20;

/// Bytes of the process's memory that are no file's.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Counted bytes, and what the process took at most while they were read.
struct Watched {
    left: u64,
    most: u64,
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(usize::try_from(self.left).unwrap());
        into[..len].fill(u8::try_from(self.left >> 16 & 0xFF).unwrap());
        self.left -= len as u64;
        if self.left.trailing_zeros() >= 20 {
            self.most = self.most.max(anonymous());
        }
        Ok(len)
    }
}

#[test]
fn a_hundred_mib_pass_through_a_few() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::builder(dir.path()).budget(1 << 30).open().unwrap();
    let before = anonymous();
    let mut grown = Vec::new();
    for known in [None, Some(LEN)] {
        let mut source = Watched { left: LEN, most: 0 };
        let outcome = disk.put_reader(b"key", &mut source, known, &Put::default()).unwrap();
        assert!(outcome.is_admitted());
        grown.push(source.most.max(anonymous()).saturating_sub(before));
    }
    let mut reserved = disk.reserve(b"key", LEN, &Put::default()).unwrap();
    let written = io::copy(&mut Watched { left: LEN, most: 0 }, &mut reserved).unwrap();
    assert_eq!(written, LEN);
    assert!(reserved.commit().unwrap().is_admitted());
    grown.push(anonymous().saturating_sub(before));
    let mut reader = disk.get_reader(b"key").unwrap().unwrap();
    assert_eq!(io::copy(&mut reader, &mut io::sink().by_ref()).unwrap(), LEN);
    grown.push(anonymous().saturating_sub(before));
    println!("grown by {grown:?} bytes");
    assert!(grown.iter().all(|bytes| *bytes < 16 << 20), "{grown:?}");
}
