//! Watching again what ended unresolved: one and many.

use outcomed::outcome::Outcome;
use outcomed::store::rewatch::RUNNING_MAX;
use reqwest::Method;
use serde_json::json;

use crate::harness::{ATS, Api, CRM, OPERATOR};

const PATH: &str = "/v1/rewatches";

async fn with_an_unresolved() -> (Api, String) {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    api.end("task-1", Outcome::not_observed("Feishu was away".into())).await;
    (api, id)
}

#[tokio::test]
async fn an_unresolved_one_is_watched_again_as_a_new_registration() {
    let (api, id) = with_an_unresolved().await;
    let first = api.get(&format!("/v1/registrations/{id}"), ATS).await.json();
    assert_eq!(first["outcome"]["failure"]["reason"], "not_observed");
    let path = format!("/v1/registrations/{id}/rewatch");
    api.call(Method::POST, &path, CRM, None).await.problem(404, "not-found");
    let again = api.call(Method::POST, &path, ATS, None).await;
    assert_eq!(again.status, 201, "{}", again.text);
    let new = again.json();
    assert_ne!(new["id"], first["id"]);
    assert_eq!(
        again.header("location"),
        format!("/v1/registrations/{}", new["id"].as_str().unwrap())
    );
    assert_eq!((&new["state"], &new["outcome"]), (&json!("watching"), &json!(null)));
    for kept in ["task", "callback", "metadata", "client"] {
        assert_eq!(new[kept], first[kept], "{kept}");
    }
    let time = |value: &serde_json::Value, name: &str| {
        value[name].as_str().unwrap().parse::<outcomed::clock::Timestamp>().unwrap().0
    };
    let allowed = |value| time(value, "give_up_at") - time(value, "created_at");
    assert_eq!(allowed(&new), allowed(&first));
    assert!(time(&new, "created_at") > time(&first, "created_at"));
    assert_eq!(api.get(&format!("/v1/registrations/{id}"), ATS).await.json(), first);
    // A second time, by anyone who may, finds the one that is there.
    let repeated = api.call(Method::POST, &path, OPERATOR, None).await;
    assert_eq!((repeated.status, &repeated.json()["id"]), (200, &new["id"]));
}

#[tokio::test]
async fn what_is_not_unresolved_is_refused_with_advice() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let path = format!("/v1/registrations/{id}/rewatch");
    let refused = api.call(Method::POST, &path, ATS, None).await;
    assert!(refused.text.contains("wait for it"), "{}", refused.text);
    refused.problem(409, "wrong-state");
    api.settle("task-1").await;
    let refused = api.call(Method::POST, &path, ATS, None).await;
    assert!(refused.text.contains("redeliver"), "{}", refused.text);
    refused.problem(409, "wrong-state");
    api.call(Method::DELETE, &format!("/v1/registrations/{id}"), ATS, None).await;
    let refused = api.call(Method::POST, &path, ATS, None).await;
    assert!(refused.text.contains("register the task again"), "{}", refused.text);
}

#[tokio::test]
async fn a_bulk_rewatch_is_accepted_shown_and_cancelled() {
    let (api, _) = with_an_unresolved().await;
    let body =
        json!({"account": "default", "reason": "not_observed", "since": "2020-01-01T00:00:00Z"});
    let begun = api.post(PATH, ATS, &body).await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    let body = begun.json();
    assert_eq!((&body["matched"], &body["done"]), (&json!(1), &json!(0)));
    assert_eq!((&body["filter"]["client"], &body["state"]), (&json!("ats"), &json!("running")));
    let path = format!("{PATH}/{}", body["id"].as_str().unwrap());
    assert_eq!(begun.header("location"), path);
    assert_eq!(api.get(&path, ATS).await.json(), body);
    assert_eq!(api.get(&path, OPERATOR).await.json(), body);
    api.get(&path, CRM).await.problem(404, "not-found");
    api.call(Method::DELETE, &path, CRM, None).await.problem(404, "not-found");
    let cancelled = api.call(Method::DELETE, &path, ATS, None).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
}

#[tokio::test]
async fn a_bulk_rewatch_is_of_the_clients_own_and_bounded() {
    let (api, _) = with_an_unresolved().await;
    let reason = json!({"reason": "not_observed"});
    assert_eq!(api.post(PATH, CRM, &reason).await.json()["matched"], 0);
    let all = api.post(PATH, OPERATOR, &reason).await.json();
    assert_eq!((&all["matched"], &all["filter"]["client"]), (&json!(1), &json!(null)));
    let theirs = api.post(PATH, CRM, &json!({"client": "ats"})).await;
    assert_eq!(theirs.pointers(), ["/client"]);
    let wrong = json!({"reason": "rejected", "since": "yesterday", "until": "soon"});
    assert_eq!(api.post(PATH, ATS, &wrong).await.pointers(), ["/reason", "/since", "/until"]);
    assert_eq!(api.post(PATH, ATS, &json!({})).await.pointers(), [""]);
    for _ in 0..RUNNING_MAX {
        assert_eq!(api.post(PATH, ATS, &reason).await.status, 202);
    }
    let refused = api.post(PATH, ATS, &reason).await;
    assert!(!refused.header("retry-after").is_empty());
    refused.problem(429, "too-many-requests");
}
