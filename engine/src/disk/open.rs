//! Opening a store: what is there, what can be trusted, and what has to be built anew.
//!
//! | found | trusted |
//! |---|---|
//! | closed | everything, as it was synced |
//! | same boot, mount and directory | everything: the page cache kept what the dead process wrote |
//! | anything else | superblock, sealed and synced segments; all else is read and checked |
//!
//! Whatever is trusted, every record is checked when it is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use larder_format::layout::{SHARE_PROCESSES, SHARED_AT};
use larder_format::{
    FormatError, Geometry, IndexHeader, KeyHasher, SegmentState, Session, ShareHeader, Superblock,
};
use parking_lot::{Mutex, RwLock};

use super::builder::Options;
use super::compress::Packer;
use super::counters::{Count, Counters};
use super::cut_off::Last;
use super::external::Externals;
use super::growth::{self, Common, Index, IndexFile};
use super::lanes::Lanes;
use super::observer::{Event, Work};
use super::quick::usual_below;
use super::retain::Retain;
use super::seal::{Damage, Seal, Source};
use super::segment::Segment;
use super::session::{STORE, Standing, StoreFile, list};
use super::share::{self, Share};
use super::storage::Storage;
use super::store::Store;
use super::table::Table;
use super::tags::LostTags;
use super::together::Together;
use super::upkeep::Upkeep;
use super::usage::{Usage, blocks};
use super::vital::Vital;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::stats::Recovery;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// How many epochs the shared words may be ahead of the session's slots, to be believed.
const SKIPPED_MAX: u64 = 1 << 10;

/// What an opening has found.
pub(super) struct Parts {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) file: Arc<StoreFile>,
    pub(super) share: Option<Arc<Share>>,
    pub(super) index: Index,
    pub(super) table: Table,
    pub(super) live: BTreeMap<u64, Arc<Segment>>,
    pub(super) usage: Arc<Usage>,
    pub(super) counters: Arc<Counters>,
    pub(super) damage: Arc<Damage>,
    pub(super) recovery: Recovery,
    pub(super) entries_exact: bool,
}

/// Segments found in the directory.
#[derive(Debug, Default)]
struct Found {
    live: BTreeMap<u64, Arc<Segment>>,
    /// Segments whose header was unreadable.
    damaged: u64,
    highest_id: u64,
}

impl Store {
    /// Opens the store that `storage` holds, or creates one.
    pub(super) fn open(storage: Arc<dyn Storage>, options: &Options) -> Result<Self> {
        let started = Instant::now();
        let now_ms = options.clock.now_ms();
        let (file, created) =
            StoreFile::open(&*storage, options.shares, || options.superblock(now_ms))?;
        let file = Arc::new(file);
        if file.standing() == Standing::Joining {
            return Self::join(storage, options, file, started);
        }
        let superblock = *file.superblock();
        if options.budget / 4 < u64::from(superblock.segment_len) {
            return Err(Error::Config {
                option: "budget",
                value: options.budget.to_string(),
                accepted: "at least four times the length of the store's segments is needed, \
                           which was chosen when it was created; give it more, or another directory",
            });
        }
        let recovery = match file.trust(&*storage) {
            _ if created => Recovery::Created,
            _ if options.distrust => Recovery::Rebuilt,
            Recovery::Clean if !file.words_are_right() => Recovery::Rebuilt,
            // What a mapping said last is not what can be read where it is not trusted.
            Recovery::ProcessDied if storage.is_buffered() => Recovery::Rebuilt,
            found => found,
        };
        let (counters, damage) = (Arc::new(Counters::default()), Arc::new(Damage::default()));
        if recovery == Recovery::Rebuilt && file.has_wrong_words() {
            counters.add(Count::Corrupt, 1);
            let what = "the shared words were wrong, and the index was built anew";
            damage.note(STORE.to_owned(), SHARED_AT, what);
            // Relaxed: nobody else has the store yet. The id is drawn above all there are.
            file.next_external().store(0, Ordering::Relaxed);
        }
        if recovery == Recovery::Rebuilt && file.trust(&*storage) != Recovery::Rebuilt {
            // Footers are written again from here on, under an index that another opening would
            // trust, should this one die.
            let distrusted = |last| Session { clean: false, suspect: true, ..last };
            file.change_session(&*storage, distrusted)?;
        }
        if storage.is_buffered() || recovery == Recovery::Rebuilt {
            // The words that are on the disk may be older than records that are: a slot may have
            // been given up since, or a segment been retiring. In the buffered mode that is so of
            // this session as well, should it die. Relaxed, as above.
            file.dropped().store(1, Ordering::Relaxed);
        }
        let usage = Arc::new(Usage::default());
        // The note that stands in the lock's file takes a block as well.
        usage.add(blocks(larder_format::layout::STORE_FILE_LEN as u64) + blocks(1));
        sweep_temporary(&*storage)?;
        if !options.read_only {
            share::remove(&*storage)?;
        }
        if !matches!(recovery, Recovery::Created | Recovery::Clean) {
            // Files that a process gave their names just before it died are taken over: what is
            // written to them from now on must not be lost with the name.
            for dir in ["", "seg"] {
                let io = |error| Error::io("sync", &storage.path(dir), error);
                storage.sync_dir(dir).map_err(io)?;
            }
        }

        let found = open_segments(&*storage, &superblock, &usage)?;
        let live_max = options.budget / u64::from(superblock.segment_len) + 64;
        let live_max = usize::try_from(live_max).unwrap_or(usize::MAX).max(found.live.len() * 2);
        // Each of those who share it has segments of its own beside those of the budget.
        let live_max = if options.shares { live_max + 4 * SHARE_PROCESSES } else { live_max };
        let table = Table::new(live_max);
        let share = if options.shares {
            let header = ShareHeader {
                uuid: superblock.uuid,
                budget: options.budget,
                retains_all: options.retain == Retain::All,
                positions: u32::try_from(table.len()).unwrap_or(u32::MAX),
                lanes: options.lane_count(),
            };
            usage.add(blocks(header.file_len() as u64));
            let share = Share::create(&*storage, header, now_ms)?;
            // Their positions differ, as the table has seen.
            for id in found.live.keys() {
                share.note_found(*id);
            }
            Some(share)
        } else {
            None
        };
        let guard = &crossbeam_epoch::pin();
        for segment in found.live.values() {
            if !table.is_free(segment.id(), guard) {
                let path = storage.path(&super::segment::file_name(segment.id()));
                let (field, allowed) = ("segment id", "ids that differ in their low bits");
                let source =
                    FormatError::Field { what: "segment", field, found: segment.id(), allowed };
                return Err(Error::format(&path, source));
            }
            table.insert(Arc::clone(segment), guard);
        }
        // Relaxed, here and below: nobody else has the store yet.
        let next = file.next_segment().load(Ordering::Relaxed);
        let trusted = matches!(recovery, Recovery::Clean | Recovery::ProcessDied);
        let next = if trusted { next.max(found.highest_id + 1) } else { found.highest_id + 1 };
        file.next_segment().store(next, Ordering::Relaxed);

        let hasher = KeyHasher::new(superblock.hash_seed);
        let index = if trusted {
            let source = || Source {
                segments: found.live.values().map(Arc::downgrade).collect(),
                hasher,
                file: Arc::downgrade(&file),
                counters: Arc::clone(&counters),
                damage: Arc::clone(&damage),
            };
            open_index(&*storage, &file, recovery == Recovery::Clean, source)?
        } else {
            None
        };
        let rebuild = index.is_none();
        if rebuild && !created {
            // Relaxed, as above. Slots come back that were given up, or whose segment was being
            // reclaimed; of what was written since then nothing says that it hides them. From
            // here on every record is taken for one that may (`dying.rs`).
            file.dropped().store(1, Ordering::Relaxed);
        }
        let (mut new, mut old) = match index {
            Some(pair) => pair,
            None => (fresh_index(&*storage, &superblock, &found, trusted)?, None),
        };
        let generations =
            u64::from(new.number()) | old.as_ref().map_or(0, |old| u64::from(old.number()) << 32);
        if share.is_some() {
            new.unseal();
            old.iter_mut().for_each(IndexFile::unseal);
        }
        let common = share
            .as_ref()
            .map(|_| Common { storage: Arc::clone(&storage), file: Arc::clone(&file) });
        if share.is_some() {
            // Before anybody compares it with what is mapped.
            file.generations().store(generations, Ordering::Relaxed);
        }
        let index = Index::new(new, old, &usage, common, guard);
        let parts = Parts {
            storage,
            file,
            share,
            index,
            table,
            live: found.live,
            usage,
            counters,
            damage,
            recovery: match recovery {
                // The index alone was unusable: what it says is what counts.
                Recovery::Clean | Recovery::ProcessDied if rebuild => Recovery::Rebuilt,
                recovery => recovery,
            },
            entries_exact: !options.shares && (recovery != Recovery::ProcessDied || rebuild),
        };
        let mut store = Self::assemble(parts, options)?;
        store.counters.add(Count::Corrupt, found.damaged);
        if recovery == Recovery::Clean {
            store.mend_segments()?;
            if rebuild {
                // From here on the shared words are no longer those that it vouches for. An
                // opening that ends early leaves an index without an epoch, which no later one
                // believes.
                let not_clean = |last| Session { clean: false, ..last };
                store.file.change_session(&*store.storage, not_clean)?;
            }
        }
        store.file.generations().store(generations, Ordering::Relaxed);
        let highest_seq = if rebuild && !created {
            let _entered = store.upkeep.observed.enter(Work::Rebuild);
            store.rebuild(trusted)?
        } else {
            0
        };
        let same_boot = store.file.is_same_boot(&*store.storage);
        store.list_cut_short()?;
        store.begin_session(highest_seq, now_ms)?;
        let last = store.adopt_open_segments()?;
        if store.recovery == Recovery::ProcessDied && !store.upkeep.read_only {
            // Before files of large values are swept, which it may name.
            store.settle_cut_off(last)?;
        }
        store.sweep_external(recovery != Recovery::Clean, same_boot)?;
        store.finish_clear()?;
        store.sweep_indexes()?;
        store.let_others_in()?;
        store.open_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (records, open_us) = (store.recovered_records, store.open_us);
        let recovery = store.recovery;
        store.upkeep.observed.note(|| Event::Recovered { recovery, records, open_us });
        if let Some(why) = options.unmapped {
            store.upkeep.observed.note(|| Event::Unmapped { why });
        }
        Ok(store)
    }

    /// What an opening has found, as a store.
    pub(super) fn assemble(parts: Parts, options: &Options) -> Result<Self> {
        let Parts { storage, file, share, index, table, live, usage, counters, damage, .. } = parts;
        let superblock = *file.superblock();
        let packer = Packer::new(options)?;
        let usual_below = usual_below(options, &packer, superblock.external_min as usize);
        Ok(Self {
            hasher: KeyHasher::new(superblock.hash_seed),
            clock: Arc::clone(&options.clock),
            ttl: options.ttl,
            budget: AtomicU64::new(options.budget),
            budget_max: options.budget,
            index,
            table,
            live: Mutex::new(live),
            lanes: Lanes::new(options.writers(), share.clone()),
            cleared: AtomicU64::new(file.cleared_seq()),
            coming: AtomicU64::new(0),
            batching: AtomicBool::new(false),
            reclaiming: Mutex::new(None),
            upkeep: Upkeep::new(options),
            externals: Externals::new(superblock.uuid, &usage, share.is_some()),
            packer,
            usual_below,
            array_file_from: options.array_file_from,
            doomed: Mutex::new(Vec::new()),
            usage,
            counters,
            damage,
            lost_tags: LostTags::default(),
            recovery: parts.recovery,
            recovered_records: 0,
            open_us: 0,
            entries_exact: parts.entries_exact,
            vital: Vital::open()?,
            gate: RwLock::new(()),
            together: share.map(Together::new),
            storage,
            file,
        })
    }

    /// Writes the session of this opening, durably, and starts its sequence numbers above all
    /// that were ever handed out.
    fn begin_session(&self, highest_seq: u64, now_ms: u64) -> Result<()> {
        let seen = highest_seq >> Session::COUNTER_BITS;
        // The last session's slot may be torn, and the words be its.
        // Relaxed: nobody else has the store yet.
        let shared = self.file.next_seq().load(Ordering::Relaxed) >> Session::COUNTER_BITS;
        // Openings that failed count as well.
        let last = self.file.last_epoch();
        let torn = Some(shared).filter(|epoch| (last + 1..=last + SKIPPED_MAX).contains(epoch));
        let epoch = last.max(seen).max(torn.unwrap_or(0)) + 1;
        let boot = self.storage.identity();
        // What is found after a clean end, or a start of the machine, is on the disk.
        let found = self.file.session().is_none_or(|last| last.clean || last.boot != boot);
        let settled_seq = match found {
            true => (epoch << Session::COUNTER_BITS) - 1,
            false => self.file.unsettled_from().saturating_sub(1),
        };
        let session = Session {
            epoch,
            boot,
            clean: false,
            // A buffered session leaves words behind that say nothing, and writes that no sync
            // need have seen: until it ends cleanly, all has to be looked at.
            suspect: self.storage.is_buffered(),
            opened_ms: now_ms,
            pid: std::process::id(),
            words_crc: 0,
            segments_crc: 0,
            cleared_seq: self.file.cleared_seq(),
            settled_seq,
        };
        // First, so that the index is never older than the session: a process that dies in
        // between leaves one that is ahead by one.
        self.index.set_epoch(session.epoch);
        // Sequence 0 is no sequence. First as well, so that it is in the file wherever the session
        // is: should the session's slot ever be lost, the clean end before it vouches for other
        // words than these.
        self.file.next_seq().store(session.first_seq() + 1, Ordering::Relaxed);
        self.file.begin_session(&*self.storage, session)
    }

    /// Goes on with the segments that an earlier process left open, as far as there are lanes
    /// for them, and seals the others. Returns the last records of all of them.
    fn adopt_open_segments(&self) -> Result<Vec<Last>> {
        let blank: Vec<_> = {
            let live = self.all_live();
            live.values().filter(|segment| segment.is_blank()).cloned().collect()
        };
        for segment in blank {
            match segment.state() {
                SegmentState::Open => self.take_up_spare(segment)?,
                // The index was built anew, which seals what was open.
                _ => self.unlink(&segment)?,
            }
        }
        let open: Vec<_> = {
            let live = self.all_live();
            let open = |s: &&Arc<Segment>| s.state() == SegmentState::Open && !s.is_blank();
            live.values().filter(open).cloned().collect()
        };
        let mut last = Vec::new();
        // The youngest has the most room left.
        for (lane, segment) in open.into_iter().rev().enumerate() {
            let Some(mut writer) = Writer::new(Arc::clone(&segment)) else {
                // Its file was cut short: what is left can be read, and is reclaimed in turn.
                segment.set_state(SegmentState::Sealed);
                continue;
            };
            // A batch that was cut off: its pending slots point to what comes next there.
            let next_lane = if segment.has_cut_off_batch() { usize::MAX } else { lane };
            if !self.upkeep.read_only {
                let path = || self.storage.path(&super::segment::file_name(segment.id()));
                writer.scrub().map_err(|error| Error::io("write to", &path(), error))?;
            }
            last.extend(segment.last_entry().map(|entry| (Arc::clone(&segment), entry)));
            if let Some(writer) = self.lanes.resume(next_lane, writer) {
                let _ = writer.seal(self.file.next_segment().load(Ordering::Relaxed));
            }
        }
        Ok(last)
    }

    /// Removes index files that are not in use.
    fn sweep_indexes(&self) -> Result<()> {
        let word = self.file.generations().load(Ordering::Relaxed);
        let used = [word & 0xFFFF_FFFF, word >> 32];
        for name in list(&*self.storage, "")? {
            let generation =
                name.strip_prefix("index.").and_then(|hex| u32::from_str_radix(hex, 16).ok());
            if let Some(generation) = generation
                && !used.contains(&generation.into())
                && name == growth::file_name(generation)
            {
                let path = || self.storage.path(&name);
                self.storage.remove(&name).map_err(|error| Error::io("remove", &path(), error))?;
            }
        }
        Ok(())
    }
}

/// The id in a file's name, which has to be exactly as this crate writes it.
pub(super) fn parse_id(name: &str, suffix: &str) -> Option<u64> {
    let hex = name.strip_suffix(suffix)?;
    let id = u64::from_str_radix(hex, 16).ok()?;
    (format!("{id:016x}") == hex).then_some(id)
}

/// Removes what a process left that died while a file was being born. Only names that this
/// crate gives are touched.
fn sweep_temporary(storage: &dyn Storage) -> Result<()> {
    for dir in ["", "seg", "arr", "big"] {
        for name in list(storage, dir)? {
            let ours = match dir {
                "" => name.starts_with("index.") || name.starts_with("store."),
                _ => name.len() > 16 && name[..16].bytes().all(|byte| byte.is_ascii_hexdigit()),
            };
            if ours && name.ends_with(".tmp") {
                let name = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                storage
                    .remove(&name)
                    .map_err(|error| Error::io("remove", &storage.path(&name), error))?;
            }
        }
    }
    Ok(())
}

fn open_segments(
    storage: &dyn Storage,
    superblock: &Superblock,
    usage: &Arc<Usage>,
) -> Result<Found> {
    let mut found = Found::default();
    for name in list(storage, "seg")? {
        let Some(id) = parse_id(&name, ".log") else { continue };
        found.highest_id = found.highest_id.max(id);
        match Segment::open(storage, id, &superblock.uuid, superblock.segment_len, usage) {
            Ok((segment, damage)) => {
                found.damaged += u64::from(damage.is_some());
                found.live.insert(id, Arc::new(segment));
            }
            // Another store's, a newer format's, or cut to nothing: it is left alone.
            Err(Error::Format { .. }) => found.damaged += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The generations in use, if their files are whole. Pages that nobody has met since a clean
/// end are compared with their checksums when they are.
fn open_index(
    storage: &dyn Storage,
    file: &StoreFile,
    clean: bool,
    source: impl Fn() -> Source,
) -> Result<Option<(IndexFile, Option<IndexFile>)>> {
    // Acquire: pairs with the Release in `Ground::note`.
    let word = file.generations().load(Ordering::Acquire);
    let [new, old] = [word & 0xFFFF_FFFF, word >> 32].map(|n| u32::try_from(n).unwrap_or(0));
    let uuid = &file.superblock().uuid;
    // An index from before the last session is an old copy that somebody put back.
    let open = |generation| -> Result<_> {
        let index = IndexFile::open(storage, uuid, generation)?;
        let index = index.filter(|index| {
            index.epoch() >= file.last_epoch() && (!clean || index.summed() == file.last_epoch())
        });
        Ok(index.map(|mut index| {
            if index.summed() != 0 {
                index.set_seal(Seal::new(source()), clean);
            }
            index
        }))
    };
    let Some(new) = open(new)? else { return Ok(None) };
    if old == 0 {
        return Ok(Some((new, None)));
    }
    if clean {
        // A clean end leaves one generation.
        return Ok(None);
    }
    Ok(open(old)?.map(|old| (new, Some(old))))
}

/// An empty index with room for what the segments hold, above all generations there were.
///
/// If the committed words are not `trusted`, the entries that the files hold are counted, so
/// that the index need not grow while it is filled.
fn fresh_index(
    storage: &dyn Storage,
    superblock: &Superblock,
    found: &Found,
    trusted: bool,
) -> Result<IndexFile> {
    let entries = |segment: &Arc<Segment>| {
        let committed = u64::from(segment.region().committed().entries);
        if trusted { committed } else { committed.max(segment.count_entries()) }
    };
    let records: u64 = found.live.values().map(entries).sum();
    let mut bits = superblock.index_base_bits;
    let slots = |page_bits| Geometry { page_bits, base_bits: page_bits }.slots() as u64;
    while bits < larder_format::layout::PAGE_BITS_MAX && records * 2 > slots(bits) {
        bits += 1;
    }
    let numbers = list(storage, "")?
        .into_iter()
        .filter_map(|name| u32::from_str_radix(name.strip_prefix("index.")?, 16).ok());
    let generation = numbers.max().unwrap_or(0).wrapping_add(1).max(1);
    let geometry = Geometry { page_bits: bits, base_bits: bits };
    let index =
        IndexFile::create(storage, IndexHeader { uuid: superblock.uuid, generation, geometry })?;
    index.wipe();
    Ok(index)
}
