//! One daemon a file: two would poll one quota twice.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
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
        // Created here so that nobody else may read it; SQLite gives its other files the same mode.
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
            Ok(()) => Ok(Self(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(LockError::Taken(path)),
            Err(std::fs::TryLockError::Error(error)) => Err(LockError::Io(path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
