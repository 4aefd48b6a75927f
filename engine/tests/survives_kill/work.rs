//! What a child does: operations that follow from a seed, so that the parent knows them too.
//!
//! Each thread has keys of its own and does one operation after the other. It notes each one
//! in a file outside the store once it has returned, and only then goes on: what is not noted
//! is the next operation, and may have happened or not.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use larder_engine::conformance::{Random, expand};

/// Most operations of a thread in one life; after that it waits to be killed.
const STEPS_MAX: u64 = 40_000;
/// Most bytes of values that a thread puts in one life: a roomy store must not overflow.
const BYTES_MAX: u64 = 8 << 20;
/// Bytes of a value that name its key and number.
const NAME_LEN: usize = 16;

/// What a child is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// Which store to open: `disk`, or one of the stand-ins.
    pub(crate) store: String,
    pub(crate) dir: PathBuf,
    /// Where to note what was done.
    pub(crate) notes: PathBuf,
    pub(crate) seed: u64,
    /// How many children worked in this directory before.
    pub(crate) life: u64,
    /// The first of its threads.
    pub(crate) first: u64,
    pub(crate) threads: u64,
    /// Keys of each thread.
    pub(crate) keys: u64,
    /// Whether the budget holds everything that is ever put.
    pub(crate) roomy: bool,
}

impl Job {
    /// As one environment variable.
    pub(crate) fn to_line(&self) -> String {
        let Self { store, dir, notes, seed, life, first, threads, keys, roomy } = self;
        let (dir, notes) = (dir.display(), notes.display());
        let roomy = u8::from(*roomy);
        format!("{store}|{dir}|{notes}|{seed}|{life}|{first}|{threads}|{keys}|{roomy}")
    }

    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let mut parts = line.split('|');
        let mut next = || parts.next();
        Some(Self {
            store: next()?.to_owned(),
            dir: next()?.into(),
            notes: next()?.into(),
            seed: next()?.parse().ok()?,
            life: next()?.parse().ok()?,
            first: next()?.parse().ok()?,
            threads: next()?.parse().ok()?,
            keys: next()?.parse().ok()?,
            roomy: next()? == "1",
        })
    }

    /// The clock stands still during a life, and moves on by this between two.
    pub(crate) fn now_ms(&self) -> u64 {
        // Of processes that share a store each is in a life of its own.
        let lives = if self.is_shared() { 0 } else { self.life };
        1_700_000_000_000 + lives * 1_000
    }

    /// Whether others work in the directory at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        self.store == crate::stores::SHARED
    }
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Put {
        key: Key,
        number: Number,
        ttl_ms: Option<u64>,
        tag: Option<u8>,
    },
    /// Puts the first and the third, and removes the second, as one.
    Batch {
        keys: [Key; 3],
        numbers: [Number; 2],
    },
    /// Invalidates a tag of a thread.
    Invalidate {
        thread: u64,
        tag: u8,
    },
    /// Adds to a number.
    Add {
        key: Key,
        by: i64,
    },
    Remove(Key),
    Get(Key),
    Clear,
    Sync,
}

/// Which key: the thread that owns it and which of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) thread: u64,
    pub(crate) n: u64,
}

/// Tags of each thread.
const TAGS: u64 = 2;
/// Keys from this one on hold numbers.
const SUMS_FROM: u64 = 1 << 32;
const SUMS: u64 = 3;

/// The bytes of a tag.
pub(crate) fn tag_bytes(thread: u64, tag: u8) -> Vec<u8> {
    format!("thread {thread} tag {tag}").into_bytes()
}

impl Key {
    /// Whether it holds a number.
    pub(crate) const fn is_sum(self) -> bool {
        self.n >= SUMS_FROM
    }

    /// The key as stored; some are long.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let Self { thread, n } = self;
        let mut bytes = format!("thread {thread} key {n}").into_bytes();
        if n % 50 == 7 {
            bytes.extend(expand(n, 300));
        }
        bytes
    }

    fn id(self) -> u64 {
        self.thread << 32 | self.n
    }
}

/// Which value: never used twice in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(u64);

impl Number {
    const fn new(life: u64, thread: u64, step: u64) -> Self {
        Self(life << 28 | thread << 24 | step)
    }

    /// The number itself, of a key that holds one.
    pub(crate) const fn of_sum(sum: i64) -> Self {
        Self(sum.cast_unsigned())
    }

    pub(crate) const fn sum(self) -> i64 {
        self.0.cast_signed()
    }

    /// The second one of a step.
    const fn other(self) -> Self {
        Self(self.0 | 1 << 20)
    }

    /// The value's bytes: a function of key and number, which stand in front.
    pub(crate) fn value(self, key: Key) -> Vec<u8> {
        let mut value = expand(self.0 ^ key.id().rotate_left(17), self.len());
        value[..8].copy_from_slice(&key.id().to_le_bytes());
        value[8..NAME_LEN].copy_from_slice(&self.0.to_le_bytes());
        value
    }

    /// How it is put, if as an array: one of four ways.
    pub(crate) const fn array_way(self) -> Option<u64> {
        if self.0.is_multiple_of(5) { Some(self.0 / 5 % 4) } else { None }
    }

    /// Mostly small, seldom larger than what is copied, than a chunk, than a segment.
    fn len(self) -> usize {
        let mut random = Random::new(self.0);
        NAME_LEN
            + match random.below(1_000) {
                0..2 => (64 << 10) + random.below(200 << 10),
                2..12 => (30 << 10) + random.below(10 << 10),
                12..100 => random.below(4_000),
                _ => random.below(300),
            }
    }

    /// Which value these bytes are; `None` if they are not, in full, one of this key.
    pub(crate) fn of(key: Key, value: &[u8]) -> Option<Self> {
        if key.is_sum() {
            return value.try_into().ok().map(|bytes| Self::of_sum(i64::from_le_bytes(bytes)));
        }
        let number = Self(u64::from_le_bytes(value.get(8..NAME_LEN)?.try_into().ok()?));
        (number.value(key) == value).then_some(number)
    }
}

/// What a thread does, in order; the same for child and parent.
pub(crate) fn script(job: &Job, thread: u64) -> impl Iterator<Item = Op> {
    let Job { seed, life, keys, roomy, .. } = *job;
    // In few lives, or little would ever be there to be lost.
    let clears = life % 3 == 1 && !job.is_shared();
    let mut random = Random::new(seed ^ (life << 40) ^ (thread << 20));
    let mut bytes = 0;
    (0..STEPS_MAX).map_while(move |step| {
        let key = Key { thread, n: random.next_u64() % keys };
        let op = match random.below(10_000) {
            0..6_600 => {
                let ttl = u64::try_from(random.below(3_000)).unwrap_or(0);
                let ttl_ms = random.chance(10).then_some(ttl);
                let tag = (random.next_u64() % (4 * TAGS)).to_le_bytes()[0];
                let tag = Some(tag).filter(|tag| u64::from(*tag) < TAGS);
                Op::Put { key, number: Number::new(life, thread, step), ttl_ms, tag }
            }
            6_600..7_000 => {
                let number = Number::new(life, thread, step);
                let of = |by| Key { n: (key.n + by) % keys, ..key };
                Op::Batch { keys: [key, of(1), of(2)], numbers: [number, number.other()] }
            }
            7_000..7_030 => {
                Op::Invalidate { thread, tag: (random.next_u64() % TAGS).to_le_bytes()[0] }
            }
            // Where nothing but an addition changes a sum, it is known.
            7_030..7_500 if roomy && !clears => {
                let key = Key { n: SUMS_FROM + random.next_u64() % SUMS, ..key };
                Op::Add { key, by: 1 + i64::try_from(step % 100).unwrap_or(0) }
            }
            7_030..8_500 => Op::Remove(key),
            8_500..9_930 => Op::Get(key),
            9_930.. if thread == 0 && clears => Op::Clear,
            9_990.. => Op::Sync,
            _ => Op::Get(key),
        };
        let numbers: &[Number] = match &op {
            Op::Put { number, .. } => std::slice::from_ref(number),
            Op::Batch { numbers, .. } => numbers,
            _ => &[],
        };
        bytes += numbers.iter().map(|number| number.len() as u64).sum::<u64>();
        (bytes < BYTES_MAX).then_some(op)
    })
}

/// That an operation has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    /// Ticks of one count for all threads of a life, before the call and after the return.
    pub(crate) called: u64,
    pub(crate) returned: u64,
    /// The version that a put got, or the sum after an addition.
    pub(crate) version: u64,
}

const NOTE_LEN: usize = 24;

fn notes_path(dir: &Path, thread: u64) -> PathBuf {
    dir.join(format!("notes.{thread}"))
}

/// Where a thread of a child notes what it has done.
#[derive(Debug)]
pub(crate) struct Notes(File);

impl Notes {
    pub(crate) fn create(dir: &Path, thread: u64) -> io::Result<Self> {
        let path = notes_path(dir, thread);
        OpenOptions::new().create(true).write(true).truncate(true).open(path).map(Self)
    }

    /// One system call: the page cache has it, whatever happens to the process.
    pub(crate) fn add(&mut self, note: Note) -> io::Result<()> {
        let Note { called, returned, version } = note;
        let mut bytes = [0; NOTE_LEN];
        bytes[..8].copy_from_slice(&called.to_le_bytes());
        bytes[8..16].copy_from_slice(&returned.to_le_bytes());
        bytes[16..].copy_from_slice(&version.to_le_bytes());
        self.0.write_all(&bytes)
    }
}

/// How many operations a thread has noted so far.
pub(crate) fn count_notes(dir: &Path, thread: u64) -> u64 {
    std::fs::metadata(notes_path(dir, thread)).map_or(0, |file| file.len() / NOTE_LEN as u64)
}

/// What a thread had noted when it died; nothing, if it did not get that far.
pub(crate) fn read_notes(dir: &Path, thread: u64) -> io::Result<Vec<Note>> {
    let mut bytes = Vec::new();
    match File::open(notes_path(dir, thread)) {
        Ok(mut file) => drop(file.read_to_end(&mut bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let note = |bytes: &[u8]| Note {
        called: word(&bytes[..8]),
        returned: word(&bytes[8..16]),
        version: word(&bytes[16..]),
    };
    Ok(bytes.chunks_exact(NOTE_LEN).map(note).collect())
}
