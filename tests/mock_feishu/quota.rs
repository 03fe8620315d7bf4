//! Exact sliding windows, per API, app and tenant.

use std::time::Duration;

use outcomed::mock_feishu::{Api, App, Life, MockFeishu, Options, QuotaStatus};

use super::kit::{LOGIN, SITE, Seen, create, login, poll, post, start};

async fn until_refused(mock: &MockFeishu, token: &str, task: &str) -> (u32, Seen) {
    for admitted in 0..2_000 {
        let reply = poll(mock, token, task).await;
        if reply.code() == 99_991_400 {
            return (admitted, reply);
        }
    }
    panic!("never refused");
}

#[tokio::test]
async fn the_51st_poll_of_a_second_is_429_with_both_headers() {
    let (mock, clock) = start(Options::default()).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    let (admitted, refused) = until_refused(&mock, &token, &task).await;
    assert_eq!(admitted, 50);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("X-Ogw-Ratelimit-Limit"), Some("50"));
    assert_eq!(refused.header("X-Ogw-Ratelimit-Reset"), Some("1"));
    clock.advance(Duration::from_millis(999));
    assert_eq!(poll(&mock, &token, &task).await.code(), 99_991_400);
    clock.advance(Duration::from_millis(1));
    assert_eq!(poll(&mock, &token, &task).await.code(), 0);
}

#[tokio::test]
async fn the_1001st_poll_of_a_minute_waits_for_the_first_to_age() {
    let (mock, clock) = start(Options::default()).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    for _ in 0..20 {
        assert_eq!(until_refused(&mock, &token, &task).await.0, 50);
        clock.advance(Duration::from_secs(1));
    }
    // 20 seconds have passed since the first.
    let (admitted, refused) = until_refused(&mock, &token, &task).await;
    assert_eq!(admitted, 0);
    assert_eq!(refused.header("X-Ogw-Ratelimit-Limit"), Some("1000"));
    assert_eq!(refused.header("X-Ogw-Ratelimit-Reset"), Some("40"));
    clock.advance(Duration::from_secs(40));
    assert_eq!(until_refused(&mock, &token, &task).await.0, 50);
}

#[tokio::test]
async fn by_switch_a_spent_quota_is_400() {
    let quota = "1/60s".parse().unwrap();
    let quota_status = QuotaStatus::BadRequest;
    let (mock, _) = start(Options { poll_quota: quota, quota_status, ..Options::default() }).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    let (admitted, refused) = until_refused(&mock, &token, &task).await;
    assert_eq!((admitted, refused.status), (1, 400));
    assert_eq!(refused.header("X-Ogw-Ratelimit-Reset"), Some("60"));
}

#[tokio::test]
async fn the_create_call_has_a_quota_of_its_own() {
    let quota = "1/60s".parse().unwrap();
    let (mock, _) = start(Options { poll_quota: quota, ..Options::default() }).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    assert_eq!(until_refused(&mock, &token, &task).await.0, 1);
    assert_eq!(create(&mock, &token).await.code(), 0);
}

#[tokio::test]
async fn each_app_has_a_quota_of_its_own() {
    let other = App { id: "cli_other".into(), secret: "s".into(), store: None };
    let poll_quota = "1/60s".parse().unwrap();
    let options = Options { apps: vec![App::default(), other], poll_quota, ..Options::default() };
    let (mock, _) = start(options).await;
    let task = mock.control().create_task(SITE, Life::pending());
    let first = login(&mock).await;
    let body = serde_json::json!({ "app_id": "cli_other", "app_secret": "s" });
    let second = post(&mock, LOGIN, &body).await.json();
    let second = second["tenant_access_token"].as_str().unwrap();
    assert_eq!(until_refused(&mock, &first, &task).await.0, 1);
    assert_eq!(until_refused(&mock, second, &task).await.0, 1);
}

#[tokio::test]
async fn a_stranger_with_the_same_credentials_spends_the_same_quota() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    assert_eq!(mock.control().stranger(App::ID, Api::Poll, 30), 30);
    assert_eq!(until_refused(&mock, &token, &task).await.0, 20);
    assert_eq!(mock.control().stranger(App::ID, Api::Poll, 30), 0);
}
