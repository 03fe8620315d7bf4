//! Claims about who may write a lane.

use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::outcome::{Outcome, Reason};
use outcomed::store::fleet::{Fleet, LEASE, LEASE_MARGIN};
use outcomed::store::{
    Checkpoint, Destination, DestinationPage, DestinationPlace, Hint, Lanes, Lease, Outbox,
    Registry, Store, StoreError,
};
use outcomed::task::State;
use tokio::time::Instant;

use super::fixture::{SOON, database, ending, hinted, lane, new, success};

const ORIGIN: &str = "https://ats.example:443";

fn to() -> Destination {
    Destination::new("ats", ORIGIN)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_has_one_owner_who_alone_sees_its_deliveries() {
    let db = database();
    let (a, b) = (db.daemon("a").await, db.daemon("b").await);
    let mine = a.claim("one").await.expect("it is free");
    assert!(mine.lasts + LEASE_MARGIN <= LEASE && mine.lasts + 2 * LEASE_MARGIN > LEASE);
    assert!(b.claim("one").await.is_none(), "it is another's");
    let theirs = b.claim("two").await.expect("it is free");
    for (daemon, claimed, account) in [(&a, &mine, "one"), (&b, &theirs, "two")] {
        let task = daemon.watch(&claimed.lane.lease, account, account).await;
        daemon.store.settle(&claimed.lane.lease, ending(task), success()).await.unwrap();
    }
    let seen = async |store: &outcomed::store::postgres::Postgres| {
        let due = store.due(&to(), Timestamp(9_000), 10).await.unwrap();
        due.into_iter().map(|due| due.registration_id).collect::<Vec<_>>()
    };
    assert_eq!(seen(&a.store).await, ["reg_one"]);
    assert_eq!(seen(&b.store).await, ["reg_two"]);
    assert_eq!(seen(&db.open().await).await, ["reg_one", "reg_two"], "outside the fleet");
    a.store.release(&mine.lane.lease).await.unwrap();
    assert!(seen(&a.store).await.is_empty());
    let place = DestinationPlace::default();
    assert_eq!(a.store.destinations(&place, 9).await.unwrap(), DestinationPage::default());
    assert_eq!(b.store.destinations(&place, 9).await.unwrap().found, [(to(), Timestamp(5_000))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_members_lanes_are_free_when_its_lease_is_over_by_the_databases_clock() {
    let db = database();
    let (a, b) = (db.daemon("a").await, db.daemon("b").await);
    a.claim("one").await.unwrap();
    a.store.beat(&a.me, &[]).await.unwrap();
    let silent = Instant::now();
    let taken = loop {
        b.store.beat(&b.me, &[]).await.unwrap();
        if let Some(taken) = b.claim("one").await {
            break taken;
        }
        assert!(silent.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let after = silent.elapsed();
    assert!(after + Duration::from_millis(200) > LEASE, "too early: {after:?}");
    assert!(after < LEASE + Duration::from_secs(2), "too late: {after:?}");
    assert_eq!(taken.lane.lease.epoch, 2);
    assert_eq!(b.store.beat(&b.me, &[taken.lane.lease]).await.unwrap().members.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_of_a_paused_owner_is_refused_after_the_takeover() {
    let db = database();
    let (a, b) = (db.daemon("a").await, db.daemon("b").await);
    let old = a.claim("one").await.unwrap().lane.lease;
    let task = a.watch(&old, "one", "t1").await;
    db.expire(&a);
    db.settle_in(&b);
    let taken = b.claim("one").await.expect("its owner has expired").lane.lease;
    // The owner wakes up, beats as if nothing had been, and writes what it was about to write.
    let roster = a.store.beat(&a.me, &[old]).await.unwrap();
    assert_eq!(roster.lost, [old]);
    let mut refused = 0;
    for _ in 0..50 {
        let memory = Checkpoint { memory: Some(vec![9]), ..Checkpoint::default() };
        let writes = [
            a.store.settle(&old, ending(task), success()).await,
            a.store
                .give_up(&old, ending(task), Outcome::unresolved(Reason::TimedOut))
                .await
                .map(drop),
            a.store.checkpoint(&old, memory).await,
        ];
        refused += writes.iter().filter(|w| matches!(w, Err(StoreError::LeaseLost))).count();
    }
    assert_eq!(refused, 150);
    a.store.release(&old).await.unwrap();
    assert_eq!(b.store.beat(&b.me, &[taken]).await.unwrap().lost, [], "not released by the other");
    assert_eq!(b.store.find("reg_t1").await.unwrap().unwrap().state, State::Watching);
    assert_eq!(db.sql("SELECT memory IS NULL, takeovers FROM lane"), "t|1");
    b.store.settle(&taken, ending(task), success()).await.unwrap();
    assert_eq!(b.store.find("reg_t1").await.unwrap().unwrap().state, State::Delivering);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_owner_writes_nothing_until_it_beats_again() {
    let db = database();
    let a = db.daemon("a").await;
    let lease = a.claim("one").await.unwrap().lane.lease;
    let task = a.watch(&lease, "one", "t1").await;
    a.store.settle(&lease, ending(task), success()).await.unwrap();
    a.store.redeliver("reg_t1", Timestamp(6_000)).await.unwrap();
    let asked = async || a.store.asked(Timestamp(9_000), 9).await.unwrap().len();
    assert_eq!(asked().await, 1);
    db.expire(&a);
    assert_eq!(asked().await, 0, "nor sends it what a person asked for");
    let refused = a.store.checkpoint(&lease, Checkpoint::default()).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost)), "{refused:?}");
    assert!(a.store.due(&to(), Timestamp(9_000), 9).await.unwrap().is_empty());
    assert!(a.claim("two").await.is_none(), "nobody claims what he could not hold");
    assert_eq!(a.store.beat(&a.me, &[lease]).await.unwrap().lost, [], "nobody took it meanwhile");
    a.store.checkpoint(&lease, Checkpoint::default()).await.unwrap();
    assert_eq!(a.store.due(&to(), Timestamp(9_000), 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_back_first_after_an_outage_does_not_take_everything() {
    let db = database();
    let (a, b) = (db.daemon("a").await, db.daemon("b").await);
    let lease = a.claim("one").await.unwrap().lane.lease;
    db.settle_in(&b);
    db.expire(&a);
    db.expire(&b);
    b.store.beat(&b.me, &[]).await.unwrap();
    assert!(b.claim("one").await.is_none(), "its owner may be back in a moment");
    assert_eq!(a.store.beat(&a.me, &[lease]).await.unwrap().lost, []);
    db.expire(&a);
    let nearly = LEASE.saturating_sub(Duration::from_secs(1)).as_millis();
    db.sql(&format!(
        "UPDATE member SET alive_since = clock_timestamp() - interval '{nearly} ms' WHERE name = 'b'"
    ));
    assert!(b.claim("one").await.is_none(), "not yet alive for a whole lease");
    db.settle_in(&b);
    assert!(b.claim("one").await.is_some(), "it had its chance");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_given_up_is_another_s_at_once() {
    let db = database();
    let (a, b) = (db.daemon("a").await, db.daemon("b").await);
    let (one, two) = (a.claim("one").await.unwrap(), a.claim("two").await.unwrap());
    let known = a.store.beat(&a.me, &[]).await.unwrap().mine;
    let leases: Vec<Lease> = known.into_iter().map(|(_, lease)| lease).collect();
    assert_eq!(leases, [one.lane.lease, two.lane.lease], "even if it has forgotten them");
    let mut moves = b.store.moves();
    moves.mark_unchanged();
    a.store.release(&one.lane.lease).await.unwrap();
    tokio::time::timeout(SOON, moves.changed()).await.unwrap().unwrap();
    assert!(b.claim("one").await.is_some());
    let refused = a.store.checkpoint(&one.lane.lease, Checkpoint::default()).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost)));
    a.store.leave(&a.me).await.unwrap();
    tokio::time::timeout(SOON, moves.changed()).await.unwrap().unwrap();
    assert!(b.claim("two").await.is_some());
    let refused = a.store.checkpoint(&two.lane.lease, Checkpoint::default()).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost)));
    let names = b.store.beat(&b.me, &[]).await.unwrap().members;
    assert_eq!(names.into_iter().map(|m| m.name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(db.sql("SELECT sum(takeovers) FROM lane"), "0", "handed over, not taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn holdings_tell_every_lane_with_work_and_its_owner() {
    let db = database();
    let a = db.daemon("a").await;
    let lease = a.claim("one").await.unwrap().lane.lease;
    let task = a.watch(&lease, "one", "t1").await;
    a.store.settle(&lease, ending(task), success()).await.unwrap();
    a.store.register(vec![new("2", "ats", "two", "t2")]).await.unwrap();
    a.claim("idle").await.unwrap();
    let told = a.store.holdings(Timestamp(0)).await.unwrap();
    let lanes: Vec<_> = told.iter().map(|h| (h.lane.clone(), h.owner.clone())).collect();
    assert_eq!(lanes, [(lane("one"), Some(a.me.clone())), (lane("two"), None)]);
    assert!(told[0].held_for.unwrap() < SOON && told[1].held_for.is_none());
    db.expire(&a);
    assert_eq!(a.store.holdings(Timestamp(0)).await.unwrap()[0].owner, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_reach_the_other_daemons() {
    let db = database();
    let (a, b) = (db.daemon("a").await, db.daemon("b").await);
    let lease = a.claim("one").await.unwrap().lane.lease;
    let (mut at_a, mut at_b) = (a.store.hints(), b.store.hints());
    b.store.register(vec![new("1", "ats", "one", "t1")]).await.unwrap();
    hinted(&mut at_a, |hint| matches!(hint, Hint::Watch(name) if *name == lane("one"))).await;
    let changes = a.store.changes(&lease, 0, 9).await.unwrap();
    a.store.settle(&lease, ending(changes[0].task), success()).await.unwrap();
    let of = |hint: &Hint| matches!(hint, Hint::Outcome { registration_id } if registration_id == "reg_1");
    hinted(&mut at_b, of).await;
    b.store.redeliver("reg_1", Timestamp(9_000)).await.unwrap();
    hinted(&mut at_a, |hint| matches!(hint, Hint::Due(due) if *due == to())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_notices_the_changes_whose_hints_were_lost() {
    let db = database();
    let a = db.daemon("a").await;
    let lease = a.claim("one").await.unwrap().lane.lease;
    a.store.beat(&a.me, &[lease]).await.unwrap();
    let mut hints = a.store.hints();
    a.store.beat(&a.me, &[lease]).await.unwrap();
    assert!(hints.try_recv().is_err(), "nothing has changed");
    db.sql("UPDATE lane SET version = version + 1");
    a.store.beat(&a.me, &[lease]).await.unwrap();
    assert!(matches!(hints.try_recv(), Ok(Hint::Watch(name)) if name == lane("one")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_claims_a_lane_is_told_at_once_where_its_deliveries_go() {
    let db = database();
    let (a, b) = (db.daemon("a").await, db.daemon("b").await);
    let mine = a.claim("one").await.unwrap().lane.lease;
    let task = a.watch(&mine, "one", "t1").await;
    let mut hints = b.store.hints();
    let due = |hint: &Hint| matches!(hint, Hint::Due(there) if *there == to());
    a.store.settle(&mine, ending(task), success()).await.unwrap();
    hinted(&mut hints, due).await;
    a.store.release(&mine).await.unwrap();
    b.claim("one").await.expect("it is free");
    hinted(&mut hints, due).await;
}
