//! `put`, `get` and `rm`: one store, opened, asked and closed.

use std::fs;
use std::io::{self, Read as _, Write};

use anyhow::{Context as _, bail};
use larder_engine::{Durability, Engine as _, Outcome, Rejection, Ttl};

use crate::args::{Get, Put, Rm};
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
    closing(&open::create(&args.dir, args.join, args.disk.map(|size| size.0))?, |store| match store
        .put(&args.key.0, &value, &options)?
    {
        Outcome::Admitted { .. } => Ok(Exit::Fine),
        Outcome::Rejected(Rejection::TooLarge { weight, limit }) => {
            bail!(
                "key and value take {weight} bytes, and a store of this budget takes {limit} at most: raise --disk"
            )
        }
        refused => bail!("the store refused the value: {refused:?}"),
    })
}

pub(super) fn get(args: &Get) -> anyhow::Result<Exit> {
    closing(&open::existing(&args.dir, args.join)?, |store| {
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
    closing(&open::existing(&args.dir, args.join)?, |store| {
        let mut exit = Exit::Fine;
        for key in &args.keys {
            if !store.remove(&key.0)? {
                exit = not_found(key);
            }
        }
        Ok(exit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_and_what_steers_a_terminal_is_not() {
        assert_eq!(text("größe\n".as_bytes()), Some("größe\n"));
        assert_eq!(text(b"\x1b[2J"), None);
        assert_eq!(text(b"\xff"), None);
    }
}
