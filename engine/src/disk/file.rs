//! Storage in a directory of a real file system.
//!
//! Every open goes through `openat` on the directory with NOFOLLOW and NONBLOCK, and is
//! followed by a look at what was opened: a symlink, FIFO or device in a file's place is
//! refused and neither followed nor waited for.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_format::BootIdentity;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, StatxFlags};

use super::map::Map;
use super::storage::{File, Guard, Storage};
use crate::error::{Error, Result};

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIR_MODE: u32 = 0o700;

/// A store's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    handle: OwnedFd,
}

impl Directory {
    /// Opens the directory, creating it (and its parents) with mode 0700 if it is absent.
    /// Unless `allow_shared`, one that belongs to someone else or that others may write to is
    /// refused: whoever can write there can make files that we would map.
    pub(crate) fn open(root: &Path, allow_shared: bool) -> Result<Self> {
        let io = |op, error| Error::io(op, root, error);
        match fs::symlink_metadata(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = root.parent() {
                    fs::create_dir_all(parent).map_err(|error| io("create", error))?;
                }
                match fs::create_dir(root) {
                    Ok(()) => fs::set_permissions(root, fs::Permissions::from_mode(DIR_MODE))
                        .map_err(|error| io("set permissions of", error))?,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(io("create", error)),
                }
            }
            Err(error) => return Err(io("look at", error)),
            Ok(_) => {}
        }
        Self::open_existing(root, allow_shared)
    }

    /// As [`open`](Self::open), of a directory that is there.
    pub(crate) fn open_existing(root: &Path, allow_shared: bool) -> Result<Self> {
        let io = |op, error| Error::io(op, root, error);
        let found = fs::metadata(root).map_err(|error| io("look at", error))?;
        if !found.is_dir() {
            let found = describe(FileType::from_raw_mode(found.mode()));
            return Err(Error::WrongType { path: root.to_owned(), expected: "a directory", found });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|error| io("open", error.into()))?;
        let directory = Self { root: root.to_owned(), handle };
        directory.check_private(allow_shared)?;
        Ok(directory)
    }

    fn check_private(&self, allow_shared: bool) -> Result<()> {
        let found = rustix::fs::fstat(&self.handle)
            .map_err(|error| Error::io("look at", &self.root, error.into()))?;
        let me = rustix::process::geteuid().as_raw();
        let why = if found.st_uid != me {
            format!("it belongs to user {}, and this is user {me}", found.st_uid)
        } else if found.st_mode & 0o022 != 0 {
            format!("its mode {:03o} lets others write; chmod go-w it", found.st_mode & 0o777)
        } else {
            return Ok(());
        };
        if allow_shared {
            return Ok(());
        }
        Err(Error::Insecure { path: self.root.clone(), why })
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<fs::File>> {
        let path = self.root.join(name);
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.handle, name, flags, FILE_MODE);
        let wrong = |found| Error::WrongType { path: path.clone(), expected: "a file", found };
        let file = match opened {
            Ok(file) => fs::File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => return Err(wrong("a symbolic link")),
            Err(rustix::io::Errno::ISDIR) => return Err(wrong("a directory")),
            Err(rustix::io::Errno::NXIO) => return Err(wrong("a FIFO or socket")),
            Err(error) => return Err(Error::io("open", &path, error.into())),
        };
        let found = file.metadata().map_err(|error| Error::io("look at", &path, error))?;
        if !found.is_file() {
            return Err(wrong(describe(FileType::from_raw_mode(found.mode()))));
        }
        Ok(Some(file))
    }

    /// Opens a file that is not to be written to; `None` if there is none.
    pub(super) fn open_to_read(&self, name: &str) -> Result<Option<fs::File>> {
        self.open_file(name, OFlags::RDONLY)
    }

    /// Opens a file that is to be written to; `None` if there is none.
    pub(super) fn open_to_write(&self, name: &str) -> Result<Option<fs::File>> {
        self.open_file(name, OFlags::RDWR)
    }

    /// See [`Storage::create`].
    pub(super) fn create_file(&self, name: &str, len: u64) -> io::Result<fs::File> {
        self.create_with(name, len, allocate)
    }

    /// As [`create_file`](Self::create_file), which fails with `Unsupported` where the file
    /// system does not allocate in advance.
    pub(super) fn create_allocated(&self, name: &str, len: u64) -> io::Result<fs::File> {
        self.create_with(name, len, |file, from, len| {
            Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), from, len - from)?)
        })
    }

    fn create_with(
        &self,
        name: &str,
        len: u64,
        allocate: impl FnOnce(&fs::File, u64, u64) -> io::Result<()>,
    ) -> io::Result<fs::File> {
        check_limit(len)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file: fs::File = rustix::fs::openat(&self.handle, name, flags, FILE_MODE)?.into();
        allocate(&file, 0, len).inspect_err(|_| {
            // A failed allocation may leave a longer file behind.
            let _ = self.remove(name);
        })?;
        Ok(file)
    }

    /// See [`Storage::resize`].
    pub(super) fn resize_file(&self, name: &str, len: u64) -> io::Result<fs::File> {
        check_limit(len)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: fs::File = rustix::fs::openat(&self.handle, name, flags, Mode::empty())?.into();
        let before = file.metadata()?.len();
        if len < before {
            file.set_len(len)?;
        } else if let Err(error) = allocate(&file, before, len) {
            // A failed allocation may leave a longer file behind.
            let _ = file.set_len(before);
            return Err(error);
        }
        Ok(file)
    }

    /// The number by which the system knows the kind of the file system, if it says so.
    pub(super) fn magic(&self) -> Option<u64> {
        let found = rustix::fs::fstatfs(&self.handle).ok()?;
        u64::try_from(found.f_type).ok()
    }

    /// Shares the lock of a file with other readers for as long as the guard lives; `None` if a
    /// writer has it. Without the file there is no writer.
    pub(super) fn lock_shared(&self, name: &str) -> Result<Option<Box<dyn Guard>>> {
        let Some(file) = self.open_to_read(name)? else { return Ok(Some(Box::new(NoLock))) };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Box::new(LockFile::new(file)))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => {
                Err(Error::io("lock", &self.root.join(name), error))
            }
        }
    }

    fn open_dir(&self, name: &str) -> io::Result<OwnedFd> {
        let name = if name.is_empty() { "." } else { name };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.handle, name, flags, Mode::empty())?)
    }
}

const fn describe(found: FileType) -> &'static str {
    match found {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    }
}

impl Storage for Directory {
    fn root(&self) -> &Path {
        &self.root
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DiskFile(self.create_file(name, len)?)))
    }

    fn resize(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DiskFile(self.resize_file(name, len)?)))
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn File>>> {
        let file = self.open_to_write(name)?;
        Ok(file.map(|file| Arc::new(DiskFile(file)) as Arc<dyn File>))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let exclusive =
            rustix::fs::renameat_with(&self.handle, from, &self.handle, to, RenameFlags::NOREPLACE);
        match exclusive {
            // A file system without the flag: a link fails just the same if the name is taken.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                rustix::fs::linkat(&self.handle, from, &self.handle, to, AtFlags::empty())?;
                self.remove(from)
            }
            result => Ok(result?),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.open_dir(dir)?)? {
            let entry = entry?;
            let regular = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            if let (true, Ok(name)) = (regular, entry.file_name().to_str()) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn make_dir(&self, dir: &str) -> Result<()> {
        let path = self.root.join(dir);
        match rustix::fs::mkdirat(&self.handle, dir, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(Error::io("create", &path, error.into())),
        }
        match self.open_dir(dir) {
            Ok(_) => Ok(()),
            Err(error) => match fs::symlink_metadata(&path) {
                Ok(found) if !found.is_dir() => {
                    let found = describe(FileType::from_raw_mode(found.mode()));
                    Err(Error::WrongType { path, expected: "a directory", found })
                }
                _ => Err(Error::io("open", &path, error)),
            },
        }
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.open_dir(dir)?)?)
    }

    fn lock(&self, name: &str, note: &str) -> Result<Option<Box<dyn Guard>>> {
        let path = self.root.join(name);
        let io = |op, error| Error::io(op, &path, error);
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE)?;
        let Some(file) = file else {
            return Err(io("lock", io::ErrorKind::NotFound.into()));
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(io("lock", error)),
        }
        let is_ours = file.metadata().is_ok_and(|found| found.nlink() == 1);
        if is_ours && !note.is_empty() {
            // For people only: a note that cannot be written is no reason to fail. A file that
            // has another name as well may be someone's.
            let _ = file.set_len(0).and_then(|()| file.write_all_at(note.as_bytes(), 0));
        }
        Ok(Some(Box::new(LockFile::new(file))))
    }

    fn lock_in_common(&self, name: &str) -> Result<Option<Box<dyn Guard>>> {
        let path = self.root.join(name);
        let io = |error| Error::io("lock", &path, error);
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE)?;
        let file = file.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Box::new(LockFile::new(file)))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(io(error)),
        }
    }

    fn is_locked(&self, name: &str) -> Result<bool> {
        let Some(file) = self.open_to_read(name)? else { return Ok(false) };
        match file.try_lock() {
            Ok(()) => {
                drop(LockFile::new(file));
                Ok(false)
            }
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => {
                Err(Error::io("lock", &self.root.join(name), error))
            }
        }
    }

    fn read_note(&self, name: &str) -> String {
        let mut text = [0; 64];
        let len = match self.open_file(name, OFlags::RDONLY) {
            Ok(Some(file)) => file.read_at(&mut text, 0).unwrap_or(0),
            _ => 0,
        };
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    fn identity(&self) -> BootIdentity {
        let (device, inode) =
            rustix::fs::fstat(&self.handle).map_or((0, 0), |found| (found.st_dev, found.st_ino));
        let wanted = StatxFlags::MNT_ID | UNIQUE_MOUNT_ID;
        let mount_id = rustix::fs::statx(self.handle.as_fd(), "", AtFlags::EMPTY_PATH, wanted)
            .map_or(0, |found| found.stx_mnt_id);
        BootIdentity { boot_id: boot_id(), device, inode, mount_id }
    }
}

/// `STATX_MNT_ID_UNIQUE` of linux/stat.h, since 6.8: an id that no later mount gets. The plain one
/// may come again as soon as the file system is mounted again, be it after it has lost what was
/// not on the disk.
const UNIQUE_MOUNT_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The kernel's random id of this boot; zeros where there is none.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    id
}

/// Refuses a file longer than the process may write, which would end it with SIGXFSZ.
fn check_limit(len: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    if limit.current.is_some_and(|limit| len > limit) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}

/// Reserves every block between two lengths, so that a mapped write can never find the disk
/// full.
fn allocate(file: &fs::File, from: u64, len: u64) -> io::Result<()> {
    if from == len {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), from, len - from) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    // A file system without fallocate: writing does the same, slowly.
    let zeros = vec![0; 1 << 20];
    let mut at = from;
    while at < len {
        let step = (len - at).min(zeros.len() as u64);
        let step = usize::try_from(step).unwrap_or(zeros.len());
        file.write_all_at(&zeros[..step], at)?;
        at += step as u64;
    }
    Ok(())
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.0, how, range.start, range.end - range.start)?)
    }

    fn allocate(&self) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, self.len()?) {
            // Where nothing can be allocated in advance, nothing can be given back either.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_linked(&self) -> bool {
        self.0.metadata().map_or(true, |found| found.nlink() > 0)
    }

    fn is_sparse(&self) -> bool {
        self.0.metadata().is_ok_and(|found| found.blocks().saturating_mul(512) < found.len())
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        map_shared(&self.0, len)
    }
}

/// Maps the first bytes of a file for reading and writing.
pub(super) fn map_shared(file: &fs::File, len: usize) -> io::Result<Map> {
    let map = memmap2::MmapOptions::new().len(len).map_raw(file)?;
    Ok(Map::of_file(map))
}

/// The kernel drops the lock with the last handle of the file, also when the process is killed.
#[derive(Debug)]
struct LockFile {
    file: fs::File,
    /// The process that locked it.
    pid: u32,
}

impl LockFile {
    fn new(file: fs::File) -> Self {
        Self { file, pid: std::process::id() }
    }
}

impl Guard for LockFile {}

/// Stands for the lock of a file that is not there.
#[derive(Debug)]
struct NoLock;

impl Guard for NoLock {}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A child that is being started by another thread holds a copy of the handle for a
        // moment, and would hold the lock with it. A forked child has its parent's lock in common
        // with it, and must not let go of that.
        if self.pid == std::process::id() {
            let _ = self.file.unlock();
        }
    }
}
