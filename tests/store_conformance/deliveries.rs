//! Claims about deliveries and their attempts.

use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::store::{
    Attempt, AttemptDetails, Delivery, Destination, DestinationPage, DestinationPlace, Ending,
    NewRegistration, Next, Old, walk,
};
use outcomed::task::State;

use super::fixture::{Fixture, ending, new, success, timed_out};

const ORIGIN: &str = "https://ats.example:443";

pub(super) fn attempt(number: u32, at: i64, status: u16) -> Attempt {
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
    db.store.due(&Destination::new("ats", ORIGIN), Timestamp(now), 10).await.unwrap()
}

pub async fn the_longest_due_delivery_comes_first(db: Fixture) {
    db.settled("1", "ats", "t1", 7_000).await;
    db.settled("2", "ats", "t2", 5_000).await;
    db.settled("3", "crm", "t3", 1_000).await;
    assert!(due(&db, 4_999).await.is_empty(), "nothing is due yet");
    let ids: Vec<String> = due(&db, 9_000).await.into_iter().map(|d| d.registration_id).collect();
    assert_eq!(ids, ["reg_2", "reg_1"]);
    assert_eq!(
        db.store.due(&Destination::new("ats", ORIGIN), Timestamp(9_000), 1).await.unwrap().len(),
        1
    );
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
    // Nor does it move what was made due again meanwhile.
    db.store.redeliver("reg_1", Timestamp(10_000)).await.unwrap();
    let anew = due(&db, 10_000).await;
    assert!(!db.store.record_attempt(&delivery, attempt(1, 5_001, 503), again).await.unwrap());
    assert_eq!(due(&db, 10_000).await, anew);
    assert_eq!((anew[0].round, anew[0].attempts), (0, 1));
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

pub async fn a_round_begins_with_its_first_attempt_and_a_redelivery_begins_another(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    let first = due(&db, 5_000).await.remove(0);
    assert_eq!(first.first_attempt_at, None);
    let again = |at| Next::RetryAt(Timestamp(at));
    db.store.record_attempt(&first, attempt(1, 5_500, 503), again(6_000)).await.unwrap();
    let second = due(&db, 6_000).await.remove(0);
    assert_eq!((second.round, second.first_attempt_at), (1, Some(Timestamp(5_500))));
    db.store.record_attempt(&second, attempt(2, 6_100, 503), again(7_000)).await.unwrap();
    let third = due(&db, 7_000).await.remove(0);
    assert_eq!((third.round, third.first_attempt_at), (2, Some(Timestamp(5_500))));
    db.store.redeliver("reg_1", Timestamp(7_500)).await.unwrap();
    let anew = due(&db, 7_500).await.remove(0);
    assert_eq!((anew.attempts, anew.round, anew.first_attempt_at), (2, 0, None));
}

pub async fn a_round_that_began_by_a_clock_set_back_since_begins_with_the_next_attempt(
    db: Fixture,
) {
    db.settled("1", "ats", "t1", 5_000).await;
    let again = |at| Next::RetryAt(Timestamp(at));
    let ahead = due(&db, 9_000_000).await.remove(0);
    db.store.record_attempt(&ahead, attempt(1, 9_000_000, 503), again(6_000)).await.unwrap();
    let second = due(&db, 6_000).await.remove(0);
    assert_eq!(second.first_attempt_at, Some(Timestamp(9_000_000)));
    db.store.record_attempt(&second, attempt(2, 6_000, 503), again(7_000)).await.unwrap();
    let third = due(&db, 7_000).await.remove(0);
    assert_eq!((third.round, third.first_attempt_at), (2, Some(Timestamp(6_000))));
}

/// The receiver of `ats` says 410 to the delivery of `reg_1` at 6,000.
async fn said_410(db: &Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    let delivery = due(db, 5_000).await.remove(0);
    let recorded = db.store.record_attempt(&delivery, attempt(1, 5_980, 410), Next::Gone);
    assert!(recorded.await.unwrap());
    let row = db.find("1").await;
    assert_eq!((row.state, row.delivery.last_status), (State::Undeliverable, Some(410)));
}

async fn end_of(db: &Fixture, id: &str) -> (State, Option<String>) {
    let row = db.find(id).await;
    (row.state, row.delivery.last_error)
}

fn kept() -> (State, Option<String>) {
    (State::Undeliverable, Some("callback_gone".to_owned()))
}

/// With the very URL that said 410 to another client.
fn at_the_gone_one(new: NewRegistration) -> NewRegistration {
    NewRegistration { callback_url: "https://ats.example/hook".into(), ..new }
}

pub async fn what_others_wait_for_at_a_gone_callback_is_watched_and_kept(db: Fixture) {
    db.register(new("2", "ats", "t2")).await;
    db.register(at_the_gone_one(new("3", "crm", "t2"))).await;
    db.register(new("4", "ats", "t4")).await;
    said_410(&db).await;
    for id in ["2", "3", "4"] {
        assert_eq!(db.find(id).await.state, State::Watching);
    }
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t2").await;
    db.store.settle(&lease, ending(task, 7_000), success()).await.unwrap();
    let task = db.task(&lease, "t4").await;
    let late = Ending { at: Timestamp(90_000), ..ending(task, 90_000) };
    db.store.give_up(&lease, late, timed_out()).await.unwrap();
    for id in ["2", "4"] {
        assert_eq!(end_of(&db, id).await, kept());
        assert_eq!(db.find(id).await.delivery.next_attempt_at, None);
    }
    assert_eq!(db.find("3").await.state, State::Delivering, "another client's callback");
    let log = db.store.outcomes("ats", 0, 9).await.unwrap();
    let ids: Vec<&str> = log.iter().map(|(_, registration)| registration.id.as_str()).collect();
    assert_eq!(ids, ["reg_1", "reg_2", "reg_4"], "every outcome can be pulled");
    assert!(due(&db, 99_000).await.is_empty());
    assert_eq!(db.store.forget(Old::Undeliverable, Timestamp(7_000), 9).await.unwrap(), 1);
    assert_eq!(db.store.forget(Old::Undeliverable, Timestamp(7_001), 9).await.unwrap(), 1);
}

pub async fn what_waits_for_a_gone_callback_ends_step_by_step(db: Fixture) {
    for n in 2..7 {
        db.settled(&n.to_string(), "ats", &format!("t{n}"), 5_500).await;
    }
    db.register(at_the_gone_one(new("8", "crm", "t8"))).await;
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t8").await;
    db.store.settle(&lease, ending(task, 5_500), success()).await.unwrap();
    let url = "https://ats.example/hook";
    let end = |limit| db.store.end_gone("ats", url, Timestamp(6_100), limit);
    assert_eq!(end(9).await.unwrap(), 0, "nobody said 410");
    said_410(&db).await;
    assert_eq!(end(3).await.unwrap(), 3);
    assert_eq!(due(&db, 9_000).await.len(), 2);
    assert_eq!(end(3).await.unwrap(), 2);
    assert_eq!(end(3).await.unwrap(), 0);
    for n in 2..7 {
        assert_eq!(end_of(&db, &n.to_string()).await, kept());
    }
    assert_eq!(db.find("8").await.state, State::Delivering);
}

pub async fn a_gone_callback_is_told_again_once_somebody_asks_or_it_accepts(db: Fixture) {
    let url = "https://ats.example/hook";
    said_410(&db).await;
    db.settled("2", "ats", "t2", 7_000).await;
    assert_eq!(db.find("2").await.state, State::Delivering, "it was registered after the 410");
    let second = due(&db, 7_000).await.remove(0);
    db.store.record_attempt(&second, attempt(1, 7_000, 410), Next::Gone).await.unwrap();

    db.register(new("3", "ats", "t3")).await;
    db.store.redeliver("reg_2", Timestamp(7_500)).await.unwrap();
    let again = due(&db, 7_500).await.remove(0);
    db.store.record_attempt(&again, attempt(2, 7_500, 410), Next::Gone).await.unwrap();
    assert_eq!(db.register(new("9", "ats", "t3")).await.id, "reg_3", "which is no new one");
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t3").await;
    db.store.settle(&lease, ending(task, 8_000), success()).await.unwrap();
    assert_eq!(end_of(&db, "3").await, kept());

    db.store.callback_accepts("crm", url).await.unwrap();
    assert_eq!(db.store.end_gone("ats", url, Timestamp(9_000), 9).await.unwrap(), 0);
    db.store.redeliver("reg_2", Timestamp(9_000)).await.unwrap();
    db.store.redeliver("reg_3", Timestamp(9_000)).await.unwrap();
    let end = db.store.end_gone("ats", url, Timestamp(9_000), 9).await.unwrap();
    assert_eq!(end, 0, "what is sent again is not ended, and neither is what follows it");
    assert_eq!(due(&db, 9_000).await.len(), 2);

    let again = due(&db, 9_000).await.remove(0);
    db.store.record_attempt(&again, attempt(3, 9_000, 410), Next::Gone).await.unwrap();
    db.store.callback_accepts("ats", url).await.unwrap();
    assert_eq!(db.store.end_gone("ats", url, Timestamp(9_500), 9).await.unwrap(), 0);
    assert_eq!(db.find("3").await.state, State::Delivering);
}

pub async fn destinations_are_told_once_with_their_earliest_due_time(db: Fixture) {
    let all = async || db.store.destinations(&DestinationPlace::default(), 9).await.unwrap();
    assert_eq!(all().await, DestinationPage::default());
    db.settled("1", "ats", "t1", 7_000).await;
    db.settled("2", "ats", "t2", 5_000).await;
    db.settled("3", "crm", "t3", 6_000).await;
    db.register(new("4", "erp", "t4")).await;
    let shared = NewRegistration { client: "erp".into(), ..new("5", "ats", "t1") };
    db.register(shared).await;
    let crm = "https://crm.example:443";
    assert_eq!(
        all().await.found,
        [
            (Destination::new("ats", ORIGIN), Timestamp(5_000)),
            (Destination::new("erp", ORIGIN), Timestamp(1_000)),
            (Destination::new("crm", crm), Timestamp(6_000)),
        ]
    );
    let due = db.store.due(&Destination::new("erp", ORIGIN), Timestamp(9_000), 9).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|it| it.registration_id.as_str()).collect();
    assert_eq!(ids, ["reg_5"], "of two clients at one origin each is read apart");
    assert_eq!(due[0].destination(), Destination::new("erp", ORIGIN));
}

pub async fn destinations_are_walked_a_bounded_page_at_a_time(db: Fixture) {
    for (n, client) in ["ats", "crm", "erp"].into_iter().enumerate() {
        for origin in ["https://a.example:443", "https://b.example:443"] {
            let id = format!("{n}-{}", &origin[8..9]);
            let callback_origin = origin.to_owned();
            db.register(NewRegistration { callback_origin, ..new(&id, client, &id) }).await;
            let lease = db.take().await.lease;
            let task = db.task(&lease, &id).await;
            db.store.settle(&lease, ending(task, 5_000), success()).await.unwrap();
        }
    }
    let db = &db;
    let step = |limit| move |after| async move { db.store.destinations(&after, limit).await };
    let every = walk(99, step(99)).await.unwrap();
    assert_eq!(every.len(), 6);
    assert!(every.is_sorted_by_key(|(to, _)| (to.origin.clone(), to.client.clone())));
    for limit in 1..=7 {
        let (mut seen, mut next) = (Vec::new(), Some(DestinationPlace::default()));
        while let Some(after) = next {
            let page = db.store.destinations(&after, limit).await.unwrap();
            assert!(page.found.len() <= limit as usize, "{page:?}");
            seen.extend(page.found);
            next = page.next;
        }
        assert_eq!(seen, every, "{limit} at a time");
    }
    let some = walk(3, step(2)).await.unwrap();
    assert_eq!(some, every[..4], "no step more than is needed");
}

pub async fn what_a_person_asks_for_is_told_apart_until_it_is_attempted(db: Fixture) {
    for (n, client) in [(1, "ats"), (2, "ats"), (3, "ats"), (4, "crm")] {
        db.settled(&n.to_string(), client, &format!("t{n}"), 5_000).await;
    }
    let asked = async |now, limit| {
        let rows = db.store.asked(Timestamp(now), limit).await.unwrap();
        rows.into_iter().map(|row| row.registration_id).collect::<Vec<_>>()
    };
    assert!(asked(9_000, 9).await.is_empty(), "nobody asked");
    for (id, at) in [("reg_1", 6_000), ("reg_2", 6_001), ("reg_3", 6_002), ("reg_4", 6_003)] {
        db.store.redeliver(id, Timestamp(at)).await.unwrap();
    }
    assert_eq!(asked(5_999, 9).await, Vec::<String>::new());
    assert_eq!(asked(9_000, 2).await, ["reg_1", "reg_2", "reg_4"], "two of each client");
    let rows = db.store.asked(Timestamp(9_000), 9).await.unwrap();
    let again = Next::RetryAt(Timestamp(9_100));
    db.store.record_attempt(&rows[0], attempt(1, 9_000, 500), again).await.unwrap();
    db.store.postpone(&rows[1], Timestamp(9_050), "unsigned").await.unwrap();
    db.store.cancel("reg_3", Timestamp(9_000)).await.unwrap();
    assert_eq!(asked(99_000, 9).await, ["reg_4"]);
}

pub async fn whoever_asks_while_an_attempt_is_under_way_is_not_answered_by_that_one(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    let first = due(&db, 5_000).await.remove(0);
    db.store.redeliver("reg_1", Timestamp(5_010)).await.unwrap();
    db.store.postpone(&first, Timestamp(99_000), "unsigned").await.unwrap();
    let again = |at| Next::RetryAt(Timestamp(at));
    let recorded = db.store.record_attempt(&first, attempt(1, 5_000, 500), again(10_000));
    assert!(!recorded.await.unwrap(), "somebody asked meanwhile");
    let asked = db.store.asked(Timestamp(5_010), 9).await.unwrap().remove(0);
    assert_eq!(asked.attempts, 1);
    db.store.redeliver("reg_1", Timestamp(5_020)).await.unwrap();
    let recorded = db.store.record_attempt(&asked, attempt(2, 5_011, 500), again(11_000));
    assert!(!recorded.await.unwrap(), "and once more");
    let asked = db.store.asked(Timestamp(5_020), 9).await.unwrap().remove(0);
    let recorded = db.store.record_attempt(&asked, attempt(3, 5_021, 500), again(12_000));
    assert!(recorded.await.unwrap());
    assert!(db.store.asked(Timestamp(99_000), 9).await.unwrap().is_empty());
    assert_eq!(db.store.attempts("reg_1").await.unwrap().len(), 3);
}

pub async fn what_is_under_way_can_be_put_off_and_is_recorded_all_the_same(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    db.settled("2", "ats", "t2", 5_000).await;
    let rows = due(&db, 5_000).await;
    let again = Next::RetryAt(Timestamp(6_000));
    db.store.record_attempt(&rows[1], attempt(1, 5_000, 500), again).await.unwrap();
    db.store.reschedule(&rows, Timestamp(20_000)).await.unwrap();
    let ids: Vec<String> =
        due(&db, 19_999).await.into_iter().map(|it| it.registration_id).collect();
    assert_eq!(ids, ["reg_2"], "its attempt was over, so it keeps its time");
    assert_eq!(due(&db, 20_000).await.len(), 2);
    let recorded = db.store.record_attempt(&rows[0], attempt(1, 5_000, 200), Next::Delivered);
    assert!(recorded.await.unwrap());
    assert_eq!(db.find("1").await.state, State::Delivered);
}
