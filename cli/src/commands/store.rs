//! `put`, `get`, `rm` and `ls`: one store, opened, asked and closed.

use std::fs;
use std::io::{self, Read as _, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use larder_engine::{Clock as _, Durability, Engine, Outcome, Rejection, SystemClock, Ttl, Value};
use serde::Serialize;

use crate::args::{Get, Ls, Put, Rm};
use crate::keys::{self, Key};
use crate::open::{self, closing};
use crate::output::{self, Exit};

pub(super) fn put(args: &Put) -> anyhow::Result<Exit> {
    let value = match (&args.file, args.value.as_deref()) {
        (Some(file), _) => {
            fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        (None, Some("-") | None) => {
            let mut value = Vec::new();
            io::stdin().read_to_end(&mut value).context("cannot read stdin")?;
            value
        }
        (None, Some(text)) => text.as_bytes().to_vec(),
    };
    let options = larder_engine::Put {
        ttl: args.ttl.map_or(Ttl::Default, Ttl::After),
        durability: if args.sync { Durability::Sync } else { Durability::None },
        ..larder_engine::Put::default()
    };
    closing(&open::create(&args.dir, args.disk.map(|size| size.0))?, |store| {
        match store.put(&args.key.0, &value, &options)? {
            Outcome::Admitted { .. } => Ok(Exit::Fine),
            Outcome::Rejected(Rejection::TooLarge { weight, limit }) => {
                bail!(
                    "key and value take {weight} bytes, and a store of this budget takes {limit} at most: raise --disk"
                )
            }
            refused => bail!("the store refused the value: {refused:?}"),
        }
    })
}

pub(super) fn get(args: &Get) -> anyhow::Result<Exit> {
    closing(&open::existing(&args.dir)?, |store| {
        let Some(value) = store.get(&args.key.0)? else { return Ok(not_found(&args.key)) };
        if let Some(file) = &args.out {
            fs::write(file, &*value).with_context(|| format!("cannot write {}", file.display()))?;
            return Ok(Exit::Fine);
        }
        let mut stdout = output::stdout();
        if args.raw || !stdout.is_terminal() {
            stdout.write_all(&value)?;
        } else if let Some(text) = text(&value) {
            writeln!(stdout, "{text}")?;
        } else {
            bail!("the value is {} bytes of no text: use --raw or --out FILE", value.len());
        }
        stdout.flush()?;
        Ok(Exit::Fine)
    })
}

/// The value as text that is safe to show.
fn text(value: &[u8]) -> Option<&str> {
    let text = str::from_utf8(value).ok()?;
    text.chars().all(|c| !c.is_control() || c.is_whitespace()).then_some(text)
}

fn not_found(key: &Key) -> Exit {
    output::warn(&format!("no such key: {}", keys::show(&key.0)));
    Exit::Found
}

pub(super) fn rm(args: &Rm) -> anyhow::Result<Exit> {
    closing(&open::existing(&args.dir)?, |store| {
        let mut exit = Exit::Fine;
        for key in &args.keys {
            if !store.remove(&key.0)? {
                exit = not_found(key);
            }
        }
        Ok(exit)
    })
}

/// One key of a listing.
#[derive(Debug, Serialize)]
struct Entry {
    /// As it can be typed.
    key: String,
    /// Bytes of value.
    len: usize,
    codec: u8,
    codec_version: u8,
    version: u64,
    written_at_ms: u64,
    /// None: it never expires.
    expires_at_ms: Option<u64>,
}

impl Entry {
    fn new(key: &[u8], value: &Value) -> Self {
        let meta = value.meta();
        Self {
            key: keys::show(key),
            len: value.len(),
            codec: meta.codec.id,
            codec_version: meta.codec.version,
            version: meta.version,
            written_at_ms: meta.written_at_ms,
            expires_at_ms: (meta.expires_at_ms != larder_engine::clock::NEVER)
                .then_some(meta.expires_at_ms),
        }
    }

    /// `length  codec  version  time left  key`
    fn long(&self, now_ms: u64) -> String {
        let left = self.expires_at_ms.map_or_else(
            || "never".to_owned(),
            |at| {
                let left = Duration::from_millis(at.saturating_sub(now_ms));
                humantime::format_duration(Duration::from_secs(left.as_secs())).to_string()
            },
        );
        format!(
            "{:>12}  {:>3}.{:<3}  {:>12}  {left:>16}  {}",
            self.len, self.codec, self.codec_version, self.version, self.key
        )
    }
}

pub(super) fn ls(args: &Ls) -> anyhow::Result<Exit> {
    closing(&open::existing(&args.dir)?, |store| {
        let limit = args.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let now_ms = SystemClock.now_ms();
        let mut stdout = io::BufWriter::new(output::stdout());
        for entry in store.iter().take(limit) {
            let (key, value) = entry?;
            let entry = Entry::new(&key, &value);
            if args.json {
                writeln!(stdout, "{}", serde_json::to_string(&entry)?)?;
            } else if args.long {
                writeln!(stdout, "{}", entry.long(now_ms))?;
            } else {
                writeln!(stdout, "{}", entry.key)?;
            }
        }
        stdout.flush()?;
        Ok(Exit::Fine)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_engine::Meta;

    #[test]
    fn text_is_shown_and_what_steers_a_terminal_is_not() {
        assert_eq!(text("größe\n".as_bytes()), Some("größe\n"));
        assert_eq!(text(b"\x1b[2J"), None);
        assert_eq!(text(b"\xff"), None);
    }

    #[test]
    fn a_long_line_has_everything_but_the_value() {
        let value = Value::new(b"four".as_slice(), Meta::default());
        let entry = Entry::new(b"key", &value);
        let fields: Vec<_> = entry.long(0).split_whitespace().map(str::to_owned).collect();
        assert_eq!(fields, ["4", "0.0", "0", "never", "key"]);
    }
}
