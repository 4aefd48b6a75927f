//! Where caches lie.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use crate::error::{Error, Result};

/// What tells other programs that a directory need not be backed up.
///
/// Source: the Cache Directory Tagging Specification, version 0.6.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory holds what can be computed again. It was made by larder.\n";

/// The directory for the caches of a program, where the system keeps such things
/// (`$XDG_CACHE_HOME` or `~/.cache` on Linux); created if absent, private to this user, and marked as a
/// cache for backups (`CACHEDIR.TAG`) and for git. Give each store a directory within it.
///
/// If it cannot be made as a whole, what was made of it is removed again.
///
/// ```no_run
/// let dir = larder::cache_dir("my-program")?;
/// let cache = larder::Cache::<String, u64>::builder().disk(dir.join("lengths")).build()?;
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] if `app` is no name of a directory or the system has no place for caches;
/// [`Error::Settings`] if the directory cannot be made.
pub fn cache_dir(app: &str) -> Result<PathBuf> {
    let refuse = |accepted| Error::Config { option: "app", value: format!("{app:?}"), accepted };
    let is_name =
        !app.starts_with('.') && Path::new(app).file_name().is_some_and(|name| name == app);
    if !is_name {
        return Err(refuse("the name of one directory, which does not begin with a dot"));
    }
    let base = etcetera::base_strategy::choose_native_strategy()
        .map_err(|_| refuse("this user has no home: give dir instead"))?
        .cache_dir();
    prepare(base.join(app))
}

/// Makes a directory for caches, unless it is there.
pub(crate) fn prepare(dir: PathBuf) -> Result<PathBuf> {
    if dir.join("CACHEDIR.TAG").exists() {
        return Ok(dir);
    }
    let failed = |source| Error::Settings { op: "create", path: dir.clone(), source };
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let is_ours = create_private(&dir).map_err(failed)?;
    let mut made = Vec::new();
    for (name, text) in [(".gitignore", "*\n"), ("CACHEDIR.TAG", TAG)] {
        let path = dir.join(name);
        match fs::File::create_new(&path).map(|file| (file, made.push(path))) {
            Ok((mut file, ())) => {
                if let Err(error) = file.write_all(text.as_bytes()) {
                    undo(&dir, &made, is_ours);
                    return Err(failed(error));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                undo(&dir, &made, is_ours);
                return Err(failed(error));
            }
        }
    }
    Ok(dir)
}

/// Best effort: what went wrong is told already.
fn undo(dir: &Path, made: &[PathBuf], is_ours: bool) {
    for path in made {
        let _ = fs::remove_file(path);
    }
    if is_ours {
        let _ = fs::remove_dir(dir);
    }
}

/// Whether the directory was not there.
fn create_private(dir: &Path) -> io::Result<bool> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_private_and_marked_and_stays_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        assert_eq!(prepare(dir.clone()).unwrap(), dir);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(
            fs::read_to_string(dir.join("CACHEDIR.TAG")).unwrap().starts_with("Signature: 8a47")
        );
        assert_eq!(fs::read_to_string(dir.join(".gitignore")).unwrap(), "*\n");
        fs::write(dir.join(".gitignore"), "mine").unwrap();
        fs::remove_file(dir.join("CACHEDIR.TAG")).unwrap();
        prepare(dir.clone()).unwrap();
        assert_eq!(fs::read_to_string(dir.join(".gitignore")).unwrap(), "mine");
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let error = prepare(file.join("app")).unwrap_err();
        assert!(error.to_string().contains("create"), "{error}");
        // A directory in the place of one of the files: the other goes again.
        let dir = home.path().join("app");
        fs::create_dir_all(dir.join("CACHEDIR.TAG.d")).unwrap();
        fs::create_dir(dir.join(".gitignore")).unwrap();
        prepare(dir.clone()).unwrap();
        assert!(dir.join("CACHEDIR.TAG").is_file());
    }

    #[test]
    fn an_app_is_the_name_of_one_directory() {
        for app in ["", ".", "..", ".hidden", "a/b", "/a", "a/"] {
            assert!(matches!(cache_dir(app), Err(Error::Config { option: "app", .. })), "{app}");
        }
    }
}
