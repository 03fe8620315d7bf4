//! Connections: pools of them, and what becomes of one whose work failed.

use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio::time::error::Elapsed;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::connect::Target;
use crate::store::{Result, StoreError};

/// Connections for one kind of work, apart from the others: whatever waits for one of them holds
/// up nobody else. Three daemons with all of them and one more each for hints stay far below the
/// hundred that Postgres allows by default, and keep more work under way than its disk can sync.
#[derive(Clone, Copy)]
pub(super) struct Share {
    connections: usize,
    /// Verbs that may wait for one of them; one more is refused at once.
    waiting_max: usize,
    /// The longest wait for a connection to be free, or to be made.
    wait_max: Duration,
    /// The longest that a statement may take.
    statement_max: Duration,
    /// And wait for a lock.
    lock_max: Duration,
}

/// What clients ask for.
pub(super) const CLIENTS: Share = Share { connections: 7, waiting_max: 512, ..WORK };
/// Polling, delivery, maintenance.
pub(super) const WORK: Share = Share {
    connections: 9,
    waiting_max: 65_536,
    wait_max: Duration::from_secs(5),
    statement_max: Duration::from_secs(10),
    // Below what is left of a lease after a beat, so that nobody decides by what he read before
    // waiting.
    lock_max: Duration::from_secs(3),
};
/// Who owns which lane.
pub(super) const FLEET: Share = Share {
    connections: 2,
    waiting_max: 65_536,
    wait_max: Duration::from_secs(4),
    statement_max: Duration::from_secs(4),
    lock_max: Duration::from_secs(3),
};
/// Heartbeats, which have two seconds to live: one connection for nothing else. One that failed is
/// made anew by the next beat.
pub(super) const BEATS: Share = Share {
    connections: 1,
    waiting_max: 2,
    wait_max: Duration::from_secs(2),
    statement_max: Duration::from_millis(1_500),
    lock_max: Duration::from_secs(1),
};

/// The longest a verb may take, should the database not keep its own deadlines.
pub(super) const VERB_MAX: Duration = Duration::from_secs(15);
/// The longest wait for a failed transaction to be taken back.
const ROLLBACK_MAX: Duration = Duration::from_secs(1);
/// Tries of work that the database took back for a conflict: each means that another one won.
const TRIES: u32 = 8;
/// The longest wait before such a try, a little longer each time.
const TRY_AGAIN_MAX_MS: u64 = 20;

/// What every connection is told once. No remarks in the log; then deadlines: a statement's; a
/// lock's; a transaction's whose daemon has fallen silent, so that a paused one blocks nobody for
/// long; and a statement's whose caller has gone away, where the database knows that setting.
fn settings(share: &Share) -> String {
    format!(
        "SET client_min_messages = warning;
         SET statement_timeout = {};
         SET lock_timeout = {};
         SET idle_in_transaction_session_timeout = '2s';
         SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
         SELECT set_config(name, '1s', false) FROM pg_settings
         WHERE name = 'client_connection_check_interval';
         SELECT set_config('synchronous_commit', 'on', false)
         WHERE current_setting('synchronous_commit') = 'off';",
        share.statement_max.as_millis(),
        share.lock_max.as_millis(),
    )
}

/// Why a try at a verb failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database, or the way to it.
    Db(tokio_postgres::Error),
    /// Ours to say.
    Told(StoreError),
    /// Somebody was faster: look again.
    Again,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Db(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

/// The result of one try.
pub(super) type Tried<T> = std::result::Result<T, Failure>;

/// What a statement is given.
pub(super) type Params<'a> = [&'a (dyn ToSql + Sync)];

/// A pool.
#[derive(Clone)]
pub(super) struct Sessions {
    pool: Pool,
    waiting_max: usize,
}

impl Sessions {
    pub(super) fn new(target: &Target, share: Share) -> std::result::Result<Self, String> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(target.config.clone(), target.tls.clone(), recycling);
        let settings = settings(&share);
        let told = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let settings = settings.clone();
            Box::pin(
                async move { client.batch_execute(&settings).await.map_err(HookError::Backend) },
            )
        });
        let pool = Pool::builder(manager)
            .max_size(share.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(share.wait_max))
            .create_timeout(Some(share.wait_max))
            .post_create(told)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { pool, waiting_max: share.waiting_max })
    }

    pub(super) async fn get(&self) -> Result<Session> {
        if self.pool.status().waiting >= self.waiting_max {
            return Err(StoreError::Unavailable("too many calls wait for the database".into()));
        }
        let object = self.pool.get().await.map_err(|error| away(&error))?;
        Ok(Session { object: Some(object) })
    }
}

impl Sessions {
    /// Why the database will not have us, however often it is asked; `None` if it may yet.
    pub(super) async fn refusal(&self) -> Option<String> {
        let Err(PoolError::Backend(error)) = self.pool.get().await else { return None };
        let cause = std::error::Error::source(&error).and_then(|e| e.downcast_ref());
        // A certificate that cannot be trusted.
        if cause.is_some_and(|e: &std::io::Error| e.kind() == std::io::ErrorKind::InvalidData) {
            return Some(explain(&error));
        }
        let code = error.code()?;
        let passing = *code == SqlState::CANNOT_CONNECT_NOW
            || *code == SqlState::TOO_MANY_CONNECTIONS
            || *code == SqlState::ADMIN_SHUTDOWN
            || *code == SqlState::CRASH_SHUTDOWN;
        (!passing).then(|| explain(&error))
    }
}

fn away(error: &PoolError) -> StoreError {
    StoreError::Unavailable(match error {
        PoolError::Timeout(_) => "no connection to the database is free in time".into(),
        PoolError::Backend(error) => explain(error),
        error => error.to_string(),
    })
}

/// The driver's message says "db error"; the reason is behind it.
pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("the database says: {} ({})", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// A connection at work. It goes back to the pool only when its work is known to be over.
pub(super) struct Session {
    object: Option<Object>,
}

impl Session {
    fn client(&self) -> std::result::Result<&Object, Failure> {
        self.object.as_ref().ok_or(Failure::Again)
    }

    /// Statements, ready to be sent without waiting for each other.
    pub(super) async fn prepare<const N: usize>(&self, sql: [&str; N]) -> Tried<[Statement; N]> {
        let client = self.client()?;
        let mut statements = Vec::with_capacity(N);
        for sql in sql {
            statements.push(client.prepare_cached(sql).await?);
        }
        statements.try_into().map_err(|_| Failure::Again)
    }

    /// Sends a prepared statement: when first polled, so that the steps of a [`flight`] leave in order.
    pub(super) async fn send(&self, statement: &Statement, params: &Params<'_>) -> Tried<Vec<Row>> {
        Ok(self.client()?.query(statement, params).await?)
    }

    /// Begins or ends a transaction.
    pub(super) async fn say(&self, word: &str) -> Tried<()> {
        Ok(self.client()?.batch_execute(word).await?)
    }

    /// One statement, and its rows.
    pub(super) async fn query(&self, sql: &str, params: &Params<'_>) -> Tried<Vec<Row>> {
        let [statement] = self.prepare([sql]).await?;
        self.send(&statement, params).await
    }

    /// One statement, and its row if it has one.
    pub(super) async fn query_opt(&self, sql: &str, params: &Params<'_>) -> Tried<Option<Row>> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// Several statements at once, without parameters.
    pub(super) async fn batch(&self, sql: &str) -> Tried<()> {
        Ok(self.client()?.batch_execute(sql).await?)
    }

    /// What a try came to: the verb's answer, or `None` if it is to be tried again.
    pub(super) async fn judge<T>(
        mut self,
        tried: std::result::Result<Tried<T>, Elapsed>,
        count: u32,
    ) -> Option<Result<T>> {
        let failure = match tried {
            Ok(Ok(answer)) => {
                drop(self.object.take());
                return Some(Ok(answer));
            }
            Ok(Err(failure)) => failure,
            Err(_) => return Some(Err(overdue())),
        };
        let told = match failure {
            Failure::Told(error) => error,
            Failure::Again => StoreError::Unavailable("others kept changing the same row".into()),
            Failure::Db(error) if conflict(&error) => StoreError::Unavailable(explain(&error)),
            Failure::Db(error) if ours(&error) => StoreError::Corrupt(explain(&error)),
            // Whatever state such a connection is in, it is not used again.
            Failure::Db(error) => return Some(Err(StoreError::Unavailable(explain(&error)))),
        };
        let again = matches!(told, StoreError::Unavailable(_)) && count < TRIES;
        if let Ok(Ok(())) = tokio::time::timeout(ROLLBACK_MAX, self.say("ROLLBACK")).await {
            drop(self.object.take());
        }
        if !again {
            return Some(Err(told));
        }
        let wait = rand::random_range(0..=TRY_AGAIN_MAX_MS * u64::from(count));
        tokio::time::sleep(Duration::from_millis(wait)).await;
        None
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Cut off in mid-work, or failed: what it was doing must not become the next one's.
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

fn overdue() -> StoreError {
    StoreError::Unavailable("the database did not answer in time".into())
}

/// Taken back by the database for a conflict with somebody else's work: nothing happened. A
/// foreign key is one too: the row it names was forgotten between two looks.
fn conflict(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::T_R_SERIALIZATION_FAILURE
            || *code == SqlState::T_R_DEADLOCK_DETECTED
            || *code == SqlState::FOREIGN_KEY_VIOLATION
    })
}

/// Refused for what it says, which trying again would not change: classes 22, data exceptions, and
/// 23, constraints.
fn ours(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| matches!(&code.code()[..2], "22" | "23"))
}

/// Sends steps in order, all at once, and waits for all of them: one flight to the database.
macro_rules! flight {
    ($($step:expr),+ $(,)?) => {
        // Blocks of their own, so that each step's arguments live until it is over.
        futures_util::try_join!($(async { $step.await }),+)
    };
}
pub(super) use flight;

/// Does a verb's work on a connection, again if the database took it back for a conflict.
macro_rules! on_session {
    ($sessions:expr, |$db:ident| $work:expr) => {
        on_session!($sessions, $crate::store::postgres::session::VERB_MAX, |$db| $work)
    };
    ($sessions:expr, $max:expr, |$db:ident| $work:expr) => {{
        let mut tries = 1;
        loop {
            let $db = $sessions.get().await?;
            let tried = tokio::time::timeout($max, $work);
            let tried = tried.await;
            if let Some(answer) = $db.judge(tried, tries).await {
                break answer;
            }
            tries += 1;
        }
    }};
}
pub(super) use on_session;
