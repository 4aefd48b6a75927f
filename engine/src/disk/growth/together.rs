//! Growth by several processes: following what others have begun or ended, and making generations that
//! any of them may fill.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_epoch::Guard;
use larder_format::layout::{INDEX_DATA, INDEX_EPOCH};
use larder_format::{IndexHeader, Slot};

use super::{Ground, Index, IndexFile, Mover, Pair, file_name, word_of};
use crate::disk::index::Generation;
use crate::disk::session::StoreFile;
use crate::disk::storage::{Storage, give_birth};
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// Bytes that are written at a time to a generation that is made.
const FILL: usize = 1 << 20;
/// How often a generation is looked for that cannot be opened, and how long in between.
const PATIENCE: (usize, Duration) = (2_000, Duration::from_millis(5));

/// How the index of a store is found that other processes may grow.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) file: Arc<StoreFile>,
}

impl Common {
    /// Which generations count.
    #[inline]
    pub(super) fn word(&self) -> u64 {
        // Acquire: pairs with `Ground::change`; who reads the word finds the files.
        self.file.generations().load(Ordering::Acquire)
    }
}

impl IndexFile {
    /// As [`create`](Self::create), for processes that share the store: all slots are unborn. It need
    /// not survive the machine before a clean end.
    pub(super) fn create_unborn(
        storage: &dyn Storage,
        header: IndexHeader,
        epoch: u64,
    ) -> Result<Self> {
        let name = file_name(header.generation);
        let len = header.file_len();
        let file = give_birth(storage, &name, len as u64, false, |file| {
            file.write_at(&header.encode(), 0)?;
            file.write_at(&epoch.to_le_bytes(), INDEX_EPOCH as u64)?;
            let bytes = Slot::UNBORN.to_bits().to_le_bytes().repeat(FILL / 8);
            (INDEX_DATA..header.moved_at()).step_by(FILL).try_for_each(|at| {
                let piece = FILL.min(header.moved_at() - at);
                file.write_at(&bytes[..piece], at as u64)
            })
        })?;
        let map = file.map(len).map_err(|error| Error::io("map", &storage.path(&name), error))?;
        let (slots, retired) = (Generation::new(map, header.geometry), OnceLock::new());
        Ok(Self { header, slots, file, seal: None, retired })
    }
}

impl Index {
    /// Goes over to the generations that other processes have gone over to.
    #[cold]
    pub(super) fn follow<'g>(&self, common: &Common, guard: &'g Guard) -> &'g Pair {
        self.follow_in(&mut self.mover.lock(), common, guard);
        self.pair.load(guard).expect("replaced by a pair only")
    }

    pub(super) fn follow_in(&self, mover: &mut Mover, common: &Common, guard: &Guard) {
        for _ in 0..PATIENCE.0 {
            let word = common.word();
            let has = word_of(mover.new.number(), mover.old.as_ref().map_or(0, |old| old.number()));
            if word == has {
                return;
            }
            let [new, old] =
                [word & 0xFFFF_FFFF, word >> 32].map(|n| u32::try_from(n).unwrap_or(0));
            let known = |number: u32| {
                let known = [Some(&mover.new), mover.old.as_ref()].into_iter().flatten();
                known.into_iter().find(|index| index.number() == number).cloned()
            };
            let uuid = &common.file.superblock().uuid;
            let open = |number| {
                known(number).map_or_else(
                    || IndexFile::open(&*common.storage, uuid, number).ok().flatten().map(Arc::new),
                    Some,
                )
            };
            let (found, before) = (open(new), if old == 0 { None } else { open(old) });
            match found {
                Some(found) if old == 0 || before.is_some() => {
                    (mover.new, mover.old, mover.next_page) = (found, before, 0);
                    let pair = Pair::of(Arc::clone(&mover.new), mover.old.clone());
                    mover.old.as_ref().unwrap_or(&mover.new).note_in(&self.ahead);
                    self.pair.replace(Some(pair), guard);
                }
                // Its end came faster than this, or the system refuses to open one file more.
                _ if common.word() == word => std::thread::sleep(PATIENCE.1),
                _ => {}
            }
        }
    }

    /// Starts a new generation, unless another process is faster.
    pub(super) fn grow_together(
        &self,
        mover: &mut Mover,
        common: &Common,
        ground: Ground<'_>,
        next: IndexHeader,
    ) -> Result<bool> {
        let len = next.file_len() as u64;
        self.usage.add(len);
        match IndexFile::create_unborn(ground.storage, next, mover.new.epoch()) {
            Ok(_) => {}
            Err(error) => {
                self.usage.sub(len);
                // Made by another process, which may have died over it: it is as good.
                let is_there = matches!(&error, Error::Io { source, .. }
                    if source.kind() == std::io::ErrorKind::AlreadyExists);
                if !is_there {
                    return Err(error);
                }
            }
        }
        let before = mover.new.number();
        let began = ground.change(word_of(before, 0), word_of(next.generation, before));
        self.follow_in(mover, common, &crossbeam_epoch::pin());
        Ok(began)
    }
}
