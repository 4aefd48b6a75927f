//! Looking at everything that a store holds.

use std::path::PathBuf;

use larder_format::{Flags, Kind, SegmentState};

use super::segment::{Segment, file_name};
use super::store::Store;
use crate::error::Result;

/// What [`Disk::verify`](crate::Disk::verify) found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments looked at.
    pub segments: u64,
    /// Records looked at, dead ones included.
    pub records: u64,
    /// Records that the index leads to.
    pub live: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// One thing that is wrong. Lookups meet it as a miss; nothing else is affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in the file, in bytes from its start.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

impl Store {
    pub(super) fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<VerifyReport> {
        self.check_open()?;
        let mut report = VerifyReport::default();
        let segments: Vec<_> = self.all_live().values().cloned().collect();
        let total = segments.len() as u64;
        for segment in &segments {
            progress(report.segments, total);
            self.verify_segment(segment, &mut report)?;
            report.segments += 1;
        }
        self.index.meet_all(&crossbeam_epoch::pin());
        for mended in self.damage.all() {
            let (path, offset) = (self.storage.path(&mended.file), mended.offset as u64);
            report.findings.push(Finding { path, offset, what: mended.what.to_owned() });
        }
        progress(total, total);
        Ok(report)
    }

    pub(super) fn verify_segment(
        &self,
        segment: &Segment,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let path = || self.storage.path(&file_name(segment.id()));
        let mut find = |offset: usize, what: String| {
            report.findings.push(Finding { path: path(), offset: offset as u64, what });
        };
        if !segment.region().is_whole() {
            find(segment.region().len(), "the file was cut short".to_owned());
        }
        if segment.header().base_seq == 0 {
            find(0, "the header is damaged".to_owned());
        }
        // Who only reads seals in memory, where the trailer is not looked for.
        if segment.state() == SegmentState::Sealed
            && !self.upkeep.read_only
            && segment.region().is_whole()
            && let Err(error) = segment.trailer()
        {
            find(segment.len(), error.to_string());
        }
        for entry in segment.entries().rev() {
            let guard = &crossbeam_epoch::pin();
            report.records += 1;
            let record = match segment.record(entry.offset()) {
                Ok(record) => record,
                Err(error) => {
                    find(entry.offset(), error.to_string());
                    continue;
                }
            };
            report.bytes += record.len() as u64;
            if record.header.kind != entry.kind || self.hasher.hash(record.key()) != entry.key_hash
            {
                find(entry.offset(), "the record is not what the footer says".to_owned());
                continue;
            }
            let flags = record.header.flags;
            if !record.is_intact() {
                let is_array = flags.has(Flags::ARRAY) && !flags.has(Flags::EXTERNAL);
                let named = if is_array { self.array_damage(&record, guard)? } else { None };
                let what = || "key or value fail their checksum".to_owned();
                find(entry.offset(), named.unwrap_or_else(what));
                continue;
            }
            let current = self.lookup(entry.key_hash, record.key(), guard);
            let is_live = current.is_some_and(|found| {
                found.found.segment.id() == segment.id() && found.found.offset == record.offset
            });
            if !is_live || record.header.kind != Kind::Value {
                continue;
            }
            report.live += 1;
            if !self.is_live_at(&record, || self.clock.now_ms(), guard) {
                // Nobody reads it again: its file may be gone.
                continue;
            }
            if flags.has(Flags::ARRAY) {
                if let Some(what) = self.array_damage(&record, guard)? {
                    find(entry.offset(), what);
                }
                continue;
            }
            if flags.has(Flags::EXTERNAL) && self.external(&record, guard)?.is_none() {
                find(entry.offset(), "its external file is missing or damaged".to_owned());
                continue;
            }
            if record.header.flags.has(Flags::COMPRESSED)
                && let Err(why) = self.unpack(&record, guard)?
            {
                find(entry.offset(), why.to_string());
            }
        }
        Ok(())
    }
}
