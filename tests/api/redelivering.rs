//! Bulk redeliveries: who may send what again.

use outcomed::store::Next;
use reqwest::Method;
use serde_json::json;

use crate::harness::{ATS, Api, CRM, OPERATOR};

const PATH: &str = "/v1/redeliveries";

async fn with_an_undeliverable() -> Api {
    let api = Api::start().await;
    api.register("task-1").await;
    api.settle("task-1").await;
    api.attempt(500, Next::Undeliverable).await;
    api
}

#[tokio::test]
async fn a_bulk_redelivery_is_accepted_shown_and_cancelled() {
    let api = with_an_undeliverable().await;
    let begun = api.post(PATH, ATS, &json!({"state": "undeliverable"})).await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    let body = begun.json();
    assert_eq!((&body["matched"], &body["done"]), (&json!(1), &json!(0)));
    assert_eq!((&body["state"], &body["filter"]["client"]), (&json!("running"), &json!("ats")));
    let path = format!("{PATH}/{}", body["id"].as_str().unwrap());
    assert_eq!(begun.header("location"), path);
    assert_eq!(api.get(&path, ATS).await.json(), body);
    assert_eq!(api.get(&path, OPERATOR).await.json(), body);
    let cancelled = api.call(Method::DELETE, &path, ATS, None).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
    let again = api.call(Method::DELETE, &path, ATS, None).await;
    assert_eq!(again.json(), cancelled.json());
}

#[tokio::test]
async fn a_client_sends_again_only_what_is_its_own() {
    let api = with_an_undeliverable().await;
    let theirs = api.post(PATH, CRM, &json!({"state": "undeliverable"})).await.json();
    assert_eq!(theirs["matched"], 0);
    let all = api.post(PATH, OPERATOR, &json!({"state": "undeliverable"})).await.json();
    assert_eq!((&all["matched"], &all["filter"]["client"]), (&json!(1), &json!(null)));
    let refused = api.post(PATH, CRM, &json!({"client": "ats"})).await;
    assert_eq!(refused.pointers(), ["/client"]);
    let path = format!("{PATH}/{}", all["id"].as_str().unwrap());
    api.get(&path, CRM).await.problem(404, "not-found");
    api.call(Method::DELETE, &path, CRM, None).await.problem(404, "not-found");
    assert_eq!(api.get(&path, OPERATOR).await.json()["state"], "running");
    api.get(&format!("{PATH}/rdl_0"), ATS).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_filter_that_is_a_slip_is_refused() {
    let api = Api::start().await;
    let wrong = json!({"state": "watching", "since": "yesterday", "until": "soon"});
    let refused = api.post(PATH, ATS, &wrong).await;
    assert_eq!(refused.pointers(), ["/state", "/since", "/until"]);
    assert_eq!(api.post(PATH, ATS, &json!({})).await.pointers(), [""]);
    let unknown = api.post(PATH, ATS, &json!({"sate": "undeliverable"})).await;
    assert!(unknown.text.contains("sate"), "{}", unknown.text);
    api.post(PATH, "", &json!({"state": "undeliverable"})).await.problem(401, "unauthorized");
}
