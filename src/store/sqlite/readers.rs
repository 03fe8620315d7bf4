//! Readers, apart from the writer: WAL lets them look at the last commit while it works.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::{Result, StoreError};

/// Connections for reading: queries are short, and the machine is small.
const READERS: usize = 3;

pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    /// Reads run on the caller's thread: see the writer's `Desk::Caller`.
    on_caller: bool,
}

impl Readers {
    pub(super) fn open(
        on_caller: bool,
        connect: impl Fn() -> rusqlite::Result<Connection>,
    ) -> rusqlite::Result<Self> {
        let idle = (0..READERS).map(|_| connect()).collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Self {
            idle: Arc::new(Mutex::new(idle)),
            permits: Arc::new(Semaphore::new(READERS)),
            on_caller,
        })
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stopped = || StoreError::Unavailable("its readers have stopped".into());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| stopped())?;
        let idle = Arc::clone(&self.idle);
        let work = move || {
            let take = || idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = take().ok_or_else(stopped)?;
            let result = read(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            result
        };
        if self.on_caller {
            return work();
        }
        tokio::task::spawn_blocking(work).await.map_err(|_| stopped())?
    }
}
