//! The etiquette of callbacks: the schedule, 410, redirects, redelivery, slow receivers, rotation.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{ATS, Daemon, SECOND_SECRET, SECRET, Stage, until, wanted};
use crate::http::{Answer, reply};
use crate::receiver::{Callback, Receiver, silence};
use crate::upstream::success;

/// A stage whose receiver answers like this; every task succeeds at the first look.
async fn stage(behaviour: impl Fn(&Callback) -> Answer + Send + Sync + 'static) -> (Stage, Daemon) {
    let mut stage = Stage::new().await;
    stage.receiver = Receiver::behaving(&[SECRET], behaviour).await;
    for number in 0..60 {
        stage.upstream.script(&format!("d{number}"), [success()]);
    }
    let daemon = stage.home.start().await;
    (stage, daemon)
}

async fn attempts(daemon: &Daemon, id: &str) -> Vec<Value> {
    let list = daemon.get(&format!("/v1/registrations/{id}/attempts")).await;
    list["items"].as_array().unwrap().clone()
}

fn id(resource: &Value) -> &str {
    resource["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_410_ends_the_delivery_at_once() {
    let (stage, daemon) = stage(|_| reply(410, &[], "gone")).await;
    let resource = daemon.register(&wanted("d0", &stage.receiver.url("/"))).await;
    let ended = daemon.until_state(id(&resource), "undeliverable").await;
    assert_eq!(ended["delivery"]["attempts"], 1);
    assert_eq!(ended["delivery"]["last_status"], 410);
    assert_eq!(ended["delivery"]["next_attempt_at"], Value::Null);
    silence().await;
    assert_eq!(stage.receiver.so_far().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_a_failure_that_is_tried_again_and_never_followed() {
    let (stage, daemon) = stage(|callback| {
        let there = format!("http://{}/trap", callback.request.header("host").unwrap());
        reply(307, &[("Location", &there)], "")
    })
    .await;
    let resource = daemon.register(&wanted("d0", &stage.receiver.url("/"))).await;
    let ended = daemon.until_state(id(&resource), "undeliverable").await;
    assert_eq!(ended["delivery"]["attempts"], 4, "the first one and three waits: {ended}");
    assert_eq!(ended["delivery"]["last_status"], 307);
    silence().await;
    let callbacks = stage.receiver.so_far();
    assert_eq!(callbacks.len(), 4);
    assert!(callbacks.iter().all(|callback| callback.request.target == "/"), "it was followed");
    stage.receiver.assert_repeats_are_faithful();
    for pair in callbacks.windows(2) {
        let wait = pair[1].request.at - pair[0].request.at;
        let schedule = Duration::from_millis(230)..Duration::from_millis(1_500);
        assert!(schedule.contains(&wait), "300 ms ±20 % and an attempt's time, not {wait:?}");
    }
    let attempts = attempts(&daemon, id(&resource)).await;
    let seen = attempts.iter().map(|it| (it["number"].clone(), it["verdict"].clone()));
    let told: Vec<(Value, Value)> = seen.collect();
    let words = ["retry", "retry", "retry", "gave_up"];
    assert_eq!(told, (1..).zip(words).map(|(n, w)| (json!(n), json!(w))).collect::<Vec<_>>());
    assert!(attempts.iter().all(|it| it["status"] == 307 && it["duration_ms"].is_u64()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undeliverable_one_is_sent_again_with_the_same_id_and_bytes() {
    let (stage, daemon) = stage(|callback| {
        let answer = if callback.arrival <= 4 { 500 } else { 200 };
        reply(answer, &[], "said the receiver")
    })
    .await;
    let resource = daemon.register(&wanted("d0", &stage.receiver.url("/"))).await;
    let path = format!("/v1/registrations/{}/redeliver", id(&resource));
    let early = daemon.call("POST", &path, ATS, None).await;
    assert!([202, 409].contains(&early.status), "{early:?}");
    daemon.until_state(id(&resource), "undeliverable").await;
    let again = daemon.call("POST", &path, ATS, None).await;
    assert_eq!(again.status, 202, "{again:?}");
    let ended = daemon.until_state(id(&resource), "delivered").await;
    assert!(ended["delivery"]["attempts"].as_u64().unwrap() >= 5, "{ended}");
    let once_more = daemon.call("POST", &path, ATS, None).await;
    assert_eq!(once_more.status, 202, "a delivered one may be sent again: {once_more:?}");
    stage.receiver.until("six arrivals", |all| all.len() >= 6).await;
    stage.receiver.assert_repeats_are_faithful();
    daemon.until_state(id(&resource), "delivered").await;
    let last = attempts(&daemon, id(&resource)).await.pop().unwrap();
    assert_eq!((&last["verdict"], &last["status"]), (&json!("delivered"), &json!(200)));
    assert_eq!(last["reply_excerpt"], "said the receiver");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_patience_gets_it() {
    let (stage, daemon) = stage(|callback| {
        if callback.arrival == 1 {
            reply(503, &[("Retry-After", "2")], "")
        } else {
            reply(204, &[], "")
        }
    })
    .await;
    let resource = daemon.register(&wanted("d0", &stage.receiver.url("/"))).await;
    daemon.until_state(id(&resource), "delivered").await;
    let callbacks = stage.receiver.so_far();
    let wait = callbacks[1].request.at - callbacks[0].request.at;
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&wait), "{wait:?}");
    let timestamp = |callback: &Callback| {
        callback.request.header("webhook-timestamp").unwrap().parse::<i64>().unwrap()
    };
    assert!(timestamp(&callbacks[1]) > timestamp(&callbacks[0]), "each attempt has its own time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_receiver_does_not_delay_the_others() {
    let (stage, daemon) = stage(|_| Answer::Hang).await;
    let healthy = Receiver::start(&[SECRET]).await;
    let hanging = (0..40).map(|n| wanted(&format!("d{n}"), &stage.receiver.url("/"))).collect();
    daemon.register_all(hanging).await;
    stage.receiver.distinct(1).await;
    let begun = Instant::now();
    let bodies = (40..60).map(|n| wanted(&format!("d{n}"), &healthy.url("/"))).collect();
    daemon.register_all(bodies).await;
    healthy.distinct(20).await;
    // Less than one of the hanging attempts takes, on top of the first look's half second.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(2_400), "{took:?} with a hanging neighbour");
    // Those that were tried ran into the timeout, and were told so.
    let first = stage.receiver.so_far()[0].json()["data"]["registration_id"].clone();
    let tried = async || {
        let tried = attempts(&daemon, first.as_str().unwrap()).await;
        tried.first().cloned()
    };
    let attempt = until("an attempt that timed out", tried, || daemon.log()).await;
    assert_eq!((&attempt["status"], &attempt["verdict"]), (&Value::Null, &json!("retry")));
    let took = attempt["duration_ms"].as_u64().unwrap();
    assert!((2_000..4_000).contains(&took), "{attempt}");
    assert!(attempt["error"].as_str().unwrap().contains("2 s"), "{attempt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_secrets_rotate_each_of_them_verifies() {
    let mut stage = Stage::new().await;
    stage.home.signing_secrets = vec![SECOND_SECRET, SECRET];
    stage.receiver = Receiver::behaving(&[SECRET, SECOND_SECRET], |_| reply(200, &[], "")).await;
    stage.upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    let callback = stage.receiver.distinct(1).await.remove(0);
    let signatures = callback.request.header("webhook-signature").unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_new_clients_and_new_secrets() {
    let mut stage = Stage::new().await;
    for task in ["a", "b", "c"] {
        stage.upstream.script(task, [success()]);
    }
    let daemon = stage.home.start().await;
    daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    stage.receiver.distinct(1).await;

    let token = "oct_crm_0123456789abcdef0123456789abcdef";
    stage.home.signing_secrets = vec![SECOND_SECRET];
    stage.home.more = format!(
        "[[clients]]\nname = \"crm\"\ntoken = \"{token}\"\nsigning_secrets = [\"{SECRET}\"]\n\
         callback_allow = [\"127.0.0.0/8\"]"
    );
    let refused = daemon.call("GET", "/v1/registrations", token, None).await;
    refused.problem(401);
    stage.home.write_config();
    daemon.signal("HUP");
    daemon.logged("configuration reloaded").await;

    let body = wanted("b", &stage.receiver.url("/crm")).to_string();
    let answer = daemon.call("POST", "/v1/registrations", token, Some(&body)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["client"], "crm");
    stage.receiver.distinct(2).await;
    let rotated = Receiver::start(&[SECOND_SECRET]).await;
    daemon.register(&wanted("c", &rotated.url("/"))).await;
    rotated.distinct(1).await;
    // One client does not see the other's.
    let list = daemon.call("GET", "/v1/registrations", token, None).await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_talkative_receiver_is_believed_and_one_that_never_ends_is_not() {
    let (stage, daemon) = stage(|callback| {
        let talk = "x".repeat(8 << 20);
        match callback.request.target.as_str() {
            "/talkative" => reply(200, &[], &talk),
            // A head and a little of the body, and then nothing.
            _ => Answer::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()),
        }
    })
    .await;
    let talkative = daemon.register(&wanted("d0", &stage.receiver.url("/talkative"))).await;
    let endless = daemon.register(&wanted("d1", &stage.receiver.url("/endless"))).await;
    daemon.until_state(id(&talkative), "delivered").await;
    let said = attempts(&daemon, id(&talkative)).await[0]["reply_excerpt"].clone();
    assert!(said.as_str().unwrap().len() <= 65_536, "the whole reply was kept");
    let ended = daemon.until_state(id(&endless), "undeliverable").await;
    assert_eq!(ended["delivery"]["attempts"], 4, "{ended}");
}
