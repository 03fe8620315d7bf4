//! Long polls.

use std::sync::atomic::Ordering;
use std::time::Duration;

use outcomed::api::Limits;
use tokio::time::timeout;

use crate::harness::{ATS, Api, CRM, config, wanted};

/// Far below a long poll's own end, far above what a prompt answer takes on a busy machine.
const PROMPT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_long_poll_answers_as_soon_as_the_outcome_is_known() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let path = format!("/v1/registrations/{id}?wait=60s");
    let settling = async {
        api.store.listeners(1).await;
        api.settle("task-1").await;
    };
    let both = async { tokio::join!(api.get(&path, ATS), settling).0 };
    let answer = timeout(PROMPT, both).await.unwrap();
    assert_eq!(answer.json()["outcome"]["outcome"], "succeeded");
    let known = timeout(PROMPT, api.get(&path, ATS)).await.unwrap();
    assert_eq!(known.json()["state"], "delivering", "a known outcome is not waited for");
}

#[tokio::test]
async fn a_lost_hint_only_costs_a_moment() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    api.store.silent.store(true, Ordering::Relaxed);
    let path = format!("/v1/registrations/{id}?wait=60s");
    let settling = async {
        api.store.listeners(1).await;
        api.settle("task-1").await;
    };
    let both = async { tokio::join!(api.get(&path, ATS), settling).0 };
    let answer = timeout(PROMPT, both).await.unwrap();
    assert_eq!(answer.json()["state"], "delivering");
}

#[tokio::test]
async fn a_wait_that_is_over_answers_with_what_there_is() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let answer = api.get(&format!("/v1/registrations/{id}?wait=50ms"), ATS).await;
    assert_eq!((answer.status, &answer.json()["state"]), (200, &"watching".into()));
    let answer = api.get("/v1/outcomes?wait=50ms", ATS).await;
    assert_eq!((answer.status, &answer.json()["items"]), (200, &serde_json::json!([])));
}

#[tokio::test]
async fn a_cancelled_registration_is_no_longer_waited_for() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let path = format!("/v1/registrations/{id}");
    let waited = format!("{path}?wait=60s");
    let cancelling = async {
        api.store.listeners(1).await;
        api.call(reqwest::Method::DELETE, &path, ATS, None).await
    };
    let both = async { tokio::join!(api.get(&waited, ATS), cancelling).0 };
    let answer = timeout(PROMPT, both).await.unwrap();
    assert_eq!(answer.json()["state"], "cancelled");
}

#[tokio::test]
async fn waiting_for_outcomes_covers_every_registration_of_the_client() {
    let api = Api::start().await;
    api.register("task-1").await;
    api.post("/v1/registrations", CRM, &wanted("task-2")).await;
    let start = api.get("/v1/outcomes", ATS).await.json();
    let path = format!("/v1/outcomes?wait=60s&after={}", start["next_cursor"].as_str().unwrap());
    let settling = async {
        api.store.listeners(1).await;
        api.settle("task-2").await;
        api.settle("task-1").await;
    };
    let both = async { tokio::join!(api.get(&path, ATS), settling).0 };
    let answer = timeout(PROMPT, both).await.unwrap();
    assert_eq!(answer.json()["items"][0]["task"]["delivery_task_id"], "task-1");
}

#[tokio::test]
async fn too_many_long_polls_of_one_client_are_429_and_of_all_503() {
    let limits = Limits { waiters_max: 2, waiters_per_client_max: 1, ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let path = "/v1/outcomes?wait=60s";
    // Which of the two is refused is chance; that exactly one is, is not.
    let refused = tokio::select! {
        answer = api.get(path, ATS) => answer,
        answer = api.get(path, ATS) => answer,
    };
    refused.problem(429, "too-many-requests");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(api.get("/v1/outcomes", ATS).await.status, 200, "asking without waiting is free");

    let limits = Limits { waiters_max: 1, waiters_per_client_max: 1, ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let refused = tokio::select! {
        answer = api.get(path, ATS) => answer,
        answer = api.get(path, CRM) => answer,
    };
    refused.problem(503, "overloaded");
    assert_eq!(refused.header("retry-after"), "1");
}
