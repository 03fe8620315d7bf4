//! A store app from end to end: Feishu pushes a ticket, the ticket becomes tokens, the tokens poll.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, SECRET, until, wanted};
use crate::http::{Answer, Request, reply, serve};
use crate::receiver::{Receiver, silence};
use crate::upstream::{APP_ID, APP_SECRET};

const TENANT: &str = "2f6aa0b4d3c1575d";

/// The paths that were called, and the ticket that is good.
#[derive(Default)]
struct Feishu {
    called: Vec<String>,
    ticket: &'static str,
}

impl Feishu {
    fn answer(&mut self, request: &Request) -> Answer {
        let path = request.target.trim_start_matches("/open-apis/").to_owned();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let bearer = request.header("authorization").unwrap_or_default();
        let app = body["app_id"] == APP_ID && body["app_secret"] == APP_SECRET;
        let answer = match path.as_str() {
            "auth/v3/app_ticket/resend" if app => json!({"code": 0, "msg": "success"}),
            "auth/v3/app_access_token" if app && body["app_ticket"] == self.ticket => {
                json!({"code": 0, "msg": "ok", "app_access_token": "a-1", "expire": 7140})
            }
            "auth/v3/app_access_token" => json!({"code": 10012, "msg": "app_ticket invalid"}),
            "auth/v3/tenant_access_token"
                if body == json!({"app_access_token": "a-1", "tenant_key": TENANT}) =>
            {
                json!({"code": 0, "msg": "ok", "tenant_access_token": "t-1", "expire": 7140})
            }
            poll if poll.starts_with("hire/v1/") && bearer == "Bearer t-1" => {
                json!({"code": 0, "msg": "success", "data": {"status": 2}})
            }
            _ => json!({"code": 99_991_663, "msg": "not like this"}),
        };
        self.called.push(path);
        reply(200, &[("Content-Type", "application/json; charset=utf-8")], &answer.to_string())
    }
}

/// Feishu's push, as its documents show it.
fn pushed(token: &str, ticket: &str) -> String {
    let event = json!({"app_id": APP_ID, "app_ticket": ticket, "type": "app_ticket"});
    let now = jiff::Timestamp::now().as_duration();
    let (ts, uuid) = (format!("{:.6}", now.as_secs_f64()), format!("{:032x}", now.as_nanos()));
    json!({"ts": ts, "uuid": uuid, "token": token, "type": "event_callback", "event": event})
        .to_string()
}

async fn push(daemon: &Daemon, body: &str) -> u16 {
    let path = format!("/v1/feishu/events/{APP_ID}");
    daemon.call("POST", &path, "", Some(body)).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_app_waits_for_its_ticket_asks_for_it_and_takes_no_forged_one() {
    let (home, feishu) = stage().await;
    let receiver = Receiver::start(&[SECRET]).await;
    let daemon = home.start().await;
    daemon.register(&wanted("a", &receiver.url("/"))).await;
    let account = daemon.until_account("suspended").await;
    assert_eq!(account["reason"], "no_app_ticket");
    let message = account["message"].as_str().unwrap();
    assert!(message.contains(&format!("/v1/feishu/events/{APP_ID}")), "{message}");
    let asked = async || (asked_for_tickets(&feishu) > 0).then_some(());
    until("asking for the ticket", asked, || daemon.log()).await;

    let check = json!({"challenge": "ajls384k", "token": "the-token-of-the-app", "type": "url_verification"});
    let path = format!("/v1/feishu/events/{APP_ID}");
    let answer = daemon.call("POST", &path, "", Some(&check.to_string())).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"challenge": "ajls384k"})));
    for forged in [pushed("not-the-token", "ticket-1"), "{}".into(), "x".into()] {
        let status = push(&daemon, &forged).await;
        assert!((400..500).contains(&status), "{forged}: {status}");
    }
    silence().await;
    assert!(receiver.so_far().is_empty());

    assert_eq!(push(&daemon, &pushed("the-token-of-the-app", "ticket-1")).await, 200);
    let callback = receiver.distinct(1).await.remove(0);
    assert_eq!(callback.json()["data"]["outcome"], "succeeded");
    daemon.until_account("ok").await;
    assert!(!daemon.log().contains("ticket-1"), "the ticket is in the log");
}

/// A store app's home, and the Feishu that it asks, which pushes nothing by itself.
async fn stage() -> (Home, Arc<Mutex<Feishu>>) {
    let feishu = Arc::new(Mutex::new(Feishu { ticket: "ticket-1", ..Feishu::default() }));
    let handler = Arc::clone(&feishu);
    let upstream = serve(Arc::new(move |request| handler.lock().unwrap().answer(&request))).await;
    let mut home = Home::new(upstream);
    home.account = format!(
        "kind = \"store\"\ntenant_key = \"{TENANT}\"\nverification_token = \"the-token-of-the-app\""
    );
    (home, feishu)
}

fn asked_for_tickets(feishu: &Mutex<Feishu>) -> usize {
    let called = &feishu.lock().unwrap().called;
    called.iter().filter(|path| *path == "auth/v3/app_ticket/resend").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_app_goes_on_after_a_kill_with_the_ticket_that_was_acknowledged() {
    let (home, feishu) = stage().await;
    let daemon = home.start().await;
    let asked = async || (asked_for_tickets(&feishu) == 1).then_some(());
    until("asking for a ticket before the first task", asked, || daemon.log()).await;
    assert_eq!(push(&daemon, &pushed("the-token-of-the-app", "ticket-1")).await, 200);
    let mut log = daemon.log();
    daemon.kill().await;

    let receiver = Receiver::start(&[SECRET]).await;
    let daemon = home.start().await;
    daemon.register(&wanted("a", &receiver.url("/"))).await;
    let callback = receiver.distinct(1).await.remove(0);
    assert_eq!(callback.json()["data"]["outcome"], "succeeded");
    assert_eq!(asked_for_tickets(&feishu), 1, "it needs no other ticket");
    log.push_str(&daemon.log());
    assert!(!log.contains("ticket-1"), "the ticket is in the log");
    for end in ["", "-wal", "-shm", ".lock"] {
        let file = home.path(&format!("outcomed.db{end}"));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_old_or_was_taken_before_changes_nothing() {
    let (home, feishu) = stage().await;
    let daemon = home.start().await;
    let token = "the-token-of-the-app";
    let of = |ts: f64, uuid: &str, ticket: &str| {
        let mut event: Value = serde_json::from_str(&pushed(token, ticket)).unwrap();
        event["ts"] = json!(format!("{ts:.6}"));
        event["uuid"] = json!(uuid);
        event.to_string()
    };
    let now = jiff::Timestamp::now().as_duration().as_secs_f64();
    for recorded in [now - 310.0, now + 310.0] {
        assert_eq!(push(&daemon, &of(recorded, "u0", "ticket-0")).await, 401);
    }
    assert_eq!(push(&daemon, &of(now, "u1", "ticket-1")).await, 200);
    // Feishu repeats what it believes to be lost: it must hear 200, whatever comes of it.
    assert_eq!(push(&daemon, &of(now - 60.0, "u2", "ticket-2")).await, 200);
    assert_eq!(push(&daemon, &of(now + 1.0, "u1", "ticket-3")).await, 200);
    let receiver = Receiver::start(&[SECRET]).await;
    daemon.register(&wanted("a", &receiver.url("/"))).await;
    let callback = receiver.distinct(1).await.remove(0);
    assert_eq!(callback.json()["data"]["outcome"], "succeeded");
    let called = feishu.lock().unwrap().called.clone();
    let tokens = called.iter().filter(|path| *path == "auth/v3/app_access_token").count();
    assert_eq!(tokens, 1, "only the newest ticket was tried");
}
