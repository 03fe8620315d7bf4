//! Every invariant can fail: for each, a history that breaks it.

use std::sync::Arc;

use outcomed::clock::Timestamp;
use outcomed::config::QuotaLimits;
use outcomed::outcome::{Class, Outcome};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{Ending, Lanes, NewRegistration, Progress, Registry};
use outcomed::task::{Kind, TaskRef};

use super::faults::Faults;
use super::invariants::{bounds_are_kept, not_at_rest, nothing_is_lost};
use super::world::{Answered, EPOCH, Life, Promise, Shared};

const TASK: &str = "t";
const REGISTRATION: &str = "reg_1";
const CALLBACK: &str = "msg_1";

/// What is wrong with a history of `daemons` in which nothing but `plant` happens.
fn broken(daemons: usize, plant: impl FnOnce(&Shared)) -> String {
    let mut worlds = (0..).map(Shared::new);
    let world = worlds.find(|world| world.lock().daemons == daemons).unwrap();
    {
        let mut world = world.lock();
        world.faults = Faults::none();
        world.starts = vec![1; daemons];
        world.quota = QuotaLimits { per_second: 2, per_minute: 3 };
        let life = Life { known_from: 0, settles_at: 0, end: Some(Class::Succeeded), sick: None };
        world.lives.insert(TASK.to_owned(), life);
        let promise = Promise {
            task: TASK.to_owned(),
            url: "https://ats.example/ats".to_owned(),
            cancelled: false,
            accepted_at: 0,
        };
        world.promises.insert(REGISTRATION.to_owned(), promise);
    }
    plant(&world);
    world.violation().unwrap_or_default()
}

#[track_caller]
fn assert_broken(violation: &str, expected: &str) {
    assert!(violation.contains(expected), "{violation:?} is not that {expected:?}");
}

fn poll(world: &Shared, at: i64) {
    world.polled(0, "a0", TASK, at, at);
}

#[test]
fn polls_are_held_to_the_quota_to_the_lane_and_to_what_is_open() {
    let second = broken(1, |world| [0, 400, 800].into_iter().for_each(|at| poll(world, at)));
    assert_broken(&second, "3 polls within 1000 ms");
    let minute = broken(1, |world| (0..4).for_each(|n| poll(world, n * 15_000)));
    assert_broken(&minute, "4 polls within 60000 ms");
    let good = broken(1, |world| (0..4).for_each(|n| poll(world, n * 20_000)));
    assert_eq!(good, "");
    assert_broken(&broken(2, |world| poll(world, 0)), "d0 polls a0, which is None's");
    let over = broken(1, |world| {
        world.lock().settled.insert(TASK.to_owned(), 0);
        poll(world, 10);
    });
    assert_broken(&over, "polled although its outcome is stored");
}

#[test]
fn callbacks_are_held_to_their_bytes_and_to_the_schedule() {
    let bytes = broken(1, |world| {
        world.sends(0, CALLBACK, b"one");
        world.sends(0, CALLBACK, b"two");
    });
    assert_broken(&bytes, "the bytes of msg_1 have changed");
    let often = broken(1, |world| (0..74).for_each(|_| world.sends(0, CALLBACK, b"one")));
    assert_broken(&often, "sent for the 74th time of 73");
    let two = broken(2, |world| {
        world.sends(0, CALLBACK, b"one");
        world.sends(1, CALLBACK, b"one");
    });
    assert_broken(&two, "sent by d1 while dSome(0) sends it");
    for (accepted, at, expected) in
        [(true, 0, "though it was accepted"), (false, 799, "without a wait")]
    {
        let again = broken(1, |world| {
            world.sends(0, CALLBACK, b"one");
            let answered = Answered { at: 0, accepted, start: 1 };
            world.lock().last_answered.insert(REGISTRATION.to_owned(), answered);
            world.lock().at = at;
            world.sends(0, CALLBACK, b"one");
        });
        assert_broken(&again, expected);
    }
}

#[test]
fn whoever_waits_too_long_is_noticed() {
    let untold = broken(1, |world| {
        world.lock().at = 20_001;
        bounds_are_kept(world);
    });
    assert_broken(&untold, "reg_1 is not told at 20001");
    let unsent = broken(1, |world| {
        world.lock().settled.insert(TASK.to_owned(), 0);
        world.lock().at = 5_001;
        bounds_are_kept(world);
    });
    assert_broken(&unsent, "reg_1 is due since Some(0) and not sent at 5001");
}

/// A store in which that registration is, with that outcome if there is one.
fn store(outcome: Option<Outcome>) -> (Arc<Sqlite>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open_simulated(&directory.path().join("a.db")).unwrap());
    let new = NewRegistration {
        id: REGISTRATION.to_owned(),
        client: "ats".into(),
        task: TaskRef {
            kind: Kind::HireWebsiteDelivery,
            account: "a0".into(),
            website_id: "7".into(),
            delivery_task_id: TASK.into(),
        },
        callback_url: "https://ats.example/ats".into(),
        callback_origin: "https://ats.example:443".into(),
        callback_host: "ats.example".into(),
        metadata: "{}".into(),
        created_at: Timestamp(EPOCH),
        give_up_at: Timestamp(EPOCH + 60_000),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let lane = new.task.lane();
        store.register(vec![new]).await.unwrap();
        let Some(outcome) = outcome else { return };
        let lease = store.take(&lane, Timestamp(EPOCH)).await.unwrap().lease;
        let task = store.changes(&lease, 0, 1).await.unwrap()[0].task;
        let (at, progress) = (Timestamp(EPOCH + 1), Progress::default());
        let ending = Ending { task, at, progress, log_id: None };
        store.settle(&lease, ending, outcome).await.unwrap();
    });
    (store, directory)
}

#[test]
fn what_is_lost_is_found_at_rest() {
    let lost = broken(1, |world| {
        let nothing = world.lock().promises[REGISTRATION].clone();
        world.lock().promises = [("reg_2".to_owned(), nothing)].into();
        nothing_is_lost(world, &store(None).0);
    });
    assert_broken(&lost, "reg_2 has vanished");
    let open = broken(1, |world| not_at_rest(world, &store(None).0));
    assert_broken(&open, "1 are not at rest");
    let untold = broken(1, |world| nothing_is_lost(world, &store(None).0));
    assert_broken(&untold, "reg_1 ended without an outcome");
    let failed = Outcome::failed(outcomed::outcome::Ids::default(), None, None);
    let undelivered = broken(1, |world| {
        let (store, _directory) = store(Some(failed));
        nothing_is_lost(world, &store);
    });
    assert_broken(&undelivered, "Delivering");
}
