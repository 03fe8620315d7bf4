//! What a client may do besides waiting: call off, and catch up after having been down.

use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{ATS, Daemon, Stage, wanted};
use crate::receiver::silence;
use crate::upstream::{pending, success};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_nobody_waits_for_any_more_is_not_polled_nor_told() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script("a", [pending(), pending(), success()]);
    let daemon = stage.home.start().await;
    let registered = daemon.register(&wanted("a", &receiver.url("/"))).await;
    let path = format!("/v1/registrations/{}", registered["id"].as_str().unwrap());
    for _ in 0..2 {
        let cancelled = daemon.call("DELETE", &path, ATS, None).await;
        assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
    }
    let polls = upstream.polls_of("a").len();
    silence().await;
    assert!(upstream.polls_of("a").len() <= polls + 1, "one may have been under way");
    assert!(receiver.so_far().is_empty());

    // A cancelled one does not count: registering again is a new registration.
    let again = daemon.register(&wanted("a", &receiver.url("/"))).await;
    assert_ne!(again["id"], registered["id"]);
    let callback = receiver.distinct(1).await.remove(0);
    assert_eq!(callback.json()["data"]["registration_id"], again["id"]);
    daemon.until_state(again["id"].as_str().unwrap(), "delivered").await;
    daemon.call("DELETE", &path.replace("reg_", "reg_x"), ATS, None).await.problem(404);
}

async fn outcomes(daemon: &Daemon, after: &str) -> (Vec<String>, String) {
    let query = format!("/v1/outcomes?limit=2&wait=1s{after}");
    let page = daemon.call("GET", &query, ATS, None).await;
    assert_eq!(page.status, 200, "{page:?}");
    let page = page.json();
    let task = |item: &Value| item["task"]["delivery_task_id"].as_str().unwrap().to_owned();
    let tasks = page["items"].as_array().unwrap().iter().map(task).collect();
    (tasks, page["next_cursor"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_was_down_catches_up_from_its_cursor_even_after_a_kill() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    let mut daemon = stage.home.start().await;
    for number in 0..5 {
        upstream.script(&format!("o{number}"), [success()]);
        daemon.register(&wanted(&format!("o{number}"), &receiver.url("/"))).await;
        // One after the other, so that their order is known.
        receiver.distinct(number + 1).await;
    }
    let (mut read, mut cursor) = outcomes(&daemon, "").await;
    while read.len() < 5 {
        daemon.kill().await;
        daemon = stage.home.start().await;
        let (more, next) = outcomes(&daemon, &format!("&after={cursor}")).await;
        assert!(!more.is_empty(), "stopped after {read:?}");
        read.extend(more);
        cursor = next;
    }
    assert_eq!(read, ["o0", "o1", "o2", "o3", "o4"]);
    let (nothing, same) = outcomes(&daemon, &format!("&after={cursor}")).await;
    assert!(nothing.is_empty(), "{nothing:?}");
    upstream.script_after(Duration::from_millis(200), "late", [success()]);
    daemon.register(&wanted("late", &receiver.url("/"))).await;
    receiver.distinct(6).await;
    assert_eq!(outcomes(&daemon, &format!("&after={same}")).await.0, ["late"]);
}
