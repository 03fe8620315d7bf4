//! Claims about tasks, lanes and outcomes.

use outcomed::clock::{Steady, Timestamp};
use outcomed::outcome::{Class, Outcome, Reason};
use outcomed::store::{
    Boot, Change, Checkpoint, Destination, Hint, Progress, Reservation, StoreError,
};
use outcomed::task::State;
use outcomed::watching::{Answer, Watching};

use super::fixture::{Fixture, ending, lane, new, success, timed_out};

pub async fn a_task_with_several_registrations_is_watched_once(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let mut sooner = new("2", "crm", "t1");
    sooner.created_at = Timestamp(3_000);
    sooner.give_up_at = Timestamp(31_000);
    db.register(sooner).await;
    let lease = db.take().await.lease;
    let changes = db.store.changes(&lease, 0, 10).await.unwrap();
    assert_eq!(changes.len(), 1);
    let watch = changes[0].watch.clone().unwrap();
    assert_eq!(watch.registered_at, Timestamp(1_000), "the first registration's time");
    assert_eq!(watch.give_up_at, Timestamp(31_000), "the earliest deadline");
    assert_eq!(db.store.lanes().await.unwrap(), [lane()]);
}

pub async fn changes_tell_what_is_new_and_what_nobody_waits_for(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let lease = db.take().await.lease;
    let first = db.store.changes(&lease, 0, 10).await.unwrap();
    let seen = first[0].version;
    assert!(db.store.changes(&lease, seen, 10).await.unwrap().is_empty());
    db.register(new("2", "ats", "t2")).await;
    db.store.cancel("reg_1", Timestamp(2_000)).await.unwrap();
    let changes = db.store.changes(&lease, seen, 10).await.unwrap();
    let told: Vec<bool> = changes.iter().map(|change| change.watch.is_some()).collect();
    assert_eq!(told, [true, false], "t2 is new, t1 is waited for by nobody");
    assert_eq!(changes[1].task, first[0].task);
    assert_eq!(db.store.changes(&lease, seen, 1).await.unwrap().len(), 1, "at most the limit");
}

pub async fn a_first_load_in_pages_misses_nothing_that_changes_meanwhile(db: Fixture) {
    for n in 0..7 {
        db.register(new(&n.to_string(), "ats", &format!("t{n}"))).await;
    }
    db.store.cancel("reg_0", Timestamp(2_000)).await.unwrap();
    let taken = db.take().await;
    let mut known = std::collections::BTreeMap::new();
    let mut learn = |changes: &[Change]| {
        for change in changes {
            match &change.watch {
                Some(watch) => known.insert(change.task, watch.delivery_task_id.clone()),
                None => known.remove(&change.task),
            };
        }
        changes.last().map_or(0, |change| change.version)
    };
    let first = db.store.watched(&taken.lease, 0, 3).await.unwrap();
    assert_eq!(first.len(), 3);
    let mut version = learn(&first);
    // Behind the place, and before it.
    db.store.cancel("reg_1", Timestamp(2_000)).await.unwrap();
    db.store.cancel("reg_6", Timestamp(2_000)).await.unwrap();
    db.register(new("8", "crm", "t2")).await;
    db.register(new("9", "ats", "t9")).await;
    loop {
        let page = db.store.watched(&taken.lease, version, 3).await.unwrap();
        assert!(page.iter().all(|change| change.watch.is_some()), "what nobody waits for is read");
        version = learn(&page);
        if page.len() < 3 {
            break;
        }
    }
    learn(&db.store.changes(&taken.lease, taken.version, 1_000).await.unwrap());
    let known: Vec<String> = known.into_values().collect();
    assert_eq!(known, ["t2", "t3", "t4", "t5", "t9"]);
}

pub async fn an_outcome_reaches_every_registration_in_one_commit(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    db.register(new("2", "crm", "t1")).await;
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t1").await;
    db.store.settle(&lease, ending(task, 5_000), success()).await.unwrap();
    for id in ["1", "2"] {
        let registration = db.find(id).await;
        assert_eq!(registration.state, State::Delivering);
        assert_eq!(registration.delivery.next_attempt_at, Some(Timestamp(5_000)));
        let report = registration.outcome.unwrap();
        assert_eq!(report.outcome, Class::Succeeded);
        assert_eq!((report.observed.polls, report.observed.log_id.as_deref()), (3, Some("log-1")));
        assert_eq!(report.observed.last_pending_at, Some(Timestamp(4_500)));
    }
    assert!(db.store.lanes().await.unwrap().is_empty(), "nothing is left to poll");
}

pub async fn an_outcome_is_set_once(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t1").await;
    db.store.settle(&lease, ending(task, 5_000), success()).await.unwrap();
    let first = db
        .store
        .due(&Destination::new("ats", "https://ats.example:443"), Timestamp(9_000), 1)
        .await
        .unwrap();
    let other = Outcome::unresolved(Reason::TaskNotFound);
    db.store.settle(&lease, ending(task, 6_000), other).await.unwrap();
    let second = db
        .store
        .due(&Destination::new("ats", "https://ats.example:443"), Timestamp(9_000), 1)
        .await
        .unwrap();
    assert_eq!(first, second, "the bytes are fixed when the outcome is stored");
    // Nor does the progress of a poll that was under way move what was seen.
    let progress = Progress { polls: 99, ..Progress::default() };
    let late = Checkpoint { progress: vec![(task, progress)], ..Checkpoint::default() };
    db.store.checkpoint(&lease, late).await.unwrap();
    let told = db.register(new("2", "crm", "t1")).await.outcome.unwrap();
    assert_eq!((told.observed.polls, told.observed.last_pending_at), (3, Some(Timestamp(4_500))));
}

pub async fn a_deadline_ends_only_the_registrations_whose_time_is_over(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let mut patient = new("2", "crm", "t1");
    patient.give_up_at = Timestamp(90_000);
    db.register(patient).await;
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t1").await;
    let next = db.store.give_up(&lease, ending(task, 61_000), timed_out()).await.unwrap();
    assert_eq!(next, Some(Timestamp(90_000)));
    let over = db.find("1").await;
    assert_eq!(over.state, State::Delivering);
    assert_eq!(over.outcome.unwrap().failure.unwrap().reason, Reason::TimedOut);
    assert_eq!(db.find("2").await.state, State::Watching);
    let next = db.store.give_up(&lease, ending(task, 90_000), timed_out()).await.unwrap();
    assert_eq!(next, None);
    assert!(db.store.lanes().await.unwrap().is_empty());
    // Out of time is not the task's own end: whoever registers it now waits for it again.
    let again = db.register(new("3", "erp", "t1")).await;
    assert_eq!(again.state, State::Watching);
    assert_eq!(db.store.lanes().await.unwrap(), [lane()]);
}

pub async fn a_checkpoint_survives_a_change_of_owner(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t1").await;
    let boot = Some(Boot { id: uuid::Uuid::from_u128(7), at: Steady(3_000) });
    let reservations = vec![Reservation { at: Timestamp(5_000), polls: 50, boot }];
    let progress = Progress {
        polls: 7,
        last_pending_at: Some(Timestamp(4_000)),
        not_found_since: Some(Timestamp(4_500)),
        last_polled_at: Some(Timestamp(4_600)),
        last_answer: Some(Answer::Error(Some(1_002_001))),
    };
    let checkpoint = Checkpoint {
        reservations: Some(reservations.clone()),
        memory: Some(vec![1, 2, 3]),
        progress: vec![(task, progress)],
    };
    db.store.checkpoint(&lease, checkpoint).await.unwrap();
    db.store.checkpoint(&lease, Checkpoint::default()).await.unwrap();
    let taken = db.take().await;
    assert_eq!(taken.reservations, reservations);
    assert_eq!(taken.memory, Some(vec![1, 2, 3]));
    let changes = db.store.changes(&taken.lease, 0, 10).await.unwrap();
    assert_eq!(changes[0].watch.clone().unwrap().progress, progress);
    // Whoever waits sees it, and a write that knows of no poll leaves it.
    let nothing = Progress { last_polled_at: None, last_answer: None, ..progress };
    let checkpoint = Checkpoint { progress: vec![(task, nothing)], ..Checkpoint::default() };
    db.store.checkpoint(&taken.lease, checkpoint).await.unwrap();
    let Progress { polls, last_polled_at, last_answer, .. } = progress;
    let watching = Watching::stored(task, polls, last_polled_at, last_answer);
    assert_eq!(db.find("1").await.watch, Some(watching));
    db.store.settle(&taken.lease, ending(task, 5_000), success()).await.unwrap();
    assert_eq!(db.find("1").await.watch, None);
}

pub async fn a_lost_lease_changes_nothing(db: Fixture) {
    db.register(new("1", "ats", "t1")).await;
    let old = db.take().await.lease;
    let task = db.task(&old, "t1").await;
    let new = db.take().await.lease;
    assert!(new.epoch > old.epoch);
    let refused = [
        db.store.settle(&old, ending(task, 5_000), success()).await,
        db.store.give_up(&old, ending(task, 99_000), timed_out()).await.map(|_| ()),
        db.store.checkpoint(&old, Checkpoint { memory: Some(vec![9]), ..Default::default() }).await,
    ];
    for result in refused {
        assert!(matches!(result, Err(StoreError::LeaseLost)), "{result:?}");
    }
    assert_eq!(db.find("1").await.state, State::Watching);
    assert_eq!(db.take().await.memory, None);
}

pub async fn outcomes_are_numbered_in_the_order_in_which_they_were_stored(db: Fixture) {
    db.settled("9", "ats", "t9", 5_000).await;
    db.settled("5", "crm", "t5", 6_000).await;
    db.settled("1", "ats", "t1", 7_000).await;
    let log = db.store.outcomes("ats", 0, 10).await.unwrap();
    let told: Vec<(u64, &str)> = log.iter().map(|(n, row)| (*n, row.id.as_str())).collect();
    assert_eq!(told, [(1, "reg_9"), (2, "reg_1")]);
    assert_eq!(db.store.outcomes("ats", 1, 10).await.unwrap()[0].1.id, "reg_1");
    assert!(db.store.outcomes("ats", 2, 10).await.unwrap().is_empty());
    assert!(db.store.outcomes("ats", u64::MAX, 10).await.unwrap().is_empty());
}

pub async fn hints_come_after_the_commit(db: Fixture) {
    let mut hints = db.store.hints();
    db.register(new("1", "ats", "t1")).await;
    assert!(matches!(hints.recv().await.unwrap(), Hint::Watch(name) if name == lane()));
    let lease = db.take().await.lease;
    let task = db.task(&lease, "t1").await;
    db.store.settle(&lease, ending(task, 5_000), success()).await.unwrap();
    let hint = hints.recv().await.unwrap();
    assert!(matches!(hint, Hint::Outcome { registration_id } if registration_id == "reg_1"));
    let hint = hints.recv().await.unwrap();
    assert!(
        matches!(hint, Hint::Due(to) if to == Destination::new("ats", "https://ats.example:443"))
    );
    db.store.cancel("reg_1", Timestamp(6_000)).await.unwrap();
    let hint = hints.recv().await.unwrap();
    assert!(matches!(hint, Hint::Watch(name) if name == lane()), "else it is polled on");
    let hint = hints.recv().await.unwrap();
    assert!(matches!(hint, Hint::Outcome { registration_id } if registration_id == "reg_1"));
}
