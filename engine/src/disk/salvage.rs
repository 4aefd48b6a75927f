//! Before a repair opens a store: files that would stop it, or that it would have to delete, are
//! moved to `lost+found`, and a damaged superblock is written again.
//!
//! # Invariants
//! 1. Nothing is deleted. What was moved keeps its name, with a number behind it if there is one
//!    of that name already.
//! 2. A superblock is written again only if a record proves it: its checksum takes part in the
//!    store's id, and the hash of its key, which stands in the footer, in the seed. The seed
//!    stands nowhere else, so that without it no key could be found.
//! 3. Every step leaves what the next repair goes on from.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use larder_format::Superblock;
use larder_format::layout::{
    ENTRY_LEN, SEGMENT_DATA, SEGMENT_HEADER_LEN, SHARED_DROPPED, STORE_FILE_LEN, SUPERBLOCK_LEN,
    TRAILER_LEN,
};
use larder_format::scan::payload_is_intact;
use larder_format::{FooterEntry, FormatError, KeyHasher, RecordHeader, Salt, SegmentHeader};

use super::external::{self, FileId, PLACES};
use super::open::parse_id;
use super::segment::{Segment, file_name};
use super::session::{DIRS, STORE, list, lock_process};
use super::storage::{File, Storage, give_birth};
use crate::error::{Error, Result};

/// Where files go that cannot be used.
const LOST_FOUND: &str = "lost+found";
/// Files of one name in there.
const SAME_NAME_MAX: u32 = 1000;

/// What was done before the store is opened.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// Where files are now that were moved.
    pub(super) moved: Vec<PathBuf>,
    /// Whether the superblock was written again.
    pub(super) superblock: bool,
}

/// Makes a directory fit to be opened. The lock is not held any more when it returns; whoever
/// opens the store then opens one that is whole.
pub(super) fn salvage(storage: &dyn Storage) -> Result<Salvaged> {
    let segments = list_or_none(storage, "seg")?;
    let path = storage.path(STORE);
    let store = storage.open(STORE)?;
    if store.is_none() && segments.is_empty() {
        return Err(Error::io("find a store at", &path, io::ErrorKind::NotFound.into()));
    }
    for dir in DIRS {
        storage.make_dir(dir)?;
    }
    let _lock = lock_process(storage)?;
    let mut salvaged = Salvaged::default();
    let superblock = save_superblock(storage, store, &segments, &mut salvaged)?;
    for name in &segments {
        if let Some(id) = parse_id(name, ".log") {
            save_segment(storage, &superblock, id, &mut salvaged)?;
        }
    }
    let mut files = Vec::new();
    for (class, dir, suffix) in PLACES {
        let names = list_or_none(storage, dir)?;
        let ids = names.iter().filter_map(|name| parse_id(name, suffix));
        files.extend(ids.map(|id| FileId { class, id }));
    }
    for FileId { class, id } in files {
        let name = FileId { class, id }.name();
        let Some(file) = storage.open(&name)? else { continue };
        let footer = external::read_footer(&*file, &superblock.uuid, id);
        if footer.map_err(|error| Error::io("read", &storage.path(&name), error))?.is_none() {
            set_aside(storage, &name, &mut salvaged.moved)?;
        }
    }
    Ok(salvaged)
}

fn list_or_none(storage: &dyn Storage, dir: &str) -> Result<Vec<String>> {
    match list(storage, dir) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names,
    }
}

/// Moves a file to `lost+found`, durably.
pub(super) fn set_aside(storage: &dyn Storage, name: &str, moved: &mut Vec<PathBuf>) -> Result<()> {
    storage.make_dir(LOST_FOUND)?;
    let (dir, last) = name.rsplit_once('/').unwrap_or(("", name));
    let io = |error| Error::io("move away", &storage.path(name), error);
    for number in 0..SAME_NAME_MAX {
        let target = match number {
            0 => format!("{LOST_FOUND}/{last}"),
            _ => format!("{LOST_FOUND}/{last}.{number}"),
        };
        match storage.rename(name, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io(error)),
            Ok(()) => {
                for dir in [LOST_FOUND, dir] {
                    storage.sync_dir(dir).map_err(io)?;
                }
                moved.push(storage.path(&target));
                return Ok(());
            }
        }
    }
    Err(io(io::ErrorKind::AlreadyExists.into()))
}

/// The superblock, written again if it is damaged and can be proven.
fn save_superblock(
    storage: &dyn Storage,
    store: Option<Arc<dyn File>>,
    segments: &[String],
    salvaged: &mut Salvaged,
) -> Result<Superblock> {
    let path = storage.path(STORE);
    let io = |error| Error::io("read", &path, error);
    let is_there = store.is_some();
    // A repair that was cut off may have moved it already.
    let file = match store {
        Some(file) => Some(file),
        None => storage.open(&format!("{LOST_FOUND}/{STORE}"))?,
    };
    let mut bytes = vec![0; STORE_FILE_LEN];
    let mut len = 0;
    if let Some(file) = &file {
        len = usize::try_from(file.len().map_err(io)?).unwrap_or(usize::MAX).min(STORE_FILE_LEN);
        file.read_at(&mut bytes[..len], 0).map_err(io)?;
    }
    let superblock = match Superblock::decode(&bytes[..len.min(SUPERBLOCK_LEN)]) {
        Ok(superblock) if is_there && len == STORE_FILE_LEN => return Ok(superblock),
        Ok(superblock) => superblock,
        // Nothing is wrong with what is newer than this program.
        Err(error @ (FormatError::Version { .. } | FormatError::Features { .. })) => {
            return Err(Error::format(&path, error));
        }
        Err(_) => prove(storage, &bytes, segments)?.ok_or_else(|| Error::Irreparable {
            path: path.clone(),
            why: "no record proves the id and the seed of the store that stand in it",
        })?,
    };
    if is_there {
        set_aside(storage, STORE, &mut salvaged.moved)?;
    }
    bytes[..SUPERBLOCK_LEN].copy_from_slice(&superblock.encode());
    if len < STORE_FILE_LEN {
        // Whether slots were given up is not known any more.
        bytes[SHARED_DROPPED..SHARED_DROPPED + 8].copy_from_slice(&1_u64.to_le_bytes());
    }
    give_birth(storage, STORE, STORE_FILE_LEN as u64, true, |file| file.write_at(&bytes, 0))?;
    salvaged.superblock = true;
    Ok(superblock)
}

/// The superblock that what is left of one and the segments show, if a record proves it.
fn prove(storage: &dyn Storage, left: &[u8], segments: &[String]) -> Result<Option<Superblock>> {
    let at = |from: usize| left.get(from..from + 16)?.try_into().ok();
    let (Some(uuid), Some(hash_seed)) = (at(Superblock::UUID_AT), at(Superblock::HASH_SEED_AT))
    else {
        return Ok(None);
    };
    let hasher = KeyHasher::new(hash_seed);
    for name in segments {
        let Some(id) = parse_id(name, ".log") else { continue };
        let name = file_name(id);
        let Some(file) = storage.open(&name)? else { continue };
        let io = |error| Error::io("read", &storage.path(&name), error);
        let mut bytes = vec![0; usize::try_from(file.len().map_err(io)?).unwrap_or(0)];
        file.read_at(&mut bytes, 0).map_err(io)?;
        let header = bytes.get(..SEGMENT_HEADER_LEN).map(SegmentHeader::decode_any);
        let Some(Ok(header)) = header else { continue };
        for uuid in [uuid, header.uuid] {
            if proves(&bytes, Salt::new(&uuid, id), &hasher) {
                return Ok(Some(Superblock {
                    uuid,
                    hash_seed,
                    compatible: 0,
                    read_only_compatible: 0,
                    incompatible: 0,
                    segment_len: header.file_len,
                    // The index is built anew, as large as it has to be.
                    index_base_bits: 0,
                    external_min: header.file_len / 8,
                    created_ms: header.created_ms,
                }));
            }
        }
    }
    Ok(None)
}

/// Whether a segment's file has an intact record whose footer entry has the hash of its key.
fn proves(bytes: &[u8], salt: Salt, hasher: &KeyHasher) -> bool {
    let Some(end) = bytes.len().checked_sub(TRAILER_LEN) else { return false };
    let entries = bytes.get(SEGMENT_DATA..end).unwrap_or_default().rchunks_exact(ENTRY_LEN);
    for entry in entries {
        // Above the last entry there are records, or nothing.
        let Ok(entry) = FooterEntry::decode(entry) else { return false };
        let at = entry.offset();
        let record = bytes.get(at..).map(|from| RecordHeader::decode(from, salt, at as u64));
        let Some(Ok(header)) = record else { continue };
        let key_at = header.extent(at).key_at;
        let key = bytes.get(key_at..key_at + usize::from(header.key_len));
        if payload_is_intact(bytes, at, &header)
            && key.is_some_and(|key| hasher.hash(key) == entry.key_hash)
        {
            return true;
        }
    }
    false
}

/// Moves a segment's file away if it cannot be used; gives one that was cut short its length
/// again, so that what is left of it gets a footer.
fn save_segment(
    storage: &dyn Storage,
    superblock: &Superblock,
    id: u64,
    salvaged: &mut Salvaged,
) -> Result<()> {
    let name = file_name(id);
    let opened =
        Segment::open(storage, id, &superblock.uuid, superblock.segment_len, &Arc::default());
    let segment = match opened {
        Ok((segment, _)) => segment,
        Err(Error::Format { .. }) => return set_aside(storage, &name, &mut salvaged.moved),
        Err(error) => return Err(error),
    };
    if segment.region().is_whole() {
        return Ok(());
    }
    let mut bytes = vec![0; segment.region().len()];
    let read = segment.region().read_uncommitted(&mut bytes, 0);
    read.map_err(|error| Error::io("read", &storage.path(&name), error))?;
    let nominal = segment.len() as u64;
    drop(segment);
    set_aside(storage, &name, &mut salvaged.moved)?;
    give_birth(storage, &name, nominal, true, |file| file.write_at(&bytes, 0))?;
    Ok(())
}
