//! Checks what a replay acknowledged against what a store still has.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::tiers::Tiers;
use crate::value;

/// Acknowledged insertions, and what is left of them.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Acked {
    /// Different objects that were acknowledged.
    pub(super) acked: u64,
    /// Of these, with the last acknowledged value.
    pub(super) present: u64,
    /// Of these, with a value of their own that was not the last acknowledged: an insertion
    /// that was under way when the replay died.
    pub(super) newer: u64,
    /// Of these, without a value.
    pub(super) missing: u64,
    /// Of these, with a value that was never put under this key.
    pub(super) wrong: u64,
    /// Values that the disk has evicted since it was opened.
    pub(super) evictions: u64,
    /// Entries on disk.
    pub(super) entries: u64,
}

/// Looks up every object that `file` says was acknowledged.
pub(super) fn check(file: &Path, tiers: &dyn Tiers) -> anyhow::Result<Acked> {
    let acked = read(file).with_context(|| file.display().to_string())?;
    let mut found = Acked { acked: acked.len() as u64, ..Acked::default() };
    for (&id, &size) in &acked {
        let mut stored = None;
        let hit = tiers.get(id, &mut |bytes| stored = value::check(bytes, id))?;
        match stored {
            _ if !hit => found.missing += 1,
            Some(other) if other == size => found.present += 1,
            Some(_) => found.newer += 1,
            None => found.wrong += 1,
        }
    }
    let gauge = tiers.gauge();
    found.evictions = gauge.disk_evictions;
    found.entries = gauge.disk_entries;
    Ok(found)
}

/// The last acknowledged size of each object. A last line without an end was being written
/// when the replay died: it acknowledges nothing.
fn read(file: &Path) -> anyhow::Result<HashMap<u64, u32>> {
    let mut lines = BufReader::new(File::open(file).context("cannot be opened")?);
    let mut acked = HashMap::new();
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        lines.read_line(&mut line).context("cannot be read")?;
        let Some(whole) = line.strip_suffix('\n') else { break };
        let (id, size) = whole
            .split_once(',')
            .and_then(|(id, size)| Some((id.parse().ok()?, size.parse().ok()?)))
            .with_context(|| format!("line {number} is not what --ack writes"))?;
        acked.insert(id, size);
    }
    Ok(acked)
}

#[cfg(test)]
mod tests {
    use super::super::tiers::tests::Map;
    use super::*;
    use std::fs;

    fn put(map: &Map, id: u64, size: u32) {
        let mut buffer = Vec::new();
        value::fill(&mut buffer, id, size);
        assert!(map.insert(id, &buffer).unwrap());
    }

    fn verdict(map: &Map, text: &str) -> anyhow::Result<Acked> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acked");
        fs::write(&path, text).unwrap();
        check(&path, map)
    }

    #[test]
    fn each_acknowledged_object_is_present_newer_missing_or_wrong() {
        let map = Map { spoiled: Some(4), ..Map::default() };
        (1..=4).for_each(|id| put(&map, id, 30));
        put(&map, 2, 31);
        map.remove(3);
        let found = verdict(&map, "1,29\n2,30\n3,30\n4,30\n1,30\n9,9").unwrap();
        let expected =
            Acked { acked: 4, present: 1, newer: 1, missing: 1, wrong: 1, ..Acked::default() };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_of_another_kind_is_refused_with_the_line() {
        let error = verdict(&Map::default(), "1,2\nhello\n").expect_err("refused");
        assert!(format!("{error:#}").contains("line 2"));
    }
}
