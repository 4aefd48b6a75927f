//! Archives of NumPy: `.npy` files in a zip archive, one for each name.
//!
//! # Invariants
//! 1. A member is stored only if it agrees with the checksum that the archive has of it.
//! 2. Members are read one after the other, in pieces, whatever lengths the archive states.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::npy::{Inflow, reading};
use crate::disk::Disk;
use crate::engine::{Outcome, Put};
use crate::error::{Error, Result};

/// An archive of NumPy (`.npz`), as `numpy.savez` and `numpy.savez_compressed` write it (feature
/// `npz`).
///
/// ```no_run
/// # fn run(disk: &larder_engine::Disk) -> Result<(), larder_engine::Error> {
/// use larder_engine::{Npz, Put};
///
/// let mut archive = Npz::open("weights.npz")?;
/// for name in archive.names() {
///     archive.put(disk, &name, format!("weights/{name}").as_bytes(), &Put::default())?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Npz {
    archive: ZipArchive<BufReader<File>>,
    path: PathBuf,
    /// What NumPy calls the members, and which one each is.
    names: Vec<(String, usize)>,
}

impl Npz {
    /// Opens an archive, and reads what its members are.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, or is no zip archive.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let archive = ZipArchive::new(BufReader::new(file));
        let archive = archive.map_err(|error| failed(&path, error))?;
        let mut names = Vec::new();
        for number in 0..archive.len() {
            let name = archive.name_for_index(number).transpose();
            let name = name.map_err(|error| failed(&path, error))?.unwrap_or_default();
            if !name.ends_with('/') {
                names.push((name.strip_suffix(".npy").unwrap_or(&name).to_owned(), number));
            }
        }
        Ok(Self { archive, path, names })
    }

    /// What the arrays are called, in the order in which they stand in the archive: as NumPy
    /// calls them, without `.npy`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.names.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Stores the array called `name` under `key`; see [`Disk::put_npy`].
    ///
    /// # Errors
    /// As of [`Disk::put_npy`], with the path and the name; [`Error::Io`] as well when there is no
    /// such member (`NotFound`), when it is packed in a way that NumPy does not use, or when it
    /// does not agree with its checksum.
    pub fn put(
        &mut self,
        disk: &Disk,
        name: &str,
        key: &[u8],
        options: &Put<'_>,
    ) -> Result<Outcome> {
        self.put_with(disk, name, key, options, |_, _| {})
    }

    /// As [`put`](Self::put), saying now and then how many bytes of the array were read, and how
    /// many there are.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn put_with(
        &mut self,
        disk: &Disk,
        name: &str,
        key: &[u8],
        options: &Put<'_>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Outcome> {
        let path = self.path.join(name);
        let found = self.names.iter().find(|(known, _)| known == name);
        let Some((_, number)) = found else {
            return Err(reading(&path, io::ErrorKind::NotFound.into()));
        };
        let mut member = self.archive.by_index(*number).map_err(|error| failed(&path, error))?;
        Inflow::begin(&mut member, &path)?.whole().put(disk, key, options, &mut progress)
    }
}

fn failed(path: &Path, error: ZipError) -> Error {
    let source = match error {
        ZipError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    };
    reading(path, source)
}
