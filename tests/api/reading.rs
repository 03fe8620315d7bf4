//! Listing, paging, attempts, outcomes.

use outcomed::store::Next;
use serde_json::{Value, json};

use crate::harness::{ATS, Answer, Api, CRM, OPERATOR, wanted};

fn tasks(answer: &Answer) -> Vec<String> {
    let page = answer.json();
    let name = |item: &Value| item["task"]["delivery_task_id"].as_str().unwrap().to_owned();
    page["items"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn a_list_is_newest_first_and_its_link_leads_to_the_next_page() {
    let api = Api::start().await;
    for n in 1..=5 {
        api.register(&format!("task-{n}")).await;
    }
    let mut path = "/v1/registrations?state=watching&limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = api.get(&path, ATS).await;
        assert_eq!(page.status, 200);
        seen.push(tasks(&page));
        let cursor = page.json()["next_cursor"].clone();
        let Some(link) = page.headers.get("link") else {
            assert_eq!(cursor, Value::Null);
            break;
        };
        let (target, relation) = link.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!(relation, "rel=\"next\"");
        path = target.trim_matches(['<', '>']).to_owned();
        assert!(path.contains("state=watching") && path.contains(cursor.as_str().unwrap()));
    }
    assert_eq!(seen, [vec!["task-5", "task-4"], vec!["task-3", "task-2"], vec!["task-1"]]);
}

#[tokio::test]
async fn a_client_lists_its_own_and_an_operator_everybodys_or_ones() {
    let api = Api::start().await;
    api.register("task-1").await;
    api.post("/v1/registrations", CRM, &wanted("task-2")).await;
    assert_eq!(tasks(&api.get("/v1/registrations", ATS).await), ["task-1"]);
    assert_eq!(tasks(&api.get("/v1/registrations?client=ats", ATS).await), ["task-1"]);
    assert_eq!(tasks(&api.get("/v1/registrations", OPERATOR).await), ["task-2", "task-1"]);
    assert_eq!(tasks(&api.get("/v1/registrations?client=crm", OPERATOR).await), ["task-2"]);
}

#[tokio::test]
async fn every_filter_filters() {
    let api = Api::start().await;
    api.register("task-1").await;
    api.settle("task-1").await;
    let mut elsewhere = wanted("task-2");
    elsewhere["callback"]["url"] = json!("https://other.example.com/");
    api.post("/v1/registrations", ATS, &elsewhere).await;
    for (query, expected) in [
        ("state=delivering", ["task-1"].as_slice()),
        ("state=delivered", &[]),
        ("account=default", &["task-2", "task-1"]),
        ("account=second", &[]),
        ("delivery_task_id=task-2", &["task-2"]),
        ("callback_host=HR.example.com", &["task-1"]),
        ("callback_host=other.example.com&state=watching", &["task-2"]),
    ] {
        let page = api.get(&format!("/v1/registrations?{query}"), ATS).await;
        assert_eq!(tasks(&page), expected, "{query}");
    }
}

#[tokio::test]
async fn attempts_read_as_the_contract_says() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let path = format!("/v1/registrations/{id}/attempts");
    assert_eq!(api.get(&path, ATS).await.json(), json!({"items": []}));
    api.settle("task-1").await;
    api.attempt(500, Next::Undeliverable).await;
    assert_eq!(
        api.get(&path, ATS).await.json(),
        json!({"items": [{
            "number": 1, "at": "2026-11-22T10:00:00.123Z", "duration_ms": 87, "status": 500,
            "error": "the receiver answered 500", "reply_excerpt": "hello", "verdict": "retry",
            "connect_ms": null, "first_byte_ms": 61, "error_class": "status", "reason": "schedule",
        }]})
    );
    let registration = api.get(&format!("/v1/registrations/{id}"), ATS).await.json();
    assert_eq!(registration["state"], "undeliverable");
    assert_eq!(registration["delivery"]["last_status"], 500);
}

#[tokio::test]
async fn outcomes_come_in_the_order_they_were_stored_and_the_cursor_lasts() {
    let api = Api::start().await;
    for task in ["task-1", "task-2", "task-3"] {
        api.register(task).await;
        api.post("/v1/registrations", CRM, &wanted(task)).await;
    }
    let start = api.get("/v1/outcomes", ATS).await.json();
    assert_eq!(start["items"], json!([]));
    for task in ["task-3", "task-1", "task-2"] {
        api.settle(task).await;
    }
    let from = |page: &Value| {
        let cursor = page["next_cursor"].as_str().unwrap();
        format!("/v1/outcomes?after={cursor}&limit=2")
    };
    let first = api.get(&from(&start), ATS).await;
    assert_eq!(tasks(&first), ["task-3", "task-1"]);
    let second = api.get(&from(&first.json()), ATS).await;
    assert_eq!(tasks(&second), ["task-2"]);
    let end = api.get(&from(&second.json()), ATS).await.json();
    assert_eq!(end, json!({"items": [], "next_cursor": second.json()["next_cursor"]}));
    assert_eq!(tasks(&api.get(&from(&start), ATS).await), ["task-3", "task-1"], "it lasts");
    assert_eq!(tasks(&api.get("/v1/outcomes", OPERATOR).await), [""; 0]);
    let one = api.get("/v1/outcomes?client=crm&limit=1", OPERATOR).await;
    assert_eq!(one.json()["items"][0]["client"], "crm");
}
