//! What a child does: a list of operations that follows from a seed.

use std::path::PathBuf;

use larder_engine::conformance::{Random, expand};
use larder_engine::{Disk, Durability, Engine, Put, WriteBatch};

/// Where the job stands.
pub(crate) const JOB: &str = "LARDER_POWER_JOB";
/// Writers of a child, each with keys of its own.
pub(crate) const THREADS: usize = 2;
/// Keys of each.
pub(crate) const KEYS: u8 = 40;
/// Keys that carry the tag of their writer are the first of its keys.
const TAGGED: u8 = 8;

/// Which value it is: of which life, thread and operation.
pub(crate) type Stamp = (u64, usize, u64);

/// What a child is told.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
    pub(crate) life: u64,
    pub(crate) roomy: bool,
    pub(crate) buffered: bool,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Put { key: u8, durable: bool },
    Remove(u8),
    Batch { keys: Vec<u8>, durable: bool },
    Invalidate,
    Sync,
}

impl Op {
    /// What it does to each key: `true` for a new value.
    pub(crate) fn changes(&self) -> Vec<(u8, bool)> {
        match self {
            Self::Put { key, .. } => vec![(*key, true)],
            Self::Remove(key) => vec![(*key, false)],
            Self::Batch { keys, .. } => keys.iter().map(|&key| (key, true)).collect(),
            Self::Invalidate => (0..TAGGED).map(|key| (key, false)).collect(),
            Self::Sync => Vec::new(),
        }
    }
}

impl Job {
    pub(crate) fn line(&self) -> String {
        let Self { dir, seed, life, roomy, buffered } = self;
        format!("{seed} {life} {roomy} {buffered} {}", dir.display())
    }

    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        Some(Self {
            seed: words.next()?.parse().ok()?,
            life: words.next()?.parse().ok()?,
            roomy: words.next()?.parse().ok()?,
            buffered: words.next()?.parse().ok()?,
            dir: words.next()?.into(),
        })
    }

    /// The operations of a thread, without end.
    pub(crate) fn script(&self, thread: usize) -> impl Iterator<Item = Op> + use<> {
        let mut random = Random::new(self.seed.wrapping_mul(31).wrapping_add(thread as u64));
        std::iter::repeat_with(move || {
            let mut key = || u8::try_from(random.below(KEYS.into())).unwrap();
            let (one, others) = (key(), [key(), key(), key()]);
            let durable = random.chance(25);
            match random.below(100) {
                0..60 => Op::Put { key: one, durable },
                60..75 => Op::Remove(one),
                75..90 => {
                    let mut keys = others.to_vec();
                    keys.sort_unstable();
                    keys.dedup();
                    Op::Batch { keys, durable }
                }
                90..94 => Op::Invalidate,
                _ => Op::Sync,
            }
        })
    }
}

pub(crate) fn key(thread: usize, key: u8) -> Vec<u8> {
    format!("{thread}/{key}").into_bytes()
}

/// The value of a key: says whose it is, and is otherwise noise that follows from that.
pub(crate) fn value((life, thread, number): Stamp, key: u8) -> Vec<u8> {
    let seed = (life << 40) ^ (number << 12) ^ ((thread as u64) << 8) ^ u64::from(key);
    let mut random = Random::new(seed);
    let len = match random.below(100) {
        0..70 => random.below(400),
        70..95 => random.below(9_000),
        // Beside the log, in a file of its own.
        _ => 40_000 + random.below(60_000),
    };
    let mut value = Vec::new();
    for number in [life, thread as u64, number, u64::from(key)] {
        value.extend_from_slice(&number.to_le_bytes());
    }
    value.extend_from_slice(&expand(seed, len));
    value
}

/// Whose value it is, if it is whole.
pub(crate) fn stamp(found: &[u8], of: u8) -> Option<Stamp> {
    let mut numbers =
        found.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let (life, thread, number) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let stamp = (life, usize::try_from(thread).ok()?, number);
    (stamp.1 < THREADS && value(stamp, of) == found).then_some(stamp)
}

/// Makes a change.
pub(crate) fn act(
    disk: &Disk,
    job: &Job,
    thread: usize,
    number: u64,
    op: &Op,
) -> larder_engine::Result<()> {
    let tag = [format!("of {thread}").into_bytes()];
    let tags: Vec<&[u8]> = tag.iter().map(Vec::as_slice).collect();
    let put = |key: u8, durability| {
        let tags: &[&[u8]] = if key < TAGGED { &tags } else { &[] };
        Put { durability, tags, ..Put::default() }
    };
    let durability = |durable| if durable { Durability::Sync } else { Durability::None };
    let stamp = (job.life, thread, number);
    match op {
        Op::Put { key: of, durable } => {
            let put = put(*of, durability(*durable));
            let outcome = disk.put(&key(thread, *of), &value(stamp, *of), &put)?;
            assert!(outcome.is_admitted(), "{outcome:?}");
        }
        Op::Remove(of) => drop(disk.remove(&key(thread, *of))?),
        Op::Batch { keys, durable } => {
            let mut batch = WriteBatch::new();
            for &of in keys {
                batch.put(&key(thread, of), &value(stamp, of), &put(of, Durability::None));
            }
            let outcome = disk.write(&batch, durability(*durable))?;
            assert!(outcome.is_committed(), "{outcome:?}");
        }
        Op::Invalidate => disk.invalidate_tag(&tag[0])?,
        Op::Sync => disk.sync()?,
    }
    Ok(())
}
