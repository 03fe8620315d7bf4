//! A lane's state and its tasks, each write refused unless its owner's lease is good.

use tokio_postgres::Row;

use super::rows::{get, lane, number, progress, time, unreadable};
use super::session::{Failure, Session, Tried};
use crate::clock::Timestamp;
use crate::store::{Change, Checkpoint, Lease, StoreError, TakenLane, Watch};
use crate::task::{LaneName, TaskId};
use crate::watching::Answer;

pub(super) async fn lanes(db: &Session) -> Tried<Vec<LaneName>> {
    // One step of the index a lane, however many tasks each has.
    let sql = "
        WITH RECURSIVE busy (lane) AS (
            SELECT min(lane) FROM task WHERE watched
            UNION ALL
            SELECT (SELECT min(lane) FROM task WHERE watched AND lane > b.lane)
            FROM busy b WHERE b.lane IS NOT NULL)
        SELECT l.account, l.kind FROM busy b JOIN lane l ON l.id = b.lane
        ORDER BY l.account, l.kind";
    db.query(sql, &[]).await?.iter().map(|row| lane(row, 0, 1)).collect()
}

/// Takes it whoever has it, for nobody in the fleet: its epoch alone is its lease.
pub(super) async fn take(db: &Session, lane: &LaneName) -> Tried<TakenLane> {
    let sql = "
        INSERT INTO lane (account, kind, epoch) VALUES ($1, $2, 1)
        ON CONFLICT (account, kind) DO UPDATE
        SET epoch = lane.epoch + 1, owner = NULL, owned_since = NULL
        RETURNING id, epoch, reservations, memory, version";
    let rows = db.query(sql, &[&lane.account, &lane.kind.name()]).await?;
    rows.first().ok_or(Failure::Again).and_then(taken)
}

/// Reads `id, epoch, reservations, memory, version`.
pub(super) fn taken(row: &Row) -> Tried<TakenLane> {
    Ok(TakenLane {
        lease: Lease { lane: get(row, 0)?, epoch: get(row, 1)? },
        reservations: serde_json::from_str(get(row, 2)?).map_err(unreadable)?,
        memory: get(row, 3)?,
        version: number(row, 4)?,
    })
}

/// Whether a lease, lane `$1` and epoch `$2` of `l`, is good: nobody has taken the lane since, and
/// its owner has not expired by the database's clock.
macro_rules! good {
    () => {
        "l.id = $1 AND l.epoch = $2 AND (l.owner IS NULL OR EXISTS (
             SELECT 1 FROM member m WHERE m.id = l.owner AND m.expires_at > clock_timestamp()))"
    };
}

/// Holds the lane for a transaction: until its end, nobody takes the lane or changes its tasks.
pub(super) const HOLD: &str =
    concat!("SELECT l.id FROM lane l WHERE ", good!(), " FOR NO KEY UPDATE");

/// Whether [`HOLD`] did.
pub(super) fn held(rows: &[Row]) -> Tried<()> {
    if rows.is_empty() { Err(StoreError::LeaseLost.into()) } else { Ok(()) }
}

const CHANGED: &str = "
    SELECT id, version, watched, website_id, delivery_task_id, registered_at, polls,
           last_pending_at, not_found_since, last_polled_at, last_answer,
           (SELECT min(give_up_at) FROM registration WHERE task = t.id AND state = 'watching')
    FROM task t WHERE lane = $1 AND version > $2 ORDER BY version LIMIT $3";

const WATCHED: &str = "
    SELECT id, version, watched, website_id, delivery_task_id, registered_at, polls,
           last_pending_at, not_found_since, last_polled_at, last_answer,
           (SELECT min(give_up_at) FROM registration WHERE task = t.id AND state = 'watching')
    FROM task t WHERE lane = $1 AND version > $2 AND watched ORDER BY version LIMIT $3";

pub(super) async fn watched(
    db: &Session,
    lease: Lease,
    version: u64,
    limit: u32,
) -> Tried<Vec<Change>> {
    read_changes(db, WATCHED, lease, version, limit).await
}

pub(super) async fn changes(
    db: &Session,
    lease: Lease,
    version: u64,
    limit: u32,
) -> Tried<Vec<Change>> {
    // From the start, only what is watched: most tasks of a lane's life are over.
    let sql = if version == 0 { WATCHED } else { CHANGED };
    read_changes(db, sql, lease, version, limit).await
}

async fn read_changes(
    db: &Session,
    sql: &str,
    lease: Lease,
    version: u64,
    limit: u32,
) -> Tried<Vec<Change>> {
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    let rows = db.query(sql, &[&lease.lane, &version, &i64::from(limit)]).await?;
    rows.iter().map(change).collect()
}

fn change(row: &Row) -> Tried<Change> {
    let watch = match time(row, 11)? {
        Some(give_up_at) if get(row, 2)? => Some(Watch {
            website_id: get(row, 3)?,
            delivery_task_id: get(row, 4)?,
            registered_at: Timestamp(get(row, 5)?),
            give_up_at,
            progress: progress(row, 6)?,
        }),
        _ => None,
    };
    Ok(Change { task: TaskId(get(row, 0)?), version: number(row, 1)?, watch })
}

/// One statement: the lane's own row, and with it how far tasks have come.
pub(super) const CHECKPOINT: &str = concat!(
    "WITH held AS (
         UPDATE lane l SET reservations = coalesce($3, l.reservations),
                           reserved_at = CASE WHEN $3::text IS NULL THEN l.reserved_at
                                              ELSE clock_timestamp() END,
                           memory = coalesce($4, l.memory)
         WHERE ",
    good!(),
    " RETURNING l.id),
     saved AS (
         UPDATE task t SET polls = p.polls, last_pending_at = p.last_pending_at,
                           not_found_since = p.not_found_since,
                           last_polled_at = coalesce(p.last_polled_at, t.last_polled_at),
                           last_answer = coalesce(p.last_answer, t.last_answer)
         FROM held, unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
                           $10::text[])
             AS p (task, polls, last_pending_at, not_found_since, last_polled_at, last_answer)
         WHERE t.id = p.task AND t.lane = held.id AND t.outcome IS NULL)
     SELECT id FROM held"
);

pub(super) async fn checkpoint(db: &Session, lease: Lease, checkpoint: &Checkpoint) -> Tried<()> {
    let reservations = checkpoint.reservations.as_ref().map(serde_json::to_string).transpose();
    let progress = &checkpoint.progress;
    let tasks: Vec<i64> = progress.iter().map(|(task, _)| task.0).collect();
    let polls: Vec<i64> = progress.iter().map(|(_, p)| i64::from(p.polls)).collect();
    let pending: Vec<Option<i64>> =
        progress.iter().map(|(_, p)| p.last_pending_at.map(|at| at.0)).collect();
    let not_found: Vec<Option<i64>> =
        progress.iter().map(|(_, p)| p.not_found_since.map(|at| at.0)).collect();
    let polled: Vec<Option<i64>> =
        progress.iter().map(|(_, p)| p.last_polled_at.map(|at| at.0)).collect();
    let answers: Vec<Option<String>> =
        progress.iter().map(|(_, p)| p.last_answer.map(Answer::text)).collect();
    let rows = db
        .query(
            CHECKPOINT,
            &[
                &lease.lane,
                &lease.epoch,
                &reservations.map_err(unreadable)?,
                &checkpoint.memory,
                &tasks,
                &polls,
                &pending,
                &not_found,
                &polled,
                &answers,
            ],
        )
        .await?;
    held(&rows)
}
