//! What the gateway refuses before it looks at a task.

use outcomed::mock_feishu::{App, Life, Options, Standing};
use serde_json::json;

use super::kit::{SITE, exchange, login, poll, poll_path, request, start};

#[tokio::test]
async fn without_bearer_it_is_99991661() {
    let (mock, _) = start(Options::default()).await;
    let none = exchange(&mock, &request("GET", &poll_path("x"), None, "")).await.unwrap();
    assert_eq!((none.status, none.code()), (400, 99_991_661));
    let token = login(&mock).await;
    let bare = request("GET", &poll_path("x"), Some(&token), "").replace("Bearer ", "");
    assert_eq!(exchange(&mock, &bare).await.unwrap().code(), 99_991_661);
}

#[tokio::test]
async fn an_unknown_token_is_99991663_with_400() {
    let (mock, _) = start(Options::default()).await;
    let reply = poll(&mock, "t-7f1bcd13fc57d46bac21793a18e560", "x").await;
    assert_eq!((reply.status, reply.code()), (400, 99_991_663));
    assert_eq!(reply.json()["error"]["log_id"], reply.header("X-Tt-Logid").unwrap());
}

#[tokio::test]
async fn a_missing_scope_carries_the_violations_and_the_console_link() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    assert!(mock.control().set_standing(App::ID, Standing::MissingScope));
    let reply = poll(&mock, &token, "x").await;
    assert_eq!((reply.status, reply.code()), (400, 99_991_672));
    let json = reply.json();
    assert_eq!(
        json["error"]["permission_violations"],
        json!([
            { "type": "action_scope_required", "subject": "hire:site_application:readonly" },
            { "type": "action_scope_required", "subject": "hire:site_application" },
        ])
    );
    let link = format!("https://open.feishu.cn/app/{}/auth?q=", App::ID);
    assert!(json["msg"].as_str().unwrap().contains(&link), "{json}");
    assert!(json["error"]["helps"][0]["url"].as_str().unwrap().starts_with(&link));
    assert!(json["error"]["troubleshooter"].is_string());
}

#[tokio::test]
async fn every_standing_has_its_code_and_can_be_lifted() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    for (standing, status, code) in [
        (Standing::AppDisabled, 400, 99_991_662),
        (Standing::NotInstalled, 400, 99_991_673),
        (Standing::IpDenied, 400, 99_991_401),
        (Standing::NoPermission, 400, 99_991_676),
        (Standing::MonthlyQuotaGone, 429, 99_991_403),
        (Standing::Good, 200, 0),
    ] {
        mock.control().set_standing(App::ID, standing);
        let reply = poll(&mock, &token, &task).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{standing:?}");
    }
}
