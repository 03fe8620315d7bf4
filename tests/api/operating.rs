//! Health, readiness, metrics, accounts, the description, Feishu's events.

use std::sync::atomic::Ordering;
use std::time::Duration;

use outcomed::api::Limits;
use outcomed::clock::{Steady, Timestamp};
use outcomed::config::QuotaLimits;
use outcomed::polling::board::{LaneStatus, Suspension};
use outcomed::polling::plan::figures::Figures;
use outcomed::task::{Kind, LaneName};
use serde_json::{Value, json};

use crate::harness::{ATS, Api, OPERATOR, account, config};

fn lane(suspended: Option<Suspension>) -> (LaneName, LaneStatus) {
    let status = LaneStatus {
        suspended,
        failing: None,
        answered: Some((Timestamp(2_000), "pending".into())),
        watched: 12,
        polls_last_second: 3,
        polls_last_minute: 170,
        quota: QuotaLimits::default(),
        figures: Some(Figures {
            price: Duration::from_millis(95),
            tasks_per_minute: 190.0,
            polls_per_task: 5.25,
            expected_delay: Duration::from_millis(850),
            mean_delay: Some(Duration::from_millis(870)),
            bound: Duration::from_millis(820),
            ratio_to_bound: 1.061,
        }),
        alive_at: Steady(0),
    };
    (LaneName { account: "default".into(), kind: Kind::default() }, status)
}

fn suspension() -> Suspension {
    Suspension {
        reason: "missing_scope".into(),
        message: "grant the scope in Feishu's console".into(),
        since: Timestamp(1_000),
    }
}

#[tokio::test]
async fn accounts_show_what_their_lanes_do_and_idle_ones_are_ok() {
    let mut config = config();
    config.accounts.push(account("idle"));
    let api = Api::start_with(config, Limits::default()).await;
    let (name, status) = lane(Some(suspension()));
    api.board.post(&name, status);
    let quota = json!({"per_second": 50, "per_minute": 1000});
    assert_eq!(
        api.get("/v1/accounts", OPERATOR).await.json(),
        json!({"items": [
            {"name": "default", "state": "suspended", "reason": "missing_scope",
             "message": "grant the scope in Feishu's console",
             "since": "1970-01-01T00:00:01.000Z", "last_answer": "pending",
             "last_answer_at": "1970-01-01T00:00:02.000Z", "watched": 12,
             "polls": {"last_second": 3, "last_minute": 170}, "quota": quota,
             "expected_detection_delay": "850ms", "mean_detection_delay": "870ms",
             "detection_delay_bound": "820ms", "ratio_to_bound": 1.06, "poll_price": "95ms",
             "polls_per_task": 5.25, "tasks_per_minute": 190.0},
            {"name": "idle", "state": "ok", "reason": null, "message": null, "since": null,
             "last_answer": null, "last_answer_at": null, "watched": 0, "polls": {"last_second": 0, "last_minute": 0}, "quota": quota,
             "expected_detection_delay": null, "mean_detection_delay": null,
             "detection_delay_bound": null, "ratio_to_bound": null, "poll_price": null,
             "polls_per_task": null, "tasks_per_minute": null},
        ]})
    );
}

fn no_answer() -> Suspension {
    Suspension {
        reason: "no_answer".into(),
        message: "Feishu has not answered 12 polls in a row".into(),
        since: Timestamp(3_000),
    }
}

#[tokio::test]
async fn an_account_that_is_not_answered_is_failing_everywhere_a_person_may_look() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let path = format!("/v1/registrations/{id}");
    let watch = api.get(&path, ATS).await.json()["watch"].clone();
    assert_eq!((&watch["account_state"], &watch["account_message"]), (&json!("ok"), &json!(null)));
    let (name, mut status) = lane(None);
    status.failing = Some(no_answer());
    api.board.post(&name, status.clone());
    let account = api.get("/v1/accounts", OPERATOR).await.json()["items"][0].clone();
    assert_eq!((&account["state"], &account["reason"]), (&json!("failing"), &json!("no_answer")));
    assert_eq!(account["since"], "1970-01-01T00:00:03.000Z");
    let ready = api.get("/readyz", "").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["suspended_accounts"], json!([]));
    assert_eq!(ready.json()["failing_accounts"][0]["name"], "default");
    let found = api.get(&path, ATS).await.json();
    assert_eq!(found["watch"]["account_state"], "failing");
    assert!(found["watch"]["account_message"].as_str().unwrap().contains("12 polls in a row"));
    let listed = api.get("/v1/registrations", ATS).await.json();
    assert_eq!(listed["items"][0]["watch"]["account_state"], "failing");
    // A suspension is the worse news: a person must act.
    status.suspended = Some(suspension());
    api.board.post(&name, status);
    let account = api.get("/v1/accounts", OPERATOR).await.json()["items"][0].clone();
    assert_eq!(
        (&account["state"], &account["reason"]),
        (&json!("suspended"), &json!("missing_scope"))
    );
}

#[tokio::test]
async fn what_a_token_probe_showed_holds_until_a_lane_tells_more() {
    let api = Api::start().await;
    let (name, mut status) = lane(None);
    status.failing = Some(no_answer());
    api.board.probed(&name, status);
    let state =
        async || api.get("/v1/accounts", OPERATOR).await.json()["items"][0]["state"].clone();
    assert_eq!(state().await, "failing");
    let (name, status) = lane(None);
    api.board.post(&name, status);
    assert_eq!(state().await, "ok");
    api.board.remove(&name);
    assert_eq!(state().await, "ok", "what was known before the lane is old");
}

#[tokio::test]
async fn a_suspended_account_is_listed_but_does_not_make_the_daemon_unready() {
    let api = Api::start().await;
    let (name, status) = lane(Some(suspension()));
    api.board.post(&name, status);
    let answer = api.get("/readyz", "").await;
    assert_eq!(answer.status, 200);
    let ready = answer.json();
    assert_eq!(ready["status"], "ready");
    assert_eq!(ready["checks"][0], json!({"name": "store", "status": "ok"}));
    assert_eq!(ready["suspended_accounts"][0]["name"], "default");
    assert!(!answer.text.contains("console"), "details are for operators");
}

#[tokio::test]
async fn without_its_store_the_daemon_is_alive_but_not_ready() {
    let api = Api::start().await;
    api.store.away.store(true, Ordering::Relaxed);
    let problem = api.get("/readyz", "").await.problem(503, "store-unavailable");
    assert_eq!(problem["checks"][0], json!({"name": "store", "status": "failed"}));
    assert_eq!(api.get("/healthz", "").await.status, 200);
}

#[tokio::test]
async fn a_hundred_readiness_checks_are_few_writes() {
    let api = Api::start().await;
    for _ in 0..100 {
        assert_eq!(api.get("/readyz", "").await.status, 200);
    }
    assert!((1..50).contains(&api.store.pings()), "{}", api.store.pings());
}

#[tokio::test]
async fn metrics_are_open_only_where_configured() {
    let mut config = config();
    config.http.open_metrics = true;
    let api = Api::start_with(config, Limits::default()).await;
    let answer = api.get("/metrics", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
}

#[tokio::test]
async fn the_description_names_every_call_and_resolves_every_reference() {
    let api = Api::start().await;
    let answer = api.get("/openapi.json", "").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, method) in [
        ("/v1/registrations", "post"),
        ("/v1/registrations", "get"),
        ("/v1/registrations/batch", "post"),
        ("/v1/registrations/{id}", "get"),
        ("/v1/registrations/{id}", "delete"),
        ("/v1/registrations/{id}/attempts", "get"),
        ("/v1/registrations/{id}/redeliver", "post"),
        ("/v1/redeliveries", "post"),
        ("/v1/redeliveries/{id}", "get"),
        ("/v1/redeliveries/{id}", "delete"),
        ("/v1/keys", "get"),
        ("/v1/outcomes", "get"),
        ("/v1/callbacks/ping", "post"),
        ("/v1/accounts", "get"),
        ("/v1/origins", "get"),
        ("/v1/feishu/events/{app_id}", "post"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    ] {
        assert!(document["paths"][path][method]["responses"].is_object(), "{method} {path}");
    }
    let callback = &document["webhooks"]["outcome"]["post"]["requestBody"];
    assert!(callback.is_object());
    for reference in references(&document) {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_described_registration_has_the_members_of_a_real_one() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    api.settle("task-1").await;
    let real = api.get(&format!("/v1/registrations/{id}"), ATS).await.json();
    let document = api.get("/openapi.json", "").await.json();
    let schemas = &document["components"]["schemas"];
    for (schema, value) in [
        ("Registration", &real),
        ("Report", &real["outcome"]),
        ("Observed", &real["outcome"]["observed"]),
        ("TaskRef", &real["task"]),
    ] {
        let mut described: Vec<_> =
            schemas[schema]["properties"].as_object().unwrap().keys().collect();
        let mut found: Vec<_> = value.as_object().unwrap().keys().collect();
        described.sort();
        found.sort();
        assert_eq!(described, found, "{schema}");
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn feishus_events_need_no_token_but_must_be_authentic() {
    let api = Api::start().await;
    let send = async |app: &str, signature: &str, body: &str| {
        let length = body.len();
        api.raw(
            format!(
                "POST /v1/feishu/events/{app} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 {signature}content-length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )
        .await
    };
    let signature = "x-lark-signature: abc\r\n";
    let good = send("cli_store", signature, r#"{"challenge":"c1"}"#).await;
    assert!(good.starts_with("HTTP/1.1 200 ") && good.ends_with(r#"{"challenge":"c1"}"#), "{good}");
    let unsigned = send("cli_store", "", r#"{"challenge":"c1"}"#).await;
    assert!(unsigned.starts_with("HTTP/1.1 401 "), "{unsigned}");
    let unknown = send("cli_other", signature, "{}").await;
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    let broken = send("cli_store", signature, "{").await;
    assert!(broken.contains("urn:outcomed:problem:malformed-request"), "{broken}");
}
