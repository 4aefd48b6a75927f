//! Files of large values that no record names, after a process died or the power went.
//!
//! A file that the record of its key names, by the index, is needed. Where the index has another
//! record for the key, the file is an orphan: whatever is built anew finds that record as well, or a
//! newer one. Where the index has nothing for the key, the log has to tell: a record may still name
//! the file whose slot went when it was evicted, and would be found without it once the index is
//! built anew.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::{ExternalRef, Kind};

use super::external::{self, FileId, PLACES};
use super::open::parse_id;
use super::segment::Segment;
use super::session::list;
use super::storage::File;
use super::store::Store;
use super::usage::blocks;
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// Whether a file is needed.
enum Named {
    Yes,
    No,
    /// The index has nothing for its key, which has this hash.
    Unknown(u64),
}

impl Store {
    /// Counts the files of large values and, after a crash, dooms those that no record names.
    /// Those that a process of the same boot wrote may still have to be synced.
    pub(super) fn sweep_external(&self, orphans: bool, same_boot: bool) -> Result<()> {
        let guard = &crossbeam_epoch::pin();
        let mut highest = 0;
        let mut unknown = Vec::new();
        let mut files = Vec::new();
        for (class, dir, suffix) in PLACES {
            let names = list(&*self.storage, dir)?;
            let ids = names.iter().filter_map(|name| parse_id(name, suffix));
            files.extend(ids.map(|id| FileId { class, id }));
        }
        for &which in &files {
            highest = highest.max(which.id);
            let Some(file) = self.storage.open(&which.name())? else { continue };
            self.usage.add(blocks(file.len().unwrap_or(0)));
            if orphans {
                match self.is_named_by_index(&*file, which, guard)? {
                    Named::Yes => {}
                    Named::No => self.doomed.lock().push(which),
                    Named::Unknown(hash) => unknown.push((which, hash)),
                }
            }
        }
        if !unknown.is_empty() {
            let named = self.named_in_log(unknown.iter().map(|(_, hash)| *hash));
            let is_orphan = |(file, hash): &(FileId, u64)| named.get(hash) != Some(&Some(file.id));
            self.doomed
                .lock()
                .extend(unknown.iter().filter(|file| is_orphan(file)).map(|file| file.0));
        }
        if orphans && same_boot {
            self.externals.inherit(files);
        }
        // Above all that were ever given out, as sequence numbers are: a record may have
        // survived whose file did not, and must not find another's.
        let epoch = self.file.session().map_or(0, |session| session.first_seq());
        let next = self.file.next_external().load(Ordering::Relaxed);
        let next = next.max(highest.saturating_add(1)).max(epoch);
        self.file.next_external().store(next, Ordering::Relaxed);
        Ok(())
    }

    fn is_named_by_index(&self, file: &dyn File, which: FileId, guard: &Guard) -> Result<Named> {
        let io = |error| Error::io("read", &self.storage.path(&which.name()), error);
        let uuid = &self.file.superblock().uuid;
        let Some(footer) = external::read_footer(file, uuid, which.id).map_err(io)? else {
            return Ok(Named::No);
        };
        let mut key = vec![0; footer.key_len as usize];
        file.read_at(&mut key, footer.key_at()).map_err(io)?;
        let hash = self.hasher.hash(&key);
        Ok(match self.lookup(hash, &key, guard) {
            None => Named::Unknown(hash),
            Some(found)
                if ExternalRef::decode(found.found.value())
                    .is_ok_and(|named| FileId::named(&named) == which) =>
            {
                Named::Yes
            }
            Some(_) => Named::No,
        })
    }

    /// Which file the newest record in the log names, if any, of each of some keys.
    fn named_in_log(&self, hashes: impl Iterator<Item = u64>) -> HashMap<u64, Option<u64>> {
        let mut newest: HashMap<u64, (u64, Option<u64>)> =
            hashes.map(|hash| (hash, (0, None))).collect();
        let segments: Vec<Arc<Segment>> = self.all_live().values().cloned().collect();
        let cleared = self.file.cleared_seq();
        for segment in &segments {
            let counts = |kind| matches!(kind, Kind::Value | Kind::Tombstone);
            for entry in segment.entries().filter(|entry| counts(entry.kind)) {
                let Some((newest_seq, named)) = newest.get_mut(&entry.key_hash) else { continue };
                let Some(seq) = segment.entry_seq(&entry).filter(|seq| *seq > cleared) else {
                    continue;
                };
                let is_newer =
                    seq > *newest_seq || seq == *newest_seq && entry.kind == Kind::Tombstone;
                if is_newer {
                    let record = segment.record(entry.offset()).ok().filter(|_| entry.external);
                    let reference = record.and_then(|it| ExternalRef::decode(it.value()).ok());
                    (*newest_seq, *named) = (seq, reference.map(|reference| reference.id));
                }
            }
        }
        newest.into_iter().map(|(hash, (_, named))| (hash, named)).collect()
    }
}
