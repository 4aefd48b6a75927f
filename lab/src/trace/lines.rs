//! Lines of text, of bounded length, with their numbers.

use std::io::{BufRead, Read as _};

use super::{Broken, quoted};
use crate::error::Place;

/// Longest line, in bytes: a file of another kind may have no lines at all.
const LINE_MAX: u64 = 4096;

/// Reads lines until the bytes end.
pub(super) struct Lines<R> {
    bytes: R,
    /// Number of the line in `line`, from 1.
    number: u64,
    line: Vec<u8>,
    /// Whether some line stood for a request, or for some.
    any: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self { bytes, number: 0, line: Vec::new(), any: false }
    }

    /// Reads the next line that is neither empty nor a comment; whether there is one.
    ///
    /// A file that ends without any line for which [`counts`](Self::counts) was called is
    /// refused as having no request.
    pub(super) fn advance(&mut self) -> Result<bool, Broken> {
        loop {
            self.line.clear();
            (&mut self.bytes).take(LINE_MAX).read_until(b'\n', &mut self.line)?;
            if self.line.is_empty() {
                return if self.any { Ok(false) } else { Err(none()) };
            }
            self.number += 1;
            if self.line.len() as u64 == LINE_MAX && self.line.last() != Some(&b'\n') {
                return Err(self.broken("is longer than 4096 bytes", "a request"));
            }
            match str::from_utf8(&self.line) {
                Ok(text) if text.trim().is_empty() || text.trim_start().starts_with('#') => {}
                Ok(_) => return Ok(true),
                Err(_) => return Err(self.broken("has bytes that are no text", "text in UTF-8")),
            }
        }
    }

    /// The line, without white space at its ends.
    pub(super) fn text(&self) -> &str {
        // `advance` has checked it.
        str::from_utf8(&self.line).unwrap_or_default().trim()
    }

    /// The line stands for a request.
    pub(super) fn counts(&mut self) {
        self.any = true;
    }

    /// The line cannot be read.
    pub(super) fn broken(&self, found: impl Into<String>, expected: &'static str) -> Broken {
        Broken::Malformed { place: Place::Line(self.number), found: found.into(), expected }
    }

    /// The line has `text` where `expected` should be.
    pub(super) fn wrong(&self, text: &str, expected: &'static str) -> Broken {
        self.broken(format!("has {}", quoted(text)), expected)
    }

    /// `size`, if it can be believed.
    pub(super) fn believable(&self, size: u64) -> Result<u32, Broken> {
        match u32::try_from(size) {
            Ok(size) if size <= super::SIZE_MAX => Ok(size),
            _ => Err(self.broken(format!("has an object of {size} bytes"), "at most 1073741824")),
        }
    }
}

fn none() -> Broken {
    Broken::Malformed {
        place: Place::File,
        found: "has no line that counts".to_owned(),
        expected: "at least one request",
    }
}
