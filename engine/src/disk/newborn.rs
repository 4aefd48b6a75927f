//! A directory that is to hold a store, and has another name until it does.
//!
//! # Invariants
//! 1. The name is given when everything in the directory is durable, and is durable itself when
//!    [`Newborn::name`] returns.
//! 2. What does not come to that is removed, as far as the process lives to do it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::session::DIRS;
use super::storage::Storage;
use crate::error::{Error, Result};

/// A directory under a temporary name.
#[derive(Debug)]
pub(super) struct Newborn {
    temporary: PathBuf,
    parent: PathBuf,
    name: PathBuf,
    named: bool,
}

impl Newborn {
    /// Makes the directory beside where it is to be. Refuses a name that is taken by anything
    /// but an empty directory.
    pub(super) fn create(name: &Path) -> Result<Self> {
        check_vacant(name)?;
        let io = |op, error| Error::io(op, name, error);
        let Some(last) = name.file_name() else {
            return Err(io("create", io::ErrorKind::InvalidInput.into()));
        };
        let parent = match name.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("/"),
        };
        fs::create_dir_all(parent).map_err(|error| io("create", error))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(last);
        hidden.push(format!(".{}.larder-tmp", std::process::id()));
        let temporary = parent.join(hidden);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&temporary)
            .map_err(|error| Error::io("create", &temporary, error))?;
        let (parent, name) = (parent.to_owned(), name.to_owned());
        Ok(Self { temporary, parent, name, named: false })
    }

    /// Where it is for now.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Makes the names in it durable and gives it its own. The store in it is closed.
    pub(super) fn name(mut self, storage: &dyn Storage) -> Result<()> {
        for dir in DIRS.into_iter().chain([""]) {
            let io = |error| Error::io("sync", &storage.path(dir), error);
            storage.sync_dir(dir).map_err(io)?;
        }
        // Fails if the name was taken meanwhile by anything but an empty directory.
        fs::rename(&self.temporary, &self.name)
            .map_err(|error| Error::io("rename the backup to", &self.name, error))?;
        self.named = true;
        fs::File::open(&self.parent)
            .and_then(|parent| parent.sync_all())
            .map_err(|error| Error::io("sync", &self.parent, error))
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if !self.named {
            // Best effort: its name says what it is.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Refuses a path where something is that is no empty directory.
fn check_vacant(path: &Path) -> Result<()> {
    let io = |error| Error::io("look at", path, error);
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(found) if !found.is_dir() => "no directory",
        Ok(_) if fs::read_dir(path).map_err(io)?.next().is_none() => return Ok(()),
        Ok(_) => "a directory with something in it",
    };
    Err(Error::WrongType { path: path.to_owned(), expected: "absent or an empty directory", found })
}
