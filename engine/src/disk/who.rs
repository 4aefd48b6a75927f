//! Who has a store open, for somebody who has not: nothing is joined, and nothing written.
//!
//! A process that shares the store has its slot in the file `share`, and holds the lock of that slot for as
//! long as it lives. One that has the store alone holds the lock of the first slot, and its note says who
//! it is. The words may change while they are read; each of them was right at some moment.

use larder_format::layout::{
    PAGE, SHARE_HEADER_LEN, SHARE_HELD, SHARE_OPENED, SHARE_PID, SHARE_PROCESSES, SHARE_SLOTS,
    SHARE_TAKEN, SUPERBLOCK_LEN,
};
use larder_format::{ShareHeader, Superblock};

use super::session::STORE;
use super::share::{Entry, Process, SHARE, process_lock};
use super::storage::{File, Storage};
use crate::error::{Error, Result};

/// Words at the beginning of a slot that say who it is.
const FIGURES: usize = SHARE_HELD / 8 + 1;

/// Those who have the store open, through storage whose locks are shared.
pub(super) fn who(storage: &dyn Storage) -> Result<Vec<Process>> {
    let sharers = sharers(storage)?;
    if !sharers.is_empty() || storage.lock(&process_lock(0), "")?.is_some() {
        return Ok(sharers);
    }
    // Locked, and not by somebody who reads.
    let pid = noted_pid(storage);
    let is_self = pid == std::process::id();
    Ok(vec![Process { pid, opened_ms: 0, segments: 0, held_bytes: 0, is_self }])
}

/// One of those who have the store open; 0 if none says so.
pub(super) fn any_pid(storage: &dyn Storage) -> u32 {
    // Only for a message: what cannot be read is left out.
    let sharers = sharers(storage).unwrap_or_default();
    sharers.first().map_or_else(|| noted_pid(storage), |process| process.pid)
}

fn noted_pid(storage: &dyn Storage) -> u32 {
    let note = storage.read_note(&process_lock(0));
    note.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(0)
}

/// Those who share the store and live.
fn sharers(storage: &dyn Storage) -> Result<Vec<Process>> {
    let (Some(store), Some(share)) = (storage.open(STORE)?, storage.open(SHARE)?) else {
        return Ok(Vec::new());
    };
    let read = |file: &dyn File, name, at: usize, len| {
        let mut bytes = vec![0; len];
        let read = file.read_at(&mut bytes, at as u64);
        read.map(|()| bytes).map_err(|error| Error::io("read", &storage.path(name), error))
    };
    let superblock = Superblock::decode(&read(&*store, STORE, 0, SUPERBLOCK_LEN)?)
        .map_err(|source| Error::format(&storage.path(STORE), source))?;
    let header = read(&*share, SHARE, 0, SHARE_HEADER_LEN)?;
    let header = ShareHeader::decode(&header, &superblock.uuid)
        .map_err(|source| Error::format(&storage.path(SHARE), source))?;
    let words = |at, count: usize| {
        let bytes = read(&*share, SHARE, at, count * 8)?;
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        Ok::<Vec<u64>, Error>(words.collect())
    };
    let taken = words(SHARE_TAKEN, SHARE_PROCESSES / 64)?;
    let entries = words(ShareHeader::TABLE_AT, header.positions as usize)?;
    let mut found = Vec::new();
    for number in 0..SHARE_PROCESSES {
        let is_taken = taken[number / 64] >> (number % 64) & 1 == 1;
        // A dead process may still wait for its heir.
        if !is_taken || !storage.is_locked(&process_lock(number))? {
            continue;
        }
        let slot = words(SHARE_SLOTS + number * PAGE, FIGURES)?;
        let owned = entries.iter().filter(|entry| Entry::of(**entry).owner() == Some(number));
        let pid = u32::try_from(slot[SHARE_PID / 8]).unwrap_or(0);
        found.push(Process {
            pid,
            opened_ms: slot[SHARE_OPENED / 8],
            segments: owned.count() as u64,
            held_bytes: slot[SHARE_HELD / 8],
            is_self: pid == std::process::id(),
        });
    }
    Ok(found)
}
