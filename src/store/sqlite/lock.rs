//! One daemon a file: two would poll one quota twice.

use std::fs::{File, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why the file cannot be had alone.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "another outcomed is using it (it holds {0}): stop that one, or give this one another `store.url`"
    )]
    Taken(PathBuf),
    /// It cannot be opened at all.
    #[error("{0}: {1}; does the directory exist, and may this user write there?")]
    Io(PathBuf, std::io::Error),
}

/// The right to use a store's file, as long as it lives.
#[derive(Debug)]
pub(super) struct FileLock(File);

impl Drop for FileLock {
    /// Closing the file is not enough: a program that this process is just starting holds a copy
    /// of the handle, and with it the lock, until it runs.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl FileLock {
    pub(super) fn take(store: &Path) -> Result<Self, LockError> {
        let mut path = store.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        // Created here so that nobody else may read it: callbacks' bodies and store apps' tickets
        // are in it. SQLite gives its other files the same mode.
        let open = |path: &Path| {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
        };
        open(store).map_err(|error| LockError::Io(store.to_owned(), error))?;
        let file = open(&path).map_err(|error| LockError::Io(path.clone(), error))?;
        match file.try_lock() {
            Ok(()) => {
                tighten(store);
                Ok(Self(file))
            }
            Err(std::fs::TryLockError::WouldBlock) => Err(LockError::Taken(path)),
            Err(std::fs::TryLockError::Error(error)) => Err(LockError::Io(path, error)),
        }
    }
}

/// Takes away what others may do with files that were made by somebody else: a copy, a backup.
fn tighten(store: &Path) {
    for end in ["", "-wal", "-shm"] {
        let mut path = store.as_os_str().to_owned();
        path.push(end);
        let path = PathBuf::from(path);
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if !metadata.is_file() || mode == mode & 0o700 {
            continue;
        }
        let tightened = std::fs::set_permissions(&path, Permissions::from_mode(mode & 0o700));
        let path = path.display();
        match tightened {
            Ok(()) => {
                tracing::warn!("others might use {path} (mode {mode:03o}); now only its owner may");
            }
            Err(error) => tracing::warn!(
                "others may use {path} (mode {mode:03o}), which holds secrets, and that cannot be \
                 changed: {error}; chmod 600 it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_may_read_the_files_whoever_made_them() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("outcomed.db");
        let files = ["outcomed.db", "outcomed.db-wal", "outcomed.db-shm"];
        for file in files {
            let path = directory.path().join(file);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        }
        let _lock = FileLock::take(&store).unwrap();
        for file in files.into_iter().chain(["outcomed.db.lock"]) {
            let mode = std::fs::metadata(directory.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn it_is_given_up_even_while_a_child_process_holds_a_copy_of_the_handle() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("outcomed.db");
        let lock = FileLock::take(&store).unwrap();
        let _copy = lock.0.try_clone().unwrap();
        assert!(matches!(FileLock::take(&store), Err(LockError::Taken(_))));
        drop(lock);
        assert!(FileLock::take(&store).is_ok());
    }
}
