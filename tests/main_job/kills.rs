//! `kill -9` in the middle of everything.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::daemon::{ATS, SECRET, Stage, wanted};
use crate::expected::{assert_says, succeeded};
use crate::http::{Answer, reply};
use crate::receiver::{Callback, Receiver, silence};
use crate::upstream::{Say, error, ids, success};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_is_told_through_kill_9() {
    let mut stage = Stage::new().await;
    // Slow to answer, so that kills meet attempts under way; every third fails at first.
    stage.receiver = Receiver::behaving(&[SECRET], |callback| {
        let ill = callback.arrival == 1 && callback.id.ends_with(['0', '3', '6', '9', 'c', 'f']);
        let answer = if ill { reply(503, &[], "") } else { reply(200, &[], "ok") };
        Answer::After(Duration::from_millis(120), Box::new(answer))
    })
    .await;
    stage.home.delivery =
        "timeout = \"2s\"\nretry_delays = [\"300ms\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"]"
            .into();
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    let mut daemon = stage.home.start().await;
    let mut acknowledged = BTreeSet::new();
    let mut tasks = 0;
    for life in [900, 1_400, 300, 1_900, 1_100] {
        let registering = async {
            loop {
                let task = format!("k{tasks}");
                tasks += 1;
                let trouble = match tasks % 4 {
                    0 => vec![Say::Else(Answer::Reset), success()],
                    1 => vec![error(500, 1_002_001), success()],
                    _ => vec![success()],
                };
                upstream.script_after(Duration::from_millis(tasks * 37 % 2_500), &task, trouble);
                let body = wanted(&task, &receiver.url("/")).to_string();
                let answer = daemon.try_call("POST", "/v1/registrations", ATS, Some(&body)).await;
                if answer.is_some_and(|answer| answer.status == 201) {
                    acknowledged.insert(task);
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(Duration::from_millis(life), registering).await;
        daemon.kill().await;
        daemon = stage.home.start().await;
    }
    assert!(acknowledged.len() > 40, "only {} were acknowledged", acknowledged.len());
    let all = acknowledged.clone();
    let told = receiver.until("every acknowledged one", move |callbacks| {
        let told: BTreeSet<String> = callbacks.iter().map(Callback::task).collect();
        told.is_superset(&all)
    });
    for callback in told.await {
        assert_eq!(callback.json()["type"], "delivery_task.succeeded", "{callback:?}");
        assert_eq!(callback.json()["data"]["delivery"]["talent_id"], ids()["talent_id"]);
    }
    silence().await;
    receiver.assert_repeats_are_faithful();
    let one_each: BTreeSet<(String, String)> =
        receiver.so_far().iter().map(|callback| (callback.task(), callback.id.clone())).collect();
    let tasks: BTreeSet<&String> = one_each.iter().map(|(task, _)| task).collect();
    assert_eq!(tasks.len(), one_each.len(), "one registration each, so one webhook-id each");
    for registration in
        daemon.get("/v1/registrations?limit=1000").await["items"].as_array().unwrap()
    {
        daemon.until_state(registration["id"].as_str().unwrap(), "delivered").await;
    }
    assert!(upstream.state().polls.iter().all(|poll| poll.status != 429), "beyond the quota");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_comes_back_with_its_registrations_and_what_it_knew() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script_after(Duration::from_secs(3), "a", [success()]);
    let daemon = stage.home.start().await;
    let mut body = wanted("a", &receiver.url("/a"));
    body["metadata"] = json!({"candidate": "42"});
    let registered = daemon.register(&body).await;
    let id = registered["id"].as_str().unwrap().to_owned();
    daemon.kill().await;
    let daemon = stage.home.start().await;
    let mut again = daemon.get(&format!("/v1/registrations/{id}")).await;
    // How watching goes is all that moves on.
    again["watch"] = registered["watch"].clone();
    assert_eq!(again, registered);
    let callback = receiver.distinct(1).await.remove(0);
    assert_says(&callback, &registered, &body["metadata"], &succeeded(&ids()), upstream);
    upstream.assert_polite();
}
