//! The one writer: a thread that turns whatever has queued up into one commit.
//!
//! A write is answered only after the commit that holds it is on disk. Waiting for the disk is
//! what costs; callers that wait together pay it once.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{broadcast, oneshot};

use super::{OnCommit, unavailable};
use crate::clock::Clock;
use crate::store::{Hint, Result, StoreError};

/// Writes in one commit: bounds how long the first of them waits for the others.
const GROUP_MAX: usize = 512;

/// What a write leaves behind: called with the commit's fate.
type Finish = Box<dyn FnOnce(Result<()>) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Finish + Send>;

/// The writer's door.
pub(super) struct Writer {
    desk: Desk,
    hints: broadcast::Sender<Hint>,
}

/// Where writes are worked on.
enum Desk {
    /// By a thread of their own, in groups.
    Thread(Sender<Job>),
    /// By the caller, one by one: in a simulation, whose time must not pass meanwhile.
    Caller(Mutex<Connection>),
}

/// What one write wants to make known once it is durable.
pub(super) type Hints = Vec<Hint>;

impl Writer {
    /// Starts the writer's thread on its connection.
    pub(super) fn start(
        connection: Connection,
        hints: broadcast::Sender<Hint>,
        clock: Arc<dyn Clock>,
        on_commit: OnCommit,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || work(&connection, &queue, &*clock, &*on_commit))?;
        Ok(Self { desk: Desk::Thread(jobs), hints })
    }

    /// Works on the caller's thread.
    pub(super) fn on_caller(connection: Connection, hints: broadcast::Sender<Hint>) -> Self {
        Self { desk: Desk::Caller(Mutex::new(connection)), hints }
    }

    /// Runs one write and returns once it is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection, &mut Hints) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let hints = self.hints.clone();
        let job: Job = Box::new(move |connection| {
            let mut new = Hints::new();
            let result = in_savepoint(connection, |connection| write(connection, &mut new));
            Box::new(move |committed| {
                let result = committed.and(result);
                if result.is_ok() {
                    for hint in new {
                        // Nobody listening is fine: the rows are the truth.
                        let _ = hints.send(hint);
                    }
                }
                let _ = answer.send(result);
            })
        });
        match &self.desk {
            Desk::Thread(jobs) => jobs.send(job).map_err(|_| gone())?,
            Desk::Caller(connection) => {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                let (finishes, fate) = run_group(&connection, vec![job]);
                tell(finishes, &fate);
            }
        }
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("its writer has stopped; restart outcomed".into())
}

fn work(
    connection: &Connection,
    queue: &Receiver<Job>,
    clock: &dyn Clock,
    on_commit: &dyn Fn(usize, Duration),
) {
    while let Ok(first) = queue.recv() {
        let began = clock.steady();
        let group: Vec<Job> =
            std::iter::once(first).chain(queue.try_iter().take(GROUP_MAX - 1)).collect();
        let writes = group.len();
        let (finishes, fate) = run_group(connection, group);
        on_commit(writes, clock.steady().since(began));
        tell(finishes, &fate);
    }
}

/// Does a group's work in one commit. Returns what became of it, and whom to tell.
fn run_group(connection: &Connection, group: Vec<Job>) -> (Vec<Finish>, Result<()>) {
    let mut finishes: Vec<Finish> = Vec::with_capacity(group.len());
    let mut fate = connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| unavailable(&e));
    for job in group {
        finishes.push(job(connection));
        // A full disk or an I/O error rolls back everything, not only the statement that met it.
        if fate.is_ok() && connection.is_autocommit() {
            fate = Err(StoreError::Unavailable("a write failed and took its group along".into()));
        }
    }
    if fate.is_ok() {
        fate = connection.execute_batch("COMMIT").map_err(|e| unavailable(&e));
    }
    if !connection.is_autocommit() {
        // The only thing left to do with a transaction that cannot be committed.
        let _ = connection.execute_batch("ROLLBACK");
    }
    (finishes, fate)
}

fn tell(finishes: Vec<Finish>, fate: &Result<()>) {
    for finish in finishes {
        finish(fate.clone());
    }
}

/// One write of a group fails alone.
fn in_savepoint<T>(
    connection: &Connection,
    write: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    if connection.is_autocommit() {
        return Err(StoreError::Unavailable("no transaction could be begun".into()));
    }
    connection.execute_batch("SAVEPOINT one").map_err(|e| unavailable(&e))?;
    let result = write(connection);
    let end = if result.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    if !connection.is_autocommit() {
        connection.execute_batch(end).map_err(|e| unavailable(&e))?;
    }
    result
}
