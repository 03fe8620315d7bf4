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

#[tokio::test(flavor = "multi_thread")]
async fn one_clients_failing_callbacks_hold_up_no_other_client_at_a_shared_gateway() {
    const CRM: &str = "oct_crm_0123456789abcdef0123456789abcdef";
    let mut stage = stage(|callback| {
        let ill = callback.request.target.starts_with("/ill");
        reply(if ill { 500 } else { 204 }, &[], "")
    })
    .await;
    stage.home.delivery = "retry_delays = [\"2s\", \"30s\", \"60s\"]".into();
    stage.home.more = format!(
        "[[clients]]\nname = \"crm\"\ntoken = \"{CRM}\"\nsigning_secrets = [\"{SECRET}\"]\n\
         callback_allow = [\"127.0.0.0/8\"]"
    );
    for task in 0..60 {
        stage.upstream.script(&format!("d{task}"), [success()]);
    }
    let daemon = stage.home.start().await;
    let ill = (0..50).map(|n| wanted(&format!("d{n}"), &stage.receiver.url("/ill")));
    daemon.register_all(ill.collect()).await;
    let held = async || {
        let origins = daemon.get("/v1/origins").await;
        (origins["items"][0]["state"] == "held").then_some(())
    };
    crate::daemon::until("the origin is held for ats", held, || daemon.log()).await;
    let begun = tokio::time::Instant::now();
    for task in 50..60 {
        let body = wanted(&format!("d{task}"), &stage.receiver.url("/well")).to_string();
        let answer = daemon.call("POST", "/v1/registrations", CRM, Some(&body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let well =
        |all: &[Callback]| all.iter().filter(|it| it.request.target == "/well").count() >= 10;
    stage.receiver.until("ten callbacks of crm", well).await;
    assert!(begun.elapsed().as_secs_f64() < 5.0, "{:?}", begun.elapsed());
    let origins = daemon.get("/v1/origins").await;
    let clients = &origins["items"][0]["clients"];
    assert_eq!((&clients[0]["client"], &clients[0]["state"]), (&json!("ats"), &json!("held")));
    assert_eq!((&clients[1]["client"], &clients[1]["state"]), (&json!("crm"), &json!("ok")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_that_a_person_asks_for_goes_out_at_once_twenty_times_in_a_row() {
    let mut stage = stage(|_| reply(500, &[], "")).await;
    stage.home.delivery = "retry_delays = [\"20s\", \"60s\", \"60s\"]".into();
    for task in 0..30 {
        stage.upstream.script(&format!("d{task}"), [success()]);
    }
    let daemon = stage.home.start().await;
    let all = (0..30).map(|n| wanted(&format!("d{n}"), &stage.receiver.url("/"))).collect();
    let all = daemon.register_all(all).await;
    let held = async || {
        let origins = daemon.get("/v1/origins").await;
        (origins["items"][0]["failures_in_a_row"].as_u64() >= Some(7)).then_some(())
    };
    crate::daemon::until("the breaker is open for longer and longer", held, || daemon.log()).await;
    let chosen = id(&all[0]);
    let of_it = format!("msg_{}", chosen.strip_prefix("reg_").unwrap());
    let of_it: &'static str = of_it.leak();
    let arrivals = move |all: &[Callback]| all.iter().filter(|it| it.id == of_it).count();
    for round in 0..20 {
        let before = arrivals(&stage.receiver.so_far());
        let begun = tokio::time::Instant::now();
        redeliver(&daemon, chosen).await;
        stage.receiver.until("the redelivery", move |all| arrivals(all) > before).await;
        assert!(begun.elapsed().as_secs_f64() < 1.0, "round {round}: {:?}", begun.elapsed());
    }
}
