//! Traces of a cache's requests, in libCacheSim's `oracleGeneral` format, plain or zstd.
//!
//! ```text
//! | time u32 | object id u64 | size u32 | next access i64 |   packed, little-endian
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use larder_rivals::Result;

const RECORD_LEN: usize = 24;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What `zstd --long=31` writes; the default refuses it.
const WINDOW_LOG_MAX: u32 = 31;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The object asked for.
    pub id: u64,
    /// Its size in bytes.
    pub size: u32,
}

/// A trace being read.
pub struct Trace {
    bytes: Box<dyn Read>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Trace {
    /// Opens a trace.
    ///
    /// # Errors
    /// What the system says, or zstd.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut file = BufReader::with_capacity(256 << 10, file);
        if !file.fill_buf()?.starts_with(&ZSTD_MAGIC) {
            return Ok(Self { bytes: Box::new(file) });
        }
        let mut decoder = zstd::Decoder::with_buffer(file)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Self { bytes: Box::new(BufReader::with_capacity(256 << 10, decoder)) })
    }
}

impl Iterator for Trace {
    type Item = Result<Request>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut record = [0; RECORD_LEN];
        let mut filled = 0;
        while filled < RECORD_LEN {
            match self.bytes.read(&mut record[filled..]) {
                Ok(0) if filled == 0 => return None,
                Ok(0) => return Some(Err("the trace ends within a request".into())),
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
        let [_, _, _, _, id @ .., _, _, _, _, _, _, _, _, _, _, _, _] = record;
        let [.., a, b, c, d, _, _, _, _, _, _, _, _] = record;
        Some(Ok(Request { id: u64::from_le_bytes(id), size: u32::from_le_bytes([a, b, c, d]) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Result<Request>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Trace::open(file.path()).unwrap().collect()
    }

    fn record(id: u64, size: u32) -> Vec<u8> {
        [&[9; 4][..], &id.to_le_bytes(), &size.to_le_bytes(), &[255; 8]].concat()
    }

    #[test]
    fn plain_and_compressed_traces_say_the_same() {
        let plain = [record(5, 70), record(u64::MAX, 1 << 20)].concat();
        for bytes in [plain.clone(), zstd::encode_all(&plain[..], 1).unwrap()] {
            let requests: Vec<_> = read(&bytes).into_iter().map(Result::unwrap).collect();
            let expected = [Request { id: 5, size: 70 }, Request { id: u64::MAX, size: 1 << 20 }];
            assert_eq!(requests, expected);
        }
    }

    #[test]
    fn a_cut_trace_is_an_error_where_it_ends() {
        let cut = &[record(1, 2), record(3, 4)].concat()[..30];
        let requests = read(cut);
        assert_eq!(requests.len(), 2);
        assert!(requests[0].is_ok() && requests[1].is_err());
    }
}
