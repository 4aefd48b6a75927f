//! What a loss of power leaves of a machine, and what the death of its process leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fault::Lie;
use super::ledger::Ledger;
use super::world::{Entry, World, parent};
use crate::disk::heap::HeapFile;
use crate::disk::storage::File as _;

/// How much of what was not synced survives a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survives {
    Least,
    Most,
    Random,
}

/// What was left at some moment.
#[derive(Debug)]
pub(super) struct Cut {
    /// What was acknowledged then.
    pub(super) ledger: Arc<Ledger>,
    /// The last changing call that was made.
    pub(super) after_call: u64,
    pub(super) is_death: bool,
    pub(super) left: World,
}

impl World {
    /// Makes cuts here and keeps them for the harness.
    pub(super) fn keep_cut(&mut self) {
        for variant in 0..self.cut_variants {
            self.keep_cut_of(match variant {
                0 if self.cut_variants > 1 => Survives::Least,
                1 => Survives::Most,
                _ => Survives::Random,
            });
        }
    }

    /// Makes a cut here and keeps it; or lets the process die, if the run has deaths.
    pub(super) fn keep_cut_of(&mut self, survives: Survives) {
        let is_death = self.deaths && self.random.once_in(4);
        let left = if is_death { self.death() } else { self.cut(survives) };
        let ledger = Arc::clone(&self.ledger);
        self.cuts.push(Cut { ledger, after_call: self.calls, is_death, left });
    }

    /// A machine with nothing in memory, set up as this one.
    fn restarted(&mut self) -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            dirs: BTreeSet::from([String::new()]),
            disk_dirs: BTreeSet::from([String::new()]),
            pending: Vec::new(),
            locked: BTreeSet::new(),
            random: self.random.fork(),
            fault: None,
            stale: BTreeMap::new(),
            cuts: Vec::new(),
            ledger: Arc::clone(&self.ledger),
            ..*self
        }
    }

    /// What the disk might hold if the power went now.
    pub(super) fn cut(&mut self, survives: Survives) -> Self {
        let mut left = self.restarted();
        left.boot += u8::from(self.lie != Some(Lie::SameBoot));
        let chosen = match survives {
            Survives::Least => BTreeSet::new(),
            Survives::Most => (0..self.pending.len()).collect(),
            Survives::Random => self.chosen(),
        };
        let mut names: BTreeMap<u64, Option<&String>> =
            self.inodes.iter().map(|(id, inode)| (*id, inode.disk_name.as_ref())).collect();
        left.dirs.clone_from(&self.disk_dirs);
        for number in &chosen {
            match &self.pending[*number].what {
                Entry::Name { inode, name } => {
                    names.insert(*inode, name.as_ref());
                }
                Entry::Dir(dir) => {
                    left.dirs.insert(dir.clone());
                }
            }
        }
        left.disk_dirs.clone_from(&left.dirs);
        // How many sectors of four come through.
        let share = match survives {
            Survives::Least => 0,
            Survives::Most => 4,
            Survives::Random => left.random.below(5),
        };
        for (id, inode) in &self.inodes {
            let Some(name) = names[id].filter(|name| left.dirs.contains(parent(name))) else {
                continue;
            };
            let mut after = inode.clone();
            after.cache = None;
            after.clean = BTreeMap::new();
            if !inode.born && survives == Survives::Random && left.random.once_in(4) {
                (after.len, after.disk) = (0, None);
            } else if let Some(bytes) = inode.contents() {
                after.clean.clone_from(&inode.clean);
                let random = &mut left.random;
                after.write_back(&bytes, self.habits.sector, |_| random.below(4) < share);
                after.clean.clear();
            }
            after.born = true;
            after.name = Some(name.clone());
            after.disk_name = Some(name.clone());
            // Of two files that had one name in turn, the newer has it.
            if let Some(older) = left.names.insert(name.clone(), *id) {
                left.inodes.remove(&older);
            }
            left.inodes.insert(*id, after);
        }
        left
    }

    /// What another process finds if this one dies now.
    pub(super) fn death(&mut self) -> Self {
        let mut left = self.restarted();
        left.names.clone_from(&self.names);
        left.dirs.clone_from(&self.dirs);
        left.disk_dirs.clone_from(&self.disk_dirs);
        left.pending.clone_from(&self.pending);
        for (id, inode) in &self.inodes {
            let mut copy = inode.clone();
            copy.cache = inode.contents().map(|bytes| {
                let cache = HeapFile::new(inode.len);
                cache.write_at(&bytes, 0).unwrap();
                cache
            });
            left.inodes.insert(*id, copy);
        }
        left
    }
}
