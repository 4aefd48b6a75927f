//! The traces of Twitter's caches.
//!
//! ```text
//! timestamp, key, key size, value size, client id, operation, time to live
//! ```
//! Timestamps are seconds, sizes are bytes, and an object is as large as its key and value.
//! `get` and `gets` count, everything else writes: a program writes what it has just missed, so
//! that to count both would count it twice. Source: J. Yang, Y. Yue, K. V. Rashmi, "A large
//! scale analysis of hundreds of in-memory cache clusters at Twitter", OSDI 2020.

use std::io::BufRead;

use super::lines::Lines;
use super::{Access, Broken, text_id};

const LINE: &str = "timestamp,key,key size,value size,client,operation,ttl";

/// Reads lines until the bytes end.
pub(super) struct Twitter<R> {
    lines: Lines<R>,
    /// Whether writes count, too.
    writes: bool,
}

/// Whether `operation` reads; `None` if there is no such operation.
pub(super) fn reads(operation: &str) -> Option<bool> {
    match operation {
        "get" | "gets" => Some(true),
        "set" | "add" | "replace" | "cas" | "append" | "prepend" | "delete" | "incr" | "decr" => {
            Some(false)
        }
        _ => None,
    }
}

impl<R: BufRead> Twitter<R> {
    pub(super) fn new(bytes: R, writes: bool) -> Self {
        Self { lines: Lines::new(bytes), writes }
    }

    pub(super) fn next(&mut self) -> Result<Option<Access>, Broken> {
        while self.lines.advance()? {
            let (access, counts) = self.parse()?;
            if counts || self.writes {
                self.lines.counts();
                return Ok(Some(access));
            }
        }
        Ok(None)
    }

    fn parse(&self) -> Result<(Access, bool), Broken> {
        let text = self.lines.text();
        // A key may have commas of its own; the columns around it have none.
        let mut right = text.rsplitn(6, ',').map(str::trim);
        let [
            Some(ttl),
            Some(operation),
            Some(_client),
            Some(value),
            Some(key_size),
            Some(left),
            None,
        ] = std::array::from_fn(|_| right.next())
        else {
            return Err(self.lines.wrong(text, LINE));
        };
        let Some((time, key)) = left.split_once(',') else {
            return Err(self.lines.wrong(text, LINE));
        };
        let number = |field: &str, expected| {
            field.parse::<u64>().map_err(|_| self.lines.wrong(field, expected))
        };
        let time = number(time.trim(), "a timestamp in seconds")?;
        let key_size = number(key_size, "the size of a key in bytes")?;
        let value = number(value, "the size of a value in bytes")?;
        number(ttl, "a time to live in seconds")?;
        let reads = reads(operation)
            .ok_or_else(|| self.lines.wrong(operation, "an operation such as get or set"))?;
        let size = self.lines.believable(key_size.saturating_add(value))?;
        let time = u32::try_from(time).unwrap_or(u32::MAX);
        Ok((Access { time, ..Access::new(text_id(&[key.trim().as_bytes()]), size) }, reads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, writes: bool) -> Result<Vec<Access>, Broken> {
        let mut twitter = Twitter::new(text.as_bytes(), writes);
        std::iter::from_fn(|| twitter.next().transpose()).collect()
    }

    const SAMPLE: &str = "0,aQ-b,4,100,7,get,0\n3,c,d,3,20,8,set,60\n4,c,d,3,20,8,gets,0\n";

    #[test]
    fn reads_count_and_writes_on_request() {
        let reads = all(SAMPLE, false).unwrap();
        let shapes: Vec<_> = reads.iter().map(|access| (access.time, access.size)).collect();
        assert_eq!(shapes, [(0, 104), (4, 23)]);
        let both = all(SAMPLE, true).unwrap();
        assert_eq!(both.len(), 3);
        assert_eq!(both[1].id, both[2].id);
        assert_ne!(both[0].id, both[1].id);
    }

    #[test]
    fn other_lines_are_refused_with_their_number() {
        for text in [
            "0,k,1,1,1,get",
            "x,k,1,1,1,get,0",
            "0,k,1,x,1,get,0",
            "0,k,1,1,1,fetch,0",
            "0,k,1,1,1,get,never",
            "0,k,1,1073741824,1,get,0",
            "0,k,18446744073709551615,18446744073709551615,1,get,0",
        ] {
            let error = format!("{:?}", all(&format!("{SAMPLE}{text}\n"), false).expect_err(text));
            assert!(error.contains("Line(4)"), "{error}");
        }
        assert!(all("0,k,1,1,1,set,0\n", false).is_err(), "no request");
    }
}
