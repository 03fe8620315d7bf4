//! A store app from end to end: Feishu pushes a ticket, the ticket becomes tokens, the tokens poll.

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
    json!({"ts": "1763805600.123456", "uuid": "7739538ee250997653ac", "token": token,
           "type": "event_callback", "event": event})
    .to_string()
}

async fn push(daemon: &Daemon, body: &str) -> u16 {
    let path = format!("/v1/feishu/events/{APP_ID}");
    daemon.call("POST", &path, "", Some(body)).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_app_waits_for_its_ticket_asks_for_it_and_takes_no_forged_one() {
    let feishu = Arc::new(Mutex::new(Feishu { ticket: "ticket-1", ..Feishu::default() }));
    let handler = Arc::clone(&feishu);
    let upstream = serve(Arc::new(move |request| handler.lock().unwrap().answer(&request))).await;
    let mut home = Home::new(upstream);
    home.account = format!(
        "kind = \"store\"\ntenant_key = \"{TENANT}\"\nverification_token = \"the-token-of-the-app\""
    );
    let receiver = Receiver::start(&[SECRET]).await;
    let daemon = home.start().await;
    daemon.register(&wanted("a", &receiver.url("/"))).await;
    let account = daemon.until_account("suspended").await;
    assert_eq!(account["reason"], "no_app_ticket");
    let message = account["message"].as_str().unwrap();
    assert!(message.contains(&format!("/v1/feishu/events/{APP_ID}")), "{message}");
    let asked = async || {
        let called = feishu.lock().unwrap().called.clone();
        called.iter().any(|path| path == "auth/v3/app_ticket/resend").then_some(())
    };
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
