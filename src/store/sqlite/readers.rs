//! Readers, apart from the writer: WAL lets them look at the last commit while it works.
//!
//! Each pool has threads and connections of its own, so that what clients read holds up neither
//! polling nor delivery. A read that nobody waits for any more is interrupted.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle};
use tokio::sync::oneshot;

use super::writer::contained;
use crate::store::{Result, StoreError};

/// What a pool is for, and so how large it is.
#[derive(Clone, Copy)]
pub(super) struct Pool {
    /// Names its threads.
    pub(super) name: &'static str,
    /// Connections, each with a thread: queries are short, and the machine is small.
    pub(super) readers: usize,
    /// Reads that may wait for one of them; one more is refused at once.
    pub(super) waiting_max: usize,
    /// From asking to the answer; then the read is interrupted.
    pub(super) time_max: Duration,
}

/// Reads that clients ask for: given up before the API gives up its request.
pub(super) const FOR_CLIENTS: Pool =
    Pool { name: "store-client", readers: 3, waiting_max: 512, time_max: Duration::from_secs(10) };

/// Reads that polling and delivery rest on: as many as there may be lanes can begin at once.
pub(super) const FOR_WORK: Pool = Pool {
    name: "store-reader",
    readers: 2,
    waiting_max: 65_536,
    time_max: Duration::from_secs(30),
};

type Job = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    desk: Desk,
    time_max: Duration,
}

enum Desk {
    Threads(SyncSender<Job>),
    /// Reads run on the caller's thread: see the writer's `Desk::Caller`.
    Caller(Mutex<Connection>),
}

/// Where a read has come to.
enum Stage {
    Waiting,
    Running(InterruptHandle),
    /// Answered, or given up.
    Over,
}

/// Gives the read up when its caller does.
struct Asked(Arc<Mutex<Stage>>);

impl Drop for Asked {
    fn drop(&mut self) {
        let mut stage = lock(&self.0);
        // Under the lock, so that it never meets the connection's next read.
        if let Stage::Running(read) = &*stage {
            read.interrupt();
        }
        *stage = Stage::Over;
    }
}

impl Readers {
    pub(super) fn open(
        pool: Pool,
        connect: impl Fn() -> rusqlite::Result<Connection>,
    ) -> rusqlite::Result<Self> {
        let (jobs, queue) = sync_channel(pool.waiting_max);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..pool.readers {
            let (connection, queue) = (connect()?, Arc::clone(&queue));
            std::thread::Builder::new()
                .name(pool.name.into())
                .spawn(move || work(&connection, &queue))
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        }
        Ok(Self { desk: Desk::Threads(jobs), time_max: pool.time_max })
    }

    /// Reads on the caller's thread.
    pub(super) fn on_caller(connection: Connection) -> Self {
        Self { desk: Desk::Caller(Mutex::new(connection)), time_max: Duration::MAX }
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let jobs = match &self.desk {
            Desk::Threads(jobs) => jobs,
            Desk::Caller(connection) => return contained(|| read(&lock(connection))),
        };
        let (answer, answered) = oneshot::channel();
        let asked = Asked(Arc::new(Mutex::new(Stage::Waiting)));
        let stage = Arc::clone(&asked.0);
        let job: Job = Box::new(move |connection| {
            {
                let mut stage = lock(&stage);
                if matches!(*stage, Stage::Over) {
                    return;
                }
                *stage = Stage::Running(connection.get_interrupt_handle());
            }
            let result = contained(|| read(connection));
            *lock(&stage) = Stage::Over;
            let _ = answer.send(result);
        });
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => unavailable("too many reads are waiting"),
            TrySendError::Disconnected(_) => stopped(),
        })?;
        match tokio::time::timeout(self.time_max, answered).await {
            Ok(answer) => answer.map_err(|_| stopped())?,
            Err(_) => Err(unavailable("a read took too long")),
        }
    }
}

fn work(connection: &Connection, queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = lock(queue).recv();
        let Ok(job) = job else { return };
        job(connection);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.into())
}

fn stopped() -> StoreError {
    StoreError::Stopped("the threads that read it have ended; restart outcomed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts for ever, unless it is interrupted.
    fn endless(db: &Connection) -> Result<i64> {
        let sql =
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        Ok(db.query_row(sql, [], |row| row.get(0))?)
    }

    fn one(db: &Connection) -> Result<i64> {
        Ok(db.query_row("SELECT 1", [], |row| row.get(0))?)
    }

    fn readers(time_max: Duration) -> Readers {
        let pool = Pool { name: "test", readers: 1, waiting_max: 2, time_max };
        Readers::open(pool, Connection::open_in_memory).unwrap()
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_panic_in_a_read_loses_no_reader() {
        let readers = readers(SOON);
        for _ in 0..3 {
            let panicked = readers.read(|_| -> Result<i64> { panic!("a bug") }).await;
            assert!(matches!(panicked, Err(StoreError::Fault(_))), "{panicked:?}");
        }
        assert_eq!(readers.read(one).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_read_that_takes_too_long_or_is_given_up_is_interrupted() {
        let readers = readers(Duration::from_millis(200));
        let late = readers.read(endless).await;
        assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
        let given_up = tokio::time::timeout(Duration::from_millis(50), readers.read(endless));
        assert!(given_up.await.is_err());
        let next = tokio::time::timeout(SOON, async { while readers.read(one).await.is_err() {} });
        next.await.expect("the reader is free again");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let readers = readers(SOON);
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(readers.read(endless))).collect();
        let begun = async {
            for read in &mut waiting {
                assert!(futures_util::poll!(read).is_pending());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        begun.await;
        let refused = readers.read(one).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        drop(waiting);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(readers.read(one).await.unwrap(), 1);
    }
}
