//! Deliveries: what is due, and what became of each attempt. One statement each.
//!
//! A daemon of the fleet sees the deliveries of the lanes it holds, and no others.

use tokio_postgres::Row;
use uuid::Uuid;

use super::rows::{COLUMNS, WIDTH, get, number, registration, time};
use super::session::{Session, Tried};
use crate::clock::{Timestamp, millis};
use crate::store::outbox::add;
use crate::store::{Attempt, Delivery, Destination, DestinationPage, DestinationPlace, Hint, Next};
use crate::task::{Registration, State};

/// One step of the index a destination and lane, however many deliveries each has. `at` is null
/// where the lane is another daemon's.
pub(super) const DESTINATIONS: &str = "
    WITH RECURSIVE shard (origin, client, lane, number) AS (
        (SELECT callback_origin, client, lane, 1 FROM registration
         WHERE state = 'delivering' AND (callback_origin, client, lane) > ($2, $3, $4)
         ORDER BY callback_origin, client, lane LIMIT 1)
        UNION ALL
        SELECT n.callback_origin, n.client, n.lane, s.number + 1
        FROM shard s CROSS JOIN LATERAL (
            SELECT callback_origin, client, lane FROM registration
            WHERE state = 'delivering'
            AND (callback_origin, client, lane) > (s.origin, s.client, s.lane)
            ORDER BY callback_origin, client, lane LIMIT 1) n
        WHERE s.number < $5)
    SELECT s.client, s.origin, s.lane, CASE WHEN $1::uuid IS NULL OR EXISTS (
            SELECT 1 FROM lane l JOIN member m ON m.id = l.owner
            WHERE l.id = s.lane AND l.owner = $1 AND m.expires_at > clock_timestamp())
        THEN (SELECT min(next_attempt_at) FROM registration
              WHERE state = 'delivering' AND callback_origin = s.origin AND client = s.client
              AND lane = s.lane) END AS at
    FROM shard s ORDER BY s.number";

pub(super) async fn destinations(
    db: &Session,
    me: Option<Uuid>,
    after: &DestinationPlace,
    limit: u32,
) -> Tried<DestinationPage> {
    let DestinationPlace { to, lane } = after;
    let (limit, asked) = (i32::try_from(limit).unwrap_or(i32::MAX), limit);
    let rows = db.query(DESTINATIONS, &[&me, &to.origin, &to.client, lane, &limit]).await?;
    let mut page = DestinationPage::default();
    for row in &rows {
        if let Some(at) = time(row, 3)? {
            add(&mut page.found, (destination(row, 0)?, at));
        }
    }
    if let Some(last) = rows.last().filter(|_| rows.len() as u64 >= u64::from(asked)) {
        page.next = Some(DestinationPlace { to: destination(last, 0)?, lane: get(last, 2)? });
    }
    Ok(page)
}

/// Reads a client and an origin.
pub(super) fn destination(row: &Row, first: usize) -> Tried<Destination> {
    Ok(Destination { client: get(row, first)?, origin: get(row, first + 1)? })
}

/// Lane by lane, so that another daemon's backlog to the same destination costs nothing.
pub(super) const DUE: &str = "
    WITH RECURSIVE shard (lane) AS (
        SELECT min(lane) FROM registration
        WHERE state = 'delivering' AND callback_origin = $1 AND client = $5
        UNION ALL
        SELECT (SELECT min(lane) FROM registration
                WHERE state = 'delivering' AND callback_origin = $1 AND client = $5
                AND lane > s.lane)
        FROM shard s WHERE s.lane IS NOT NULL)
    SELECT r.* FROM shard s CROSS JOIN LATERAL (
        SELECT id, client, callback_url, body, attempts, round, first_attempt_at, next_attempt_at,
            callback_origin, lane, asked
        FROM registration
        WHERE state = 'delivering' AND callback_origin = $1 AND client = $5 AND lane = s.lane
        AND next_attempt_at <= $2
        ORDER BY next_attempt_at, id LIMIT $3) r
    WHERE s.lane IS NOT NULL AND ($4::uuid IS NULL OR EXISTS (
        SELECT 1 FROM lane l JOIN member m ON m.id = l.owner
        WHERE l.id = s.lane AND l.owner = $4 AND m.expires_at > clock_timestamp()))
    ORDER BY r.next_attempt_at, r.id LIMIT $3";

pub(super) async fn due(
    db: &Session,
    to: &Destination,
    now: Timestamp,
    limit: u32,
    me: Option<Uuid>,
) -> Tried<Vec<Delivery>> {
    let rows = db.query(DUE, &[&to.origin, &now.0, &i64::from(limit), &me, &to.client]).await?;
    rows.iter().map(delivery).collect()
}

/// Client by client: what one has asked for costs the others nothing.
pub(super) const ASKED: &str = "
    WITH RECURSIVE c (client) AS (
        SELECT min(client) FROM registration WHERE state = 'delivering' AND asked > 0
        UNION ALL
        SELECT (SELECT min(client) FROM registration
                WHERE state = 'delivering' AND asked > 0 AND client > c.client)
        FROM c WHERE c.client IS NOT NULL)
    SELECT r.* FROM c CROSS JOIN LATERAL (
        SELECT id, client, callback_url, body, attempts, round, first_attempt_at, next_attempt_at,
            callback_origin, lane, asked
        FROM registration
        WHERE state = 'delivering' AND asked > 0 AND client = c.client AND next_attempt_at <= $1
        AND ($3::uuid IS NULL OR EXISTS (
            SELECT 1 FROM lane l JOIN member m ON m.id = l.owner
            WHERE l.id = lane AND l.owner = $3 AND m.expires_at > clock_timestamp()))
        ORDER BY next_attempt_at, id LIMIT $2) r
    WHERE c.client IS NOT NULL ORDER BY r.next_attempt_at, r.id";

pub(super) async fn asked(
    db: &Session,
    now: Timestamp,
    limit: u32,
    me: Option<Uuid>,
) -> Tried<Vec<Delivery>> {
    let rows = db.query(ASKED, &[&now.0, &i64::from(limit), &me]).await?;
    rows.iter().map(delivery).collect()
}

fn delivery(row: &Row) -> Tried<Delivery> {
    Ok(Delivery {
        registration_id: get(row, 0)?,
        client: get(row, 1)?,
        callback_url: get(row, 2)?,
        body: get(row, 3)?,
        attempts: number(row, 4)?,
        round: number(row, 5)?,
        first_attempt_at: time(row, 6)?,
        due_at: Timestamp(get(row, 7)?),
        callback_origin: get(row, 8)?,
        lane: get(row, 9)?,
        asked: number(row, 10)?,
    })
}

const RESCHEDULE: &str = "
    UPDATE registration r SET next_attempt_at = $4
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $5::bigint[])
        AS u (id, attempts, round, asked)
    WHERE r.id = u.id AND r.state = 'delivering' AND r.attempts = u.attempts
    AND r.round = u.round AND r.asked = u.asked";

pub(super) async fn reschedule(db: &Session, under_way: &[Delivery], at: Timestamp) -> Tried<()> {
    let ids: Vec<&str> = under_way.iter().map(|it| it.registration_id.as_str()).collect();
    let attempts: Vec<i64> = under_way.iter().map(|it| i64::from(it.attempts)).collect();
    let rounds: Vec<i64> = under_way.iter().map(|it| i64::from(it.round)).collect();
    let asked: Vec<i64> = under_way.iter().map(|it| i64::from(it.asked)).collect();
    db.query(RESCHEDULE, &[&ids, &attempts, &rounds, &at.0, &asked]).await?;
    Ok(())
}

/// The row is locked and judged before it is changed: `ours` is what it said at that moment.
pub(super) const RECORD: &str = "
    WITH before AS (
        SELECT id, client, callback_url, state = 'delivering' AND attempts = $2 AND round = $3
            AND asked = $19 AS ours
        FROM registration WHERE id = $1 FOR NO KEY UPDATE),
    moved AS (
        UPDATE registration r SET
            state           = CASE WHEN b.ours THEN $4  ELSE r.state END,
            next_attempt_at = CASE WHEN b.ours THEN $5  ELSE r.next_attempt_at END,
            attempts        = greatest(r.attempts, $6),
            round           = CASE WHEN b.ours THEN r.round + 1 ELSE r.round END,
            last_status     = CASE WHEN b.ours THEN $7  ELSE r.last_status END,
            last_error      = CASE WHEN b.ours THEN $8  ELSE r.last_error END,
            finished_at     = CASE WHEN b.ours THEN $9  ELSE r.finished_at END,
            asked           = CASE WHEN b.ours THEN 0   ELSE r.asked END,
            first_attempt_at = CASE WHEN b.ours THEN least(r.first_attempt_at, $10)
                                    ELSE r.first_attempt_at END
        FROM before b WHERE r.id = b.id),
    logged AS (
        INSERT INTO attempt
            (registration, number, at, duration_ms, status, error, reply_excerpt, verdict,
             connect_ms, first_byte_ms, error_class, reason)
        SELECT b.id, $6, $10, $11, $7, $8, $12, $13, $14, $15, $16, $17 FROM before b
        ON CONFLICT (registration, number) DO UPDATE SET
            at = EXCLUDED.at, duration_ms = EXCLUDED.duration_ms, status = EXCLUDED.status,
            error = EXCLUDED.error, reply_excerpt = EXCLUDED.reply_excerpt,
            verdict = EXCLUDED.verdict, connect_ms = EXCLUDED.connect_ms,
            first_byte_ms = EXCLUDED.first_byte_ms, error_class = EXCLUDED.error_class,
            reason = EXCLUDED.reason),
    gone AS (
        INSERT INTO gone_callback (client, callback_url, since)
        SELECT client, callback_url, $10 + $11 FROM before WHERE $18 = 'gone'
        ON CONFLICT (client, callback_url) DO NOTHING),
    back AS (
        DELETE FROM gone_callback g USING before b
        WHERE $18 = 'delivered' AND g.client = b.client AND g.callback_url = b.callback_url)
    SELECT ours FROM before";

pub(super) async fn record_attempt(
    db: &Session,
    delivery: &Delivery,
    attempt: &Attempt,
    next: Next,
    hints: &mut Vec<Hint>,
) -> Tried<bool> {
    let id = &delivery.registration_id;
    let (state, next_at) = match next {
        Next::Delivered => (State::Delivered, None),
        Next::RetryAt(at) => (State::Delivering, Some(at.0)),
        Next::Undeliverable | Next::Gone => (State::Undeliverable, None),
    };
    let heard = match next {
        Next::Delivered => "delivered",
        Next::Gone => "gone",
        Next::RetryAt(_) | Next::Undeliverable => "",
    };
    let ended_at = attempt.at.after(attempt.duration).0;
    let finished_at = next_at.is_none().then_some(ended_at);
    let row = db
        .query_opt(
            RECORD,
            &[
                id,
                &i64::from(delivery.attempts),
                &i64::from(delivery.round),
                &state.name(),
                &next_at,
                &i64::from(attempt.number),
                &attempt.status.map(i64::from),
                &storable(attempt.error.as_ref()),
                &finished_at,
                &attempt.at.0,
                &millis(attempt.duration),
                &storable(attempt.reply_excerpt.as_ref()),
                &attempt.verdict,
                &attempt.details.connect.map(millis),
                &attempt.details.first_byte.map(millis),
                &attempt.details.error_class,
                &attempt.details.reason,
                &heard,
                &i64::from(delivery.asked),
            ],
        )
        .await?;
    let ours = row.as_ref().map(|row| get(row, 0)).transpose()?.unwrap_or(false);
    if ours && finished_at.is_some() {
        hints.push(Hint::Outcome { registration_id: id.clone() });
    }
    Ok(ours)
}

pub(super) async fn postpone(
    db: &Session,
    delivery: &Delivery,
    until: Timestamp,
    error: &str,
) -> Tried<()> {
    let sql = "
        UPDATE registration SET next_attempt_at = $4, last_error = $5, asked = 0
        WHERE id = $1 AND state = 'delivering' AND attempts = $2 AND round = $3 AND asked = $6";
    let id = &delivery.registration_id;
    let (attempts, round) = (i64::from(delivery.attempts), i64::from(delivery.round));
    let asked = i64::from(delivery.asked);
    db.query(sql, &[id, &attempts, &round, &until.0, &error, &asked]).await?;
    Ok(())
}

/// Text from outside: Postgres refuses the one character U+0000.
fn storable(text: Option<&String>) -> Option<String> {
    text.map(|text| text.replace('\0', "\u{fffd}"))
}

pub(super) async fn redeliver(
    db: &Session,
    id: &str,
    now: Timestamp,
    hints: &mut Vec<Hint>,
) -> Tried<Option<Registration>> {
    let sql = format!(
        "WITH again AS (
             UPDATE registration
             SET state = 'delivering', next_attempt_at = $2, round = 0, first_attempt_at = NULL,
                 finished_at = NULL, asked = asked + 1
             WHERE id = $1 AND state IN ('delivering', 'delivered', 'undeliverable')
             RETURNING *),
         back AS (
             DELETE FROM gone_callback g USING again a
             WHERE g.client = a.client AND g.callback_url = a.callback_url),
         r AS (
             SELECT TRUE AS again, * FROM again
             UNION ALL
             SELECT FALSE, * FROM registration
             WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM again))
         SELECT {COLUMNS}, r.again, r.client, r.callback_origin
         FROM r JOIN task t ON t.id = r.task JOIN lane l ON l.id = t.lane"
    );
    let Some(row) = db.query_opt(&sql, &[&id, &now.0]).await? else { return Ok(None) };
    if get(&row, WIDTH)? {
        hints.push(Hint::Due(destination(&row, WIDTH + 1)?));
        hints.push(Hint::Asked);
    }
    registration(&row).map(Some)
}
