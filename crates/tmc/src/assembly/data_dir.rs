//! The hub's data directory: who may use it, what is in it, which format it has.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Format of the directory as a whole; the store has one of its own.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";

/// A data directory that this process alone uses.
pub struct DataDir {
    path: PathBuf,
    /// Held, not read: the lock ends with the process.
    _lock: File,
}

impl DataDir {
    /// Takes a directory, making it if it is absent or empty.
    ///
    /// # Errors
    /// One sentence: it cannot be written, holds something else, has a newer format, or another
    /// process uses it. Nothing in it has been changed then.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let fresh = is_fresh(path)?;
        if fresh {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .with_context(|| format!("cannot make the data directory {shown}"))?;
        } else {
            check_format(path)?;
        }
        let lock = private(&path.join(LOCK_FILE))
            .with_context(|| format!("the data directory {shown} cannot be written"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                bail!(
                    "the data directory {shown} is in use by another tmc: stop it, or choose \
                     another --data-dir"
                );
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {shown}"));
            }
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot make {shown} private"))?;
        if fresh {
            let mut file = private(&path.join(FORMAT_FILE))
                .with_context(|| format!("the data directory {shown} cannot be written"))?;
            writeln!(file, "tmc {FORMAT}").and_then(|()| file.sync_all())?;
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Absent, empty, or left by a start that got no further than the lock.
fn is_fresh(path: &Path) -> Result<bool> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read the data directory {}", path.display()));
        }
    };
    for entry in entries {
        if entry?.file_name() != LOCK_FILE {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check_format(path: &Path) -> Result<()> {
    let shown = path.display();
    let mut text = String::new();
    let read = File::open(path.join(FORMAT_FILE)).and_then(|mut f| f.read_to_string(&mut text));
    if read.is_err() {
        bail!("{shown} is not a data directory of tmc: it holds other files; name an empty one");
    }
    let version = text
        .trim()
        .strip_prefix("tmc ")
        .and_then(|v| v.parse::<u32>().ok());
    match version {
        Some(version) if version <= FORMAT => Ok(()),
        Some(version) => bail!(
            "the data directory {shown} has format {version}, this tmc knows {FORMAT}: use the newer tmc that wrote it"
        ),
        None => bail!("{shown} is not a data directory of tmc: its file {FORMAT_FILE} is foreign"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_and_taken_by_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        let first = DataDir::open(&path).expect("fresh");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        let second = DataDir::open(&path).err().expect("taken").to_string();
        assert!(second.contains("in use"), "{second}");
        assert!(second.contains("another --data-dir"), "{second}");
        drop(first);
        DataDir::open(&path).expect("free again");
    }

    #[test]
    fn a_foreign_directory_and_a_newer_format_are_left_as_they_are() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("photo.jpg"), "x").expect("written");
        let error = DataDir::open(dir.path())
            .err()
            .expect("foreign")
            .to_string();
        assert!(error.contains("not a data directory"), "{error}");
        assert!(!dir.path().join(LOCK_FILE).exists());
        std::fs::write(dir.path().join(FORMAT_FILE), "tmc 999\n").expect("written");
        let error = DataDir::open(dir.path()).err().expect("newer").to_string();
        assert!(error.contains("format 999"), "{error}");
    }
}
