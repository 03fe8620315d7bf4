//! Cancelling, redelivering, pinging.

use outcomed::store::Next;
use reqwest::Method;
use serde_json::json;

use crate::harness::{ATS, Api, OPERATOR};

#[tokio::test]
async fn cancelling_is_200_twice_and_409_with_the_state_once_it_is_over() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let path = format!("/v1/registrations/{id}");
    for _ in 0..2 {
        let answer = api.call(Method::DELETE, &path, ATS, None).await;
        assert_eq!((answer.status, answer.json()["state"].clone()), (200, json!("cancelled")));
    }
    let id = api.register("task-2").await;
    let path = format!("/v1/registrations/{id}");
    api.settle("task-2").await;
    api.attempt(200, Next::Delivered).await;
    let answer = api.call(Method::DELETE, &path, ATS, None).await;
    assert_eq!(answer.problem(409, "wrong-state")["state"], "delivered");
    assert_eq!(api.get(&path, ATS).await.json()["state"], "delivered");
}

#[tokio::test]
async fn an_operator_may_cancel_a_clients_delivery_under_way() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    api.settle("task-1").await;
    let path = format!("/v1/registrations/{id}");
    let answer = api.call(Method::DELETE, &path, OPERATOR, None).await;
    assert_eq!((answer.status, answer.json()["state"].clone()), (200, json!("cancelled")));
}

#[tokio::test]
async fn a_redelivery_is_202_and_409_where_there_is_nothing_to_send() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let path = format!("/v1/registrations/{id}/redeliver");
    let early = api.call(Method::POST, &path, ATS, None).await;
    assert_eq!(early.problem(409, "wrong-state")["state"], "watching");
    api.settle("task-1").await;
    api.attempt(500, Next::Undeliverable).await;
    let again = api.call(Method::POST, &path, ATS, None).await;
    assert_eq!((again.status, again.json()["state"].clone()), (202, json!("delivering")));
    assert!(again.json()["delivery"]["next_attempt_at"].is_string());
    api.call(Method::DELETE, &format!("/v1/registrations/{id}"), ATS, None).await;
    let late = api.call(Method::POST, &path, ATS, None).await;
    assert_eq!(late.problem(409, "wrong-state")["state"], "cancelled");
}

#[tokio::test]
async fn a_ping_answers_with_its_attempt() {
    let api = Api::start().await;
    let ping =
        async |token, url: &str| api.post("/v1/callbacks/ping", token, &json!({"url": url})).await;
    let answer = ping(ATS, "https://hr.example.com/").await;
    assert_eq!((answer.status, answer.json()["verdict"].clone()), (200, json!("delivered")));
    assert_eq!(ping(ATS, "https://hr.example.com/down").await.json()["status"], 503);
    assert_eq!(api.store.accepted(), ["ats https://hr.example.com/"], "that one is not gone");
    assert_eq!(ping(ATS, "http://hr.example.com/").await.pointers(), ["/url"]);
    assert_eq!(ping(ATS, "https://hr.example.com/refused").await.pointers(), ["/url"]);
    ping(ATS, "https://hr.example.com/failed").await.problem(500, "internal");
    ping(OPERATOR, "https://hr.example.com/").await.problem(403, "no-signing-secret");
    assert_eq!(api.post("/v1/callbacks/ping", ATS, &json!({})).await.pointers(), ["/url"]);
}
