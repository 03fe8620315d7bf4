//! The fleet's members, and whose each lane is.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use super::lanes::taken;
use super::outbox::destination;
use super::rows::{get, lane, maybe_number, number};
use super::session::{Failure, Session, Tried, flight};
use crate::clock::{Timestamp, millis};
use crate::store::fleet::{
    Claimed, Holding, LEASE, LEASE_MARGIN, Member, MemberId, Present, Roster,
};
use crate::store::{Hint, Lease};
use crate::task::LaneName;

/// A member that expired this long ago is forgotten.
const FORGET: &str = "DELETE FROM member WHERE expires_at < clock_timestamp() - interval '1 day'";

const ALIVE: &str = "
    INSERT INTO member (id, name, since, alive_since, expires_at)
    VALUES ($1, $2, $3, clock_timestamp(),
            clock_timestamp() + $4::bigint * interval '1 millisecond')
    ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at, alive_since =
        CASE WHEN member.expires_at > clock_timestamp() THEN member.alive_since
             ELSE clock_timestamp() END";

const MEMBERS: &str = "
    SELECT id, name, since FROM member WHERE expires_at > clock_timestamp() ORDER BY id";

const MINE: &str = "SELECT id, epoch, version, account, kind FROM lane WHERE owner = $1";

pub(super) async fn join(db: &Session, member: &Member) -> Tried<()> {
    let [forget, alive] = db.prepare([FORGET, ALIVE]).await?;
    let lease = millis(LEASE);
    let joining: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&member.id.0, &member.name, &member.since.0, &lease];
    flight!(db.send(&forget, &[]), db.send(&alive, &joining))?;
    Ok(())
}

/// A lane of the beating member.
pub(super) struct Mine {
    pub(super) lease: Lease,
    pub(super) version: i64,
    pub(super) name: LaneName,
}

/// One flight of three statements, however many lanes are held: the member's row is their lease.
pub(super) async fn beat(
    db: &Session,
    member: &Member,
    held: &[Lease],
) -> Tried<(Roster, Vec<Mine>)> {
    let [alive, members, mine] = db.prepare([ALIVE, MEMBERS, MINE]).await?;
    let lease = millis(LEASE);
    let (_, members, mine) = flight!(
        db.send(&alive, &[&member.id.0, &member.name, &member.since.0, &lease]),
        db.send(&members, &[]),
        db.send(&mine, &[&member.id.0]),
    )?;
    let mine: Vec<Mine> = mine.iter().map(read_mine).collect::<Tried<_>>()?;
    let still: std::collections::BTreeSet<(i64, i64)> =
        mine.iter().map(|mine| (mine.lease.lane, mine.lease.epoch)).collect();
    let roster = Roster {
        members: members.iter().map(|row| read_member(row, 0)).collect::<Tried<_>>()?,
        lasts: LEASE.saturating_sub(LEASE_MARGIN),
        lost: held.iter().filter(|l| !still.contains(&(l.lane, l.epoch))).copied().collect(),
        mine: mine.iter().map(|mine| (mine.name.clone(), mine.lease)).collect(),
    };
    Ok((roster, mine))
}

fn read_mine(row: &Row) -> Tried<Mine> {
    let lease = Lease { lane: get(row, 0)?, epoch: get(row, 1)? };
    Ok(Mine { lease, version: get(row, 2)?, name: lane(row, 3, 4)? })
}

fn read_member(row: &Row, first: usize) -> Tried<Member> {
    Ok(Member {
        id: MemberId(get(row, first)?),
        name: get(row, first + 1)?,
        since: Timestamp(get(row, first + 2)?),
    })
}

/// A lane whose owner has expired is taken only by a member that has itself been alive for a whole
/// lease: after the database was away, everybody has expired, and whoever is back first must not
/// take everything from those who are back a moment later.
pub(super) const CLAIM: &str = "
    INSERT INTO lane (account, kind, epoch, owner, owned_since)
    SELECT $2, $3, 1, m.id, clock_timestamp() FROM member m
    WHERE m.id = $1 AND m.expires_at > clock_timestamp()
    ON CONFLICT (account, kind) DO UPDATE SET
        epoch = lane.epoch + 1, owner = EXCLUDED.owner, owned_since = clock_timestamp(),
        takeovers = lane.takeovers + CASE WHEN lane.owner <> EXCLUDED.owner THEN 1 ELSE 0 END
    WHERE lane.owner IS NULL OR lane.owner = EXCLUDED.owner OR (
        NOT EXISTS (SELECT 1 FROM member o
                    WHERE o.id = lane.owner AND o.expires_at > clock_timestamp())
        AND EXISTS (SELECT 1 FROM member m WHERE m.id = EXCLUDED.owner AND m.alive_since
                    <= clock_timestamp() - $4::bigint * interval '1 millisecond'))
    RETURNING id, epoch, reservations, memory, version,
        (SELECT extract(epoch FROM m.expires_at - clock_timestamp()) * 1000
         FROM member m WHERE m.id = lane.owner)::bigint,
        takeovers > (SELECT b.takeovers FROM lane b WHERE b.account = $2 AND b.kind = $3),
        (extract(epoch FROM clock_timestamp() - reserved_at) * 1000)::bigint";

/// Where a lane's deliveries go, or will.
const DESTINATIONS: &str = "
    WITH RECURSIVE d (client, origin) AS (
        (SELECT client, callback_origin FROM registration
         WHERE state IN ('watching', 'delivering') AND lane = $1
         ORDER BY callback_origin, client LIMIT 1)
        UNION ALL
        SELECT n.client, n.callback_origin FROM d CROSS JOIN LATERAL (
            SELECT client, callback_origin FROM registration
            WHERE state IN ('watching', 'delivering') AND lane = $1
            AND (callback_origin, client) > (d.origin, d.client)
            ORDER BY callback_origin, client LIMIT 1) n)
    SELECT client, origin FROM d";

pub(super) async fn claim(
    db: &Session,
    member: &Member,
    name: &LaneName,
    hints: &mut Vec<Hint>,
) -> Tried<Option<Claimed>> {
    hints.clear();
    let key = (&name.account, name.kind.name());
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&member.id.0, key.0, &key.1, &millis(LEASE)];
    let Some(row) = db.query_opt(CLAIM, &params).await? else { return Ok(None) };
    let lane = taken(&row)?;
    for row in db.query(DESTINATIONS, &[&lane.lease.lane]).await? {
        hints.push(Hint::Due(destination(&row, 0)?));
    }
    hints.push(Hint::Asked);
    let left = Duration::from_millis(maybe_number(&row, 5)?.unwrap_or(0));
    Ok(Some(Claimed {
        lane,
        lasts: left.saturating_sub(LEASE_MARGIN),
        took_over: get::<Option<bool>>(&row, 6)?.unwrap_or(false),
        reserved_ago: maybe_time(&row, 7)?,
    }))
}

/// A span by the database's clock, which may have been stepped back.
fn maybe_time(row: &Row, column: usize) -> Tried<Option<Duration>> {
    let ms: Option<i64> = get(row, column)?;
    Ok(ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
}

pub(super) async fn release(db: &Session, lease: Lease) -> Tried<Option<LaneName>> {
    let sql = "
        UPDATE lane SET owner = NULL, owned_since = NULL, epoch = epoch + 1
        WHERE id = $1 AND epoch = $2 RETURNING account, kind";
    let row = db.query_opt(sql, &[&lease.lane, &lease.epoch]).await?;
    row.map(|row| lane(&row, 0, 1)).transpose()
}

/// In the order in which everybody locks lanes.
const LEAVE: &str = "
    WITH held AS (
        SELECT id FROM lane WHERE owner = $1 ORDER BY account, kind FOR NO KEY UPDATE)
    UPDATE lane SET owner = NULL, owned_since = NULL, epoch = epoch + 1
    FROM held WHERE lane.id = held.id AND lane.owner = $1";

pub(super) async fn leave(db: &Session, member: Uuid) -> Tried<()> {
    let [lanes, gone] = db.prepare([LEAVE, "DELETE FROM member WHERE id = $1"]).await?;
    flight!(db.send(&lanes, &[&member]), db.send(&gone, &[&member]))?;
    Ok(())
}

/// One step of the index a lane, however many registrations each has.
pub(super) const HOLDINGS: &str = "
    WITH RECURSIVE busy (lane) AS (
        SELECT min(lane) FROM registration WHERE state IN ('watching', 'delivering')
        UNION ALL
        SELECT (SELECT min(lane) FROM registration
                WHERE state IN ('watching', 'delivering') AND lane > b.lane)
        FROM busy b WHERE b.lane IS NOT NULL)
    SELECT l.account, l.kind, l.takeovers,
           (extract(epoch FROM clock_timestamp() - l.owned_since) * 1000)::bigint,
           m.id, m.name, m.since
    FROM busy b JOIN lane l ON l.id = b.lane
    LEFT JOIN member m ON m.id = l.owner AND m.expires_at > clock_timestamp()
    ORDER BY l.account, l.kind";

pub(super) async fn holdings(db: &Session) -> Tried<Vec<Holding>> {
    let holding = |row: &Row| {
        let owned = get::<Option<Uuid>>(row, 4)?.is_some();
        let age = maybe_time(row, 3)?.filter(|_| owned);
        Ok::<_, Failure>(Holding {
            lane: lane(row, 0, 1)?,
            owner: owned.then(|| read_member(row, 4)).transpose()?,
            held_for: age,
            takeovers: number(row, 2)?,
        })
    };
    db.query(HOLDINGS, &[]).await?.iter().map(holding).collect()
}

const PRESENT: &str = "
    SELECT id, name, since, report,
           (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint
    FROM member WHERE expires_at > clock_timestamp() ORDER BY id";

pub(super) async fn present(db: &Session) -> Tried<Vec<Present>> {
    let present = |row: &Row| {
        let left = maybe_time(row, 4)?.unwrap_or_default();
        Ok::<_, Failure>(Present {
            member: read_member(row, 0)?,
            silent_for: LEASE.saturating_sub(left),
            report: get(row, 3)?,
        })
    };
    db.query(PRESENT, &[]).await?.iter().map(present).collect()
}

pub(super) async fn report(db: &Session, member: Uuid, report: &str) -> Tried<()> {
    db.query("UPDATE member SET report = $2 WHERE id = $1", &[&member, &report]).await?;
    Ok(())
}
