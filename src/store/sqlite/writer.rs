//! The one writer: a thread that turns whatever has queued up into one commit.
//!
//! A write is answered only after the commit that holds it is on disk. Waiting for the disk is
//! what costs; callers that wait together pay it once.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, oneshot};

use super::{OnCommit, unavailable};
use crate::clock::Clock;
use crate::store::{Hint, Result, StoreError};

/// Writes in one commit: bounds how long the first of them waits for the others.
const GROUP_MAX: usize = 512;
/// A group that has worked for this long is committed as it is, however few it holds.
const GROUP_TIME_MAX: Duration = Duration::from_millis(50);
/// Writes of clients that may wait: some tenths of a second's work, and 16 MiB at the most that a
/// registration may hold. One more is refused at once.
const CLIENT_WRITES_MAX: usize = 2_048;
/// Writes of polling, delivery and maintenance that may wait. They have room that no client can
/// fill: what a poll or an attempt brought must be stored. They are as many as are under way.
const DAEMON_WRITES_MAX: usize = 65_536;

/// What a write leaves behind: called with the commit's fate.
type Finish = Box<dyn FnOnce(Result<()>) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Finish + Send>;

/// The writer's door.
pub(super) struct Writer {
    desk: Desk,
    hints: broadcast::Sender<Hint>,
    client_writes: Arc<Semaphore>,
    daemon_writes: Arc<Semaphore>,
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

/// For whom a write is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// Refused when too many wait, and not made for one that no longer waits.
    Client,
    Daemon,
}

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
        Ok(Self::at(Desk::Thread(jobs), hints))
    }

    /// Works on the caller's thread.
    pub(super) fn on_caller(connection: Connection, hints: broadcast::Sender<Hint>) -> Self {
        Self::at(Desk::Caller(Mutex::new(connection)), hints)
    }

    fn at(desk: Desk, hints: broadcast::Sender<Hint>) -> Self {
        let client_writes = Arc::new(Semaphore::new(CLIENT_WRITES_MAX));
        let daemon_writes = Arc::new(Semaphore::new(DAEMON_WRITES_MAX));
        Self { desk, hints, client_writes, daemon_writes }
    }

    /// Runs one write of the daemon itself and returns once it is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection, &mut Hints) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.queue(For::Daemon, write).await
    }

    /// Runs one write that a client asked for and returns once it is durable.
    pub(super) async fn write_for_client<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection, &mut Hints) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.queue(For::Client, write).await
    }

    async fn queue<T: Send + 'static>(
        &self,
        whose: For,
        write: impl FnOnce(&Connection, &mut Hints) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let room = match whose {
            For::Client => &self.client_writes,
            For::Daemon => &self.daemon_writes,
        };
        let room = Arc::clone(room).try_acquire_owned().map_err(|_| overloaded())?;
        let (answer, answered) = oneshot::channel();
        let job = job(write, whose, room, answer, self.hints.clone());
        match &self.desk {
            Desk::Thread(jobs) => jobs.send(job).map_err(|_| stopped())?,
            Desk::Caller(connection) => {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                let (finishes, fate) = run_group(&connection, std::iter::once(job));
                tell(finishes, &fate);
            }
        }
        answered.await.map_err(|_| stopped())?
    }
}

fn job<T: Send + 'static>(
    write: impl FnOnce(&Connection, &mut Hints) -> Result<T> + Send + 'static,
    whose: For,
    room: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<T>>,
    hints: broadcast::Sender<Hint>,
) -> Job {
    Box::new(move |connection| {
        if whose == For::Client && answer.is_closed() {
            return Box::new(|_| {});
        }
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
            drop(room);
            let _ = answer.send(result);
        })
    })
}

fn stopped() -> StoreError {
    StoreError::Stopped("the thread that writes it has ended; restart outcomed")
}

fn overloaded() -> StoreError {
    StoreError::Unavailable("too many writes are waiting for the disk".into())
}

fn work(
    connection: &Connection,
    queue: &Receiver<Job>,
    clock: &dyn Clock,
    on_commit: &dyn Fn(usize, Duration),
) {
    while let Ok(first) = queue.recv() {
        let began = clock.steady();
        let in_time = || clock.steady().since(began) < GROUP_TIME_MAX;
        let more = std::iter::from_fn(|| in_time().then(|| queue.try_recv().ok()).flatten());
        let group = std::iter::once(first).chain(more).take(GROUP_MAX);
        let (finishes, fate) = run_group(connection, group);
        let (writes, took) = (finishes.len(), clock.steady().since(began));
        // A fault in what is counted must not end the writer.
        let _ = contained(|| {
            on_commit(writes, took);
            Ok(())
        });
        tell(finishes, &fate);
    }
}

/// Does a group's work in one commit. Returns what became of it, and whom to tell.
fn run_group(
    connection: &Connection,
    group: impl Iterator<Item = Job>,
) -> (Vec<Finish>, Result<()>) {
    let mut finishes: Vec<Finish> = Vec::new();
    let mut fate = roll_back(connection)
        .and_then(|()| connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| unavailable(&e)));
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
    // If even that fails, the next group begins with it.
    let _ = roll_back(connection);
    (finishes, fate)
}

/// The only thing left to do with a transaction that cannot be committed.
fn roll_back(connection: &Connection) -> Result<()> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.execute_batch("ROLLBACK").map_err(|e| unavailable(&e))
}

fn tell(finishes: Vec<Finish>, fate: &Result<()>) {
    for finish in finishes {
        finish(fate.clone());
    }
}

/// One write of a group fails alone, even if it panics.
fn in_savepoint<T>(
    connection: &Connection,
    write: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    if connection.is_autocommit() {
        return Err(StoreError::Unavailable("no transaction could be begun".into()));
    }
    let execute = |sql| connection.execute_batch(sql).map_err(|e| unavailable(&e));
    execute("SAVEPOINT one")?;
    let result = contained(|| write(connection)).and_then(|done| {
        execute("RELEASE one")?;
        Ok(done)
    });
    if result.is_err() && !connection.is_autocommit() {
        execute("ROLLBACK TO one; RELEASE one")?;
    }
    result
}

/// Turns a panic into an error of the one call that met it.
pub(super) fn contained<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let why = text.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic").to_owned();
        tracing::error!(why, "a call of the store panicked: it changed nothing, the rest goes on");
        Err(StoreError::Fault(why))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::clock::{Steady, SystemClock, Timestamp};

    fn writer(clock: Arc<dyn Clock>) -> Writer {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (n INTEGER UNIQUE)").unwrap();
        Writer::start(db, broadcast::channel(9).0, clock, Arc::new(|_, _| {})).unwrap()
    }

    fn insert(db: &Connection, n: i64) -> Result<()> {
        db.execute("INSERT INTO t VALUES (?1)", [n])?;
        Ok(())
    }

    async fn stored(writer: &Writer) -> Vec<i64> {
        let all = |db: &Connection| -> rusqlite::Result<Vec<i64>> {
            db.prepare("SELECT n FROM t ORDER BY n")?.query_map([], |row| row.get(0))?.collect()
        };
        writer.write(move |db, _| Ok(all(db)?)).await.unwrap()
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_write_and_no_other() {
        let writer = writer(Arc::new(SystemClock::new()));
        let group = futures_util::future::join3(
            writer.write(|db, _| insert(db, 1)),
            writer.write(|db, _| -> Result<()> {
                insert(db, 2)?;
                panic!("a bug in job {}", 2);
            }),
            writer.write(|db, _| insert(db, 3)),
        );
        let (first, second, third) = group.await;
        assert!(first.is_ok() && third.is_ok(), "{first:?} {third:?}");
        assert!(matches!(&second, Err(StoreError::Fault(why)) if why == "a bug in job 2"));
        assert_eq!(stored(&writer).await, [1, 3], "what it had done is rolled back");
    }

    #[tokio::test]
    async fn clients_cannot_fill_the_room_of_polling_and_delivery() {
        let writer = writer(Arc::new(SystemClock::new()));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let slow = writer.write(move |_, _| wait.recv().map_err(|_| overloaded()));
        let clients = async {
            let mut waiting = Vec::new();
            for n in 0..CLIENT_WRITES_MAX {
                let n = i64::try_from(n).unwrap();
                waiting.push(writer.write_for_client(move |db, _| insert(db, n)));
            }
            let mut waiting = futures_util::future::join_all(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            let refused = writer.write_for_client(|db, _| insert(db, -1)).await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
            let mut settled = Box::pin(writer.write(|db, _| insert(db, -2)));
            assert!(futures_util::poll!(&mut settled).is_pending(), "it is not refused");
            // Clients that have gone away are not worked for.
            drop(waiting);
            go.send(()).unwrap();
            settled.await.unwrap();
        };
        let (slow, ()) = futures_util::future::join(slow, clients).await;
        slow.unwrap();
        assert_eq!(stored(&writer).await, [-2]);
        writer.write_for_client(|db, _| insert(db, 7)).await.unwrap();
    }

    /// A clock that breaks what reads it.
    #[derive(Default)]
    struct Broken(AtomicBool);

    impl Clock for Broken {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }
        fn steady(&self) -> Steady {
            assert!(!self.0.load(Ordering::Relaxed), "planted: the writer's thread dies");
            Steady(0)
        }
    }

    #[tokio::test]
    async fn a_dead_writer_says_that_it_has_stopped() {
        let clock = Arc::new(Broken::default());
        let writer = writer(clock.clone());
        writer.write(|db, _| insert(db, 1)).await.unwrap();
        clock.0.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            let refused = writer.write(|db, _| insert(db, 2)).await;
            assert!(matches!(refused, Err(StoreError::Stopped(_))), "{refused:?}");
        }
    }
}
