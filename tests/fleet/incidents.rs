//! What concerns the fleet as one: a store app's ticket, and what a person is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, SECRET, until};
use crate::http::{Answer, Request, reply, serve};
use crate::receiver::Receiver;
use crate::stage::{Fleet, wanted};
use crate::upstream::{APP_ID, APP_SECRET, pending};

const TENANT: &str = "2f6aa0b4d3c1575d";

/// A Feishu for one tenant of a store app: one ticket is good, and every task has succeeded.
fn store_feishu(called: &Mutex<Vec<String>>, request: &Request) -> Answer {
    let path = request.target.trim_start_matches("/open-apis/").to_owned();
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let bearer = request.header("authorization").unwrap_or_default();
    let app = body["app_id"] == APP_ID && body["app_secret"] == APP_SECRET;
    let answer = match path.as_str() {
        "auth/v3/app_ticket/resend" if app => json!({"code": 0, "msg": "success"}),
        "auth/v3/app_access_token" if app && body["app_ticket"] == "ticket-1" => {
            json!({"code": 0, "msg": "ok", "app_access_token": "a-1", "expire": 7140})
        }
        "auth/v3/tenant_access_token" if body["app_access_token"] == "a-1" => {
            json!({"code": 0, "msg": "ok", "tenant_access_token": "t-1", "expire": 7140})
        }
        poll if poll.starts_with("hire/v1/") && bearer == "Bearer t-1" => {
            json!({"code": 0, "msg": "success", "data": {"status": 2}})
        }
        _ => json!({"code": 99_991_663, "msg": "not like this"}),
    };
    called.lock().unwrap().push(path);
    reply(200, &[("Content-Type", "application/json; charset=utf-8")], &answer.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_pushed_to_one_daemon_reaches_the_one_that_polls() {
    let called = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&called);
    let feishu = serve(Arc::new(move |request| store_feishu(&calls, &request))).await;
    let fleet = Fleet::new(1).await;
    let mut daemons = Vec::new();
    for _ in 0..2 {
        let mut home = fleet.home(1, Duration::ZERO).await;
        home.base_url = format!("http://{feishu}");
        home.account = format!(
            "kind = \"store\"\ntenant_key = \"{TENANT}\"\nverification_token = \"the-token\""
        );
        daemons.push((home.start().await, home));
    }
    let registered = daemons[0].0.register(&wanted(0, "a", &fleet.receiver.url("/"))).await;
    fleet.until_held(&daemons[0].0, 2).await;
    let view = daemons[0].0.get("/v1/fleet").await;
    let idle = usize::from(view["lanes"][0]["member"] == view["answered_by"]);
    let idle: &Daemon = &daemons[idle].0;
    // Whoever is asked says that it waits for its ticket.
    let account = idle.until_account("suspended").await;
    assert_eq!(account["reason"], "no_app_ticket");
    let event = json!({"app_id": APP_ID, "app_ticket": "ticket-1", "type": "app_ticket"});
    let ts = format!("{:.6}", jiff::Timestamp::now().as_duration().as_secs_f64());
    let push = json!({"ts": ts, "uuid": "7739538ee250997653ac",
                      "token": "the-token", "type": "event_callback", "event": event});
    let path = format!("/v1/feishu/events/{APP_ID}");
    let pushed = idle.call("POST", &path, "", Some(&push.to_string())).await;
    assert_eq!(pushed.status, 200, "{pushed:?}");
    idle.until_state(registered["id"].as_str().unwrap(), "delivered").await;
    for (daemon, _) in &daemons {
        assert!(!daemon.log().contains("ticket-1"), "the ticket is in a log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_told_once_and_not_once_a_daemon() {
    let fleet = Fleet::new(2).await;
    let person = Receiver::start(&[SECRET]).await;
    let mut daemons = Vec::new();
    for number in 0..3 {
        let mut home = fleet.home(number, Duration::ZERO).await;
        home.write("app-secret", "the-wrong-secret");
        let alert = format!("[\"127.0.0.0/8\"]\nalert_url = \"{}\"", person.url("/"));
        home.callback_allow = Box::leak(alert.into_boxed_str());
        daemons.push((home.start().await, home));
    }
    fleet.upstreams[0].script("a", [pending()]);
    daemons[0].0.register(&wanted(0, "a", &fleet.receiver.url("/"))).await;
    fleet.upstreams[1].script("b", [pending()]);
    daemons[1].0.register(&wanted(1, "b", &fleet.receiver.url("/"))).await;
    let begun = tokio::time::Instant::now();
    let told = async || (!person.so_far().is_empty()).then_some(());
    // A suspension is an incident once it has lasted for a minute.
    tokio::time::sleep(Duration::from_secs(55)).await;
    until("a person is told", told, || daemons[0].0.log()).await;
    // Whoever led dies: the next one knows that it was told, once that is written down.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (first, _home) = daemons.remove(0);
    first.kill().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let alerts = person.so_far();
    assert_eq!(alerts.len(), 1, "{:?} after {:?}", alerts.len(), begun.elapsed());
    let alert: Value = alerts[0].json();
    assert_eq!(
        (&alert["type"], &alert["data"]["account"]),
        (&json!("account.suspended"), &json!("default"))
    );
}
