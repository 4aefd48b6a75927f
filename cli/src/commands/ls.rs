//! `ls`: what a store holds, entry by entry.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use larder_engine::{Clock as _, Disk, Listed, Place, SystemClock};
use serde::Serialize;

use crate::args::Ls;
use crate::keys;
use crate::open::{self, closing};
use crate::output::{self, Exit};

/// One line of a listing.
#[derive(Debug, Serialize)]
struct Entry {
    /// As it can be typed; of an item of a queue, its number.
    key: String,
    namespace: Option<String>,
    queue: Option<String>,
    /// Bytes of value. None: it is large and compressed, and only reading it would tell.
    len: Option<u64>,
    stored_len: u64,
    large: bool,
    compressed: bool,
    tags: Vec<String>,
    codec: u8,
    codec_version: u8,
    version: u64,
    written_at_ms: u64,
    /// None: it never expires.
    expires_at_ms: Option<u64>,
}

impl Entry {
    fn new(entry: &Listed, named: &[(u64, String)]) -> Self {
        let (key, namespace, queue) = match &entry.place {
            Place::Plain { key } => (keys::show(key), None, None),
            Place::Namespace { name, key } => (keys::show(key), Some(keys::show(name)), None),
            Place::Queue { name, item } => {
                let number = item.map_or_else(|| "state".to_owned(), |number| number.to_string());
                (number, None, Some(keys::show(name)))
            }
            _ => (String::new(), None, None),
        };
        let tag = |id: &u64| {
            let name = named.iter().find(|(known, _)| known == id);
            name.map_or_else(|| format!("#{id:016x}"), |(_, name)| name.clone())
        };
        let meta = &entry.meta;
        Self {
            key,
            namespace,
            queue,
            len: entry.len,
            stored_len: entry.stored_len,
            large: entry.is_large,
            compressed: entry.is_compressed,
            tags: entry.tags.iter().map(tag).collect(),
            codec: meta.codec.id,
            codec_version: meta.codec.version,
            version: meta.version,
            written_at_ms: meta.written_at_ms,
            expires_at_ms: (meta.expires_at_ms != larder_engine::clock::NEVER)
                .then_some(meta.expires_at_ms),
        }
    }

    /// Whose it is, and its key.
    fn short(&self) -> String {
        match (&self.namespace, &self.queue) {
            (Some(name), _) => format!("[{name}] {}", self.key),
            (None, Some(name)) => format!("<{name}> {}", self.key),
            (None, None) => self.key.clone(),
        }
    }

    /// `length  stored  codec  version  time left  key  tags`
    fn long(&self, now_ms: u64) -> String {
        let left = self.expires_at_ms.map_or_else(
            || "never".to_owned(),
            |at| {
                let left = Duration::from_millis(at.saturating_sub(now_ms));
                humantime::format_duration(Duration::from_secs(left.as_secs())).to_string()
            },
        );
        let len = self.len.map_or_else(|| "?".to_owned(), |len| len.to_string());
        let mut line = format!(
            "{len:>12}  {:>12}  {:>3}.{:<3}  {:>12}  {left:>16}  {}",
            self.stored_len,
            self.codec,
            self.codec_version,
            self.version,
            self.short()
        );
        if !self.tags.is_empty() {
            line.push_str("  (");
            line.push_str(&self.tags.join(", "));
            line.push(')');
        }
        line
    }
}

/// Which entries are wanted.
struct Wanted {
    namespace: Option<Vec<u8>>,
    /// Tags, by what they are known by, and as they were typed.
    tags: Vec<(u64, String)>,
}

impl Wanted {
    fn new(args: &Ls, store: &Disk) -> anyhow::Result<Self> {
        let mut tags = Vec::new();
        for tag in &args.tag {
            tags.push((store.tag_id(&tag.0)?, keys::show(&tag.0)));
        }
        Ok(Self { namespace: args.namespace.as_ref().map(|name| name.0.clone()), tags })
    }

    fn has(&self, entry: &Listed) -> bool {
        let is_there = self.namespace.as_ref().is_none_or(
            |wanted| matches!(&entry.place, Place::Namespace { name, .. } if name == wanted),
        );
        let is_tagged = |(tag, _): &(u64, String)| entry.tags.contains(tag);
        is_there && (self.tags.is_empty() || self.tags.iter().any(is_tagged))
    }
}

pub(super) fn run(args: &Ls) -> anyhow::Result<Exit> {
    closing(&open::existing(&args.dir, args.join)?, |store| {
        let mut left = args.limit.unwrap_or(u64::MAX);
        let now_ms = SystemClock.now_ms();
        let wanted = Wanted::new(args, store)?;
        let mut stdout = io::BufWriter::new(output::stdout());
        let mut print = |entry: &Listed| -> anyhow::Result<()> {
            let entry = Entry::new(entry, &wanted.tags);
            if args.json {
                writeln!(stdout, "{}", serde_json::to_string(&entry)?)?;
            } else if args.long {
                writeln!(stdout, "{}", entry.long(now_ms))?;
            } else {
                writeln!(stdout, "{}", entry.short())?;
            }
            Ok(())
        };
        let mut result = Ok(());
        store.list(|entry| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            if wanted.has(&entry) {
                left -= 1;
                result = print(&entry);
            }
            if result.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        result?;
        stdout.flush()?;
        Ok(Exit::Fine)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Join;
    use crate::keys::Key;
    use larder_engine::{Engine as _, Put, Ttl};

    fn listed(store: &Disk) -> Vec<Listed> {
        let mut all = Vec::new();
        store
            .list(|entry| {
                all.push(entry);
                ControlFlow::Continue(())
            })
            .unwrap();
        all.sort_by(|one, other| one.place.cmp(&other.place));
        all
    }

    #[test]
    fn a_listing_says_whose_an_entry_is_how_large_and_until_when() {
        let dir = tempfile::tempdir().unwrap();
        let store = Disk::builder(dir.path().join("store")).budget(4 << 20).open().unwrap();
        let put = Put { tags: &[b"red", b"green"], ..Put::default() };
        let _ = store.put(b"plain", b"four", &put).unwrap();
        let ttl = Ttl::After(Duration::from_secs(3600));
        let put = Put { ttl, ..Put::default() };
        let _ = store.namespace("users").put(b"7", &[1; 300_000], &put).unwrap();
        let _ = store.queue("jobs").push_back(b"job", &Put::default()).unwrap();

        let named = [(store.tag_id(b"red").unwrap(), "red".to_owned())];
        let all = listed(&store);
        let entries: Vec<_> = all.iter().map(|entry| Entry::new(entry, &named)).collect();
        let [plain, user, state, job] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(plain.short(), "plain");
        let green = format!("#{:016x}", store.tag_id(b"green").unwrap());
        assert_eq!(plain.tags, ["red".to_owned(), green.clone()]);
        let line: Vec<_> = plain.long(0).split_whitespace().map(str::to_owned).collect();
        let version = plain.version.to_string();
        let tags = ["(red,", &*format!("{green})")];
        assert_eq!(line, ["4", "4", "0.0", &version, "never", "plain", tags[0], tags[1]]);

        assert_eq!(
            (user.short().as_str(), user.len, user.large),
            ("[users] 7", Some(300_000), true)
        );
        assert!(user.tags.is_empty(), "that of the namespace is none of the caller's");
        let until = user.expires_at_ms.unwrap();
        assert!(user.long(until - 90_000).contains(" 1m 30s "), "{}", user.long(until - 90_000));
        assert_eq!(state.short(), "<jobs> state");
        assert_eq!((job.short(), job.len), ("<jobs> 500000000000000".to_owned(), Some(3)));

        let args = |namespace: Option<&str>, tag: &[&str]| Ls {
            dir: dir.path().to_owned(),
            join: Join::default(),
            long: false,
            namespace: namespace.map(|name| Key(name.as_bytes().to_vec())),
            tag: tag.iter().map(|tag| Key(tag.as_bytes().to_vec())).collect(),
            limit: None,
            json: false,
        };
        let count = |args: Ls| {
            let wanted = Wanted::new(&args, &store).unwrap();
            all.iter().filter(|entry| wanted.has(entry)).count()
        };
        assert_eq!(count(args(None, &[])), 4);
        assert_eq!(count(args(Some("users"), &[])), 1);
        assert_eq!(count(args(Some("use"), &[])), 0);
        assert_eq!(count(args(None, &["blue", "green"])), 1);
        assert_eq!(count(args(Some("users"), &["green"])), 0);
    }
}
