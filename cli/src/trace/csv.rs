//! `csv` traces: one request a line, `id[,size]`.
//!
//! Ids are numbers below 2^64, sizes are bytes and 1 if left out. Empty lines and lines that
//! start with `#` do not count, and a first line whose id is no number is a header.

use std::io::{BufRead, Read as _};

use super::{Broken, Request, believable};

/// Longest line, in bytes: a file of another kind may have no lines at all.
const LINE_MAX: u64 = 1024;

/// Reads lines until the bytes end.
pub(super) struct Csv<R> {
    bytes: R,
    /// Number of the line in `line`, from 1.
    number: u64,
    line: Vec<u8>,
    /// Whether a line that counts was seen: only the first of them may be a header.
    begun: bool,
    /// Whether there was a request.
    any: bool,
}

impl<R: BufRead> Csv<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self { bytes, number: 0, line: Vec::new(), begun: false, any: false }
    }

    pub(super) fn next(&mut self) -> Result<Option<Request>, Broken> {
        loop {
            self.line.clear();
            self.number += 1;
            (&mut self.bytes).take(LINE_MAX).read_until(b'\n', &mut self.line)?;
            if self.line.is_empty() {
                return if self.any { Ok(None) } else { Err(none()) };
            }
            if self.line.len() as u64 == LINE_MAX && self.line.last() != Some(&b'\n') {
                return Err(self.broken("is longer than any request"));
            }
            let Ok(line) = str::from_utf8(&self.line) else {
                return Err(self.broken("is not text"));
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let header = !self.begun && line.starts_with(|c: char| c.is_alphabetic() || c == '"');
            self.begun = true;
            if !header {
                let request = self.parse(line)?;
                self.any = true;
                return Ok(Some(request));
            }
        }
    }

    fn parse(&self, line: &str) -> Result<Request, Broken> {
        let (id, size) = match line.split_once(',') {
            Some((id, size)) => (id.trim(), Some(size.trim())),
            None => (line, None),
        };
        let Ok(id) = id.parse() else {
            return Err(self.broken("has no number below 2^64 for an id"));
        };
        let size = match size.map(str::parse) {
            None => 1,
            Some(Ok(size)) => believable(size, &format_args!("line {}", self.number))?,
            Some(Err(_)) => return Err(self.broken("has no number of bytes behind its only comma")),
        };
        Ok(Request { id, size })
    }

    fn broken(&self, what: &str) -> Broken {
        Broken::NoTrace(format!("is no csv trace: line {} {what}", self.number))
    }
}

fn none() -> Broken {
    Broken::NoTrace("is no csv trace: it has no request".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Result<Vec<(u64, u32)>, Broken> {
        let mut csv = Csv::new(text);
        let requests = std::iter::from_fn(|| csv.next().transpose());
        requests.map(|request| request.map(|Request { id, size }| (id, size))).collect()
    }

    #[test]
    fn ids_come_with_or_without_a_size() {
        assert_eq!(
            all(b"1,10\n2\n 3 , 0 \r\n18446744073709551615,7").unwrap(),
            [(1, 10), (2, 1), (3, 0), (u64::MAX, 7)]
        );
    }

    #[test]
    fn a_header_comments_and_empty_lines_do_not_count() {
        assert_eq!(all(b"# made by hand\n\nid,size\n1,2\n# end\n").unwrap(), [(1, 2)]);
    }

    #[test]
    fn a_bad_line_is_refused_with_its_number() {
        let bad: [(&[u8], &str); 8] = [
            (b"1\nid\n", "line 2"),
            (b"id\nid\n", "line 2"),
            (b"1,2,3\n", "line 1"),
            (b"1\n2\n-3\n", "line 3"),
            (b"1,x\n", "line 1"),
            (b"1,9999999999\n", "line 1"),
            (b"1\n\xff\xfe\n", "line 2"),
            (b"1,2000000000\n", "line 1"),
        ];
        for (text, place) in bad {
            let error = all(text).expect_err("refused").to_string();
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn text_without_requests_or_lines_is_refused() {
        assert!(all(b"just a sentence").is_err());
        assert!(all(b"# nothing\n").is_err());
        assert!(all(&[b'7'; 5_000]).is_err());
    }
}
