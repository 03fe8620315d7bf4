//! Tasks, as a poll sees them, and the oddities of the wire.

use std::time::Duration;

use outcomed::mock_feishu::{Api, Ending, Life, Options, Settle};
use serde_json::{Value, json};

use super::kit::{PATIENCE, SITE, create, exchange, login, poll, poll_path, request, start};

#[tokio::test]
async fn unknown_paths_and_methods_are_404_in_plain_text() {
    let (mock, _) = start(Options::default()).await;
    let poll = poll_path("f1c2a0f138ec492d99d7ab73594158ad");
    for (method, path) in [("GET", "/"), ("GET", "/hire/v1/websites"), ("POST", poll.as_str())] {
        let reply = exchange(&mock, &request(method, path, None, "")).await.unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (404, "404 page not found"), "{path}");
        assert_eq!(reply.header("Content-Type"), Some("text/plain"));
        assert_eq!(reply.header("X-Tt-Logid"), None);
    }
}

#[tokio::test]
async fn the_log_id_header_is_spelled_as_the_python_sdk_looks_it_up() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let reply = poll(&mock, &token, "x").await;
    assert!(reply.head.contains("\r\nX-Tt-Logid: 2026"), "{}", reply.head);
    assert!(reply.head.contains("\r\nX-Request-Id: "), "{}", reply.head);
}

#[tokio::test]
async fn a_get_may_have_a_body() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    let request = request("GET", &poll_path(&task), Some(&token), "{}");
    assert_eq!(exchange(&mock, &request).await.unwrap().code(), 0);
}

#[tokio::test]
async fn pending_is_null_empty_missing_0_1_and_1_with_a_full_sample() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let task = mock.control().create_task(SITE, Life::pending());
    let mut shapes = Vec::new();
    for _ in 0..6 {
        let body = poll(&mock, &token, &task).await.json();
        shapes.push(body.get("data").cloned());
    }
    let has = |shape: Option<Value>| shapes.contains(&shape);
    assert!(has(Some(Value::Null)) && has(Some(json!({}))) && has(None), "{shapes:?}");
    assert!(has(Some(json!({ "status": 0 }))) && has(Some(json!({ "status": 1 }))));
    let full = shapes.iter().flatten().find(|data| data.get("delivery").is_some()).unwrap();
    assert_eq!((&full["status"], &full["status_msg"]), (&json!(1), &json!(" ")));
}

#[tokio::test]
async fn a_task_succeeds_is_rejected_or_repeats_an_earlier_one() {
    let (mock, clock) = start(Options::default()).await;
    let token = login(&mock).await;
    let of = "6960663240925956655";
    let duplicate = Ending::Duplicate { message: "again".into(), of: of.into() };
    let endings = [Ending::Succeeded, Ending::Rejected { message: "closed".into() }, duplicate];
    let mut tasks = Vec::new();
    for ending in endings {
        mock.control().script_next_task(Life::ending(ending, Duration::from_secs(5)));
        let reply = create(&mock, &token).await.json();
        assert_eq!((&reply["code"], &reply["msg"]), (&json!(0), &json!("ok")));
        tasks.push(reply["data"]["task_id"].as_str().unwrap().to_owned());
    }
    clock.advance(Duration::from_millis(4_999));
    assert_ne!(poll(&mock, &token, &tasks[0]).await.json()["data"]["status"], 2);
    clock.advance(Duration::from_millis(1));
    let success = poll(&mock, &token, &tasks[0]).await.json();
    assert_eq!(success["data"]["status"], 2);
    for id in success["data"]["delivery"].as_object().unwrap().values() {
        assert!(id.as_str().unwrap().parse::<u64>().unwrap() > 1 << 53);
    }
    let rejected = poll(&mock, &token, &tasks[1]).await.json();
    assert_eq!(
        (&rejected["data"]["status"], &rejected["data"]["status_msg"]),
        (&json!(3), &json!("closed"))
    );
    assert!(rejected["data"]["extra_info"].as_str().is_none_or(|text| text.trim().is_empty()));
    let duplicate = poll(&mock, &token, &tasks[2]).await.json();
    assert_eq!(duplicate["data"]["extra_info"], of);
}

#[tokio::test]
async fn an_unknown_task_is_1002008_and_a_malformed_one_1002002() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let unknown = poll(&mock, &token, "f1c2a0f138ec492d99d7ab73594158ad").await;
    assert_eq!((unknown.status, unknown.code()), (400, 1_002_008));
    let malformed = poll(&mock, &token, "not-an-id").await;
    assert_eq!((malformed.status, malformed.code()), (400, 1_002_002));
}

#[tokio::test]
async fn a_task_is_1002008_until_it_appears_and_after_it_expires() {
    let (mock, clock) = start(Options::default()).await;
    let token = login(&mock).await;
    let mut life = Life::pending();
    life.appears_after = Duration::from_secs(1);
    life.deleted_after = Some(Duration::from_secs(60));
    let task = mock.control().create_task(SITE, life);
    assert_eq!(poll(&mock, &token, &task).await.code(), 1_002_008);
    clock.advance(Duration::from_secs(1));
    assert_eq!(poll(&mock, &token, &task).await.code(), 0);
    clock.advance(Duration::from_secs(59));
    assert_eq!(poll(&mock, &token, &task).await.code(), 1_002_008);
}

#[tokio::test]
async fn a_task_belongs_to_its_website() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let task = mock.control().create_task("1", Life::pending());
    assert_eq!(poll(&mock, &token, &task).await.code(), 1_002_008);
}

#[tokio::test]
async fn a_create_call_names_the_fields_it_misses() {
    let (mock, _) = start(Options::default()).await;
    let token = login(&mock).await;
    let path = format!("/open-apis/hire/v1/websites/{SITE}/deliveries/create_by_attachment");
    let reply = exchange(&mock, &request("POST", &path, Some(&token), r#"{"user_id":"1"}"#)).await;
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.code()), (400, 99_992_402));
    let violations = reply.json()["error"]["field_violations"].clone();
    assert_eq!(violations[0]["field"], "job_post_id");
    assert_eq!(violations.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_tasks_however_often_they_are_polled() {
    let mut tasks = Vec::new();
    for (seed, polls) in [(7, 0), (7, 3), (8, 0)] {
        let (mock, _) = start(Options { seed, ..Options::default() }).await;
        let token = login(&mock).await;
        let mut made = Vec::new();
        for _ in 0..3 {
            let reply = create(&mock, &token).await.json();
            let id = reply["data"]["task_id"].as_str().unwrap().to_owned();
            for _ in 0..polls {
                poll(&mock, &token, &id).await;
            }
            let life = mock.control().task(&id).unwrap().life;
            made.push((id, life));
        }
        tasks.push(made);
    }
    assert_eq!(tasks[0], tasks[1]);
    assert_ne!(tasks[0], tasks[2]);
}

#[tokio::test]
async fn the_journal_wakes_whoever_waits_for_it() {
    let options = Options { settle: Settle::Never, ..Options::default() };
    let (mock, _) = start(options).await;
    let control = mock.control().clone();
    let waiting = tokio::spawn(async move {
        control.until(|journal| journal.answered(Api::Poll, "pending") == 2).await;
        control.journal(|journal| journal.polls().map(|poll| poll.task.clone()).collect::<Vec<_>>())
    });
    let token = login(&mock).await;
    let id = create(&mock, &token).await.json()["data"]["task_id"].as_str().unwrap().to_owned();
    poll(&mock, &token, &id).await;
    poll(&mock, &token, &id).await;
    let polled = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(polled, [id.clone(), id]);
}
