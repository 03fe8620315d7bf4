//! Claims about bulk redeliveries, and about what becomes old.

use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::store::{
    Attempt, AttemptDetails, Destination, NewRedelivery, Next, Old, RedeliveryFilter,
    RedeliveryState, STEP_LOOKED_AT_MAX,
};
use outcomed::task::State;

use super::fixture::{Fixture, new};

fn bulk(id: &str, client: Option<&str>) -> NewRedelivery {
    NewRedelivery {
        id: format!("rdl_{id}"),
        owner: "ops".into(),
        filter: RedeliveryFilter {
            client: client.map(str::to_owned),
            state: State::Undeliverable,
            since: Timestamp(0),
            until: Timestamp(50_000),
            callback_host: None,
        },
        created_at: Timestamp(60_000),
    }
}

/// A registration whose one attempt, at `at`, was its last.
async fn ended(db: &Fixture, id: &str, client: &str, at: i64, next: Next) {
    db.settled(id, client, &format!("task-{id}"), at).await;
    let origin = format!("https://{client}.example:443");
    let due = db.store.due(&Destination::new(client, origin), Timestamp(at), 10).await.unwrap();
    let delivery = due.iter().find(|it| it.registration_id == format!("reg_{id}")).unwrap();
    let attempt = Attempt {
        number: 1,
        at: Timestamp(at),
        duration: Duration::ZERO,
        status: Some(500),
        error: None,
        reply_excerpt: None,
        verdict: "gave_up".into(),
        details: AttemptDetails::default(),
    };
    assert!(db.store.record_attempt(delivery, attempt, next).await.unwrap());
}

async fn undeliverable(db: &Fixture, id: &str, client: &str, at: i64) {
    ended(db, id, client, at, Next::Undeliverable).await;
}

pub async fn a_bulk_redelivery_is_worked_off_in_steps_and_each_is_made_due_once(db: Fixture) {
    for id in ["1", "2", "3"] {
        undeliverable(&db, id, "ats", 5_000).await;
    }
    undeliverable(&db, "4", "crm", 5_000).await;
    let begun = db.store.begin_redelivery(bulk("1", None)).await.unwrap();
    assert_eq!((begun.matched, begun.done), (4, 0));
    assert_eq!((begun.state, begun.finished_at), (RedeliveryState::Running, None));
    assert_eq!((begun.owner.as_str(), &begun.filter), ("ops", &bulk("1", None).filter));

    let step = db.store.step_redelivery(&[], 2, Timestamp(61_000)).await.unwrap().unwrap();
    assert_eq!((step.id.as_str(), step.finished), ("rdl_1", false));
    assert_eq!(step.destinations, [Destination::new("ats", "https://ats.example:443")]);
    // The first one fails again at once: it is not looked at a second time.
    let due = db
        .store
        .due(&Destination::new("ats", "https://ats.example:443"), Timestamp(61_000), 9)
        .await
        .unwrap();
    let ids: Vec<&str> = due.iter().map(|it| it.registration_id.as_str()).collect();
    assert_eq!(ids, ["reg_1", "reg_2"]);
    assert_eq!((due[0].attempts, due[0].round), (1, 0));

    let step = db.store.step_redelivery(&[], 2, Timestamp(62_000)).await.unwrap().unwrap();
    let both = ["ats", "crm"].map(|it| Destination::new(it, format!("https://{it}.example:443")));
    assert_eq!(step.destinations, both);
    let last = db.store.step_redelivery(&[], 2, Timestamp(63_000)).await.unwrap().unwrap();
    assert!(last.finished && last.destinations.is_empty());
    assert!(db.store.step_redelivery(&[], 2, Timestamp(64_000)).await.unwrap().is_none());
    let over = db.store.redelivery("rdl_1").await.unwrap().unwrap();
    assert_eq!((over.matched, over.done, over.state), (4, 4, RedeliveryState::Finished));
    assert_eq!(over.finished_at, Some(Timestamp(63_000)));
    assert!(db.store.redelivery("rdl_2").await.unwrap().is_none());
}

pub async fn a_bulk_redelivery_touches_only_what_fits_its_filter(db: Fixture) {
    undeliverable(&db, "1", "ats", 4_999).await;
    undeliverable(&db, "2", "ats", 5_000).await;
    undeliverable(&db, "3", "ats", 6_000).await;
    undeliverable(&db, "4", "crm", 5_500).await;
    ended(&db, "5", "ats", 5_500, Next::Delivered).await;
    let mut narrow = bulk("1", Some("ats"));
    narrow.filter.since = Timestamp(5_000);
    narrow.filter.until = Timestamp(6_000);
    assert_eq!(db.store.begin_redelivery(narrow).await.unwrap().matched, 1);
    let step = db.store.step_redelivery(&[], 10, Timestamp(61_000)).await.unwrap().unwrap();
    assert!(step.finished);
    for (id, state) in [
        ("1", State::Undeliverable),
        ("2", State::Delivering),
        ("3", State::Undeliverable),
        ("4", State::Undeliverable),
        ("5", State::Delivered),
    ] {
        assert_eq!(db.find(id).await.state, state, "{id}");
    }
    let mut host = bulk("2", None);
    host.filter.callback_host = Some("crm.example".into());
    assert_eq!(db.store.begin_redelivery(host).await.unwrap().matched, 1);
    let mut delivered = bulk("3", None);
    delivered.filter.state = State::Delivered;
    assert_eq!(db.store.begin_redelivery(delivered).await.unwrap().matched, 1);
    // Two run: they take turns.
    for id in ["rdl_2", "rdl_3"] {
        let step = db.store.step_redelivery(&[], 1, Timestamp(62_000)).await.unwrap().unwrap();
        assert_eq!((step.id.as_str(), step.finished), (id, false));
    }
    assert_eq!(db.find("5").await.state, State::Delivering);
}

pub async fn a_cancelled_bulk_redelivery_goes_no_further(db: Fixture) {
    for id in ["1", "2"] {
        undeliverable(&db, id, "ats", 5_000).await;
    }
    db.store.begin_redelivery(bulk("1", None)).await.unwrap();
    db.store.step_redelivery(&[], 1, Timestamp(61_000)).await.unwrap();
    let cancelled = db.store.cancel_redelivery("rdl_1", Timestamp(62_000)).await.unwrap().unwrap();
    assert_eq!((cancelled.state, cancelled.done), (RedeliveryState::Cancelled, 1));
    assert_eq!(cancelled.finished_at, Some(Timestamp(62_000)));
    assert!(db.store.step_redelivery(&[], 1, Timestamp(63_000)).await.unwrap().is_none());
    assert_eq!(db.find("1").await.state, State::Delivering, "what is due stays due");
    assert_eq!(db.find("2").await.state, State::Undeliverable);
    let again = db.store.cancel_redelivery("rdl_1", Timestamp(64_000)).await.unwrap().unwrap();
    assert_eq!(again, cancelled);
    assert!(db.store.cancel_redelivery("rdl_2", Timestamp(64_000)).await.unwrap().is_none());
}

pub async fn a_step_of_a_bulk_redelivery_looks_at_a_bounded_number(db: Fixture) {
    // Somebody else's, that ended before ours: cancelled ones stand in the same index.
    let others = STEP_LOOKED_AT_MAX + 10;
    let other = |n: u32| new(&format!("o{n}"), "crm", &format!("o{n}"));
    for from in (0..others).step_by(1_000) {
        let batch = (from..others.min(from + 1_000)).map(other).collect();
        db.store.register(batch).await.unwrap();
    }
    for n in 0..others {
        db.store.cancel(&format!("reg_o{n}"), Timestamp(2_000)).await.unwrap();
    }
    ended(&db, "1", "ats", 5_000, Next::Delivered).await;
    let mut delivered = bulk("1", None);
    delivered.filter.state = State::Delivered;
    assert_eq!(db.store.begin_redelivery(delivered).await.unwrap().matched, 1);
    let first = db.store.step_redelivery(&[], 9, Timestamp(61_000)).await.unwrap().unwrap();
    assert!(!first.finished && first.destinations.is_empty(), "{first:?}");
    assert_eq!(db.find("1").await.state, State::Delivered);
    let second = db.store.step_redelivery(&[], 9, Timestamp(62_000)).await.unwrap().unwrap();
    assert!(second.finished, "{second:?}");
    assert_eq!(db.find("1").await.state, State::Delivering);
}

pub async fn what_is_old_is_forgotten_in_small_steps_and_nothing_else(db: Fixture) {
    for (id, at) in [("1", 5_000), ("2", 6_000), ("3", 7_000)] {
        undeliverable(&db, id, "ats", at).await;
    }
    db.register(new("4", "ats", "task-4")).await;
    let forget =
        async |what, before, limit| db.store.forget(what, Timestamp(before), limit).await.unwrap();
    assert_eq!(forget(Old::Attempts, 5_000, 9).await, 0, "one at 5,000 is not before it");
    assert_eq!(forget(Old::Attempts, 7_000, 1).await, 1);
    assert!(db.store.attempts("reg_1").await.unwrap().is_empty(), "the oldest goes first");
    assert_eq!(db.find("1").await.delivery.attempts, 1, "that it was made stays known");
    assert_eq!(forget(Old::Attempts, 7_000, 9).await, 1);
    assert_eq!(db.store.attempts("reg_3").await.unwrap().len(), 1);

    assert_eq!(forget(Old::Undeliverable, 5_000, 9).await, 0);
    assert_eq!(forget(Old::Undeliverable, 7_000, 1).await, 1);
    assert!(db.store.find("reg_1").await.unwrap().is_none());
    assert_eq!(forget(Old::Undeliverable, 7_001, 9).await, 2);
    assert_eq!(db.find("4").await.state, State::Watching);

    db.store.begin_redelivery(bulk("1", None)).await.unwrap();
    assert_eq!(forget(Old::Redeliveries, 99_000, 9).await, 0, "it runs");
    db.store.step_redelivery(&[], 1, Timestamp(61_000)).await.unwrap();
    assert_eq!(forget(Old::Redeliveries, 61_000, 9).await, 0);
    assert_eq!(forget(Old::Redeliveries, 61_001, 9).await, 1);
    assert!(db.store.redelivery("rdl_1").await.unwrap().is_none());
}
