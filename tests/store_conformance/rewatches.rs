//! Claims about what ended unresolved, and about watching it again.

use outcomed::clock::Timestamp;
use outcomed::outcome::{Class, Outcome, Reason};
use outcomed::store::rewatch::RUNNING_MAX;
use outcomed::store::{
    NewRegistration, NewRewatch, Old, Progress, RedeliveryState, Registered, RewatchFilter,
    Unresolved,
};
use outcomed::task::State;

use super::fixture::{Fixture, ending, new, success, timed_out};

/// A registration that ended unresolved at `at`.
async fn unresolved(db: &Fixture, id: &str, client: &str, at: i64, outcome: Outcome) {
    let mut registration = new(id, client, &format!("task-{id}"));
    registration.give_up_at = Timestamp(at);
    db.register(registration).await;
    let lease = db.take().await.lease;
    let task = db.task(&lease, &format!("task-{id}")).await;
    if outcome.words().1 == "task_not_found" {
        db.store.settle(&lease, ending(task, at), outcome).await.unwrap();
    } else {
        let mut over = ending(task, at);
        over.progress.not_found_since = Some(Timestamp(at - 1));
        db.store.give_up(&lease, over, outcome).await.unwrap();
    }
    assert_eq!(db.find(id).await.outcome.unwrap().outcome, Class::Unresolved);
}

fn filter() -> RewatchFilter {
    RewatchFilter {
        client: None,
        account: None,
        reason: None,
        since: Timestamp(0),
        until: Timestamp(100_000),
    }
}

fn bulk(id: &str, owner: &str, filter: RewatchFilter) -> NewRewatch {
    let (id, owner) = (format!("rwt_{id}"), owner.to_owned());
    NewRewatch { id, owner, filter, created_at: Timestamp(100_000) }
}

fn ids(found: &[Unresolved]) -> Vec<&str> {
    found.iter().map(|it| it.registered.id.as_str()).collect()
}

pub async fn what_ended_unresolved_can_be_registered_again_and_is_watched_from_the_start(
    db: Fixture,
) {
    let not_found = Outcome::unresolved(Reason::TaskNotFound);
    unresolved(&db, "1", "ats", 61_000, Outcome::not_observed("why".into())).await;
    unresolved(&db, "2", "ats", 61_000, not_found).await;
    let first = db.find("1").await;
    for (id, again) in [("1", "3"), ("2", "4")] {
        let mut same = new(again, "ats", &format!("task-{id}"));
        (same.created_at, same.give_up_at) = (Timestamp(70_000), Timestamp(130_000));
        let repeated = NewRegistration { id: "reg_9".into(), ..same.clone() };
        let stored = db.store.register(vec![same, repeated]).await.unwrap();
        let [Registered::New(fresh), Registered::Existing(repeated)] = &stored[..] else {
            panic!("{stored:?}");
        };
        assert_eq!(fresh.id, format!("reg_{again}"));
        assert_eq!((&repeated.id, fresh.state), (&fresh.id, State::Watching));
    }
    let (before, after) = (first, db.find("1").await);
    assert_eq!((after.state, &after.outcome), (before.state, &before.outcome), "the old one stays");
    assert_eq!(after.outcome.unwrap().failure.unwrap().message.as_deref(), Some("why"));

    let lease = db.take().await.lease;
    let changes = db.store.changes(&lease, 0, 10).await.unwrap();
    assert_eq!(changes.len(), 2);
    for change in &changes {
        let watch = change.watch.as_ref().unwrap();
        assert_eq!((watch.progress, watch.give_up_at), (Progress::default(), Timestamp(130_000)));
    }
    let task = db.task(&lease, "task-2").await;
    db.store.settle(&lease, ending(task, 71_000), success()).await.unwrap();
    assert_eq!(db.find("4").await.outcome.unwrap().outcome, Class::Succeeded);
    assert_eq!(db.find("2").await.outcome.unwrap().outcome, Class::Unresolved);
    // A final outcome stands: the same again is the one that has it.
    assert_eq!(db.register(new("5", "ats", "task-2")).await.id, "reg_4");
    let others = db.register(new("6", "crm", "task-2")).await;
    assert_eq!(others.outcome.unwrap().outcome, Class::Succeeded);
}

pub async fn a_task_that_is_watched_keeps_what_is_known_of_it(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let mut patient = new("2", "crm", "t1");
    patient.give_up_at = Timestamp(90_000);
    db.register(patient).await;
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t1").await;
    db.store.give_up(&lease, ending(task, 61_000), timed_out()).await.unwrap();
    db.register(new("3", "ats", "t1")).await;
    let changes = db.store.changes(&lease, 0, 10).await.unwrap();
    assert_eq!(changes[0].watch.clone().unwrap().progress, ending(task, 61_000).progress);
}

pub async fn a_bulk_rewatch_finds_what_fits_page_by_page(db: Fixture) {
    let not_observed = || Outcome::not_observed("why".into());
    unresolved(&db, "3", "ats", 60_999, not_observed()).await;
    unresolved(&db, "2", "ats", 61_000, not_observed()).await;
    unresolved(&db, "1", "crm", 61_000, not_observed()).await;
    unresolved(&db, "4", "ats", 62_000, timed_out()).await;
    unresolved(&db, "5", "ats", 63_000, not_observed()).await;
    unresolved(&db, "6", "ats", 64_000, not_observed()).await;
    db.settled("7", "ats", "task-7", 61_500).await;
    db.store.cancel("reg_6", Timestamp(65_000)).await.unwrap();
    let narrow = RewatchFilter {
        client: Some("ats".into()),
        account: Some("default".into()),
        reason: Some(Reason::NotObserved),
        since: Timestamp(61_000),
        until: Timestamp(64_001),
    };
    let elsewhere = RewatchFilter { account: Some("other".into()), ..narrow.clone() };
    let begun = db.store.begin_rewatch(bulk("0", "ops", elsewhere)).await.unwrap().unwrap();
    assert_eq!(begun.matched, 0);
    db.store.cancel_rewatch("rwt_0", Timestamp(100_000)).await.unwrap();

    let begun = db.store.begin_rewatch(bulk("1", "ops", narrow.clone())).await.unwrap().unwrap();
    assert_eq!((begun.matched, begun.done, begun.state), (2, 0, RedeliveryState::Running));
    assert_eq!((begun.owner.as_str(), begun.filter), ("ops", narrow));
    let mut seen = Vec::new();
    for now in 100_001.. {
        let Some(page) = db.store.rewatch_page(2, Timestamp(now)).await.unwrap() else { break };
        seen.extend(ids(&page.found).into_iter().map(str::to_owned));
        let done = u32::try_from(page.found.len()).unwrap();
        db.store.rewatched(&page, done, Timestamp(now)).await.unwrap();
    }
    assert_eq!(seen, ["reg_2", "reg_5"]);
    let over = db.store.rewatch("rwt_1").await.unwrap().unwrap();
    assert_eq!((over.done, over.state), (2, RedeliveryState::Finished));
    assert!(over.finished_at.is_some());
    let late = db.store.cancel_rewatch("rwt_1", Timestamp(150_000)).await.unwrap().unwrap();
    assert_eq!((late.state, late.finished_at), (over.state, over.finished_at), "it was over");
    let all = RewatchFilter {
        client: None,
        account: None,
        reason: None,
        since: Timestamp(0),
        until: Timestamp(64_001),
    };
    db.store.begin_rewatch(bulk("3", "ops", all)).await.unwrap().unwrap();
    let page = db.store.rewatch_page(99, Timestamp(100_100)).await.unwrap().unwrap();
    db.store.cancel_rewatch("rwt_3", Timestamp(100_101)).await.unwrap();
    db.store.rewatched(&page, 1, Timestamp(100_102)).await.unwrap();
    let late = db.store.rewatch("rwt_3").await.unwrap().unwrap();
    assert_eq!((late.state, late.done), (RedeliveryState::Cancelled, 0), "it was over, too");
    assert!(db.store.rewatch("rwt_2").await.unwrap().is_none());
    let forget = async |before| {
        let before = Timestamp(before);
        db.store.forget(Old::Rewatches, before, 9).await.unwrap()
    };
    assert_eq!((forget(100_000).await, forget(200_000).await), (0, 3));
}

pub async fn a_page_that_was_not_worked_off_comes_again_as_it_was_registered(db: Fixture) {
    unresolved(&db, "1", "ats", 61_000, timed_out()).await;
    db.store.begin_rewatch(bulk("1", "ops", filter())).await.unwrap();
    for now in [100_001, 100_002] {
        let page = db.store.rewatch_page(2, Timestamp(now)).await.unwrap().unwrap();
        let [found] = &page.found[..] else { panic!("{page:?}") };
        assert_eq!((found.at, found.reason), (Timestamp(61_000), Reason::TimedOut));
        let again = found.registered.again("reg_2".into(), Timestamp(70_000));
        let first = new("1", "ats", "task-1");
        assert_eq!(
            (again.callback_url, again.callback_origin),
            (first.callback_url, first.callback_origin)
        );
        assert_eq!((again.metadata, again.task), (first.metadata, first.task));
        assert_eq!((again.created_at, again.give_up_at), (Timestamp(70_000), Timestamp(130_000)));
    }
    let cancelled = db.store.cancel_rewatch("rwt_1", Timestamp(101_000)).await.unwrap().unwrap();
    assert_eq!(cancelled.state, RedeliveryState::Cancelled);
    assert!(db.store.rewatch_page(2, Timestamp(102_000)).await.unwrap().is_none());
}

pub async fn clients_take_turns_with_their_bulk_rewatches(db: Fixture) {
    for number in 0..RUNNING_MAX {
        let begun = db.store.begin_rewatch(bulk(&format!("a{number:02}"), "ats", filter())).await;
        assert!(begun.unwrap().is_some());
    }
    let more = db.store.begin_rewatch(bulk("a99", "ats", filter())).await.unwrap();
    assert!(more.is_none(), "more than {RUNNING_MAX} of one client");
    db.store.begin_rewatch(bulk("b", "crm", filter())).await.unwrap().unwrap();
    let mut turns = Vec::new();
    for now in 100_001..100_005 {
        let page = db.store.rewatch_page(9, Timestamp(now)).await.unwrap().unwrap();
        turns.push(page.id);
    }
    // Every second turn is the other client's, however many the first has.
    assert_eq!(turns.iter().filter(|id| *id == "rwt_b").count(), 2, "{turns:?}");
}
