//! What edges, networks and overloaded gateways do.

use std::io::ErrorKind;
use std::time::Duration;

use outcomed::clock::Steady;
use outcomed::mock_feishu::{Api, Fault, Life, MockFeishu, Options, Percent, Request, Upstream};

use super::kit::{SITE, exchange, login, poll, poll_path, request, start};

async fn with(fault: Fault) -> (MockFeishu, String, String) {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    mock.control().inject(Api::Poll, 1, &fault);
    (mock, token, task)
}

#[tokio::test]
async fn a_system_error_is_500_with_1002001() {
    let (mock, token, task) = with(Fault::System).await;
    let reply = poll(&mock, &token, &task).await;
    assert_eq!((reply.status, reply.code()), (500, 1_002_001));
    assert_eq!(poll(&mock, &token, &task).await.code(), 0, "the next one is fine");
}

#[tokio::test]
async fn the_edge_answers_in_html_or_not_at_all() {
    for (fault, status) in [(Fault::BadGateway, 502), (Fault::EdgePage, 400)] {
        let (mock, token, task) = with(fault).await;
        let reply = poll(&mock, &token, &task).await;
        assert_eq!((reply.status, reply.header("Content-Type")), (status, Some("text/html")));
        assert!(reply.body.starts_with("<html>"));
        assert_eq!(reply.header("X-Tt-Logid"), None);
    }
    let (mock, token, task) = with(Fault::GatewayTimeout).await;
    let reply = poll(&mock, &token, &task).await;
    assert_eq!((reply.status, reply.body.as_str()), (504, ""));
    assert_eq!(reply.header("Content-Type"), None);
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let (mock, token, task) = with(Fault::Reset).await;
    let request = request("GET", &poll_path(&task), Some(&token), "");
    let error = exchange(&mock, &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_slow_body_is_the_right_one_and_takes_its_time() {
    let pace = Duration::from_millis(300);
    let (mock, token, task) = with(Fault::SlowBody(pace)).await;
    let asked = tokio::time::Instant::now();
    let request = request("GET", &poll_path(&task), Some(&token), "");
    let reply = exchange(&mock, &request).await.unwrap();
    assert!(asked.elapsed() >= pace);
    assert!(reply.head.contains("Transfer-Encoding: chunked"), "{}", reply.head);
    assert!(reply.body.ends_with("0\r\n\r\n"), "{}", reply.body);
}

#[tokio::test]
async fn json_can_break_off_and_the_quota_can_be_said_to_be_spent() {
    let (mock, token, task) = with(Fault::BrokenJson).await;
    let reply = poll(&mock, &token, &task).await;
    assert!(serde_json::from_str::<serde_json::Value>(&reply.body).is_err());
    let (mock, token, task) = with(Fault::Quota(Duration::from_millis(2_500))).await;
    let reply = poll(&mock, &token, &task).await;
    assert_eq!((reply.status, reply.code()), (429, 99_991_400));
    assert_eq!(reply.header("X-Ogw-Ratelimit-Reset"), Some("3"));
}

#[tokio::test]
async fn some_errors_come_with_http_200() {
    let expired = Fault::Code { status: 200, code: 99_991_664, msg: "expired".into() };
    let (mock, token, task) = with(expired).await;
    let reply = poll(&mock, &token, &task).await;
    assert_eq!((reply.status, reply.code()), (200, 99_991_664));
}

/// The words of the answers to 200 polls of the pure core under heavy chaos.
fn words(seed: u64) -> Vec<&'static str> {
    let options = Options { chaos: Percent(50.0), seed, ..Options::default() };
    let mut upstream = Upstream::new(options);
    let mut answer = |method, path: &str, authorization: Option<&str>, body: &str, now| {
        upstream.answer(now, &Request { method, path, authorization, body: body.as_bytes() })
    };
    let credentials = super::kit::credentials().to_string();
    let token = (0..200).find_map(|_| {
        let reply = answer("POST", super::kit::LOGIN, None, &credentials, Steady(0));
        let json: serde_json::Value = serde_json::from_str(&reply.body).ok()?;
        Some(format!("Bearer {}", json["tenant_access_token"].as_str()?))
    });
    let path = poll_path("f1c2a0f138ec492d99d7ab73594158ad");
    (0..200)
        .map(|number| answer("GET", &path, token.as_deref(), "", Steady(number * 1_000)).word)
        .collect()
}

#[test]
fn chaos_makes_every_fault_and_the_same_ones_for_the_same_seed() {
    let first = words(1);
    for word in
        ["system_error", "bad_gateway", "gateway_timeout", "edge_page", "reset", "task_not_found"]
    {
        assert!(first.contains(&word), "{word}");
    }
    assert_eq!(first, words(1));
    assert_ne!(first, words(2));
}
