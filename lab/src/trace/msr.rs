//! The traces of MSR Cambridge: requests to the disks of a data centre's servers.
//!
//! ```text
//! timestamp, host, disk, Read or Write, offset, size, response time
//! ```
//! Timestamps are in steps of 100 ns, offsets and sizes in bytes. What a request becomes is
//! [`MsrAs`]. Source: D. Narayanan, A. Donnelly, A. Rowstron, "Write Off-Loading: Practical
//! Power Management for Enterprise Storage", FAST 2008.

use std::io::BufRead;

use super::lines::Lines;
use super::{Access, Broken, RUN_MAX, Run, text_id};
use crate::error::Error;

/// Steps of a timestamp in a second.
const STEPS: u64 = 10_000_000;
const LINE: &str = "timestamp,host,disk,Read or Write,offset,size,response";

/// What a request to a disk becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MsrAs {
    /// A request for each block that it touches, each as large as a block. The block size in
    /// bytes is a power of two from 512 to 1 GiB.
    Blocks(u32),
    /// One request for an object that begins at the offset, of the size last asked for.
    Objects,
}

impl Default for MsrAs {
    fn default() -> Self {
        Self::Blocks(4096)
    }
}

impl MsrAs {
    /// Requests for blocks of `size` bytes.
    ///
    /// # Errors
    /// [`Error::Config`]: the size is no power of two from 512 to 1 GiB.
    pub fn blocks(size: u64) -> Result<Self, Error> {
        match u32::try_from(size) {
            Ok(size @ 512..=super::SIZE_MAX) if size.is_power_of_two() => Ok(Self::Blocks(size)),
            _ => Err(Error::Config {
                option: "block",
                value: size.to_string(),
                accepted: "a power of two from 512 to 1073741824",
            }),
        }
    }
}

/// Reads lines until the bytes end.
pub(super) struct Msr<R> {
    lines: Lines<R>,
    shape: MsrAs,
    run: Run,
    /// The first timestamp.
    began: Option<u64>,
}

impl<R: BufRead> Msr<R> {
    pub(super) fn new(bytes: R, shape: MsrAs) -> Self {
        Self { lines: Lines::new(bytes), shape, run: Run::default(), began: None }
    }

    pub(super) fn next(&mut self) -> Result<Option<Access>, Broken> {
        loop {
            if let MsrAs::Blocks(size) = self.shape
                && let Some(access) = self.run.next(size)
            {
                return Ok(Some(access));
            }
            if !self.lines.advance()? {
                return Ok(None);
            }
            let object = self.parse()?;
            self.lines.counts();
            if self.shape == MsrAs::Objects {
                return Ok(Some(object));
            }
        }
    }

    /// Reads a line into `run`, or into the object that is returned.
    fn parse(&mut self) -> Result<Access, Broken> {
        let text = self.lines.text();
        let mut fields = text.split(',').map(str::trim);
        let [
            Some(time),
            Some(host),
            Some(disk),
            Some(kind),
            Some(offset),
            Some(size),
            Some(_),
            None,
        ] = std::array::from_fn(|_| fields.next())
        else {
            return Err(self.lines.wrong(text, LINE));
        };
        let number = |field: &str, expected| {
            field.parse::<u64>().map_err(|_| self.lines.wrong(field, expected))
        };
        let time = number(time, "a timestamp")?;
        let disk = number(disk, "the number of a disk")?;
        if !is_kind(kind) {
            return Err(self.lines.wrong(kind, "Read or Write"));
        }
        let offset = number(offset, "an offset in bytes")?;
        let size = self.lines.believable(number(size, "a size in bytes")?)?;
        let Some(end) = offset.checked_add(u64::from(size)) else {
            return Err(self.lines.broken(format!("has offset {offset}"), "one below 2^63"));
        };
        let seconds = time.saturating_sub(*self.began.get_or_insert(time)) / STEPS;
        let time = u32::try_from(seconds).unwrap_or(u32::MAX);
        // Blocks of one disk are neighbours, so that a run of them is one of ids; disks begin at
        // places so far from each other that no two meet but by an accident of 1 in 10^7.
        let base = text_id(&[host.as_bytes(), &disk.to_le_bytes()]);
        match self.shape {
            MsrAs::Blocks(block) => {
                let block = u64::from(block);
                let (first, last) = (offset / block, end.div_ceil(block));
                let left = last - first;
                if left > RUN_MAX {
                    let found = format!("touches {left} blocks");
                    return Err(self.lines.broken(found, "at most 1048576; give larger blocks"));
                }
                self.run = Run { id: base.wrapping_add(first), left, time };
                Ok(Access::new(0, 0))
            }
            MsrAs::Objects => Ok(Access { time, ..Access::new(base.wrapping_add(offset), size) }),
        }
    }
}

/// Whether it is the word for a kind of request.
pub(super) fn is_kind(word: &str) -> bool {
    word.eq_ignore_ascii_case("read") || word.eq_ignore_ascii_case("write")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "128166372003061629,srv,0,Read,8192,4096,55\n\
                          128166372013061629,srv,0,Write,4095,4098,9\n\
                          128166372023061629,srv,1,Read,8192,512,1\n";

    fn all(text: &str, shape: MsrAs) -> Result<Vec<Access>, Broken> {
        let mut msr = Msr::new(text.as_bytes(), shape);
        std::iter::from_fn(|| msr.next().transpose()).collect()
    }

    #[test]
    fn a_request_becomes_the_blocks_that_it_touches() {
        let read = all(SAMPLE, MsrAs::default()).unwrap();
        assert_eq!(read.iter().map(|access| access.time).collect::<Vec<_>>(), [0, 1, 1, 1, 2]);
        assert!(read.iter().all(|access| access.size == 4096));
        let [block, before2, before, same, other] = [0, 1, 2, 3, 4].map(|at: usize| read[at].id);
        assert_eq!((before2.wrapping_add(2), before.wrapping_add(1), same), (block, block, block));
        assert_ne!(other, block, "another disk");
    }

    #[test]
    fn or_one_object_where_it_begins() {
        let read = all(SAMPLE, MsrAs::Objects).unwrap();
        assert_eq!(read.iter().map(|access| access.size).collect::<Vec<_>>(), [4096, 4098, 512]);
        assert_eq!(read[0].id.wrapping_sub(read[1].id), 8192 - 4095);
    }

    #[test]
    fn a_request_of_no_bytes_touches_no_block() {
        assert!(all("1,a,0,Read,4096,0,1\n", MsrAs::default()).unwrap().is_empty());
    }

    #[test]
    fn other_lines_are_refused_with_their_number() {
        for text in [
            "1,srv,0,Read,0,4096",
            "1,srv,0,Read,0,4096,1,1",
            "1,srv,0,Trim,0,4096,1",
            "t,srv,0,Read,0,4096,1",
            "1,srv,a,Read,0,4096,1",
            "1,srv,0,Read,-1,4096,1",
            "1,srv,0,Read,18446744073709551615,4096,1",
            "1,srv,0,Read,0,2147483648,1",
            "1,srv,0,Read,0,1073741824,1",
        ] {
            let shape = MsrAs::blocks(512).unwrap();
            let error = format!("{:?}", all(&format!("{SAMPLE}{text}\n"), shape).expect_err(text));
            assert!(error.contains("Line(4)"), "{error}");
        }
        for size in [0, 511, 513, 1 << 31] {
            assert!(MsrAs::blocks(size).is_err(), "{size}");
        }
    }
}
