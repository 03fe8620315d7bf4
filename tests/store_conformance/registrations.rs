//! Claims about registrations.

use outcomed::clock::Timestamp;
use outcomed::store::{Filter, LOOKED_AT_MAX, Listed, Next, Registered};
use outcomed::task::State;

use super::deliveries::attempt;
use super::fixture::{Fixture, new};

pub async fn a_registration_reads_back_as_it_was_stored(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let found = db.find("1").await;
    assert_eq!((found.client.as_str(), found.state), ("ats", State::Watching));
    assert_eq!(found.task, new("1", "ats", "t1").task);
    assert_eq!(found.callback.url, "https://ats.example/hook");
    assert_eq!(found.metadata.get(), r#"{"n":9007199254740993}"#);
    assert_eq!((found.created_at, found.give_up_at), (Timestamp(1_000), Timestamp(61_000)));
    assert!(found.outcome.is_none());
    assert_eq!(found.delivery.attempts, 0);
    assert!(db.store.find("reg_none").await.unwrap().is_none());
}

pub async fn registering_again_returns_the_first_one_unless_it_was_cancelled(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let mut again = new("2", "ats", "t1");
    again.metadata = "{}".into();
    again.give_up_at = Timestamp(99_000);
    let answer = db.store.register(vec![again.clone()]).await.unwrap().pop().unwrap();
    let Registered::Existing(first) = answer else { panic!("it was there before") };
    assert_eq!((first.id.as_str(), first.give_up_at), ("reg_1", Timestamp(61_000)));
    assert_eq!(first.metadata.get(), r#"{"n":9007199254740993}"#);
    assert!(db.store.find("reg_2").await.unwrap().is_none());

    db.store.cancel("reg_1", Timestamp(2_000)).await.unwrap();
    let answer = db.store.register(vec![again]).await.unwrap().pop().unwrap();
    assert!(matches!(answer, Registered::New(registration) if registration.id == "reg_2"));
}

pub async fn a_batch_is_answered_in_order(db: Fixture) {
    db.register(new("2", "ats", "t2")).await;
    let batch = vec![new("1", "ats", "t1"), new("x", "ats", "t2"), new("3", "crm", "t1")];
    let answers = db.store.register(batch).await.unwrap();
    let ids: Vec<(bool, &str)> = answers
        .iter()
        .map(|answer| match answer {
            Registered::New(registration) => (true, registration.id.as_str()),
            Registered::Existing(registration) => (false, registration.id.as_str()),
        })
        .collect();
    assert_eq!(ids, [(true, "reg_1"), (false, "reg_2"), (true, "reg_3")]);
}

pub async fn lists_are_newest_first_and_filtered(db: Fixture) {
    for (id, client, task) in [("1", "ats", "t1"), ("2", "crm", "t1"), ("3", "ats", "t3")] {
        db.register(new(id, client, task)).await;
    }
    db.settled("4", "ats", "t4", 5_000).await;
    let ids = async |filter: Filter, before: Option<&str>, limit| {
        let rows = db.store.list(&filter, before, limit).await.unwrap();
        rows.items.into_iter().map(|row| row.id).collect::<Vec<_>>().join(" ")
    };
    let all = Filter::default;
    assert_eq!(ids(all(), None, 9).await, "reg_4 reg_3 reg_2 reg_1");
    assert_eq!(ids(all(), None, 2).await, "reg_4 reg_3");
    assert_eq!(ids(all(), Some("reg_3"), 9).await, "reg_2 reg_1");
    let ats = || Filter { client: Some("ats".into()), ..all() };
    assert_eq!(ids(ats(), Some("reg_4"), 9).await, "reg_3 reg_1");
    assert_eq!(ids(Filter { state: Some(State::Delivering), ..ats() }, None, 9).await, "reg_4");
    assert_eq!(
        ids(Filter { delivery_task_id: Some("t1".into()), ..all() }, None, 9).await,
        "reg_2 reg_1"
    );
    assert_eq!(
        ids(Filter { callback_host: Some("crm.example".into()), ..all() }, None, 9).await,
        "reg_2"
    );
    assert_eq!(ids(Filter { account: Some("other".into()), ..all() }, None, 9).await, "");
}

pub async fn cancelling_ends_watching_and_delivering_but_nothing_else(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let cancelled = db.store.cancel("reg_1", Timestamp(2_000)).await.unwrap().unwrap();
    assert_eq!(cancelled.state, State::Cancelled);
    db.settled("2", "ats", "t2", 5_000).await;
    let cancelled = db.store.cancel("reg_2", Timestamp(6_000)).await.unwrap().unwrap();
    assert_eq!(cancelled.state, State::Cancelled);
    assert_eq!(cancelled.delivery.next_attempt_at, None);
    assert!(cancelled.outcome.is_some(), "what is known stays known");
    let again = db.store.cancel("reg_1", Timestamp(9_000)).await.unwrap().unwrap();
    assert_eq!(again.state, State::Cancelled);
    assert!(db.store.cancel("reg_none", Timestamp(9_000)).await.unwrap().is_none());
}

pub async fn registering_a_settled_task_is_due_at_once_without_a_poll(db: Fixture) {
    db.settled("1", "ats", "t1", 5_000).await;
    let mut late = new("2", "crm", "t1");
    late.created_at = Timestamp(9_000);
    let late = db.register(late).await;
    assert_eq!(late.state, State::Delivering);
    assert_eq!(late.delivery.next_attempt_at, Some(Timestamp(9_000)));
    let observed = late.outcome.unwrap().observed;
    assert_eq!((observed.registered_at, observed.settled_at), (Timestamp(9_000), Timestamp(5_000)));
    let lease = db.take().await.lease;
    assert!(db.store.changes(&lease, 0, 10).await.unwrap().is_empty(), "nothing to poll");
}

pub async fn only_finished_registrations_are_pruned(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    db.register(new("2", "ats", "t2")).await;
    db.settled("3", "ats", "t3", 5_000).await;
    db.store.cancel("reg_2", Timestamp(2_000)).await.unwrap();
    assert_eq!(db.store.prune(Timestamp(2_000), 10).await.unwrap(), 0, "it ended at 2,000");
    assert_eq!(db.store.prune(Timestamp(90_000), 10).await.unwrap(), 1);
    assert!(db.store.find("reg_2").await.unwrap().is_none());
    assert_eq!(db.find("1").await.state, State::Watching);
    assert_eq!(db.find("3").await.state, State::Delivering);
}

/// Every registration in every state, and how many the store says there are.
async fn assert_counted(db: &Fixture) {
    let all = db.store.list(&Filter::default(), None, 1_000).await.unwrap().items;
    let counts = db.store.counts().await.unwrap();
    assert_eq!(counts.len(), State::ALL.len());
    for (state, count) in counts {
        let there = all.iter().filter(|row| row.state == state).count();
        assert_eq!(count, there as u64, "{}", state.name());
    }
}

pub async fn every_state_is_counted_as_registrations_come_and_go(db: Fixture) {
    assert_counted(&db).await;
    for n in 0..6 {
        db.settled(&format!("s{n}"), "ats", &format!("s{n}"), 5_000).await;
    }
    db.register(new("w", "ats", "w")).await;
    db.register(new("c", "ats", "c")).await;
    db.store.cancel("reg_c", Timestamp(2_000)).await.unwrap();
    assert_counted(&db).await;
    let due = db
        .store
        .due(
            &outcomed::store::Destination::new("ats", "https://ats.example:443"),
            Timestamp(9_000),
            9,
        )
        .await
        .unwrap();
    let ends = [Next::Delivered, Next::Undeliverable, Next::RetryAt(Timestamp(99_000))];
    for (delivery, next) in due.iter().zip(ends.into_iter().cycle()) {
        let attempt = attempt(1, 5_000, 200);
        db.store.record_attempt(delivery, attempt, next).await.unwrap();
    }
    assert_counted(&db).await;
    let counts = db.store.counts().await.unwrap();
    let of = |state| counts.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n);
    let all = [State::Watching, State::Delivering, State::Delivered, State::Undeliverable];
    assert_eq!((all.map(of), of(State::Cancelled)), ([1, 2, 2, 2], 1));
    db.store.redeliver("reg_s0", Timestamp(9_000)).await.unwrap();
    assert_counted(&db).await;
    assert_eq!(db.store.prune(Timestamp(90_000), 10).await.unwrap(), 2);
    assert_counted(&db).await;
}

pub async fn a_list_looks_at_no_more_rows_than_its_bound_and_says_where_it_goes_on(db: Fixture) {
    // Two needles in a client's haystack: by no index of theirs, and too many for any part of the
    // filter to be passed by few.
    let many = LOOKED_AT_MAX + 50;
    let batch = |from: u32, to: u32| {
        (from..to).map(|n| new(&format!("{n:05}"), "ats", &format!("t{n}"))).collect::<Vec<_>>()
    };
    for from in (0..many).step_by(1_000) {
        db.store.register(batch(from, many.min(from + 1_000))).await.unwrap();
    }
    for needle in ["00000", "10010"] {
        db.store.cancel(&format!("reg_{needle}"), Timestamp(2_000)).await.unwrap();
    }
    let filter = Filter {
        client: Some("ats".into()),
        account: Some("default".into()),
        state: Some(State::Cancelled),
        ..Filter::default()
    };
    let page = db.store.list(&filter, None, 9).await.unwrap();
    let ids = |page: &Listed| page.items.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&page), page.resume.as_deref()), (vec!["reg_10010".into()], Some("reg_00050")));
    let page = db.store.list(&filter, page.resume.as_deref(), 9).await.unwrap();
    assert_eq!((ids(&page), page.resume), (vec!["reg_00000".into()], None));
    // Few: found wherever they are, whatever else is asked.
    let task = Filter { delivery_task_id: Some("t0".into()), ..filter };
    let page = db.store.list(&task, None, 9).await.unwrap();
    assert_eq!((ids(&page), page.resume), (vec!["reg_00000".into()], None));
}
