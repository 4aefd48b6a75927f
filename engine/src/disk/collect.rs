//! What a scan of a segment finds, and which batches of it count.
//!
//! A batch counts if both of its ends and all between them are there. Its large values lie in
//! files of their own: if one is not there, the batch may never have been complete on the disk,
//! and then none of it may count; or the value was replaced, removed or invalidated since, or
//! has expired, and then the rest of the batch has to count. What tells is whether something
//! newer says that the value is dead, as a large value goes only after what takes its place is
//! durable. That may stand in any segment, so that such a batch is decided about when all others
//! are known. A record by itself is decided about like a batch of one: one that has expired, or
//! whose tag was invalidated, goes on hiding older records of its key.
//!
//! # Invariants
//! 1. Of the batches in doubt the newer is decided about first: what says that a value is dead
//!    is newer than the value, so that it is known by then whether it counts.
//! 2. A batch that counts although a value was not there is what it was once, with that value
//!    dead: a reader cannot tell the difference.

use std::collections::HashMap;

use larder_format::record::{Kind, RecordHeader};
use larder_format::{Batch, Flags, FooterEntry};

/// Records that count, found one after the other.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// With their sequence numbers.
    pub(super) entries: Vec<(FooterEntry, u64)>,
    /// Batches in doubt.
    doubtful: Vec<Begun>,
    /// The batch that was begun last, and what came of it so far.
    batch: Option<Begun>,
    /// Records of batches that are not complete, but for those whose large value is not there.
    torn: Vec<(FooterEntry, u64)>,
}

/// A batch, as far as it was found.
#[derive(Debug, Default)]
struct Begun {
    /// What its begin says; nothing where the footer vouches for it, or for a record by itself.
    batch: Option<Batch>,
    /// Sequence numbers and lengths of its records.
    lens: Vec<(u64, usize)>,
    entries: Vec<(FooterEntry, u64)>,
    missing: Vec<Missing>,
}

/// A record of a batch whose large value is not there.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) hash: u64,
    pub(super) seq: u64,
    pub(super) key: Vec<u8>,
    pub(super) tags: Vec<u64>,
    pub(super) expires_at_ms: u64,
}

/// The highest sequence numbers of what counts in the segments that are held back, by hash.
#[derive(Debug, Default)]
pub(super) struct Newest(HashMap<(bool, u64), u64>);

impl Newest {
    fn note(&mut self, entries: &[(FooterEntry, u64)]) {
        for (entry, seq) in entries {
            let of = (entry.kind == Kind::TagInvalidation, entry.key_hash);
            let newest = self.0.entry(of).or_default();
            *newest = (*newest).max(*seq);
        }
    }

    /// The newest record of a key.
    pub(super) fn record(&self, hash: u64) -> Option<u64> {
        self.0.get(&(false, hash)).copied()
    }

    /// The newest invalidation of a tag.
    pub(super) fn invalidation(&self, hash: u64) -> Option<u64> {
        self.0.get(&(true, hash)).copied()
    }
}

impl Collected {
    /// Takes the next record that was met in a scan: `value` as it is stored, `len` with all that
    /// it takes. `missing`: its value lies elsewhere, and is not there.
    pub(super) fn add(
        &mut self,
        header: &RecordHeader,
        (value, len): (&[u8], usize),
        entry: FooterEntry,
        missing: Option<Missing>,
    ) {
        match header.kind {
            Kind::BatchBegin => {
                self.end_batch();
                let claim = Batch::decode(value).ok();
                self.batch = claim.map(|_| Begun { batch: claim, ..Begun::default() });
            }
            Kind::BatchCommit => {
                let Some(begun) = self.batch.take() else { return };
                let ended = Batch::decode(value).ok();
                if begun.batch == ended && Batch::of(begun.lens.iter().copied()) == ended {
                    self.take(begun);
                } else {
                    self.tear(begun);
                }
            }
            _ if header.flags.has(Flags::BATCHED) => {
                let Some(begun) = &mut self.batch else {
                    self.torn.extend(missing.is_none().then_some((entry, header.seq)));
                    return;
                };
                begun.lens.push((header.seq, len));
                begun.missing.extend(missing);
                begun.entries.push((entry, header.seq));
            }
            _ => {
                self.end_batch();
                self.add_alone(entry, header.seq, missing);
            }
        }
    }

    /// Takes the next record that a footer lists which is believed: it was committed, and with it
    /// all of the batch that it is part of.
    pub(super) fn add_listed(
        &mut self,
        is_batched: bool,
        (entry, seq): (FooterEntry, u64),
        missing: Option<Missing>,
    ) {
        match (entry.kind, &mut self.batch) {
            (Kind::BatchBegin, _) => self.batch = Some(Begun::default()),
            (Kind::BatchCommit, _) => {
                if let Some(begun) = self.batch.take() {
                    self.take(begun);
                }
            }
            (_, Some(begun)) if is_batched => {
                begun.lens.push((seq, 0));
                begun.missing.extend(missing);
                begun.entries.push((entry, seq));
            }
            // A rebuild lists no ends of batches that it found to count.
            _ => self.add_alone(entry, seq, missing),
        }
    }

    /// Takes a record that is no part of a batch: as a batch of one.
    fn add_alone(&mut self, entry: FooterEntry, seq: u64, missing: Option<Missing>) {
        let missing: Vec<_> = missing.into_iter().collect();
        self.take(Begun {
            batch: None,
            lens: vec![(seq, 0)],
            entries: vec![(entry, seq)],
            missing,
        });
    }

    /// Takes a batch that is complete but for large values.
    fn take(&mut self, begun: Begun) {
        if begun.missing.is_empty() {
            self.entries.extend(begun.entries);
        } else {
            self.doubtful.push(begun);
        }
    }

    /// What follows is no part of the batch that was begun: it was cut off.
    pub(super) fn end_batch(&mut self) {
        if let Some(begun) = self.batch.take() {
            self.tear(begun);
        }
    }

    fn tear(&mut self, begun: Begun) {
        let missing: Vec<_> = begun.missing.iter().map(|missing| missing.seq).collect();
        let there = begun.entries.into_iter().filter(|(_, seq)| !missing.contains(seq));
        self.torn.extend(there);
    }

    /// Takes what lies below `synced` of batches that are not complete: they were committed, and
    /// what is not there of them is damaged.
    pub(super) fn take_torn(&mut self, synced: usize) {
        let torn = std::mem::take(&mut self.torn);
        self.entries.extend(torn.into_iter().filter(|(entry, _)| entry.offset() < synced));
    }

    /// Whether some batch is in doubt.
    pub(super) const fn is_doubtful(&self) -> bool {
        !self.doubtful.is_empty()
    }
}

/// Decides about all batches in doubt: one counts if `may_be_gone` says so of all that it
/// misses, looking also at what counts in `held_back`.
pub(super) fn decide(
    held_back: &mut [&mut Collected],
    may_be_gone: impl Fn(&Missing, &Newest) -> bool,
) {
    let mut newest = Newest::default();
    let mut doubtful = Vec::new();
    for (number, found) in held_back.iter_mut().enumerate() {
        newest.note(&found.entries);
        doubtful.extend(found.doubtful.drain(..).map(|begun| (number, begun)));
    }
    doubtful.sort_by_key(|(_, begun)| begun.lens.last().map(|(seq, _)| *seq));
    for (number, begun) in doubtful.into_iter().rev() {
        if begun.missing.iter().all(|missing| may_be_gone(missing, &newest)) {
            newest.note(&begun.entries);
            if let Some(found) = held_back.get_mut(number) {
                found.entries.extend(begun.entries);
            }
        }
    }
    for found in held_back {
        // A footer is in the order of writing.
        found.entries.sort_by_key(|(entry, _)| entry.offset_units);
    }
}
