//! A file system in a file, whose power can be cut.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `FS_IOC_GOINGDOWN`, which began in XFS: include/uapi/linux/fs.h of Linux.
const GOING_DOWN: Opcode = opcode::read::<u32>(b'X', 125);
/// Without writing the journal.
const NO_LOG_FLUSH: u32 = 2;
/// XFS takes no fewer.
const IMAGE_LEN: u64 = 320 << 20;

/// A file system of its own, gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    at: PathBuf,
    image: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mounted {
    /// Says `SKIPPED` where it may not mount.
    pub(crate) fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (at, image) = (dir.path().join("mounted"), dir.path().join("image"));
        std::fs::create_dir(&at).unwrap();
        File::create(&image).unwrap().set_len(IMAGE_LEN).unwrap();
        let name = image.to_str().unwrap();
        let made = match std::env::var("LARDER_FS").as_deref() {
            Ok("xfs") => run("mkfs.xfs", &["-q", name]),
            _ => run("mkfs.ext4", &["-q", "-F", "-m", "0", name]),
        };
        let mounted = Self { at, image, _dir: dir };
        if let Err(why) = made.and_then(|()| mounted.mount()) {
            eprintln!("SKIPPED: no file system of its own: {why}");
            return None;
        }
        Some(mounted)
    }

    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    /// From now on nothing reaches the disk.
    pub(crate) fn cut_power(&self) {
        let dir = File::open(&self.at).unwrap();
        // SAFETY: this request takes a pointer to 32 bits.
        let request = unsafe { Setter::<GOING_DOWN, u32>::new(NO_LOG_FLUSH) };
        // SAFETY: the request reads them, and keeps nothing.
        unsafe { ioctl(&dir, request) }.unwrap();
    }

    /// Takes the file system off, and puts it on again from what is on the disk.
    pub(crate) fn again(&mut self) {
        let unmount = || run("umount", &[self.at.to_str().unwrap()]);
        // A lookup of another test that is under way keeps unlinked files mapped.
        let wait = || {
            crossbeam_epoch::pin().flush();
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let is_off = (0..1_000).any(|_| unmount().inspect_err(|_| wait()).is_ok());
        assert!(is_off, "{} stays mounted", self.at.display());
        self.mount().unwrap();
    }

    fn mount(&self) -> Result<(), String> {
        let (image, at) = (self.image.to_str().unwrap(), self.at.to_str().unwrap());
        run("mount", &["-o", "loop", image, at])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = run("umount", &["-l", self.at.to_str().unwrap()]) {
            eprintln!("{} stays mounted: {why}", self.at.display());
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
