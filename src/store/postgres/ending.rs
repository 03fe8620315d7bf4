//! How a task ends: two flights, the second with the bytes that tell so.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::lanes::{HOLD, held};
use super::outbox::destination;
use super::register::Late;
use super::rows::{get, lane, progress, raw, time, unreadable};
use super::session::{Failure, Session, Tried, flight};
use crate::clock::Timestamp;
use crate::outcome::{self, Observed, Outcome, Report};
use crate::store::{CALLBACK_GONE, Destination, Ending, Hint, Lease, Progress};
use crate::task::TaskRef;

/// What is known of how a task ended.
pub(super) struct Ended {
    pub(super) task: i64,
    named: TaskRef,
    outcome: Outcome,
    progress: Progress,
    settled_at: Timestamp,
    log_id: Option<String>,
}

impl Ended {
    fn new(named: TaskRef, ending: &Ending, outcome: Outcome) -> Self {
        Self {
            task: ending.task.0,
            named,
            outcome,
            progress: ending.progress,
            settled_at: ending.at,
            log_id: ending.log_id.clone(),
        }
    }

    /// Reads `outcome, settled_at, log_id` and the progress of a task, if it is over.
    pub(super) fn of_settled(
        row: &Row,
        task: i64,
        first: usize,
        named: TaskRef,
    ) -> Tried<Option<Self>> {
        let Some(text) = get::<Option<&str>>(row, first)? else { return Ok(None) };
        Ok(Some(Self {
            task,
            named,
            outcome: serde_json::from_str(text).map_err(unreadable)?,
            progress: progress(row, first + 3)?,
            settled_at: time(row, first + 1)?.ok_or_else(|| unreadable("an outcome at no time"))?,
            log_id: get(row, first + 2)?,
        }))
    }

    pub(super) fn report(&self, registered_at: Timestamp) -> Report {
        let observed = Observed {
            registered_at,
            last_pending_at: self.progress.last_pending_at,
            settled_at: self.settled_at,
            polls: self.progress.polls,
            log_id: self.log_id.clone(),
        };
        Report::new(self.named.clone(), self.outcome.clone(), observed)
    }
}

/// Who waits for a task, with the names that the bytes need.
const WAITING: &str = "l.kind, l.account, t.website_id, t.delivery_task_id,
    r.id, r.client, r.created_at, r.metadata";

pub(super) fn settling() -> String {
    format!(
        "WITH t AS (
             UPDATE task SET polls = $3, last_pending_at = $4, not_found_since = $5, outcome = $6,
                 settled_at = $7, log_id = $8, watched = FALSE
             WHERE id = $1 AND lane = $2 AND outcome IS NULL
             RETURNING id, lane, website_id, delivery_task_id)
         SELECT {WAITING} FROM t JOIN lane l ON l.id = t.lane
         JOIN registration r ON r.task = t.id AND r.state = 'watching' ORDER BY r.id"
    )
}

/// A final outcome is set once, and an unresolved one not at all: a second one, from a poll that
/// was under way, finds nobody to tell.
pub(super) async fn settle(
    db: &Session,
    lease: Lease,
    ending: &Ending,
    outcome: &Outcome,
    hints: &mut Vec<Hint>,
) -> Tried<()> {
    hints.clear();
    let kept = outcome.unresolved_reason().is_none();
    let text = kept.then(|| serde_json::to_string(outcome)).transpose().map_err(unreadable)?;
    let (settled_at, log_id) =
        (kept.then_some(ending.at.0), ending.log_id.as_ref().filter(|_| kept));
    let Progress { polls, last_pending_at, not_found_since, .. } = ending.progress;
    let [hold, set] = db.prepare([HOLD, &settling()]).await?;
    let ((), holding, waiting) = flight!(
        db.say("BEGIN"),
        db.send(&hold, &[&lease.lane, &lease.epoch]),
        db.send(
            &set,
            &[
                &ending.task.0,
                &lease.lane,
                &i64::from(polls),
                &last_pending_at.map(|at| at.0),
                &not_found_since.map(|at| at.0),
                &text,
                &settled_at,
                &log_id,
            ]
        ),
    )?;
    held(&holding)?;
    let told = Told::of(&waiting, ending, outcome)?;
    told.send_with(db, ending.at, &[], "COMMIT", hints).await?;
    Ok(())
}

fn giving_up() -> String {
    format!(
        "WITH saved AS (
             UPDATE task SET polls = $3, last_pending_at = $4, not_found_since = $5
             WHERE id = $1 AND lane = $2 AND outcome IS NULL)
         SELECT {WAITING} FROM task t JOIN lane l ON l.id = t.lane
         JOIN registration r ON r.task = t.id AND r.state = 'watching' AND r.give_up_at <= $6
         WHERE t.id = $1 AND t.lane = $2 ORDER BY r.id"
    )
}

const STILL_WATCHED: &str = "
    UPDATE task t SET watched = EXISTS (
        SELECT 1 FROM registration WHERE task = t.id AND state = 'watching')
    WHERE id = $1
    RETURNING (SELECT min(give_up_at) FROM registration WHERE task = t.id AND state = 'watching')";

pub(super) async fn give_up(
    db: &Session,
    lease: Lease,
    ending: &Ending,
    outcome: &Outcome,
    hints: &mut Vec<Hint>,
) -> Tried<Option<Timestamp>> {
    hints.clear();
    let Progress { polls, last_pending_at, not_found_since, .. } = ending.progress;
    let [hold, set] = db.prepare([HOLD, &giving_up()]).await?;
    let ((), holding, waiting) = flight!(
        db.say("BEGIN"),
        db.send(&hold, &[&lease.lane, &lease.epoch]),
        db.send(
            &set,
            &[
                &ending.task.0,
                &lease.lane,
                &i64::from(polls),
                &last_pending_at.map(|at| at.0),
                &not_found_since.map(|at| at.0),
                &ending.at.0,
            ]
        ),
    )?;
    held(&holding)?;
    let told = Told::of(&waiting, ending, outcome)?;
    let next = told.send_with(db, ending.at, &[ending.task.0], "COMMIT", hints).await?;
    next.first().map_or(Ok(None), |row| time(row, 0))
}

/// Registrations to be told, a column each.
#[derive(Default)]
struct Told {
    ids: Vec<String>,
    clients: Vec<String>,
    bodies: Vec<Vec<u8>>,
    unresolved: Option<&'static str>,
}

impl Told {
    fn of(waiting: &[Row], ending: &Ending, outcome: &Outcome) -> Tried<Self> {
        let mut told = Self { unresolved: outcome.unresolved_reason(), ..Self::default() };
        for row in waiting {
            let lane = lane(row, 1, 0)?;
            let named = TaskRef {
                kind: lane.kind,
                account: lane.account,
                website_id: get(row, 2)?,
                delivery_task_id: get(row, 3)?,
            };
            let ended = Ended::new(named, ending, outcome.clone());
            let report = ended.report(Timestamp(get(row, 6)?));
            let id: String = get(row, 4)?;
            told.bodies.push(outcome::body(&id, &report, &raw(get(row, 7)?)?));
            told.ids.push(id);
            told.clients.push(get(row, 5)?);
        }
        Ok(told)
    }

    /// Fixes outcomes and bytes and makes deliveries due; then, in the same flight, sees whether
    /// the tasks `then` are still watched, and says `last`.
    async fn send_with(
        &self,
        db: &Session,
        due_at: Timestamp,
        then: &[i64],
        last: &str,
        hints: &mut Vec<Hint>,
    ) -> Tried<Vec<Row>> {
        let [tell, watched] = db.prepare([TELL, STILL_WATCHED]).await?;
        let back = back(&self.clients);
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [
            &self.ids,
            &self.clients,
            &self.bodies,
            &back,
            &due_at.0,
            &CALLBACK_GONE,
            &self.unresolved,
        ];
        let telling = async {
            if self.ids.is_empty() { Ok(Vec::new()) } else { db.send(&tell, &params).await }
        };
        let looking = async {
            match then.first() {
                Some(task) => db.send(&watched, &[task]).await,
                None => Ok(Vec::new()),
            }
        };
        let (told, looked, ()) = flight!(telling, looking, db.say(last))?;
        if told.len() != self.ids.len() {
            return Err(unreadable("a registration changed while its lane was locked"));
        }
        for row in &told {
            hints.push(Hint::Outcome { registration_id: get(row, 0)? });
            if !get::<bool>(row, 1)? {
                hints.push(Hint::Due(destination(row, 2)?));
            }
        }
        Ok(looked)
    }
}

/// How many later ones of the same client follow each: positions are given out in one piece.
fn back<T: AsRef<str>>(clients: &[T]) -> Vec<i64> {
    let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
    let mut back: Vec<i64> = clients
        .iter()
        .rev()
        .map(|client| {
            let count = seen.entry(client.as_ref()).or_insert(0);
            *count += 1;
            *count - 1
        })
        .collect();
    back.reverse();
    back
}

/// The client's place in the log is locked while it is given out: places follow commits.
pub(super) const TELL: &str = "
    WITH told AS (
        SELECT i.*, EXISTS (
            SELECT 1 FROM registration r JOIN gone_callback g
            ON g.client = r.client AND g.callback_url = r.callback_url WHERE r.id = i.id) AS gone
        FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[])
            AS i (id, client, body, back)),
    log AS (
        INSERT INTO outcome_log (client, position)
        SELECT client, count(*) FROM told GROUP BY client ORDER BY client
        ON CONFLICT (client) DO UPDATE SET position = outcome_log.position + EXCLUDED.position
        RETURNING client, position)
    UPDATE registration r SET body = told.body, outcome_position = log.position - told.back,
        state           = CASE WHEN told.gone THEN 'undeliverable' ELSE 'delivering' END,
        next_attempt_at = CASE WHEN told.gone THEN NULL ELSE $5::bigint END,
        finished_at     = CASE WHEN told.gone THEN $5::bigint END,
        last_error      = CASE WHEN told.gone THEN $6 END,
        unresolved      = $7,
        unresolved_at   = CASE WHEN $7::text IS NOT NULL THEN $5::bigint END
    FROM told JOIN log ON log.client = told.client
    WHERE r.id = told.id AND r.state = 'watching'
    RETURNING r.id, told.gone, r.client, r.callback_origin";

const TELL_NEW: &str = "
    WITH told AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[],
                $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bytea[],
                $12::bigint[])
            AS i (id, client, task, lane, callback_url, callback_origin, callback_host, metadata,
                created_at, give_up_at, body, back)),
    log AS (
        INSERT INTO outcome_log (client, position)
        SELECT client, count(*) FROM told GROUP BY client ORDER BY client
        ON CONFLICT (client) DO UPDATE SET position = outcome_log.position + EXCLUDED.position
        RETURNING client, position),
    wanted AS (
        DELETE FROM gone_callback g USING told
        WHERE g.client = told.client AND g.callback_url = told.callback_url)
    INSERT INTO registration (id, client, task, lane, callback_url, callback_origin, callback_host,
        metadata, state, created_at, give_up_at, body, outcome_position, next_attempt_at)
    SELECT told.id, told.client, task, lane, callback_url, callback_origin, callback_host, metadata,
        'delivering', created_at, give_up_at, body, log.position - back, created_at
    FROM told JOIN log ON log.client = told.client
    ON CONFLICT (task, client, callback_url) WHERE state <> 'cancelled' AND unresolved IS NULL
        DO NOTHING
    RETURNING id";

/// Stores registrations of tasks that are over, with their outcome, due at once.
pub(super) async fn tell_new(db: &Session, late: &[Late<'_>], hints: &mut Vec<Hint>) -> Tried<()> {
    if late.is_empty() {
        return Ok(());
    }
    let texts = |of: for<'b> fn(&'b Late<'_>) -> &'b str| late.iter().map(of).collect::<Vec<_>>();
    let numbers = |of: fn(&Late<'_>) -> i64| late.iter().map(of).collect::<Vec<_>>();
    let clients = texts(|l| &l.new.client);
    let mut bodies = Vec::with_capacity(late.len());
    for late in late {
        let metadata = raw(late.new.metadata.clone())?;
        let report = late.ended.report(late.new.created_at);
        bodies.push(outcome::body(&late.new.id, &report, &metadata));
    }
    let stored = db
        .query(
            TELL_NEW,
            &[
                &texts(|l| &l.new.id),
                &clients,
                &numbers(|l| l.ended.task),
                &numbers(|l| l.lane),
                &texts(|l| &l.new.callback_url),
                &texts(|l| &l.new.callback_origin),
                &texts(|l| &l.new.callback_host),
                &texts(|l| &l.new.metadata),
                &numbers(|l| l.new.created_at.0),
                &numbers(|l| l.new.give_up_at.0),
                &bodies,
                &back(&clients),
            ],
        )
        .await?;
    if stored.len() < late.len() {
        return Err(Failure::Again);
    }
    for late in late {
        hints.push(Hint::Outcome { registration_id: late.new.id.clone() });
        let to = Destination::new(&late.new.client, &late.new.callback_origin);
        hints.push(Hint::Due(to));
    }
    Ok(())
}
