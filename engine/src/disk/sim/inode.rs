//! A file of a simulated machine: what the process sees of it, and what the disk holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::heap::HeapFile;
use crate::disk::storage::File as _;

/// A file, whatever its name.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) len: usize,
    /// What the process sees; made when the file is first opened, until then it is `disk`.
    pub(super) cache: Option<HeapFile>,
    /// What the disk holds; `None` is zeros.
    pub(super) disk: Option<Arc<[u8]>>,
    /// Whether the disk knows its length.
    pub(super) born: bool,
    /// Sectors that a failed sync took for clean, with what they hold.
    pub(super) clean: BTreeMap<usize, Box<[u8]>>,
    pub(super) name: Option<String>,
    pub(super) disk_name: Option<String>,
}

impl Inode {
    pub(super) fn is_held(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.holders() > 1)
    }

    fn disk_bytes(&self, at: std::ops::Range<usize>) -> &[u8] {
        const ZEROS: [u8; 4096] = [0; 4096];
        match &self.disk {
            Some(disk) => &disk[at],
            None => &ZEROS[..at.len()],
        }
    }

    /// What the process sees, if that may differ from what the disk holds.
    pub(super) fn contents(&self) -> Option<Vec<u8>> {
        let cache = self.cache.as_ref()?;
        let mut bytes = vec![0; self.len];
        cache.read_at(&mut bytes, 0).unwrap();
        Some(bytes)
    }

    /// Sectors of `bytes` that the disk does not hold, by their number.
    pub(super) fn dirty(&self, bytes: &[u8], sector: usize) -> Vec<usize> {
        if self.disk.as_ref().is_some_and(|disk| disk[..] == *bytes) {
            return Vec::new();
        }
        let sectors = bytes.chunks(sector).enumerate();
        let differs = |&(number, now): &(usize, &[u8])| {
            *now != *self.disk_bytes(number * sector..number * sector + now.len())
        };
        sectors.filter(differs).map(|(number, _)| number).collect()
    }

    /// Writes the sectors of `bytes` that `choose` picks to the disk.
    pub(super) fn write_back(
        &mut self,
        bytes: &[u8],
        sector: usize,
        mut choose: impl FnMut(usize) -> bool,
    ) {
        let mut chosen = self.dirty(bytes, sector);
        chosen.retain(|number| {
            let at = number * sector;
            let now = &bytes[at..(at + sector).min(bytes.len())];
            let is_clean = self.clean.get(number).is_some_and(|clean| **clean == *now);
            !is_clean && choose(*number)
        });
        if chosen.is_empty() {
            return;
        }
        let mut disk = self.disk.as_ref().map_or_else(|| vec![0; self.len], |disk| disk.to_vec());
        for number in chosen {
            let at = number * sector..((number + 1) * sector).min(bytes.len());
            disk[at.clone()].copy_from_slice(&bytes[at]);
            self.clean.remove(&number);
        }
        self.disk = Some(disk.into());
    }
}
