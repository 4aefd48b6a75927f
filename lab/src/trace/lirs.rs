//! The traces of the LIRS paper (`.trc`): a block number a line.
//!
//! Lines that are or begin with `*` part the runs of the programs that were recorded one after
//! the other, and do not count. Source: S. Jiang, X. Zhang, "LIRS: An Efficient Low
//! Inter-reference Recency Set Replacement Policy", SIGMETRICS 2002.

use std::io::BufRead;

use super::lines::Lines;
use super::{Access, Broken};

/// Reads lines until the bytes end.
pub(super) struct Lirs<R> {
    lines: Lines<R>,
}

impl<R: BufRead> Lirs<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self { lines: Lines::new(bytes) }
    }

    pub(super) fn next(&mut self) -> Result<Option<Access>, Broken> {
        while self.lines.advance()? {
            let text = self.lines.text();
            if text.starts_with('*') {
                continue;
            }
            let Ok(id) = text.parse() else {
                return Err(self.lines.wrong(text, "one block number below 2^64, or *"));
            };
            self.lines.counts();
            return Ok(Some(Access::new(id, 1)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<u64>, Broken> {
        let mut lirs = Lirs::new(text.as_bytes());
        std::iter::from_fn(|| lirs.next().transpose()).map(|access| Ok(access?.id)).collect()
    }

    #[test]
    fn lines_of_stars_part_numbers() {
        assert_eq!(all("*\n5\n 6 \r\n** end\n5").unwrap(), [5, 6, 5]);
    }

    #[test]
    fn other_lines_are_refused_with_their_number() {
        for text in ["1 2", "x", "-1", "18446744073709551616"] {
            let error = format!("{:?}", all(&format!("1\n*\n{text}\n")).expect_err(text));
            assert!(error.contains("Line(3)"), "{error}");
        }
        assert!(all("*\n*\n").is_err());
    }
}
