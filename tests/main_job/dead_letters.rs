//! Sending many again, through `kill -9`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::daemon::{ATS, SECRET, Stage, until, wanted};
use crate::http::{Answer, reply};
use crate::receiver::Receiver;
use crate::upstream::success;

const TASKS: usize = 300;
/// Attempts at once to one origin, whose replies a kill may lose.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_redelivery_goes_on_after_kill_9() {
    let mut stage = Stage::new().await;
    let slow = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&slow);
    stage.receiver = Receiver::behaving(&[SECRET], move |_| {
        let wait = if asked.load(Ordering::Relaxed) { 250 } else { 1 };
        Answer::After(Duration::from_millis(wait), Box::new(reply(200, &[], "ok")))
    })
    .await;
    for number in 0..TASKS {
        stage.upstream.script(&format!("r{number}"), [success()]);
    }
    let mut daemon = stage.home.start().await;
    let bodies = (0..TASKS).map(|n| wanted(&format!("r{n}"), &stage.receiver.url("/"))).collect();
    daemon.register_all(bodies).await;
    stage.receiver.distinct(TASKS).await;
    let delivered = async || {
        let list = daemon.get("/v1/registrations?state=delivering&limit=1").await;
        list["items"].as_array().unwrap().is_empty().then_some(())
    };
    until("nothing left to deliver", delivered, || daemon.log()).await;

    slow.store(true, Ordering::Relaxed);
    let filter = json!({"state": "delivered"}).to_string();
    let begun = daemon.call("POST", "/v1/redeliveries", ATS, Some(&filter)).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    assert_eq!(begun.json()["matched"], TASKS);
    let path = format!("/v1/redeliveries/{}", begun.json()["id"].as_str().unwrap());
    let first = stage.receiver.so_far().len();
    for more in [5, 60, 120] {
        stage.receiver.until("some repeats", move |all| all.len() >= first + more).await;
        daemon.kill().await;
        daemon = stage.home.start().await;
    }
    slow.store(false, Ordering::Relaxed);
    let over = async || {
        let now = daemon.get(&path).await;
        (now["state"] == "finished").then_some(now)
    };
    let over = until("the redelivery is worked off", over, || daemon.log()).await;
    assert_eq!((&over["matched"], &over["done"]), (&json!(TASKS), &json!(TASKS)));
    stage
        .receiver
        .until("everyone's repeat", |all| {
            let mut times: BTreeMap<&str, usize> = BTreeMap::new();
            for callback in all {
                *times.entry(&callback.id).or_default() += 1;
            }
            times.len() == TASKS && times.values().all(|times| *times >= 2)
        })
        .await;
    stage.receiver.assert_repeats_are_faithful();
    // Nothing was sent again but by the redelivery, once, and where a kill lost the reply.
    let sent = stage.receiver.so_far().len();
    assert!(sent <= first + TASKS + 3 * AT_ONCE, "{sent} callbacks, {first} before");
}
