//! One client's slowness is its own: it holds a share of what all use, and no more.

use std::time::Duration;

use outcomed::api::Limits;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{ATS, Api, CRM, config, wanted};

/// Sends a head that promises a body, and no body.
async fn silent(api: &Api, path: &str, token: &str) -> TcpStream {
    let mut stream = api.connect().await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 900\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn silent_batches_of_one_client_leave_room_for_anothers() {
    let api = Api::start().await;
    let path = "/v1/registrations/batch";
    let mut open = Vec::new();
    for _ in 0..Limits::default().batches_max {
        open.push(silent(&api, path, ATS).await);
    }
    let one_more = async {
        loop {
            let answer = api.post(path, ATS, &json!({"registrations": []})).await;
            if answer.status == 429 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(10), one_more).await.unwrap();
    let problem = refused.problem(429, "too-many-requests");
    assert!(problem["detail"].as_str().unwrap().contains("2 batches"), "{problem}");
    assert_eq!(api.post(path, CRM, &json!({"registrations": []})).await.status, 200);
}

#[tokio::test]
async fn silent_event_pushes_are_no_more_than_their_share() {
    let api = Api::start().await;
    let path = "/v1/feishu/events/cli_store";
    let mut open = Vec::new();
    for _ in 0..Limits::default().events_per_app_max {
        open.push(silent(&api, path, "").await);
    }
    let one_more = async {
        while api.post(path, "", &json!({"challenge": "c"})).await.status != 429 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), one_more).await.expect("one more is refused");
}

#[tokio::test]
async fn silent_requests_of_one_client_leave_room_for_anothers() {
    let limits = Limits { connections_max: 16, requests_per_client_max: 4, ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(silent(&api, "/v1/registrations", ATS).await);
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(api.post("/v1/registrations", CRM, &wanted("task-1")).await.status, 201);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn slow_pings_of_one_client_leave_room_for_anothers() {
    let api = Api::start().await;
    let slow = json!({"url": "https://hr.example.com/slow"});
    let mut open = tokio::task::JoinSet::new();
    for _ in 0..Limits::default().pings_max {
        let (http, url) = (api.http.clone(), format!("http://{}/v1/callbacks/ping", api.address));
        let request = http.post(url).bearer_auth(ATS).json(&slow);
        open.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    // All but its share are refused at once.
    for _ in 0..Limits::default().pings_max - Limits::default().pings_per_client_max {
        assert_eq!(open.join_next().await.unwrap().unwrap(), 429);
    }
    let quick = json!({"url": "https://hr.example.com/"});
    assert_eq!(api.post("/v1/callbacks/ping", CRM, &quick).await.status, 200);
}

#[tokio::test]
async fn a_list_is_refused_where_an_object_is_wanted() {
    let api = Api::start().await;
    let task = json!(["7047318856652261676", "task-1", "default", null]);
    let in_place = json!({"task": task, "callback": {"url": "https://hr.example.com/"}});
    let whole = json!([wanted("task-1")["task"], wanted("task-1")["callback"], null, null]);
    for (body, pointer) in [(json!([]), ""), (whole, ""), (in_place, "/task")] {
        let problem = api.post("/v1/registrations", ATS, &body).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        let text = problem.to_string();
        assert!(text.contains("must be an object, not a list"), "{text}");
        assert!(!text.contains("struct") && !text.contains("sequence"), "{text}");
    }
    assert_eq!(api.registrations().await, 0);
}
