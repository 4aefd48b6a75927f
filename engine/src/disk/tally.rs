//! What the store remembers of a segment while it is open, and nowhere else.
//!
//! All orderings are Relaxed: these are sums and hints that no other memory depends on. What
//! is decided by them is checked again, record by record, by who acts on it.

use larder_format::Kind;

use super::writer::NewRecord;
use crate::clock::NEVER;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Notes on one segment.
#[derive(Debug)]
pub(crate) struct Tally {
    /// A lower bound of the numbers that its own records carry, drawn when it was begun: what
    /// segments are old or young by. Ids are not, as a spare gets its id before it is used.
    begun: AtomicU64,
    /// Bytes of records and entries that no slot leads to.
    dead: AtomicU64,
    /// Records below this offset are in `dead` if they are dead; `NEVER` once all are.
    counted: AtomicU64,
    /// Where the count of an earlier process's records ends: those from here on were written
    /// by this one, and are counted as they die.
    count_end: AtomicU64,
    /// Whether it was begun out of what values leave alone. For who holds the lane.
    reserved: AtomicBool,
    /// When its last value expires, once that is known; 0 while it holds none.
    deadline: AtomicU64,
    deadline_known: AtomicBool,
    /// Whether a batch may be among its own records.
    batched: AtomicBool,
    /// The lowest number of copies of records with tags; 0 while that is not known.
    oldest_tagged_copy: AtomicU64,
}

impl Tally {
    /// Of a segment whose header says `base_seq`, and that may hold anything.
    pub(crate) fn new(base_seq: u64) -> Self {
        Self {
            begun: AtomicU64::new(base_seq),
            dead: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            count_end: AtomicU64::new(NEVER),
            reserved: AtomicBool::new(false),
            deadline: AtomicU64::new(NEVER),
            deadline_known: AtomicBool::new(false),
            batched: AtomicBool::new(true),
            oldest_tagged_copy: AtomicU64::new(0),
        }
    }

    /// Notes that the segment, which is empty, is begun now, when `next_seq` is the next
    /// number.
    pub(crate) fn begin(&self, next_seq: u64) {
        self.begun.store(next_seq, Ordering::Relaxed);
        self.counted.store(NEVER, Ordering::Relaxed);
        self.set_deadline(0);
        self.batched.store(false, Ordering::Relaxed);
        self.oldest_tagged_copy.store(NEVER, Ordering::Relaxed);
    }

    /// Notes a copy of a record with tags.
    pub(crate) fn note_tagged_copy(&self, seq: u64) {
        self.oldest_tagged_copy.fetch_min(seq, Ordering::Relaxed);
    }

    /// The lowest number of copies of records with tags, the highest there is without any; `None`
    /// while that is not known.
    pub(crate) fn oldest_tagged_copy(&self) -> Option<u64> {
        Some(self.oldest_tagged_copy.load(Ordering::Relaxed)).filter(|oldest| *oldest != 0)
    }

    /// Notes what was found out about copies of records with tags.
    pub(crate) fn set_oldest_tagged_copy(&self, seq: Option<u64>) {
        self.oldest_tagged_copy.store(seq.unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Notes that a batch is about to be committed.
    pub(crate) fn note_batch(&self) {
        self.batched.store(true, Ordering::Relaxed);
    }

    /// Whether a batch may be among its own records. Exact once the segment is sealed, for
    /// whoever found it so.
    pub(crate) fn has_batch(&self) -> bool {
        self.batched.load(Ordering::Relaxed)
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Notes when the last value expires.
    pub(crate) fn set_deadline(&self, deadline_ms: u64) {
        self.deadline.store(deadline_ms, Ordering::Relaxed);
        self.deadline_known.store(true, Ordering::Relaxed);
    }

    /// When the last value expires: never as long as it is not known, 0 if there is none.
    #[inline]
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }

    pub(crate) fn knows_deadline(&self) -> bool {
        self.deadline_known.load(Ordering::Relaxed)
    }

    pub(crate) fn set_reserved(&self, reserved: bool) {
        self.reserved.store(reserved, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_reserved(&self) -> bool {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Notes that a record was appended and takes this many bytes.
    #[inline]
    pub(crate) fn note_append(&self, record: &NewRecord<'_>, bytes: usize) {
        if record.kind == Kind::Value && self.deadline() < record.expires_at_ms {
            self.deadline.fetch_max(record.expires_at_ms, Ordering::Relaxed);
        }
        // A removal is of no use but to hide; a copy of one is known to hide something.
        if record.kind == Kind::Tombstone && !record.flags.has(larder_format::Flags::MOVED) {
            self.dead.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Notes that a value was appended that never expires.
    #[inline]
    pub(crate) fn note_lasting(&self) {
        if self.deadline() != NEVER {
            self.deadline.store(NEVER, Ordering::Relaxed);
        }
    }

    /// Notes that no slot leads to the record at `offset` any more.
    pub(crate) fn note_dead(&self, offset: usize, bytes: usize) {
        let offset = offset as u64;
        if offset < self.counted.load(Ordering::Relaxed)
            || offset >= self.count_end.load(Ordering::Relaxed)
        {
            self.dead.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Begins to count, once more, records below `end`.
    pub(crate) fn begin_count(&self, end: usize) {
        self.count_end.store(end as u64, Ordering::Relaxed);
        self.counted.store(0, Ordering::Relaxed);
        self.dead.store(0, Ordering::Relaxed);
    }

    /// Notes what the count found below `to`.
    pub(crate) fn counted_to(&self, to: u64, dead: u64) {
        self.counted.store(to, Ordering::Relaxed);
        self.dead.fetch_add(dead, Ordering::Relaxed);
    }

    /// Bytes of dead records and entries; `None` while they are not all counted.
    pub(crate) fn dead(&self) -> Option<u64> {
        let counted = self.counted.load(Ordering::Relaxed) == NEVER;
        counted.then(|| self.dead.load(Ordering::Relaxed))
    }
}
