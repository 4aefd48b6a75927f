//! The slow computation that the demo memoises.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::interrupt;

/// Counts up whenever [`compute`] or [`Findings`] changes, so that results of another version
/// are not found.
pub(super) const VERSION: u32 = 1;

/// zstd's highest level: the smallest output, and slow.
const LEVEL: i32 = 22;

/// Bytes read at a time; between two blocks, Ctrl-C is noticed.
const BLOCK: usize = 128 << 10;

/// What the demo finds out about the content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Findings {
    /// Its length.
    pub(super) bytes: u64,
    /// Its length when compressed by zstd at level 22, in a frame without a checksum.
    pub(super) zstd_bytes: u64,
    /// Newlines in it.
    pub(super) lines: u64,
    /// How often each byte occurs: 256 counts.
    pub(super) histogram: Vec<u64>,
    /// What it took to find this out, in µs.
    pub(super) compute_us: u64,
}

/// Names content: equal for equal bytes, different for different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(pub(super) [u8; 32]);

/// Why there are no findings.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not what it was when its fingerprint was taken.
    #[error("changes while it is read")]
    Changed,
    #[error(transparent)]
    Cache(larder::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// The fingerprint of the content of `path`: cheap next to [`compute`].
pub(super) fn fingerprint(path: &Path) -> Result<Fingerprint, Fault> {
    let mut hasher = blake3::Hasher::new();
    blocks(&mut File::open(path)?, |block| {
        hasher.update(block);
        Ok(())
    })?;
    Ok(Fingerprint(hasher.finalize().into()))
}

/// Computes the findings on the content of `path`, which must still be what `expected` names.
pub(super) fn compute(path: &Path, expected: &Fingerprint) -> Result<Findings, Fault> {
    let start = Instant::now();
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    let mut histogram = [0_u64; 256];
    let mut encoder = zstd::Encoder::new(Counter(0), LEVEL)?;
    // Knowing the length, zstd takes no more memory than it needs.
    encoder.set_pledged_src_size(Some(len))?;
    let mut read = 0;
    blocks(&mut file, |block| {
        read += block.len() as u64;
        if read > len {
            return Err(Fault::Changed);
        }
        hasher.update(block);
        for &byte in block {
            histogram[usize::from(byte)] += 1;
        }
        Ok(encoder.write_all(block)?)
    })?;
    if read != len || Fingerprint(hasher.finalize().into()) != *expected {
        return Err(Fault::Changed);
    }
    let Counter(zstd_bytes) = encoder.finish()?;
    Ok(Findings {
        bytes: len,
        zstd_bytes,
        lines: histogram[usize::from(b'\n')],
        histogram: histogram.to_vec(),
        compute_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

/// Gives the content of `file` to `each`, block by block.
fn blocks(file: &mut File, mut each: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut block = vec![0; BLOCK];
    loop {
        if interrupt::requested() {
            return Err(Fault::Interrupted);
        }
        match file.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => each(&block[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Counts what is written and keeps nothing.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn with_file<T>(bytes: &[u8], then: impl FnOnce(&Path) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        then(&path)
    }

    #[test]
    fn findings_are_those_of_the_content() {
        let bytes = b"one\ntwo\nthree".repeat(100);
        let found = with_file(&bytes, |path| compute(path, &fingerprint(path).unwrap()).unwrap());
        assert_eq!(found.bytes, 1_300);
        assert_eq!(found.lines, 200);
        assert_eq!(found.histogram.len(), 256);
        assert_eq!(found.histogram.iter().sum::<u64>(), 1_300);
        assert_eq!(found.histogram[usize::from(b't')], 200);
        let frame = zstd::bulk::compress(&bytes, LEVEL).unwrap();
        assert_eq!(found.zstd_bytes, frame.len() as u64);
    }

    #[test]
    fn an_empty_file_has_findings() {
        let found = with_file(b"", |path| compute(path, &fingerprint(path).unwrap()).unwrap());
        assert_eq!((found.bytes, found.lines), (0, 0));
    }

    #[test]
    fn content_that_changed_since_its_fingerprint_is_not_computed() {
        let old = with_file(b"old", |path| fingerprint(path).unwrap());
        let result = with_file(b"new", |path| compute(path, &old));
        assert!(matches!(result, Err(Fault::Changed)), "{result:?}");
    }

    #[test]
    fn fingerprints_tell_contents_apart_and_nothing_else() {
        let [a, b, c] =
            [b"same", b"same", b"diff"].map(|x| with_file(x, |p| fingerprint(p).unwrap()));
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
