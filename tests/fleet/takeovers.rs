//! Who polls a lane when its owner dies, leaves or sleeps.

use std::time::Duration;

use outcomed::clock::{Clock, SystemClock, Timestamp};
use tokio::time::Instant;

use crate::daemon::{Daemon, until};
use crate::stage::{Fleet, account, metric, wanted};
use crate::upstream::success;

/// What the issue allows after a death.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);
/// And after a graceful stop.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);
/// Enough that each of two daemons has some, but for one run in two thousand.
const LANES: usize = 12;

/// Two daemons that share the lanes; to the first, the upstream answers this late.
async fn two(fleet: &Fleet, latency: Duration) -> [Daemon; 2] {
    let first = fleet.home(1, latency).await.start().await;
    first.register_all(fleet.pending_tasks(5)).await;
    fleet.until_held(&first, 1).await;
    let second = fleet.home(2, Duration::ZERO).await.start().await;
    fleet.until_held(&first, 2).await;
    [first, second]
}

/// How long after `since` the last lane was polled through this door.
async fn polled_after(fleet: &Fleet, door: usize, since: Instant) -> Duration {
    let look = async || {
        let firsts = fleet.upstreams.iter().map(|upstream| {
            let state = upstream.state();
            state.polls.iter().find(|poll| poll.door == door && poll.at > since).map(|poll| poll.at)
        });
        firsts.collect::<Option<Vec<_>>>()
    };
    let firsts = until("every lane is polled", look, String::new).await;
    *firsts.iter().max().unwrap() - since
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemons_lanes_are_polled_again_within_ten_seconds() {
    let fleet = Fleet::new(LANES).await;
    let [first, second] = two(&fleet, Duration::ZERO).await;
    let held = metric(&first, "outcomed_fleet_lanes_held").await;
    assert!((1..LANES as u64).contains(&held), "{held} of {LANES}: they do not spread");
    let died = Instant::now();
    first.kill().await;
    let took = polled_after(&fleet, 2, died).await;
    assert!(took < TAKEOVER_MAX, "{took:?}");
    assert_eq!(metric(&second, "outcomed_fleet_takeovers_total").await, held);
    let view = second.get("/v1/fleet").await;
    assert_eq!((&view["takeovers"], &view["members"][0]["lanes"]), (&held.into(), &LANES.into()));
    assert_eq!(fleet.beyond_quota(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_daemons_lanes_are_handed_over_within_a_second() {
    let fleet = Fleet::new(LANES).await;
    let [mut first, second] = two(&fleet, Duration::ZERO).await;
    // A busy machine may be late once; the daemon itself has to be quick.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let told = Instant::now();
        first.signal("TERM");
        fleet.until_held(&second, 1).await;
        best = best.min(told.elapsed());
        assert_eq!(first.ended().await.code(), Some(0), "{}", first.log());
        if best < HAND_OVER_MAX {
            break;
        }
        first = fleet.home(1, Duration::ZERO).await.start().await;
        fleet.until_held(&second, 2).await;
    }
    assert!(best < HAND_OVER_MAX, "{best:?}");
    assert_eq!(metric(&second, "outcomed_fleet_takeovers_total").await, 0, "nothing expired");
    let polled = polled_after(&fleet, 2, Instant::now()).await;
    assert!(polled < Duration::from_secs(5), "{polled:?}");
    assert_eq!(fleet.beyond_quota(), 0);
}

/// A span in which a member owned a lane.
struct Reign {
    account: String,
    owner: String,
    from: Timestamp,
    until: Timestamp,
}

/// Has the database write down who owns which lane, from now on.
fn chronicle(fleet: &Fleet) {
    fleet.sql(
        "CREATE TABLE reign (id SERIAL, account TEXT, owner UUID, at TIMESTAMPTZ);
         INSERT INTO reign (account, owner, at) SELECT account, owner, owned_since FROM lane;
         CREATE FUNCTION note_reign() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO reign (account, owner, at)
             VALUES (NEW.account, NEW.owner, clock_timestamp());
             RETURN NULL; END $$;
         CREATE TRIGGER note_reign AFTER INSERT OR UPDATE OF owner ON lane
             FOR EACH ROW EXECUTE FUNCTION note_reign()",
    );
}

fn reigns(fleet: &Fleet) -> Vec<Reign> {
    let rows = fleet.sql(
        "SELECT account, owner, (extract(epoch FROM at) * 1000)::bigint, (extract(epoch FROM
             coalesce(lead(at) OVER (PARTITION BY account ORDER BY id), 'tomorrow')) * 1000)::bigint
         FROM reign ORDER BY id",
    );
    let row = |line: &str| {
        let [account, owner, from, until] = line.split('|').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let [from, until] = [from, until].map(|at| Timestamp(at.parse().unwrap()));
        Reign { account: account.to_owned(), owner: owner.to_owned(), from, until }
    };
    rows.lines().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_slept_through_its_lease_polls_nothing_and_writes_nothing() {
    let fleet = Fleet::new(LANES).await;
    let [first, second] = two(&fleet, Duration::from_secs(1)).await;
    let view = second.get("/v1/fleet").await;
    let members = view["members"].as_array().unwrap();
    let other = &view["answered_by"];
    let me = members.iter().map(|m| &m["id"]).find(|id| *id != other).unwrap().as_str().unwrap();
    chronicle(&fleet);
    let now = reigns(&fleet);
    let name = now.iter().find(|reign| reign.owner == me).expect("it holds one").account.clone();
    let lane = (0..LANES).find(|lane| account(*lane) == name).unwrap();

    // It is about to settle a task, and waits for the lane's row, when it falls asleep.
    let (stranger, connection) =
        tokio_postgres::connect(&fleet.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = format!("BEGIN; SELECT 1 FROM lane WHERE account = '{name}' FOR UPDATE");
    fleet.upstreams[lane].script("ends", [success()]);
    let registered = second.register(&wanted(lane, "ends", &fleet.receiver.url("/"))).await;
    let asked = async || (!fleet.upstreams[lane].polls_of("ends").is_empty()).then_some(());
    until("its poll is under way", asked, || first.log()).await;
    stranger.batch_execute(&lock).await.unwrap();
    // A checkpoint may wait for the row as well, and would be all that is refused.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND wait_event_type = 'Lock' AND query NOT LIKE 'WITH held%'";
    let settles = async || (fleet.sql(waits) != "0").then_some(());
    until("it settles", settles, || first.log()).await;
    first.signal("STOP");
    stranger.batch_execute("ROLLBACK").await.unwrap();
    let slept = Instant::now();
    let path = format!("/v1/registrations/{}?wait=30s", registered["id"].as_str().unwrap());
    let told = second.get(&path).await;
    assert_eq!(told["outcome"]["outcome"], "succeeded", "by the one that took over");
    fleet.until_held(&second, 1).await;
    tokio::time::sleep(Duration::from_secs(15).saturating_sub(slept.elapsed())).await;

    let woke = SystemClock::new().wall();
    first.signal("CONT");
    fleet.until_held(&second, 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reigns = reigns(&fleet);
    for (number, upstream) in fleet.upstreams.iter().enumerate() {
        let mine = reigns.iter().filter(|r| r.account == account(number) && r.owner == me);
        let mine: Vec<_> = mine.map(|reign| reign.from..reign.until).collect();
        let polls = upstream.state().polls.clone();
        let mut awake = polls.iter().filter(|poll| poll.door == 1 && poll.wall >= woke);
        let stale = awake.find(|poll| !mine.iter().any(|reign| reign.contains(&poll.wall)));
        assert!(stale.is_none(), "lane {number} was polled by one that had lost it: {stale:?}");
    }
    let refused = metric(&first, "outcomed_fleet_refused_writes_total").await;
    assert!(refused >= 1, "the outcome that it brought late was not refused");
    assert_eq!(fleet.receiver.distinct(1).await.len(), 1);
    let outcomes =
        "SELECT count(*) FROM task WHERE delivery_task_id = 'ends' AND outcome IS NOT NULL";
    assert_eq!(fleet.sql(outcomes), "1");
    assert_eq!(fleet.beyond_quota(), 0);
}
