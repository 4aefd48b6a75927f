//! The traces of the ARC paper (`.lis`): runs of blocks.
//!
//! ```text
//! first block, number of blocks, ignored, number of the request
//! ```
//! A line stands for a request of each of its blocks, in order. Source: N. Megiddo, D. Modha,
//! "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003, section IV.

use std::io::BufRead;

use super::lines::Lines;
use super::{Access, Broken, RUN_MAX, Run};

/// Reads lines until the bytes end.
pub(super) struct Arc<R> {
    lines: Lines<R>,
    run: Run,
}

impl<R: BufRead> Arc<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self { lines: Lines::new(bytes), run: Run::default() }
    }

    pub(super) fn next(&mut self) -> Result<Option<Access>, Broken> {
        loop {
            if let Some(access) = self.run.next(1) {
                return Ok(Some(access));
            }
            if !self.lines.advance()? {
                return Ok(None);
            }
            self.run = self.parse()?;
            self.lines.counts();
        }
    }

    fn parse(&self) -> Result<Run, Broken> {
        const LINE: &str = "four numbers: first block, number of blocks, ignored, request number";
        let text = self.lines.text();
        let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
        let [Some(Ok(id)), Some(Ok(left)), Some(Ok(_)), Some(Ok(_)), None] =
            std::array::from_fn(|_| fields.next())
        else {
            return Err(self.lines.wrong(text, LINE));
        };
        if left > RUN_MAX || id.checked_add(left).is_none() {
            let expected = "at most 1048576 blocks, numbered below 2^64";
            return Err(self.lines.broken(format!("has {left} blocks from {id} on"), expected));
        }
        Ok(Run { id, left, time: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<u64>, Broken> {
        let mut arc = Arc::new(text.as_bytes());
        std::iter::from_fn(|| arc.next().transpose()).map(|access| Ok(access?.id)).collect()
    }

    #[test]
    fn a_line_stands_for_each_of_its_blocks() {
        assert_eq!(all("10 3 0 0\n\n7 0 0 1\r\n11 1 0 2").unwrap(), [10, 11, 12, 11]);
    }

    #[test]
    fn other_lines_are_refused_with_their_number() {
        for text in [
            "1 2 3",
            "1 2 3 4 5",
            "1 -2 0 0",
            "a 1 0 0",
            "1 1048577 0 0",
            "18446744073709551615 1 0 0",
        ] {
            let error = format!("{:?}", all(&format!("1 1 0 0\n{text}\n")).expect_err(text));
            assert!(error.contains("Line(2)"), "{error}");
        }
        assert!(all("\n").is_err());
    }
}
