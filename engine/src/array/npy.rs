//! Files of NumPy, in and out.
//!
//! What comes in is read once, from its start to its end, and never in memory as a whole: large
//! arrays go straight to files of their own, which NumPy opens in turn (`docs/arrays.md`).
//!
//! # Invariants
//! 1. What a header states is checked before anything is reserved for it (`NpyHeader`), and where
//!    the length of the file is known, against that.
//! 2. An export has its name when it is whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use larder_format::{ArrayDescriptor, FormatError, NpyHeader};

use super::any::AnyArray;
use super::source::ArrayRef;
use super::strided::{Strided, turn_around};
use crate::disk::Disk;
use crate::engine::{Outcome, Put};
use crate::error::{Error, Result};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// Stands for the path of what has none.
const NO_PATH: &str = "the NumPy file";

impl Disk {
    /// Stores the array that `reader` yields as a NumPy file (`.npy`) under `key`. What comes
    /// behind the array is left unread.
    ///
    /// All versions of the format are read, in both byte orders. Numbers of the other byte order
    /// are turned around on their way, and C and Fortran order stay what they are. A large array
    /// goes straight to a file of its own and is never in memory as a whole.
    ///
    /// Room is made for as many bytes as the header says, before they are there: of a source
    /// that may lie about it, import a file ([`put_npy_file`](Self::put_npy_file)).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::Put;
    ///
    /// // numpy.save(file, numpy.array([1, 2], dtype=">i2"))
    /// let text = b"{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }\n";
    /// let file = [b"\x93NUMPY\x01\x00\x3a\x00", &text[..], &[0, 1, 0, 2]].concat();
    /// assert!(disk.put_npy(b"key", &mut &file[..], &Put::default())?.is_admitted());
    /// let array = disk.get_array::<i16>(b"key")?.ok_or("just put")?;
    /// assert_eq!(array.as_slice()?, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`put_array`](Self::put_array); [`Error::Format`] when it is no NumPy file, or one of
    /// an array that no store can hold, with what to do instead; [`Error::Io`] with what the reader
    /// said, or `UnexpectedEof` if it ended too early. Then the key has the value that it had.
    pub fn put_npy(&self, key: &[u8], reader: &mut dyn Read, options: &Put<'_>) -> Result<Outcome> {
        Inflow::begin(reader, Path::new(NO_PATH))?.put(self, key, options, &mut |_, _| {})
    }

    /// Stores the array of a NumPy file (`.npy`) under `key`, as [`put_npy`](Self::put_npy) does.
    ///
    /// # Errors
    /// As of [`put_npy`](Self::put_npy), with the path; [`Error::Format`] as well when the file is
    /// too short for the array, of which nothing is stored then.
    pub fn put_npy_file(
        &self,
        key: &[u8],
        path: impl AsRef<Path>,
        options: &Put<'_>,
    ) -> Result<Outcome> {
        self.put_npy_file_with(key, path, options, |_, _| {})
    }

    /// As [`put_npy_file`](Self::put_npy_file), saying now and then how many bytes of the array were
    /// read, and how many there are.
    ///
    /// # Errors
    /// As of [`put_npy_file`](Self::put_npy_file).
    pub fn put_npy_file_with(
        &self,
        key: &[u8],
        path: impl AsRef<Path>,
        options: &Put<'_>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Outcome> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        let found = file.metadata().map_err(|error| Error::io("read", path, error))?.len();
        let inflow = Inflow::begin(&mut file, path)?;
        let needed = inflow.header.data_at() as u64 + inflow.header.descriptor().data_len();
        if found < needed {
            let what = "NumPy file";
            return Err(Error::format(path, FormatError::Truncated { what, needed, found }));
        }
        inflow.put(self, key, options, &mut progress)
    }

    /// Stores an array that is strided, of the other byte order, or to be stored in another order
    /// of axes than it lies in. It is packed on its way, in pieces.
    ///
    /// # Errors
    /// As of [`put_array`](Self::put_array).
    pub fn put_strided(
        &self,
        key: &[u8],
        array: &Strided<'_>,
        options: &Put<'_>,
    ) -> Result<Outcome> {
        if let Some(packed) = array.as_packed() {
            return self.put_array(
                key,
                &ArrayRef::described(*array.descriptor(), packed)?,
                options,
            );
        }
        self.pour_array(key, array.descriptor(), options, |take| array.for_each_piece(take))
    }
}

/// A NumPy file of which the header was read.
pub(super) struct Inflow<'a> {
    reader: &'a mut dyn Read,
    header: NpyHeader,
    path: &'a Path,
    to_the_end: bool,
}

impl<'a> Inflow<'a> {
    /// Reads the header. `path` is for messages.
    pub(super) fn begin(reader: &'a mut dyn Read, path: &'a Path) -> Result<Self> {
        let mut bytes = [0; NpyHeader::PREFIX_LEN].to_vec();
        let read = |reader: &mut dyn Read, into: &mut [u8]| {
            reader.read_exact(into).map_err(|error| reading(path, error))
        };
        read(reader, &mut bytes)?;
        let len = NpyHeader::header_len(&bytes).map_err(|error| Error::format(path, error))?;
        bytes.resize(len.max(NpyHeader::PREFIX_LEN), 0);
        read(reader, &mut bytes[NpyHeader::PREFIX_LEN..])?;
        let header = NpyHeader::decode(&bytes).map_err(|error| Error::format(path, error))?;
        Ok(Self { reader, header, path, to_the_end: false })
    }

    /// Reads what comes behind the array as well, before it is stored: a reader that checks what
    /// it yields does so at its end.
    #[cfg(feature = "npz")]
    pub(super) fn whole(self) -> Self {
        Self { to_the_end: true, ..self }
    }

    /// Stores the array; `progress` hears how many bytes of how many were read.
    pub(super) fn put(
        self,
        disk: &Disk,
        key: &[u8],
        options: &Put<'_>,
        progress: Progress<'_>,
    ) -> Result<Outcome> {
        let Self { reader, header, path, to_the_end } = self;
        let descriptor = header.descriptor();
        disk.pour_array(key, descriptor, options, |take| {
            copy_pieces(reader, descriptor, path, progress, |piece| {
                if header.is_big_endian() {
                    turn_around(descriptor.dtype(), piece);
                }
                take(piece)
            })?;
            if to_the_end {
                io::copy(reader, &mut io::sink()).map_err(|error| reading(path, error))?;
            }
            Ok(())
        })
    }
}

/// Hears how many bytes of how many are done.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Reads the data of an array, in pieces of whole elements.
pub(super) fn copy_pieces(
    reader: &mut dyn Read,
    descriptor: &ArrayDescriptor,
    path: &Path,
    progress: Progress<'_>,
    mut take: impl FnMut(&mut [u8]) -> Result<()>,
) -> Result<()> {
    let len = descriptor.data_len();
    let mut left = len;
    let mut piece = vec![0; piece_len(descriptor)];
    while left > 0 {
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let piece = &mut piece[..fits];
        reader.read_exact(piece).map_err(|error| reading(path, error))?;
        take(piece)?;
        left -= fits as u64;
        progress(len - left, len);
    }
    Ok(())
}

/// Bytes that are read at a time: whole elements.
fn piece_len(descriptor: &ArrayDescriptor) -> usize {
    let item_len = usize::try_from(descriptor.item_len()).unwrap_or(PIECE).max(1);
    let whole = usize::try_from(descriptor.data_len()).unwrap_or(PIECE);
    (PIECE - PIECE % item_len).max(item_len).min(whole)
}

/// What a reader said; that its own disk is full is not ours.
pub(crate) fn reading(path: &Path, source: io::Error) -> Error {
    Error::Io { op: "read the array in", path: path.to_owned(), source }
}

impl AnyArray {
    /// Writes the array as a NumPy file (`.npy`): a header of 4096 bytes, and the elements in the
    /// order in which they are stored. Everything is compared with its checksums on its way; what
    /// was written before a damaged chunk stays written.
    ///
    /// # Errors
    /// As of [`data`](Self::data); [`Error::Io`] with what the writer said.
    pub fn write_npy(&self, writer: &mut dyn Write) -> Result<()> {
        let failed = |source| Error::Io { op: "write", path: PathBuf::from(NO_PATH), source };
        writer.write_all(&self.descriptor().npy_header()).map_err(failed)?;
        for run in self.runs() {
            for from in run.clone().step_by(PIECE) {
                let piece = self.data_in(from..run.end.min(from + PIECE))?;
                writer.write_all(piece).map_err(failed)?;
            }
        }
        Ok(self.still()?)
    }

    /// Writes the array to the file `path` as a NumPy file, in place of one that is there. The
    /// file gets its name when it is whole.
    ///
    /// # Errors
    /// As of [`data`](Self::data); [`Error::Io`] and [`Error::StorageFull`] with what the system
    /// said.
    pub fn export_npy(&self, path: impl AsRef<Path>) -> Result<()> {
        born_whole(path.as_ref(), |file, temporary| {
            self.write_npy(file).map_err(|error| match error {
                Error::Io { op, source, .. } => Error::io(op, temporary, source),
                other => other,
            })
        })
    }
}

/// Makes a file that gets its name when `write` is done with it.
pub(crate) fn born_whole(
    path: &Path,
    write: impl FnOnce(&mut File, &Path) -> Result<()>,
) -> Result<()> {
    let temporary = temporary(path);
    let file = File::create_new(&temporary);
    let mut file = file.map_err(|error| Error::io("create", &temporary, error))?;
    let done = write(&mut file, &temporary).and_then(|()| {
        fs::rename(&temporary, path).map_err(|error| Error::io("create", path, error))
    });
    if done.is_err() {
        // Best effort: what was wrong before is what has to be told.
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Where a file is written before it gets its name: in the same directory.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}
