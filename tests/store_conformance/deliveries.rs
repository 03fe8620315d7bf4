//! Claims about deliveries and their attempts.

use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::store::{Attempt, AttemptDetails, Delivery, Next};
use outcomed::task::State;

use super::fixture::{Fixture, new};

const ORIGIN: &str = "https://ats.example:443";

fn attempt(number: u32, at: i64, status: u16) -> Attempt {
    Attempt {
        number,
        at: Timestamp(at),
        duration: Duration::from_millis(20),
        status: Some(status),
        error: (status >= 300).then(|| format!("the callback answered {status}")),
        reply_excerpt: Some("ok".into()),
        verdict: if status < 300 { "delivered".into() } else { "retry".into() },
        details: AttemptDetails {
            connect: (status >= 300).then_some(Duration::from_millis(7)),
            first_byte: Some(Duration::from_millis(15)),
            error_class: (status >= 300).then(|| "status".into()),
            reason: Some("schedule".into()),
        },
    }
}

async fn due(db: &Fixture, now: i64) -> Vec<Delivery> {
    db.store.due(ORIGIN, Timestamp(now), 10).await.unwrap()
}

pub async fn the_longest_due_delivery_comes_first(db: Fixture) {
    db.settled("1", "ats", "t1", 7_000).await;
    db.settled("2", "ats", "t2", 5_000).await;
    db.settled("3", "crm", "t3", 1_000).await;
    assert!(due(&db, 4_999).await.is_empty(), "nothing is due yet");
    let ids: Vec<String> = due(&db, 9_000).await.into_iter().map(|d| d.registration_id).collect();
    assert_eq!(ids, ["reg_2", "reg_1"]);
    assert_eq!(db.store.due(ORIGIN, Timestamp(9_000), 1).await.unwrap().len(), 1);
    let delivery = due(&db, 9_000).await.swap_remove(0);
    assert_eq!((delivery.client.as_str(), delivery.attempts, delivery.round), ("ats", 0, 0));
    assert_eq!(delivery.callback_url, "https://ats.example/hook");
    assert!(String::from_utf8(delivery.body).unwrap().contains("delivery_task.succeeded"));
}

pub async fn an_attempt_is_logged_with_what_follows_from_it(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    let first = due(&db, 5_000).await.remove(0);
    let next = Next::RetryAt(Timestamp(10_000));
    assert!(db.store.record_attempt(&first, attempt(1, 5_000, 503), next).await.unwrap());
    let row = db.find("1").await;
    assert_eq!((row.state, row.delivery.attempts), (State::Delivering, 1));
    assert_eq!(row.delivery.next_attempt_at, Some(Timestamp(10_000)));
    assert_eq!(row.delivery.last_status, Some(503));
    assert_eq!(row.delivery.last_error.as_deref(), Some("the callback answered 503"));
    assert!(due(&db, 9_999).await.is_empty());

    let second = due(&db, 10_000).await.remove(0);
    assert_eq!((second.attempts, second.round), (1, 1));
    assert_eq!(second.body, first.body);
    assert!(
        db.store.record_attempt(&second, attempt(2, 10_000, 200), Next::Delivered).await.unwrap()
    );
    let row = db.find("1").await;
    assert_eq!((row.state, row.delivery.next_attempt_at), (State::Delivered, None));
    assert_eq!((row.delivery.last_status, row.delivery.last_error), (Some(200), None));
    assert_eq!(
        db.store.attempts("reg_1").await.unwrap(),
        [attempt(1, 5_000, 503), attempt(2, 10_000, 200)]
    );
    assert!(due(&db, 99_000).await.is_empty());
    assert_eq!(db.store.prune(Timestamp(10_020), 9).await.unwrap(), 0, "it ended at 10,020");
    assert_eq!(db.store.prune(Timestamp(10_021), 9).await.unwrap(), 1);
    assert!(db.store.attempts("reg_1").await.unwrap().is_empty());
}

pub async fn an_attempt_recorded_twice_changes_the_registration_once(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    let delivery = due(&db, 5_000).await.remove(0);
    assert!(
        db.store.record_attempt(&delivery, attempt(1, 5_000, 200), Next::Delivered).await.unwrap()
    );
    let again = Next::RetryAt(Timestamp(9_000));
    assert!(!db.store.record_attempt(&delivery, attempt(1, 5_001, 503), again).await.unwrap());
    assert_eq!(db.find("1").await.state, State::Delivered);
}

pub async fn an_attempt_on_a_cancelled_registration_only_reaches_the_log(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    let delivery = due(&db, 5_000).await.remove(0);
    db.store.cancel("reg_1", Timestamp(5_010)).await.unwrap();
    assert!(
        !db.store.record_attempt(&delivery, attempt(1, 5_000, 200), Next::Delivered).await.unwrap()
    );
    let row = db.find("1").await;
    assert_eq!((row.state, row.delivery.attempts), (State::Cancelled, 1));
    assert_eq!(db.store.attempts("reg_1").await.unwrap().len(), 1);
}

pub async fn a_redelivery_starts_the_schedule_again_with_the_same_bytes(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    let first = due(&db, 5_000).await.remove(0);
    db.store.record_attempt(&first, attempt(1, 5_000, 500), Next::Undeliverable).await.unwrap();
    assert_eq!(db.find("1").await.state, State::Undeliverable);
    let row = db.store.redeliver("reg_1", Timestamp(8_000)).await.unwrap().unwrap();
    assert_eq!((row.state, row.delivery.attempts), (State::Delivering, 1));
    let second = due(&db, 8_000).await.remove(0);
    assert_eq!((second.attempts, second.round), (1, 0));
    assert_eq!(second.body, first.body);

    db.register(new("2", "ats", "t2")).await;
    let watching = db.store.redeliver("reg_2", Timestamp(8_000)).await.unwrap().unwrap();
    assert_eq!(watching.state, State::Watching, "there is nothing to deliver yet");
    assert!(db.store.redeliver("reg_none", Timestamp(8_000)).await.unwrap().is_none());
}

pub async fn a_closed_callback_ends_its_deliveries_and_its_watches(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    db.register(new("2", "ats", "t2")).await;
    db.register(new("3", "crm", "t2")).await;
    let url = "https://ats.example/hook";
    assert_eq!(db.store.close_callback("ats", url, Timestamp(6_000)).await.unwrap(), 2);
    assert_eq!(db.find("1").await.state, State::Undeliverable);
    assert_eq!(db.find("2").await.state, State::Cancelled);
    assert_eq!(db.find("3").await.state, State::Watching, "another client's callback");
    assert_eq!(db.store.close_callback("ats", url, Timestamp(6_000)).await.unwrap(), 0);
}

pub async fn origins_are_told_once_with_their_earliest_due_time(db: Fixture) {
    assert!(db.store.origins().await.unwrap().is_empty());
    db.settled("1", "ats", "t1", 7_000).await;
    db.settled("2", "ats", "t2", 5_000).await;
    db.settled("3", "crm", "t3", 6_000).await;
    db.register(new("4", "erp", "t4")).await;
    assert_eq!(
        db.store.origins().await.unwrap(),
        [(ORIGIN.into(), Timestamp(5_000)), ("https://crm.example:443".into(), Timestamp(6_000))]
    );
}
