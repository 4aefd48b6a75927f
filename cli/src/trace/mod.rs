//! Traces: the requests that a real program made of its cache, read as a stream.
//!
//! | format | file | what |
//! |---|---|---|
//! | oracleGeneral | `oracle.rs` | libCacheSim's packed records |
//! | csv | `csv.rs` | lines of `id[,size]` |
//!
//! Either may be compressed with zstd, which its first bytes tell. Only a buffer of it is in
//! memory at any time.

mod csv;
mod oracle;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::ProgressBar;

use self::csv::Csv;
use self::oracle::Oracle;

/// Largest object that is believed, in bytes.
const SIZE_MAX: u32 = 1 << 30;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// The object asked for.
    pub(crate) id: u64,
    /// Its size in bytes; 1 where the trace knows none.
    pub(crate) size: u32,
}

/// How requests are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// By the file's name or, failing that, its first bytes
    Auto,
    /// libCacheSim's records of 24 bytes
    #[value(name = "oracleGeneral", alias = "oraclegeneral", alias = "oracle")]
    OracleGeneral,
    /// Lines of `id[,size]`
    Csv,
}

/// A trace being read.
pub(crate) struct Trace {
    path: PathBuf,
    requests: Requests,
}

enum Requests {
    Oracle(Oracle<Box<dyn BufRead + Send>>),
    Csv(Csv<Box<dyn BufRead + Send>>),
}

/// Why requests cannot be read on.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// The system refused, or zstd did.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// The bytes are no trace.
    #[error("{0}")]
    NoTrace(String),
}

impl Trace {
    /// Opens the trace at `path`; reading it moves `bar`, which then spans the file's bytes.
    pub(crate) fn open(path: &Path, format: Format, bar: &ProgressBar) -> anyhow::Result<Self> {
        let open = || -> anyhow::Result<Requests> {
            let file = File::open(path).context("cannot be opened")?;
            let meta = file.metadata().context("cannot be opened")?;
            anyhow::ensure!(!meta.is_dir(), "is a directory, not a trace");
            bar.set_length(meta.len());
            let mut file = BufReader::with_capacity(64 << 10, bar.wrap_read(file));
            let compressed = file.fill_buf().context("cannot be read")?.starts_with(&ZSTD_MAGIC);
            let mut bytes: Box<dyn BufRead + Send> = if compressed {
                let mut zstd =
                    zstd::Decoder::with_buffer(file).context("cannot be decompressed")?;
                // What `zstd --long=31` writes; the default refuses it.
                zstd.window_log_max(31).context("cannot be decompressed")?;
                Box::new(BufReader::with_capacity(256 << 10, zstd))
            } else {
                Box::new(file)
            };
            let head = bytes.fill_buf().context("cannot be read")?;
            anyhow::ensure!(!head.is_empty(), "is empty, which is no trace");
            Ok(match format.resolve(path, head) {
                Format::Csv => Requests::Csv(Csv::new(bytes)),
                Format::Auto | Format::OracleGeneral => {
                    if meta.is_file() && !compressed {
                        oracle::check_len(meta.len())?;
                    }
                    Requests::Oracle(Oracle::new(bytes))
                }
            })
        };
        let requests = open().with_context(|| path.display().to_string())?;
        Ok(Self { path: path.to_owned(), requests })
    }

    /// The next request; `None` at the end.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Request>> {
        let next = match &mut self.requests {
            Requests::Oracle(oracle) => oracle.next(),
            Requests::Csv(csv) => csv.next(),
        };
        next.with_context(|| self.path.display().to_string())
    }
}

/// First bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

impl Format {
    /// Decides what `Auto` stands for.
    fn resolve(self, path: &Path, head: &[u8]) -> Self {
        if self != Self::Auto {
            return self;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
        let name = name.as_deref().unwrap_or_default();
        let name = name.strip_suffix(".zst").unwrap_or(name);
        if name.contains("oraclegeneral") {
            Self::OracleGeneral
        } else if name.ends_with(".csv") || head.iter().all(|&byte| is_text(byte)) {
            Self::Csv
        } else {
            Self::OracleGeneral
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

/// `size`, if it can be believed; `place` says where it stands.
fn believable(size: u32, place: &fmt::Arguments<'_>) -> Result<u32, Broken> {
    if size > SIZE_MAX {
        return Err(Broken::NoTrace(format!(
            "{place} has an object of {size} bytes: at most {SIZE_MAX} are believed"
        )));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(name: &str, bytes: &[u8], format: Format) -> anyhow::Result<Vec<Request>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let mut trace = Trace::open(&path, format, &ProgressBar::hidden())?;
        let mut requests = Vec::new();
        while let Some(request) = trace.next()? {
            requests.push(request);
        }
        Ok(requests)
    }

    fn refusal(name: &str, bytes: &[u8]) -> String {
        format!("{:#}", read(name, bytes, Format::Auto).expect_err(name))
    }

    fn records(ids: &[u64]) -> Vec<u8> {
        ids.iter().flat_map(|&id| oracle::tests::record(id, 7, -1)).collect()
    }

    #[test]
    fn the_format_is_told_by_name_and_then_by_content() {
        let two = [Request { id: 5, size: 7 }, Request { id: 6, size: 7 }];
        let packed = records(&[5, 6]);
        for name in ["t.oracleGeneral", "t.oracleGeneral.bin", "unnamed"] {
            assert_eq!(read(name, &packed, Format::Auto).unwrap(), two);
        }
        for name in ["t.csv", "unnamed"] {
            assert_eq!(read(name, b"5,7\n6,7\n", Format::Auto).unwrap(), two);
        }
        assert_eq!(read("t.csv", &packed, Format::OracleGeneral).unwrap(), two);
    }

    #[test]
    fn compressed_traces_are_told_by_their_magic() {
        let packed = zstd::encode_all(&records(&[5, 6])[..], 1).unwrap();
        for name in ["t.oracleGeneral.zst", "t.oracleGeneral", "unnamed"] {
            assert_eq!(read(name, &packed, Format::Auto).unwrap().len(), 2);
        }
        let text = zstd::encode_all(&b"5,7\n"[..], 1).unwrap();
        assert_eq!(read("t.csv.zst", &text, Format::Auto).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_path_and_place() {
        assert!(refusal("empty", b"").contains("empty: is empty"));
        assert!(refusal("cut.oracleGeneral", &records(&[1])[..20]).contains("20 bytes"));
        assert!(refusal("notes.txt", b"Hello\nworld\n").contains("line 2"));
        let png = [b"\x89PNG\r\n\x1a\n".as_slice(), &[0xC3; 88]].concat();
        assert!(refusal("picture.png", &png).contains("record 1"));
        let cut = zstd::encode_all(&records(&[1, 2])[..40], 1).unwrap();
        assert!(refusal("cut.oracleGeneral.zst", &cut).contains("record 2"));
        let torn = zstd::encode_all(&records(&(0..500).collect::<Vec<_>>())[..], 1).unwrap();
        assert!(refusal("torn.zst", &torn[..torn.len() / 2]).contains("cannot be read"));
    }

    #[test]
    fn missing_files_and_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| {
            let error = Trace::open(path, Format::Auto, &ProgressBar::hidden()).err();
            format!("{:#}", error.expect("refused"))
        };
        assert!(open(&dir.path().join("nowhere")).contains("nowhere: cannot be opened"));
        assert!(open(dir.path()).contains("is a directory"));
    }
}
