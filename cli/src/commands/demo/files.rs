//! Which files the demo looks at.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Regular files, sorted.
    pub(super) paths: Vec<PathBuf>,
    /// What could not be looked at, and why.
    pub(super) skipped: Vec<String>,
}

/// All regular files at and below `root`, but none below `cache`.
///
/// `.gitignore` counts, inside a repository or not. Symlinks are not followed; `.git`,
/// `target` and tagged caches are left out, unless they are `root` itself.
pub(super) fn walk(root: &Path, cache: &Path) -> Files {
    let cache = cache.to_owned();
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .filter_entry(move |entry| entry.depth() == 0 || !is_left_out(entry, &cache))
        .sort_by_file_path(Path::cmp)
        .build();
    let mut files = Files::default();
    for entry in walk {
        match entry {
            Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file()) => {
                files.paths.push(entry.into_path());
            }
            Ok(_) => {}
            Err(error) => files.skipped.push(error.to_string()),
        }
    }
    files
}

fn is_left_out(entry: &DirEntry, cache: &Path) -> bool {
    entry.file_type().is_some_and(|kind| kind.is_dir())
        && (entry.file_name() == ".git"
            || entry.file_name() == "target"
            || entry.path() == cache
            || is_tagged_cache(entry.path()))
}

/// Whether a directory says that it is a cache: <https://bford.info/cachedir/>.
fn is_tagged_cache(dir: &Path) -> bool {
    const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
    let tag = dir.join("CACHEDIR.TAG");
    // A FIFO of that name would block whoever opens it.
    if !fs::symlink_metadata(&tag).is_ok_and(|meta| meta.is_file()) {
        return false;
    }
    let mut found = [0; SIGNATURE.len()];
    File::open(tag).and_then(|mut tag| tag.read_exact(&mut found)).is_ok() && found == SIGNATURE
}

/// The checkout that the current directory is in, or else that directory.
pub(super) fn checkout() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let root = here.ancestors().find(|dir| dir.join(".git").exists());
    Ok(root.unwrap_or(&here).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_built_and_cached_files_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for (file, text) in [
            ("a.txt", ""),
            (".hidden", ""),
            ("sub/b.txt", ""),
            ("sub/c.log", ""),
            (".gitignore", "*.log\n"),
            (".git/config", ""),
            ("sub/target/out", ""),
            ("store/seg", ""),
            ("built/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
            ("built/x", ""),
            ("notbuilt/CACHEDIR.TAG", "no"),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = walk(&root, &root.join("store"));
        let names: Vec<_> =
            files.paths.iter().map(|path| path.strip_prefix(&root).unwrap()).collect();
        let expected = [".gitignore", ".hidden", "a.txt", "notbuilt/CACHEDIR.TAG", "sub/b.txt"];
        assert_eq!(names, expected.map(Path::new));
        assert!(files.skipped.is_empty());
    }

    #[test]
    fn a_single_file_and_a_root_called_target_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("target");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("f"), "x").unwrap();
        assert_eq!(walk(&root, Path::new("/nowhere")).paths.len(), 1);
        assert_eq!(walk(&root.join("f"), Path::new("/nowhere")).paths.len(), 1);
    }
}
