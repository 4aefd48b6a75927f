//! Which format a file has, told by its name and its first bytes.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::{msr, twitter};
use crate::error::Error;

/// How requests are written down.
///
/// ```
/// use larder_lab::trace::Format;
/// assert_eq!("oraclegeneral".parse::<Format>().unwrap(), Format::OracleGeneral);
/// assert_eq!(Format::Lirs.to_string(), "lirs");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// By the file's name or, failing that, its first bytes.
    #[default]
    Auto,
    /// libCacheSim's records of 24 bytes.
    OracleGeneral,
    /// Lines of `id[,size]`, or of columns that are named.
    Csv,
    /// The ARC paper's lines of `start count ignored number`.
    Arc,
    /// The LIRS paper's lines of one block number.
    Lirs,
    /// Twitter's `timestamp,key,key size,value size,client,operation,ttl`.
    Twitter,
    /// MSR Cambridge's `timestamp,host,disk,type,offset,size,response`.
    Msr,
}

impl Format {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Auto,
        Self::OracleGeneral,
        Self::Csv,
        Self::Arc,
        Self::Lirs,
        Self::Twitter,
        Self::Msr,
    ];

    /// The name, as it is parsed and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::OracleGeneral => "oracleGeneral",
            Self::Csv => "csv",
            Self::Arc => "arc",
            Self::Lirs => "lirs",
            Self::Twitter => "twitter",
            Self::Msr => "msr",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let named = |format: &&Self| format.name().eq_ignore_ascii_case(name);
        Self::ALL.iter().find(named).copied().ok_or_else(|| Error::Config {
            option: "format",
            value: name.to_owned(),
            accepted: "give one of auto, oracleGeneral, csv, arc, lirs, twitter, msr",
        })
    }
}

/// Decides what `Auto` stands for; `head` is what the file begins with, decompressed.
pub(super) fn resolve(format: Format, path: &Path, head: &[u8]) -> Format {
    if format != Format::Auto {
        return format;
    }
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
    let name = name.as_deref().unwrap_or_default();
    let name = name.strip_suffix(".zst").unwrap_or(name);
    if name.contains("oraclegeneral") {
        return Format::OracleGeneral;
    }
    if name.ends_with(".lis") {
        return Format::Arc;
    }
    if name.ends_with(".trc") {
        return Format::Lirs;
    }
    let csv = name.ends_with(".csv");
    if csv || head.iter().all(|&byte| is_text(byte)) {
        by_line(head, csv)
    } else {
        Format::OracleGeneral
    }
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

/// Decides by the first line that counts.
fn by_line(head: &[u8], csv: bool) -> Format {
    let lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let Some(line) = lines.next().and_then(|line| str::from_utf8(line).ok()) else {
        return Format::Csv;
    };
    let columns: Vec<&str> = line.split(',').map(str::trim).take(16).collect();
    let from_right = |at: usize| columns.len().checked_sub(at).and_then(|at| columns.get(at));
    if columns.len() == 7 && msr::is_kind(columns[3]) {
        return Format::Msr;
    }
    if columns.len() >= 7 && from_right(2).is_some_and(|word| twitter::reads(word).is_some()) {
        return Format::Twitter;
    }
    let words: Vec<&str> = line.split_ascii_whitespace().take(5).collect();
    if csv || columns.len() > 1 {
        return Format::Csv;
    }
    if words.len() == 4 && words.iter().all(|word| word.parse::<u64>().is_ok()) {
        return Format::Arc;
    }
    let star = |line: &[u8]| line.starts_with(b"*");
    if star(line.as_bytes()) || lines.any(star) { Format::Lirs } else { Format::Csv }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(name: &str, head: &[u8]) -> Format {
        resolve(Format::Auto, Path::new(name), head)
    }

    #[test]
    fn names_come_first() {
        for (name, format) in [
            ("a.oracleGeneral.zst", Format::OracleGeneral),
            ("a.oracleGeneral.bin", Format::OracleGeneral),
            ("P3.lis", Format::Arc),
            ("P3.lis.zst", Format::Arc),
            ("cs.trc", Format::Lirs),
            ("a.csv", Format::Csv),
        ] {
            assert_eq!(auto(name, b"1\n"), format, "{name}");
        }
        assert_eq!(resolve(Format::Msr, Path::new("a.csv"), b""), Format::Msr);
    }

    #[test]
    fn then_what_the_first_line_looks_like() {
        for (head, format) in [
            (b"# x\n\n128166372003061629,hm,1,Read,383,32768,113736\n".as_slice(), Format::Msr),
            (b"0,a,b,3,4,1,get,0\n", Format::Twitter),
            (b"4 2 0 0\n", Format::Arc),
            (b"*\n4\n", Format::Lirs),
            (b"4\n*\n", Format::Lirs),
            (b"4\n5\n", Format::Csv),
            (b"id,size\n5,5\n", Format::Csv),
            (b"\n", Format::Csv),
            (b"\x01\x00\x00", Format::OracleGeneral),
        ] {
            assert_eq!(auto("unnamed", head), format, "{head:?}");
        }
        assert_eq!(auto("hm_0.csv", b"1,hm,1,Write,383,32768,113736"), Format::Msr);
    }

    #[test]
    fn names_are_parsed_as_they_are_shown() {
        for &format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert!("parquet".parse::<Format>().is_err());
    }
}
