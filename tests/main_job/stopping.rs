//! SIGTERM: out within the deadline, nothing counted that was cut off; and one daemon a store.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::daemon::{ATS, OPS, SECRET, Stage, wanted};
use crate::expected::{assert_says, succeeded};
use crate::http::{Answer, reply};
use crate::receiver::Receiver;
use crate::upstream::{Say, ids, success};

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_the_shutdown_cuts_off_is_not_counted_and_made_again() {
    let mut stage = Stage::new().await;
    stage.home.delivery = "timeout = \"2m\"\nretry_delays = [\"1s\"]".into();
    stage.receiver = Receiver::behaving(&[SECRET], |callback| match callback.arrival {
        1 => Answer::Hang,
        _ => reply(204, &[], ""),
    })
    .await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script("a", [success()]);
    let mut daemon = stage.home.start().await;
    let registered = daemon.register(&wanted("a", &receiver.url("/"))).await;
    receiver.distinct(1).await;
    let begun = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", daemon.log());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(45), "{took:?} to stop: 40 s at most are waited");

    let daemon = stage.home.start().await;
    let ended = daemon.until_state(registered["id"].as_str().unwrap(), "delivered").await;
    assert_eq!(ended["delivery"]["attempts"], 1, "the one that was cut off was counted");
    let callbacks = receiver.so_far();
    assert_eq!(callbacks.len(), 2);
    receiver.assert_repeats_are_faithful();
    assert_says(&callbacks[1], &registered, &json!({}), &succeeded(&ids()), upstream);
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_and_attempts_under_way_are_finished_before_it_stops() {
    let mut stage = Stage::new().await;
    let slowly = |answer| Answer::After(Duration::from_secs(1), Box::new(answer));
    stage.receiver = Receiver::behaving(&[SECRET], move |_| slowly(reply(204, &[], ""))).await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script("a", [success()]);
    let body = json!({"code": 0, "data": {"status": 2, "delivery": ids()}}).to_string();
    let answer = reply(200, &[("Content-Type", "application/json")], &body);
    upstream.script("b", [Say::Else(slowly(answer))]);
    let mut daemon = stage.home.start().await;
    let first = daemon.register(&wanted("a", &receiver.url("/"))).await;
    receiver.distinct(1).await;
    let second = daemon.register(&wanted("b", &receiver.url("/"))).await;
    let sent = async || (!upstream.polls_of("b").is_empty()).then_some(());
    crate::daemon::until("the poll is under way", sent, || daemon.log()).await;
    daemon.signal("TERM");
    let begun = Instant::now();
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", daemon.log());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());

    let daemon = stage.home.start().await;
    for resource in [&first, &second] {
        daemon.until_state(resource["id"].as_str().unwrap(), "delivered").await;
    }
    assert_eq!(upstream.polls_of("b").len(), 1, "what the last poll said was lost");
    let repeats = receiver.so_far().iter().filter(|callback| callback.arrival > 1).count();
    assert_eq!(repeats, 0, "an attempt that was finished was made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_daemon_answers_its_long_polls_and_leaves() {
    let stage = Stage::new().await;
    let mut daemon = stage.home.start().await;
    stage.upstream.script_after(Duration::from_secs(60), "a", [success()]);
    let registered = daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    let path = format!("/v1/registrations/{}?wait=60s", registered["id"].as_str().unwrap());
    let door = daemon.door.clone();
    let waiting =
        tokio::spawn(
            async move { door.exchange(&crate::http::request("GET", &path, OPS, None)).await },
        );
    tokio::time::sleep(Duration::from_millis(300)).await;
    daemon.signal("TERM");
    let begun = Instant::now();
    let answer = waiting.await.unwrap().expect("an answer before it leaves");
    let answer = crate::http::Response::parse(&answer).unwrap();
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("watching")));
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", daemon.log());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_store_is_refused_and_says_why() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let (said, status) = stage.home.fail_to_start().await;
    assert_eq!(status.code(), Some(1), "{said}");
    for word in ["another outcomed", "outcomed.db", "store.url"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let list = daemon.call("GET", "/v1/registrations", ATS, None).await;
    assert_eq!(list.status, 200, "the first one is not disturbed");
}

/// Told to stop at this moment, it is gone within a second or so, as if nothing had gone wrong.
async fn stops_at_once(mut daemon: crate::daemon::Daemon) {
    let begun = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", daemon.log());
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(2_500), "{took:?} to stop: {}", daemon.log());
    daemon.logged("told to stop before it was ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_waits_for_its_database_still_stops_at_once() {
    let mut stage = Stage::new().await;
    // One that refuses, and one that accepts and says nothing.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.home.store_url = Some(format!("postgres://me@{nobody}/db"));
    let daemon = stage.home.spawn();
    daemon.logged("waiting for the database").await;
    stops_at_once(daemon).await;

    let address = silent.local_addr().unwrap();
    stage.home.store_url = Some(format!("postgres://me@{address}/db"));
    let daemon = stage.home.spawn();
    let (_connection, _) =
        tokio::task::spawn_blocking(move || silent.accept()).await.unwrap().unwrap();
    stops_at_once(daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_waits_for_a_busy_file_still_stops_at_once() {
    let stage = Stage::new().await;
    let busy = rusqlite::Connection::open(&stage.home.store).unwrap();
    busy.execute_batch("CREATE TABLE t (n); BEGIN EXCLUSIVE").unwrap();
    let daemon = stage.home.spawn();
    let lock = stage.home.path("outcomed.db.lock");
    let locked = async || lock.exists().then_some(());
    crate::daemon::until("it opens the file", locked, || daemon.log()).await;
    stops_at_once(daemon).await;
}
