//! Logging in with a self-built app.

use std::time::Duration;

use outcomed::mock_feishu::{Api, App, Fault, Life, Options};
use serde_json::json;

use super::kit::{LOGIN, SITE, credentials, exchange, login, poll, post, start};

#[tokio::test]
async fn the_token_reply_is_flat_and_its_expire_is_what_remains() {
    let (mock, clock) = start(Options::default()).await;
    let first = post(&mock, LOGIN, &credentials()).await;
    assert_eq!((first.status, first.code()), (200, 0));
    assert_eq!(first.json()["expire"], 7200);
    assert!(first.json()["tenant_access_token"].as_str().unwrap().starts_with("t-"));
    clock.advance(Duration::from_secs(100));
    let again = post(&mock, LOGIN, &credentials()).await.json();
    assert_eq!(again["expire"], 7100);
    assert_eq!(again["tenant_access_token"], first.json()["tenant_access_token"]);
}

#[tokio::test]
async fn under_30_minutes_the_token_is_new_and_both_work_until_the_old_one_expires() {
    let (mock, clock) = start(Options::default()).await;
    let task = mock.control().create_task(SITE, Life::pending());
    let old = login(&mock).await;
    clock.advance(Duration::from_secs(90 * 60));
    assert_eq!(login(&mock).await, old, "30 minutes are left");
    clock.advance(Duration::from_millis(1));
    let new = login(&mock).await;
    assert_ne!(new, old);
    for token in [&old, &new] {
        assert_eq!(poll(&mock, token, &task).await.code(), 0);
    }
    clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(poll(&mock, &old, &task).await.code(), 99_991_663);
    assert_eq!(poll(&mock, &new, &task).await.code(), 0);
}

#[tokio::test]
async fn login_errors_come_with_http_200() {
    let (mock, _) = start(Options::default()).await;
    let reply = post(&mock, LOGIN, &json!({ "app_id": "cli_x", "app_secret": "x" })).await;
    assert_eq!((reply.status, reply.code()), (200, 10_003));
    let reply = post(&mock, LOGIN, &json!({ "app_id": App::ID, "app_secret": "x" })).await;
    assert_eq!((reply.status, reply.code()), (200, 10_014));
    assert_eq!(reply.json()["msg"], "app secret invalid");
    let busy = Fault::Code { status: 200, code: 2200, msg: "internal error".into() };
    mock.control().inject(Api::Auth, 1, &busy);
    let reply = post(&mock, LOGIN, &credentials()).await;
    assert_eq!((reply.status, reply.code()), (200, 2200));
    assert_eq!(post(&mock, LOGIN, &credentials()).await.code(), 0);
}

#[tokio::test]
async fn a_login_needs_no_content_type_and_may_carry_unknown_fields() {
    let (mock, _) = start(Options::default()).await;
    let mut body = credentials();
    body["app_ticket"] = json!(null);
    body["tenant_key"] = "leaked by the SDK".into();
    let body = body.to_string();
    let request = super::kit::request("POST", LOGIN, None, &body);
    assert!(!request.contains("Content-Type"));
    assert_eq!(exchange(&mock, &request).await.unwrap().code(), 0);
}

#[tokio::test]
async fn killed_tokens_are_refused_and_the_next_login_gives_a_new_one() {
    let (mock, _) = start(Options::default()).await;
    let task = mock.control().create_task(SITE, Life::pending());
    let old = login(&mock).await;
    mock.control().kill_tokens(App::ID);
    let reply = poll(&mock, &old, &task).await;
    assert_eq!((reply.status, reply.code()), (400, 99_991_663));
    let new = login(&mock).await;
    assert_ne!(new, old);
    assert_eq!(poll(&mock, &new, &task).await.code(), 0);
}

#[tokio::test]
async fn a_refused_token_may_be_handed_out_again() {
    let (mock, _) = start(Options::default()).await;
    let task = mock.control().create_task(SITE, Life::pending());
    let token = login(&mock).await;
    mock.control().refuse_tokens(App::ID, true);
    assert_eq!(poll(&mock, &token, &task).await.code(), 99_991_663);
    assert_eq!(login(&mock).await, token);
    mock.control().refuse_tokens(App::ID, false);
    assert_eq!(poll(&mock, &token, &task).await.code(), 0);
}
