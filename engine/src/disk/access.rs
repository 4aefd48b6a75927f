//! How a store gets at its files, and how it is found out whether mappings can be trusted.
//!
//! By name where the kind of the file system says enough: over a network, another machine may
//! change what is mapped here, and where blocks are copied on write, a write through a mapping
//! may find the disk full, which ends the process. Any other is tried: a file is allocated and
//! mapped, and what is written to either has to be seen in the other.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use larder_format::layout::PAGE;

use super::buffered::Buffered;
use super::file::Directory;
use super::storage::Storage;
use super::store::Store;
use crate::sync::{Ordering, Words as _};

/// How a store gets at its files.
///
/// In both modes a value that was put survives the death of the process, a synced one the loss
/// of power, and one process at a time has the store open. Either mode opens what the other
/// left. A store that is opened to be read only is mapped privately, unless `Buffered` is asked
/// for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Mapped, unless the file system cannot be trusted with that: one over a network or in user
    /// space, one that copies on write, one that does not allocate in advance, or one where what
    /// is written through a mapping and what is read are not the same at once.
    #[default]
    Auto,
    /// Through mappings, whatever the file system is: a put makes no system call, and memory is
    /// the page cache's.
    Mapped,
    /// Through calls, with copies of the files in memory: all segments, the index, and large
    /// values once they were read or written. So the store takes as much memory as its directory
    /// has bytes, which the budget bounds; a put takes two system calls; opening reads all
    /// segments; and after the death of a process the index is built anew.
    Buffered,
}

/// What a directory's files are got at with, and why not mapped if that was found out.
type Chosen = (Arc<dyn Storage>, Option<&'static str>);

impl Access {
    /// The way to the files of a directory.
    pub(super) fn storage(self, dir: Directory) -> Chosen {
        let why = match self {
            Self::Mapped => return (Arc::new(dir), None),
            Self::Buffered => return (Arc::new(Buffered(dir)), None),
            Self::Auto => match dir.magic().and_then(distrusted) {
                Some(why) => Some(why),
                None => try_out(&dir),
            },
        };
        match why {
            Some(_) => (Arc::new(Buffered(dir)), why),
            None => (Arc::new(dir), None),
        }
    }
}

impl Store {
    /// How another store is to be opened for this one's sake.
    pub(super) fn target_access(&self) -> Access {
        if self.storage.is_buffered() { Access::Buffered } else { Access::Auto }
    }
}

/// What a file system is, by the number that `statfs` gives (`linux/magic.h`), if its kind says
/// that mappings cannot be trusted.
const fn distrusted(magic: u64) -> Option<&'static str> {
    const NETWORK: &str = "the file system is one over a network";
    const USER: &str = "the file system is one in user space";
    const COPIES: &str = "the file system copies on write";
    match magic {
        // nfs, smb, cifs, smb2, 9p, ceph, afs (two kinds), coda, lustre, gpfs
        0x6969 | 0x517B | 0xFF53_4D42 | 0xFE53_4D42 | 0x0102_1997 | 0x00C3_6400 | 0x5346_414F
        | 0x6B41_4653 | 0x7375_7245 | 0x0BD0_0BD0 | 0x4750_4653 => Some(NETWORK),
        // fuse
        0x6573_5546 => Some(USER),
        // btrfs, zfs, bcachefs, nilfs
        0x9123_683E | 0x2FC1_2FC1 | 0xCA45_1A4E | 0x3434 => Some(COPIES),
        _ => None,
    }
}

/// Tries mappings out on a file that goes again. Why they cannot be trusted, if so. A directory
/// in which nothing can be written now, as the disk is full say, speaks neither for nor against.
fn try_out(dir: &Directory) -> Option<&'static str> {
    // The name is one that a later opening sweeps if this one dies.
    let name = super::storage::temporary_name("store.probe");
    // Left by a process of this id that died.
    let _ = dir.remove(&name);
    match dir.create_allocated(&name, 2 * PAGE as u64) {
        Ok(file) => {
            let found = are_one(&file);
            let _ = dir.remove(&name);
            found.unwrap_or(None)
        }
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            Some("the file system does not allocate in advance")
        }
        Err(_) => None,
    }
}

/// Whether a file and a mapping of it are one and the same.
fn are_one(file: &std::fs::File) -> io::Result<Option<&'static str>> {
    const THERE: u64 = 0x6C61_7264_6572_2031;
    const BACK: u64 = 0x6C61_7264_6572_2032;
    let Ok(map) = super::file::map_shared(file, 2 * PAGE) else {
        return Ok(Some("the file system maps no files"));
    };
    let mut bytes = [0; 8];
    for at in [0, PAGE] {
        // Relaxed: the calls of the system come one after the other.
        map.word(at).store(THERE, Ordering::Relaxed);
        file.read_exact_at(&mut bytes, at as u64)?;
        if u64::from_le_bytes(bytes) != THERE {
            return Ok(Some("what is written through a mapping is not read from the file"));
        }
        file.write_all_at(&BACK.to_le_bytes(), at as u64)?;
        if map.word(at).load(Ordering::Relaxed) != BACK {
            return Ok(Some("what is written to a file is not seen through a mapping"));
        }
    }
    Ok(None)
}
