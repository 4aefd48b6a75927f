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
}

/// A batch, as far as it was found.
#[derive(Debug)]
struct Begun {
    batch: Batch,
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
    /// Takes the next record. `is_missing`: its value lies elsewhere, and is not there.
    pub(super) fn add(
        &mut self,
        bytes: &[u8],
        offset: usize,
        header: &RecordHeader,
        entry: FooterEntry,
        is_missing: bool,
    ) {
        let extent = header.extent(offset);
        let part = |range| bytes.get(range).unwrap_or_default();
        let value = part(extent.value_at..extent.chunks_at);
        match header.kind {
            Kind::BatchBegin => {
                self.batch = Batch::decode(value).ok().map(|batch| Begun {
                    batch,
                    lens: Vec::new(),
                    entries: Vec::new(),
                    missing: Vec::new(),
                });
            }
            Kind::BatchCommit => {
                if let (Some(begun), Ok(ended)) = (self.batch.take(), Batch::decode(value))
                    && begun.batch == ended
                    && Batch::of(begun.lens.iter().copied()) == Some(ended)
                {
                    if begun.missing.is_empty() {
                        self.entries.extend(begun.entries);
                    } else {
                        self.doubtful.push(begun);
                    }
                }
            }
            _ if header.flags.has(Flags::BATCHED) => {
                let Some(begun) = &mut self.batch else { return };
                begun.lens.push((header.seq, extent.end - offset));
                if is_missing {
                    begun.missing.push(missing(bytes, offset, header, entry.key_hash));
                }
                begun.entries.push((entry, header.seq));
            }
            _ => {
                self.end_batch();
                if !is_missing {
                    self.entries.push((entry, header.seq));
                    return;
                }
                // As a batch of one.
                let lens = vec![(header.seq, extent.end - offset)];
                let Some(batch) = Batch::of(lens.iter().copied()) else { return };
                let missing = vec![missing(bytes, offset, header, entry.key_hash)];
                let entries = vec![(entry, header.seq)];
                self.doubtful.push(Begun { batch, lens, entries, missing });
            }
        }
    }

    /// What follows is no part of the batch that was begun: it was cut off.
    pub(super) fn end_batch(&mut self) {
        self.batch = None;
    }

    /// Whether some batch is in doubt.
    pub(super) const fn is_doubtful(&self) -> bool {
        !self.doubtful.is_empty()
    }
}

/// A record whose large value is not there.
fn missing(bytes: &[u8], offset: usize, header: &RecordHeader, hash: u64) -> Missing {
    let extent = header.extent(offset);
    let part = |range| bytes.get(range).unwrap_or_default();
    let tags = part(extent.tags_at..extent.key_at).as_chunks().0;
    Missing {
        hash,
        seq: header.seq,
        key: part(extent.key_at..extent.key_at + usize::from(header.key_len)).to_vec(),
        tags: tags.iter().map(|tag| u64::from_le_bytes(*tag)).collect(),
        expires_at_ms: header.expires_at_ms,
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
