//! The NumPy files that large arrays lie in, for who opens them without us.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use larder_format::ExternalClass;

use super::super::Disk;
use super::super::space::plain;
use crate::array::{AnyArray, Check, born_whole, reading};
use crate::error::{Error, Result};

impl Disk {
    /// Where the file of an array is that has one of its own: a NumPy file, which
    /// `numpy.load(path, mmap_mode="r")` opens without a copy. `None` if there is no such array,
    /// or it stands in the log, or compressed.
    ///
    /// The file never changes. It goes when the array is replaced, removed or evicted; who has it
    /// mapped by then keeps it. Nobody but the store may change or rename it.
    ///
    /// # Errors
    /// As of [`get_array`](Self::get_array).
    pub fn array_file(&self, key: &[u8]) -> Result<Option<PathBuf>> {
        let array = self.store.get_array(&plain(key), Check::Never)?;
        Ok(array.and_then(|array| self.file_of(&array)))
    }

    /// Writes the array of `key` to the file `path` as a NumPy file, in place of one that is
    /// there; false if there is no such array. The file gets its name when it is whole.
    ///
    /// Everything is compared with its checksums. The file of a large array is then copied by the
    /// system, which may share its blocks instead where the file system can.
    ///
    /// # Errors
    /// As of [`get_array`](Self::get_array); [`Error::Array`] when a chunk is damaged, and
    /// [`Error::Io`] and [`Error::StorageFull`] with what the system said: then there is no new
    /// file.
    pub fn export_npy(&self, key: &[u8], path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        let Some(array) = self.store.get_array(&plain(key), Check::FirstTouch)? else {
            return Ok(false);
        };
        // The name is never given to another file, so what opens is what was looked at; if it is
        // gone by now, the view still has all of it.
        let own = self.file_of(&array).and_then(|path| Some((File::open(&path).ok()?, path)));
        let Some((file, from)) = own else {
            array.export_npy(path)?;
            return Ok(true);
        };
        array.data()?;
        let len = ExternalClass::Array.data_at() + array.descriptor().data_len();
        born_whole(path, |to, temporary| {
            let copied = io::copy(&mut file.take(len), to);
            match copied.map_err(|error| Error::io("write", temporary, error))? {
                copied if copied == len => Ok(()),
                _ => Err(reading(&from, io::ErrorKind::UnexpectedEof.into())),
            }
        })?;
        Ok(true)
    }

    fn file_of(&self, array: &AnyArray) -> Option<PathBuf> {
        let (name, at) = array.place()?;
        // That is where the data of a NumPy file begins, and of no other.
        let is_npy = name.starts_with("arr/") && at == ExternalClass::Array.data_at();
        is_npy.then(|| self.store.storage.path(&name))
    }
}
