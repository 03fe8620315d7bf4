//! Claims about what goes on after a move, by the verbs that a daemon uses.

use outcomed::clock::Timestamp;
use outcomed::outcome::{Ids, Outcome};
use outcomed::store::fleet::Fleet;
use outcomed::store::{
    DestinationPlace, Ending, Lanes, Next, Outbox, Progress, Registered, Registry,
};

use super::fixture::{World, lane, new, world};

/// A store that moved, and one that did not.
async fn twins() -> (World, World) {
    let (here, moved) = (world(24).await, world(24).await);
    moved.moved().await;
    (here, moved)
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_go_on_in_their_order_with_their_bytes_and_their_place_in_the_schedule() {
    let (here, moved) = twins().await;
    let (old, new) = (here.sqlite().unwrap(), moved.postgres().await);
    // As a daemon of the fleet does it: what it sees are the lanes that it claimed.
    let me = new.join("a", Timestamp(1)).await.unwrap();
    for account in ["default", "tenant-b"] {
        assert!(new.claim(&me, &lane(account)).await.unwrap().is_some());
    }
    let mut delivered = 0;
    for (to, _) in old.destinations(&DestinationPlace::default(), 100).await.unwrap().found {
        loop {
            let before = old.due(&to, Timestamp(99_000), 5).await.unwrap();
            let after = new.due(&to, Timestamp(99_000), 5).await.unwrap();
            assert_eq!(before, after);
            let Some(delivery) = after.first() else { break };
            let mut attempt = old.attempts(&delivery.registration_id).await.unwrap();
            let mut attempt = attempt.pop().unwrap_or_else(first_attempt);
            attempt.number = delivery.attempts + 1;
            for done in [
                old.record_attempt(delivery, attempt.clone(), Next::Delivered).await,
                new.record_attempt(delivery, attempt, Next::Delivered).await,
            ] {
                assert!(done.unwrap());
            }
            delivered += 1;
        }
    }
    assert!(delivered > 10, "{delivered}");
}

fn first_attempt() -> outcomed::store::Attempt {
    outcomed::store::Attempt {
        number: 1,
        at: Timestamp(99_000),
        duration: std::time::Duration::from_millis(1),
        status: Some(200),
        error: None,
        reply_excerpt: None,
        verdict: "delivered".into(),
        details: outcomed::store::AttemptDetails::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_watched_is_settled_and_told_after_the_last_outcome_before() {
    let (_here, moved) = twins().await;
    let store = moved.postgres().await;
    let me = store.join("a", Timestamp(1)).await.unwrap();
    let lease = store.claim(&me, &lane("default")).await.unwrap().unwrap().lane.lease;
    let last = store.outcomes("ats", 0, 1_000).await.unwrap().last().unwrap().0;
    let watched = store.changes(&lease, 0, 100).await.unwrap();
    let change = watched.first().unwrap();
    let progress = Progress { polls: 9, ..Progress::default() };
    let ending = Ending { task: change.task, at: Timestamp(9_000), progress, log_id: None };
    store.settle(&lease, ending, Outcome::succeeded(Ids::default())).await.unwrap();
    let told = store.outcomes("ats", last, 10).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, last + 1, "a client's cursor from before the move still holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_again_finds_the_first_and_new_tasks_get_numbers_of_their_own() {
    let (_here, moved) = twins().await;
    let store = moved.postgres().await;
    let again = new("again", "ats", "default", "task-0000004");
    let Registered::Existing(first) = store.register(vec![again]).await.unwrap().remove(0) else {
        panic!("it was registered before the move")
    };
    assert_eq!(first.id, "reg_0000004ats");
    let highest: i64 = moved.sql("SELECT max(id) FROM task").parse().unwrap();
    for n in 0..3 {
        let fresh = new(&format!("new{n}"), "ats", &format!("tenant-{n}"), "fresh");
        assert!(matches!(store.register(vec![fresh]).await.unwrap()[0], Registered::New(_)));
    }
    assert!(moved.sql("SELECT max(id) FROM task").parse::<i64>().unwrap() >= highest + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_redelivery_goes_on_at_its_place() {
    let (here, moved) = twins().await;
    let (old, new) = (here.sqlite().unwrap(), moved.postgres().await);
    let mut steps = 0;
    loop {
        let before = old.step_redelivery(&[], 2, Timestamp(8_000 + steps)).await.unwrap();
        let after = new.step_redelivery(&[], 2, Timestamp(8_000 + steps)).await.unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        steps += 1;
        if after.is_none() {
            break;
        }
    }
    assert!(steps > 2, "{steps}");
}
