//! libCacheSim's `oracleGeneral`: packed little-endian records.
//!
//! ```text
//! | time u32 | object id u64 | size u32 | next access i64 |
//! ```
//! The next access is the number of the next request for the same object, counted from 1,
//! or -1 (or the largest i64) if there is none. It therefore lies ahead of the record that it
//! stands in, which files of any other kind fail within a few records.

use std::io::{self, BufRead};

use super::{Broken, Request, believable};

const RECORD_LEN: usize = 24;
/// No trace has as many requests.
const NEXT_MAX: i64 = 1 << 48;

/// Reads records until the bytes end.
pub(super) struct Oracle<R> {
    bytes: R,
    /// Records read so far.
    read: i64,
}

/// Refuses a file whose length is no number of records.
pub(super) fn check_len(len: u64) -> anyhow::Result<()> {
    let record_len = RECORD_LEN as u64;
    anyhow::ensure!(
        len.is_multiple_of(record_len),
        "is no oracleGeneral trace: {len} bytes are {} more than a multiple of {record_len}",
        len % record_len,
    );
    Ok(())
}

impl<R: BufRead> Oracle<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self { bytes, read: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Option<Request>, Broken> {
        let mut record = [0; RECORD_LEN];
        let filled = fill(&mut self.bytes, &mut record)?;
        if filled == 0 {
            return Ok(None);
        }
        self.read += 1;
        if filled < RECORD_LEN {
            return Err(Broken::NoTrace(format!(
                "ends inside record {}: {filled} bytes of {RECORD_LEN} are there",
                self.read
            )));
        }
        let [_, _, _, _, id @ .., s0, s1, s2, s3, _, _, _, _, _, _, _, _] = record;
        let [.., n0, n1, n2, n3, n4, n5, n6, n7] = record;
        let next = i64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        if !(next == -1 || next == i64::MAX || (self.read..NEXT_MAX).contains(&next)) {
            return Err(Broken::NoTrace(format!(
                "is no oracleGeneral trace: record {} says that its object comes again at \
                 request {next}, which does not lie ahead",
                self.read
            )));
        }
        let size = believable(
            u32::from_le_bytes([s0, s1, s2, s3]),
            &format_args!("record {}", self.read),
        )?;
        Ok(Some(Request { id: u64::from_le_bytes(id), size }))
    }
}

/// Reads until `buffer` is full or the bytes end; how much it is now.
fn fill(bytes: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match bytes.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn record(id: u64, size: u32, next: i64) -> Vec<u8> {
        let mut bytes = 9_u32.to_le_bytes().to_vec();
        bytes.extend(id.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        bytes
    }

    fn all(bytes: &[u8]) -> Result<Vec<Request>, Broken> {
        let mut oracle = Oracle::new(bytes);
        std::iter::from_fn(|| oracle.next().transpose()).collect()
    }

    #[test]
    fn fields_stand_where_libcachesim_writes_them() {
        let bytes = [record(u64::MAX - 1, 513, 2), record(u64::MAX - 1, 1, i64::MAX)].concat();
        let requests = all(&bytes).unwrap();
        assert_eq!(requests[0], Request { id: u64::MAX - 1, size: 513 });
        assert_eq!(requests[1].size, 1);
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn a_next_access_that_does_not_lie_ahead_is_refused() {
        for next in [0, -2, i64::MIN, NEXT_MAX, 0x6C6C_6C6C_6C6C_6C6C] {
            let error = all(&record(1, 1, next)).expect_err("refused").to_string();
            assert!(error.contains("record 1"), "{error}");
        }
        assert!(all(&[record(1, 1, -1), record(2, 1, 1)].concat()).is_err());
    }

    #[test]
    fn absurd_sizes_and_cut_records_are_refused() {
        assert!(all(&record(1, (1 << 30) + 1, -1)).is_err());
        assert_eq!(all(&record(1, 1 << 30, -1)).unwrap().len(), 1);
        assert!(all(&record(1, 1, -1)[..23]).is_err());
        assert!(check_len(48).is_ok());
        assert!(check_len(49).is_err());
    }
}
