//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use larder::PolicyKind;

use crate::keys::Key;
use crate::output::EXIT_CODES;
use crate::reading::Reading;
use crate::size::Size;

mod array;
mod laboratory;

pub(crate) use array::{Array, ArrayCommand, ArrayExport, ArrayImport, ArrayInfo, ArrayLs};
pub(crate) use laboratory::{Asked, Generate, Mrc, PolicyName, Simulate};

/// A two-level cache that survives restarts: demonstrate it, replay traces through it, look
/// into its stores and check them.
#[derive(Debug, Parser)]
#[command(name = "larder", version, after_help = EXIT_CODES, propagate_version = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(Demo),
    Replay(Replay),
    Simulate(Simulate),
    Mrc(Mrc),
    Generate(Generate),
    Put(Put),
    Get(Get),
    Rm(Rm),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Stats(Stats),
    Ps(Ps),
    Verify(Verify),
    Compact(Compact),
    Purge(Purge),
    Trim(Trim),
    Backup(Backup),
    Repair(Repair),
    Tags(Tags),
    Invalidate(Invalidate),
    Dump(Dump),
    Array(Array),
}

/// Memoise a slow computation over the files of a directory
///
/// For each file: its size when compressed by zstd as well as it can (level 22), its number of
/// lines, and how often each byte occurs. Results are stored under a hash of the file's
/// content, so a file is computed once, whatever its name or time, and equal files share one
/// result. Follows .gitignore and skips symlinks, `.git`, `target`, and directories marked as
/// caches by a CACHEDIR.TAG.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Directory or file [default: the checkout around the current directory]
    pub(crate) path: Option<PathBuf>,
    /// Directory of the cache [default: larder/demo in the user's cache directory]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Budget of the memory tier
    #[arg(long, default_value = "64MiB")]
    pub(crate) memory: Size,
    /// Budget of the disk tier
    #[arg(long, default_value = "1GiB")]
    pub(crate) disk: Size,
    /// Threads that compute [default: one per processor]
    #[arg(long, value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Drive the cache with a trace, and check every hit byte for byte
///
/// On a miss the object is inserted. Values are a pure function of the object's id and size,
/// and at least 16 bytes long, so that each carries both; a trace without sizes therefore
/// stores 16 bytes an object unless --value-size says otherwise. A hit on an object that has
/// changed its size since it was stored is checked against the old size, and the object is
/// inserted anew. Objects above 1 GiB are taken for damage.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The trace, plain or compressed by zstd
    #[arg(required_unless_present = "verify_acked")]
    pub(crate) trace: Option<PathBuf>,
    /// Budget of the memory tier; 0 for none
    #[arg(long, default_value = "64MiB")]
    pub(crate) memory: Size,
    /// Budget of the disk tier; 0 for none
    #[arg(long, default_value = "1GiB")]
    pub(crate) disk: Size,
    /// Directory of the cache; a second replay starts warm [default: a temporary one]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// What the memory tier evicts by
    #[arg(long, value_parser = policy_kind(), default_value = "s3fifo")]
    pub(crate) policy: PolicyKind,
    /// When values reach the disk
    #[arg(long, value_enum, default_value_t = Mode::WriteThrough)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// Stop after this many requests
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Size of every object, in place of the trace's
    #[arg(long, value_name = "SIZE", value_parser = object_size)]
    pub(crate) value_size: Option<u32>,
    /// Threads that make requests; more than one do not keep the trace's order
    #[arg(long, default_value = "1", value_parser = threads)]
    pub(crate) threads: usize,
    /// Append `id,size` to FILE after each insertion that was acknowledged
    #[arg(long, value_name = "FILE")]
    pub(crate) ack: Option<PathBuf>,
    /// Instead of replaying, check that --dir has what FILE, written by --ack, says
    #[arg(long, value_name = "FILE", requires = "dir", conflicts_with_all = ["trace", "ack", "limit"])]
    pub(crate) verify_acked: Option<PathBuf>,
    /// With --verify-acked: missing objects may have been evicted
    #[arg(long, requires = "verify_acked")]
    pub(crate) may_evict: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a memory tier can evict by.
fn policy_kind() -> impl TypedValueParser<Value = PolicyKind> {
    let names = PolicyKind::ALL.iter().map(|kind| kind.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<PolicyKind>())
}

/// When values reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// At once: they outlive the process
    WriteThrough,
    /// When memory evicts them, and when the cache is closed
    WriteOnEvict,
}

impl From<Mode> for larder::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::WriteThrough => Self::WriteThrough,
            Mode::WriteOnEvict => Self::WriteOnEvict,
        }
    }
}

/// Store a value under a key
///
/// Creates the store if there is none.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct Put {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// The key: text, or bytes as 0x and hex digits
    pub(crate) key: Key,
    /// The value; `-` reads it from stdin
    #[arg(group = "source", allow_hyphen_values = true)]
    pub(crate) value: Option<String>,
    /// Read the value from a file
    #[arg(long, short, group = "source")]
    pub(crate) file: Option<PathBuf>,
    /// Let it expire after this time, as in 90s, 15m or 2days
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// Return when it survives the loss of power
    #[arg(long)]
    pub(crate) sync: bool,
    /// Budget of the store, beyond which it evicts [default: 1GiB for a new store, none for
    /// one that is there]
    #[arg(long)]
    pub(crate) disk: Option<Size>,
}

/// Print the value of a key
///
/// Where stdout is a terminal, text is followed by a newline and other bytes are held back;
/// elsewhere the value comes as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// The key: text, or bytes as 0x and hex digits
    pub(crate) key: Key,
    /// Print the value as it is, even to a terminal
    #[arg(long, conflicts_with = "out")]
    pub(crate) raw: bool,
    /// Write the value to a file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Remove keys
#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// The keys: text, or bytes as 0x and hex digits
    #[arg(required = true)]
    pub(crate) keys: Vec<Key>,
}

/// List what a store holds, in no order
///
/// Plain keys stand as they can be typed, keys of a namespace behind `[NAME]`, and items of a queue
/// as `<NAME> NUMBER`. Values are not read. Tags are not stored by name: they show as `#` and 16
/// digits, but those that --tag names.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// Length, codec, version, time left and tags of each value, too
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Only the keys of this namespace: text, or bytes as 0x and hex digits
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<Key>,
    /// Only what has this tag, or one of these
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<Key>,
    /// Stop after this many keys
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print one JSON object per key, each on a line of its own
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say what a store holds and how it was found
#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// Join the processes that share the store, and say it again every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) watch: Option<Duration>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say which processes have a store open
///
/// Reads what those say who share it, and joins nobody.
#[derive(Debug, clap::Args)]
pub(crate) struct Ps {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Check everything that a store holds
///
/// Opens the store as any program would, which recovers what a killed one left, and compares
/// every record with its checksums, the footers and the index. Ends with 0 if all is clean, 1
/// if something is damaged but the store usable, 2 if it cannot be used.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Get back the space of what is dead
///
/// Rewrites every segment that holds something replaced, removed or expired.
#[derive(Debug, clap::Args)]
pub(crate) struct Compact {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Remove everything that has expired
#[derive(Debug, clap::Args)]
pub(crate) struct Purge {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Remove the oldest entries until the store is within limits
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("limits").required(true).multiple(true))]
pub(crate) struct Trim {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// Most bytes that the directory is to hold
    #[arg(long, value_name = "SIZE", group = "limits")]
    pub(crate) bytes: Option<Size>,
    /// Most entries that it is to hold
    #[arg(long, value_name = "N", group = "limits")]
    pub(crate) items: Option<u64>,
    /// Remove what was written this long ago or longer, as in 90s, 15m or 2days; 0s empties it
    #[arg(long, value_name = "TIME", group = "limits", value_parser = humantime::parse_duration)]
    pub(crate) age: Option<Duration>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write everything that lives in a store to another directory
///
/// The backup is a store of its own, with the same values, codecs, deadlines and tags. It gets
/// its name when all of it is on disk. Ends with 1 if damaged entries were left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// Directory of the store, which is only read
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// Directory of the backup: absent, or empty
    pub(crate) to: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Drop what is damaged in a store, and keep the rest
///
/// Files that cannot be used are moved to `lost+found` in the directory. A damaged superblock is
/// written again if what is left of it and a record prove each other. Ends with 0 if there was
/// nothing to repair, 1 if there was, 2 if the store cannot be repaired.
#[derive(Debug, clap::Args)]
pub(crate) struct Repair {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the keys that are live under a tag
#[derive(Debug, clap::Args)]
pub(crate) struct Tags {
    /// Directory of the store, which is only read
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// The tag: text, or bytes as 0x and hex digits
    pub(crate) tag: Key,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Invalidate everything that was put under a tag
#[derive(Debug, clap::Args)]
pub(crate) struct Invalidate {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// The tag: text, or bytes as 0x and hex digits
    pub(crate) tag: Key,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the bytes of a store's file with what they mean
///
/// Damage stands in lines that begin with `!!`.
#[derive(Debug, clap::Args)]
pub(crate) struct Dump {
    /// A file of a store: superblock, segment, index or external value
    pub(crate) file: PathBuf,
    /// Stop after this many lines
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) limit: usize,
}

// How a store is opened that others may have open. No doc comment: it would stand in the help of each
// command.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Join {
    /// Join the processes that share the store, if there are any
    #[arg(long)]
    pub(crate) shared: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=86_400.0).contains(seconds));
    let seconds = seconds.ok_or_else(|| "must be a number from 0.01 to 86400".to_owned())?;
    Ok(Duration::from_secs_f64(seconds))
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=256) => Ok(number),
        _ => Err("must be a number from 1 to 256".to_owned()),
    }
}

fn object_size(text: &str) -> Result<u32, String> {
    match u32::try_from(text.parse::<Size>()?.0) {
        Ok(size) if size <= 1 << 30 => Ok(size),
        _ => Err("must be at most 1GiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Args::try_parse_from(line.split(' ')).map(|args| args.command)
    }

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn commands_are_read_as_documented() {
        for line in [
            "larder demo",
            "larder demo src --dir d --json --memory 1MiB --disk 2GiB",
            "larder replay t --policy lirs --mode write-on-evict --format oracleGeneral",
            "larder replay --verify-acked f --dir d --may-evict",
            "larder replay t --columns time,key,-,size --separator ;",
            "larder simulate t u --policy lru,s3fifo --capacity 0.1,500,64MiB,5% --csv",
            "larder simulate t --ignore-size --json --plot a.png --threads 2 --limit 5",
            "larder mrc t --rate 0.01 --policy all",
            "larder mrc t --samples 1000 --capacity 0.5 --json",
            "larder generate --kind zipf --out t.csv",
            "larder put d k v --ttl 90s",
            "larder put d k -",
            "larder put d k -5",
            "larder put d k --file f",
            "larder get d 0xff --raw",
            "larder rm d a b c",
            "larder ls d --json --long --limit 3",
            "larder list d --namespace n --tag a --tag b",
            "larder trim d --bytes 1GiB --items 5 --age 2days --json",
            "larder backup d to",
            "larder ps d --json",
            "larder stats d --watch 0.5",
            "larder get d k --shared",
            "larder invalidate d 0xff",
            "larder array import d k a.npy --ttl 2days --sync --disk 4GiB --json",
            "larder array import d k a.npz --only x --only y",
            "larder array export d 0xff a.npy",
            "larder array info d k --json",
            "larder array list d",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "larder",
            "larder replay",
            "larder replay t --threads 0",
            "larder replay t --value-size 2GiB",
            "larder replay t --memory lots",
            "larder replay --verify-acked f",
            "larder replay t --format parquet",
            "larder replay t --columns size",
            "larder simulate",
            "larder simulate t --policy lrru",
            "larder simulate t --capacity 0",
            "larder simulate t --capacity 1.5",
            "larder simulate t --capacity -1",
            "larder simulate t --csv --json",
            "larder mrc t --rate 0.1 --samples 5",
            "larder generate --kind zipf",
            "larder generate --kind odd --out t.csv",
            "larder put d k",
            "larder put d k v --file f",
            "larder put d k v --ttl soon",
            "larder get d k --raw --out f",
            "larder rm d",
            "larder trim d",
            "larder backup d",
            "larder stats d --watch 0",
            "larder ps",
            "larder tags d",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
