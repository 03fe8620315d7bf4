//! What one receiver does is its own affair: patience, 410, and neighbours at one gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::daemon::{ATS, Daemon, SECRET, Stage, wanted};
use crate::http::{Answer, reply};
use crate::receiver::{Callback, Receiver, silence};
use crate::upstream::{pending, success};

fn id(resource: &Value) -> &str {
    resource["id"].as_str().unwrap()
}

async fn stage(behaviour: impl Fn(&Callback) -> Answer + Send + Sync + 'static) -> Stage {
    let mut stage = Stage::new().await;
    stage.receiver = Receiver::behaving(&[SECRET], behaviour).await;
    stage
}

async fn redeliver(daemon: &Daemon, id: &str) {
    let path = format!("/v1/registrations/{id}/redeliver");
    let answer = daemon.call("POST", &path, ATS, None).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_asks_for_patience_uses_up_no_schedule() {
    let mut stage = stage(|callback| match callback.arrival {
        1..=6 => reply(503, &[("Retry-After", "1")], "restarting"),
        _ => reply(204, &[], ""),
    })
    .await;
    stage.home.delivery = "retry_delays = [\"2s\", \"4s\", \"8s\"]".into();
    stage.upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    let resource = daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    let all = stage.receiver.until("seven arrivals", |all| all.len() >= 7).await;
    let took = all[6].request.at - all[0].request.at;
    assert!(took.as_secs_f64() < 8.0, "{took:?}");
    let ended = daemon.until_state(id(&resource), "delivered").await;
    assert_eq!(ended["delivery"]["attempts"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gone_callback_keeps_what_others_wait_for_until_somebody_asks_again() {
    let gone = Arc::new(AtomicBool::new(true));
    let is_gone = Arc::clone(&gone);
    let stage = stage(move |_| {
        let status = if is_gone.load(Ordering::SeqCst) { 410 } else { 204 };
        reply(status, &[], "")
    })
    .await;
    stage.upstream.script("a", [success()]);
    for task in ["b", "c", "d"] {
        stage.upstream.script(task, [pending(), pending(), success()]);
    }
    let daemon = stage.home.start().await;
    let url = stage.receiver.url("/hook");
    let register = async |task| id(&daemon.register(&wanted(task, &url)).await).to_owned();
    let (watched, left) = (register("b").await, register("c").await);
    let first = register("a").await;
    let ended = daemon.until_state(&first, "undeliverable").await;
    assert_eq!(ended["delivery"]["last_status"], 410);
    for other in [&watched, &left] {
        let ended = daemon.until_state(other, "undeliverable").await;
        assert_eq!(ended["delivery"]["last_error"], "callback_gone", "{ended}");
        assert_eq!(ended["outcome"]["outcome"], "succeeded", "{ended}");
        assert_eq!(ended["delivery"]["attempts"], 0);
    }
    let pulled = daemon.call("GET", "/v1/outcomes", ATS, None).await.json();
    assert_eq!(pulled["items"].as_array().unwrap().len(), 3, "{pulled}");
    silence().await;
    assert_eq!(stage.receiver.so_far().len(), 1, "nothing more is sent there");

    gone.store(false, Ordering::SeqCst);
    redeliver(&daemon, &watched).await;
    daemon.until_state(&watched, "delivered").await;
    let later = register("d").await;
    daemon.until_state(&later, "delivered").await;

    // Gone again; a ping that is accepted brings it back.
    gone.store(true, Ordering::SeqCst);
    stage.upstream.script("e", [pending(), pending(), pending(), pending(), success()]);
    let last = register("e").await;
    redeliver(&daemon, &first).await;
    daemon.until_state(&first, "undeliverable").await;
    gone.store(false, Ordering::SeqCst);
    let body = json!({"url": url}).to_string();
    let pinged = daemon.call("POST", "/v1/callbacks/ping", ATS, Some(&body)).await;
    assert_eq!(pinged.json()["status"], 204, "{pinged:?}");
    daemon.until_state(&last, "delivered").await;
    assert_eq!(daemon.get(&format!("/v1/registrations/{left}")).await["state"], "undeliverable");
}
