//! Registering: one flight for one registration, commit included; two for a batch.
//!
//! The lane's row is locked first. So a statement that begins after it sees every registration and
//! every outcome of the lane that will ever have come before this one.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::ending::{Ended, tell_new};
use super::rows::{COLUMNS, WIDTH, get, raw, registration};
use super::session::{Failure, Session, Tried, flight};
use crate::store::{Hint, NewRegistration, Registered};
use crate::task::{Callback, DeliveryState, Registration, State, TaskId};
use crate::watching::Watching;

/// Locks the lanes, making them if need be, gives out one version a registration, and makes the
/// tasks that are new.
pub(super) const LANES_AND_TASKS: &str = "
    WITH item AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
            AS i (account, kind, website_id, delivery_task_id, created_at)),
    lanes AS (
        INSERT INTO lane (account, kind, version)
        SELECT account, kind, count(*) FROM item GROUP BY account, kind ORDER BY account, kind
        ON CONFLICT (account, kind) DO UPDATE SET version = lane.version + EXCLUDED.version
        RETURNING id, account, kind)
    INSERT INTO task (lane, website_id, delivery_task_id, watched, version, registered_at)
    SELECT l.id, i.website_id, i.delivery_task_id, FALSE, 0, i.created_at
    FROM item i JOIN lanes l ON l.account = i.account AND l.kind = i.kind
    ON CONFLICT (lane, website_id, delivery_task_id) DO NOTHING";

/// Makes the registrations that are new, has their tasks watched, and tells what is there.
pub(super) fn registrations() -> String {
    format!(
        "WITH item AS (
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[],
                     $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
                     $12::bigint[])
                 WITH ORDINALITY AS i (account, kind, website_id, delivery_task_id, created_at, id,
                     client, callback_url, callback_origin, callback_host, metadata, give_up_at, n)),
         found AS (
             SELECT i.*, t.lane, t.id AS task, t.outcome IS NULL AS open,
                    l.version + 1 - row_number() OVER (PARTITION BY l.id ORDER BY i.n DESC) AS version
             FROM item i JOIN lane l ON l.account = i.account AND l.kind = i.kind
             JOIN task t ON t.lane = l.id AND t.website_id = i.website_id
                 AND t.delivery_task_id = i.delivery_task_id),
         made AS (
             INSERT INTO registration (id, client, task, lane, callback_url, callback_origin,
                 callback_host, metadata, state, created_at, give_up_at)
             SELECT id, client, task, lane, callback_url, callback_origin, callback_host, metadata,
                 'watching', created_at, give_up_at
             FROM found WHERE open ORDER BY n
             ON CONFLICT (task, client, callback_url)
                 WHERE state <> 'cancelled' AND unresolved IS NULL DO NOTHING
             RETURNING id),
         wanted AS ( -- whoever registers a callback anew wants to be told there
             DELETE FROM gone_callback g USING found f JOIN made m ON m.id = f.id
             WHERE g.client = f.client AND g.callback_url = f.callback_url),
         touched AS (
             UPDATE task t SET watched = TRUE, version = c.version,
                 polls = CASE WHEN t.watched THEN t.polls ELSE 0 END,
                 last_pending_at = CASE WHEN t.watched THEN t.last_pending_at END,
                 not_found_since = CASE WHEN t.watched THEN t.not_found_since END,
                 last_polled_at = CASE WHEN t.watched THEN t.last_polled_at END,
                 last_answer = CASE WHEN t.watched THEN t.last_answer END
             FROM (SELECT f.task, max(f.version) AS version
                   FROM found f JOIN made m ON m.id = f.id GROUP BY f.task) c
             WHERE t.id = c.task)
         SELECT {COLUMNS}, f.task, f.lane, m.id IS NOT NULL, t.outcome, t.settled_at, t.log_id,
                t.polls, t.last_pending_at, t.not_found_since, t.last_polled_at, t.last_answer
         FROM found f JOIN task t ON t.id = f.task JOIN lane l ON l.id = f.lane
         LEFT JOIN made m ON m.id = f.id
         LEFT JOIN registration r ON r.task = f.task AND r.client = f.client
             AND r.callback_url = f.callback_url AND r.state <> 'cancelled' AND r.unresolved IS NULL
         ORDER BY f.n"
    )
}

/// What the statements are given: a column each.
struct Columns<'a> {
    accounts: Vec<&'a str>,
    kinds: Vec<&'a str>,
    websites: Vec<&'a str>,
    tasks: Vec<&'a str>,
    created: Vec<i64>,
    ids: Vec<&'a str>,
    clients: Vec<&'a str>,
    urls: Vec<&'a str>,
    origins: Vec<&'a str>,
    hosts: Vec<&'a str>,
    metadata: Vec<&'a str>,
    give_up: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(new: &'a [NewRegistration]) -> Self {
        let texts = |of: fn(&NewRegistration) -> &str| new.iter().map(of).collect();
        Self {
            accounts: texts(|n| &n.task.account),
            kinds: texts(|n| n.task.kind.name()),
            websites: texts(|n| &n.task.website_id),
            tasks: texts(|n| &n.task.delivery_task_id),
            created: new.iter().map(|n| n.created_at.0).collect(),
            ids: texts(|n| &n.id),
            clients: texts(|n| &n.client),
            urls: texts(|n| &n.callback_url),
            origins: texts(|n| &n.callback_origin),
            hosts: texts(|n| &n.callback_host),
            metadata: texts(|n| &n.metadata),
            give_up: new.iter().map(|n| n.give_up_at.0).collect(),
        }
    }
}

pub(super) async fn register(
    db: &Session,
    new: &[NewRegistration],
    hints: &mut Vec<Hint>,
) -> Tried<Vec<Registered>> {
    hints.clear();
    if new.is_empty() {
        return Ok(Vec::new());
    }
    // One registration needs no second look before its commit; a batch is one commit, and what it
    // says of tasks that are over can only be written once they are known to be.
    let alone = new.len() == 1;
    let rows = fly(db, &Columns::of(new), alone).await?;
    let mut answers = Answers::default();
    for (new, row) in new.iter().zip(&rows) {
        answers.take(new, row)?;
    }
    tell_new(db, &answers.over, hints).await?;
    if !alone {
        db.say("COMMIT").await?;
    }
    answers.finish(hints)
}

async fn fly(db: &Session, c: &Columns<'_>, commit: bool) -> Tried<Vec<Row>> {
    let [first, second] = db.prepare([LANES_AND_TASKS, &registrations()]).await?;
    let last = async { if commit { db.say("COMMIT").await } else { Ok(()) } };
    let ((), _, rows, ()) = flight!(
        db.say("BEGIN"),
        db.send(&first, &[&c.accounts, &c.kinds, &c.websites, &c.tasks, &c.created]),
        db.send(
            &second,
            &[
                &c.accounts,
                &c.kinds,
                &c.websites,
                &c.tasks,
                &c.created,
                &c.ids,
                &c.clients,
                &c.urls,
                &c.origins,
                &c.hosts,
                &c.metadata,
                &c.give_up,
            ]
        ),
        last,
    )?;
    // A task forgotten between the two statements cannot be: its lane is locked.
    if rows.len() == c.ids.len() { Ok(rows) } else { Err(Failure::Again) }
}

/// A registration of a task that is over: to be stored with its outcome.
pub(super) struct Late<'a> {
    pub(super) new: &'a NewRegistration,
    pub(super) lane: i64,
    pub(super) ended: Ended,
}

/// What becomes of each request.
#[derive(Default)]
struct Answers<'a> {
    given: Vec<Answer>,
    /// The first request of each task, client and callback.
    first: BTreeMap<(i64, &'a str, &'a str), usize>,
    over: Vec<Late<'a>>,
}

enum Answer {
    Done(Box<Registered>),
    /// Whatever the request at this place of the batch came to.
    Same(usize),
    /// What became of the late one of this number.
    Late(usize),
}

impl<'a> Answers<'a> {
    fn take(&mut self, new: &'a NewRegistration, row: &Row) -> Tried<()> {
        let task: i64 = get(row, WIDTH)?;
        let key = (task, new.client.as_str(), new.callback_url.as_str());
        let place = self.given.len();
        let first = *self.first.entry(key).or_insert(place);
        let answer = if get::<Option<&str>>(row, 0)?.is_some() {
            Answer::Done(Box::new(Registered::Existing(registration(row)?)))
        } else if get(row, WIDTH + 2)? {
            Answer::Done(Box::new(Registered::New(fresh(new, task)?)))
        } else if first < place {
            Answer::Same(first)
        } else if let Some(ended) = Ended::of_settled(row, task, WIDTH + 3, new.task.clone())? {
            self.over.push(Late { new, lane: get(row, WIDTH + 1)?, ended });
            Answer::Late(self.over.len() - 1)
        } else {
            return Err(Failure::Again);
        };
        self.given.push(answer);
        Ok(())
    }

    fn finish(self, hints: &mut Vec<Hint>) -> Tried<Vec<Registered>> {
        let mut done: Vec<Registered> = Vec::with_capacity(self.given.len());
        let mut lanes = std::collections::BTreeSet::new();
        for answer in self.given {
            let registered = match answer {
                Answer::Same(first) => {
                    let (Registered::New(same) | Registered::Existing(same)) = &done[first];
                    Registered::Existing(same.clone())
                }
                Answer::Late(late) => Registered::New(self.over[late].registration()?),
                Answer::Done(registered) => {
                    if let Registered::New(new) = &*registered {
                        lanes.insert(new.task.lane());
                    }
                    *registered
                }
            };
            done.push(registered);
        }
        hints.extend(lanes.into_iter().map(Hint::Watch));
        Ok(done)
    }
}

impl Late<'_> {
    fn registration(&self) -> Tried<Registration> {
        let mut registration = fresh(self.new, self.ended.task)?;
        registration.state = State::Delivering;
        registration.watch = None;
        registration.outcome = Some(self.ended.report(self.new.created_at));
        registration.delivery.next_attempt_at = Some(self.new.created_at);
        Ok(registration)
    }
}

fn fresh(new: &NewRegistration, task: i64) -> Tried<Registration> {
    Ok(Registration {
        id: new.id.clone(),
        client: new.client.clone(),
        task: new.task.clone(),
        callback: Callback { url: new.callback_url.clone() },
        metadata: raw(new.metadata.clone())?,
        state: State::Watching,
        created_at: new.created_at,
        give_up_at: new.give_up_at,
        outcome: None,
        watch: Some(Watching::stored(TaskId(task), 0, None, None)),
        delivery: DeliveryState::default(),
    })
}
