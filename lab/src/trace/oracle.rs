//! libCacheSim's `oracleGeneral`: packed little-endian records.
//!
//! ```text
//! | time u32 | object id u64 | size u32 | next access i64 |
//! ```
//! The next access is the number of the next request for the same object, counted from 1,
//! or -1 (or the largest i64) if there is none. It therefore lies ahead of the record that it
//! stands in, which files of any other kind fail within a few records.

use std::io::{self, BufRead};

use super::{Access, Broken, SIZE_MAX};
use crate::error::Place;

/// Length of a record, in bytes.
pub const RECORD_LEN: usize = 24;
/// No trace has as many requests.
const NEXT_MAX: i64 = 1 << 48;

/// Reads records until the bytes end.
pub(super) struct Oracle<R> {
    bytes: R,
    /// Records read so far.
    read: u64,
}

impl<R: BufRead> Oracle<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self { bytes, read: 0 }
    }

    /// Appends up to `most` accesses.
    pub(super) fn fill(&mut self, chunk: &mut Vec<Access>, most: usize) -> Result<(), Broken> {
        let mut left = most;
        while left > 0 {
            let buffer = match self.bytes.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let (records, _) = buffer.as_chunks::<RECORD_LEN>();
            let records = &records[..records.len().min(left)];
            if records.is_empty() {
                // The record stands across the end of the buffer, or the bytes end.
                let mut record = [0; RECORD_LEN];
                match fill(&mut self.bytes, &mut record)? {
                    0 => return Ok(()),
                    RECORD_LEN => chunk.push(decode(&record, &mut self.read)?),
                    filled => {
                        return Err(Broken::Malformed {
                            place: Place::Record(self.read + 1),
                            found: format!("ends after {filled} bytes"),
                            expected: "24 bytes",
                        });
                    }
                }
                left -= 1;
                continue;
            }
            for record in records {
                chunk.push(decode(record, &mut self.read)?);
            }
            left -= records.len();
            let used = records.len() * RECORD_LEN;
            self.bytes.consume(used);
        }
        Ok(())
    }
}

#[inline]
fn decode(record: &[u8; RECORD_LEN], read: &mut u64) -> Result<Access, Broken> {
    *read += 1;
    let [t0, t1, t2, t3, id @ .., s0, s1, s2, s3, _, _, _, _, _, _, _, _] = *record;
    let [.., n0, n1, n2, n3, n4, n5, n6, n7] = *record;
    let next = i64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
    let next = match u64::try_from(next) {
        Ok(ahead) if ahead > *read - 1 && next < NEXT_MAX => ahead,
        _ if next == -1 || next == i64::MAX => Access::NEVER,
        _ => {
            return Err(Broken::Malformed {
                place: Place::Record(*read),
                found: format!("says that its object comes again at request {next}"),
                expected: "-1 or a request that lies ahead, as in an oracleGeneral trace",
            });
        }
    };
    let size = u32::from_le_bytes([s0, s1, s2, s3]);
    if size > SIZE_MAX {
        return Err(Broken::Malformed {
            place: Place::Record(*read),
            found: format!("has an object of {size} bytes"),
            expected: "at most 1073741824",
        });
    }
    let time = u32::from_le_bytes([t0, t1, t2, t3]);
    Ok(Access { id: u64::from_le_bytes(id), next, time, size, cost: 1 })
}

/// The record that says so, for writing.
pub(crate) fn encode(access: &Access) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    record[..4].copy_from_slice(&access.time.to_le_bytes());
    record[4..12].copy_from_slice(&access.id.to_le_bytes());
    record[12..16].copy_from_slice(&access.size.to_le_bytes());
    let next = match access.next {
        Access::UNKNOWN => -1,
        next => i64::try_from(next).unwrap_or(-1),
    };
    record[16..].copy_from_slice(&next.to_le_bytes());
    record
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
mod tests {
    use super::*;

    fn record(id: u64, size: u32, next: i64) -> Vec<u8> {
        let mut bytes = 9_u32.to_le_bytes().to_vec();
        bytes.extend(id.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        bytes
    }

    fn all(bytes: &[u8]) -> Result<Vec<Access>, Broken> {
        // A buffer of odd length makes records stand across its end.
        let mut oracle = Oracle::new(io::BufReader::with_capacity(37, bytes));
        let mut chunk = Vec::new();
        oracle.fill(&mut chunk, 1)?;
        oracle.fill(&mut chunk, usize::MAX)?;
        Ok(chunk)
    }

    #[test]
    fn fields_stand_where_libcachesim_writes_them() {
        let bytes = [record(u64::MAX - 1, 513, 2), record(u64::MAX - 1, 1, i64::MAX)].concat();
        let first = Access { id: u64::MAX - 1, next: 2, time: 9, size: 513, cost: 1 };
        assert_eq!(all(&bytes).unwrap(), [first, Access { next: Access::NEVER, size: 1, ..first }]);
        assert_eq!(encode(&first)[..], bytes[..RECORD_LEN]);
    }

    #[test]
    fn a_next_access_that_does_not_lie_ahead_is_refused() {
        for next in [0, -2, i64::MIN, NEXT_MAX, 0x6C6C_6C6C_6C6C_6C6C] {
            let error = all(&record(1, 1, next)).expect_err("refused");
            assert!(format!("{error:?}").contains("Record(1)"), "{error:?}");
        }
        assert!(all(&[record(1, 1, -1), record(2, 1, 1)].concat()).is_err());
    }

    #[test]
    fn absurd_sizes_and_cut_records_are_refused() {
        assert!(all(&record(1, (1 << 30) + 1, -1)).is_err());
        assert_eq!(all(&record(1, 1 << 30, -1)).unwrap().len(), 1);
        assert!(all(&record(1, 1, -1)[..23]).is_err());
    }
}
