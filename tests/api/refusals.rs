//! One test for each status of the contract's list that no other file is about.

use outcomed::store::Next;
use reqwest::Method;

use crate::harness::{ATS, Api, CRM, OPERATOR, wanted};

const REGISTRATIONS: &str = "/v1/registrations";

#[tokio::test]
async fn malformed_json_is_400_with_line_and_column() {
    let api = Api::start().await;
    for (body, line) in
        [("", 1), ("{\n\"task\": }", 2), ("{} trailing", 1), ("{\"a\": \"\u{1}\"}", 1)]
    {
        let answer = api.call(Method::POST, REGISTRATIONS, ATS, Some(body)).await;
        let problem = answer.problem(400, "malformed-json");
        assert_eq!(problem["line"], line, "{body}");
        assert!(problem["column"].is_u64());
    }
    let answer = api.call(Method::POST, REGISTRATIONS, ATS, Some("[]")).await;
    answer.problem(422, "invalid");
    assert_eq!(api.registrations().await, 0);
}

#[tokio::test]
async fn without_a_good_token_everything_under_v1_is_401_with_a_challenge() {
    let api = Api::start().await;
    let calls = [
        (Method::POST, REGISTRATIONS),
        (Method::POST, "/v1/registrations/batch"),
        (Method::GET, REGISTRATIONS),
        (Method::GET, "/v1/registrations/reg_1"),
        (Method::DELETE, "/v1/registrations/reg_1"),
        (Method::GET, "/v1/registrations/reg_1/attempts"),
        (Method::POST, "/v1/registrations/reg_1/redeliver"),
        (Method::GET, "/v1/outcomes"),
        (Method::POST, "/v1/callbacks/ping"),
        (Method::GET, "/v1/accounts"),
        (Method::GET, "/metrics"),
    ];
    for (method, path) in calls {
        for token in ["", "nobody's", " "] {
            let answer = api.call(method.clone(), path, token, Some("{}")).await;
            answer.problem(401, "unauthorized");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_token_taken_out_of_the_configuration_is_refused_from_the_next_request_on() {
    let api = Api::start().await;
    assert_eq!(api.get(REGISTRATIONS, ATS).await.status, 200);
    let mut config = crate::harness::config();
    config.clients.remove(0);
    api.config.send_replace(std::sync::Arc::new(config));
    api.get(REGISTRATIONS, ATS).await.problem(401, "unauthorized");
    assert_eq!(api.get(REGISTRATIONS, CRM).await.status, 200);
}

#[tokio::test]
async fn what_only_operators_may_see_is_403_for_clients() {
    let api = Api::start().await;
    for path in ["/v1/accounts", "/metrics"] {
        api.get(path, ATS).await.problem(403, "forbidden");
        assert_eq!(api.get(path, OPERATOR).await.status, 200);
    }
}

#[tokio::test]
async fn another_clients_registration_is_404_like_one_that_never_was() {
    let api = Api::start().await;
    let watched = api.register("task-1").await;
    let told = api.register("task-2").await;
    api.settle("task-2").await;
    api.attempt(200, Next::Delivered).await;
    for id in [watched.as_str(), told.as_str(), "reg_0", "%00", "..%2f"] {
        let path = format!("/v1/registrations/{id}");
        let absent = api.get(&path, CRM).await.problem(404, "not-found");
        assert_eq!(absent, api.get("/v1/registrations/x", CRM).await.json(), "the same words");
        api.call(Method::DELETE, &path, CRM, None).await.problem(404, "not-found");
        api.get(&format!("{path}?wait=1s"), CRM).await.problem(404, "not-found");
        api.get(&format!("{path}/attempts"), CRM).await.problem(404, "not-found");
        for what in ["redeliver", "rewatch"] {
            let again = api.call(Method::POST, &format!("{path}/{what}"), CRM, None).await;
            again.problem(404, "not-found");
        }
    }
    for (id, state) in [(watched, "watching"), (told, "delivered")] {
        let seen = api.get(&format!("/v1/registrations/{id}"), OPERATOR).await;
        assert_eq!(seen.json()["state"], state, "nothing was changed, and an operator sees it");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405_with_those_allowed() {
    let api = Api::start().await;
    for path in ["/", "/v1", "/v1/registrations/", "/v2/registrations", "/v1//registrations"] {
        api.get(path, ATS).await.problem(404, "not-found");
    }
    for (method, path, allowed) in [
        (Method::PUT, REGISTRATIONS, ["GET", "POST"].as_slice()),
        (Method::PATCH, "/v1/registrations/reg_1", &["GET", "DELETE"]),
        (Method::GET, "/v1/registrations/reg_1/redeliver", &["POST"]),
        (Method::DELETE, "/healthz", &["GET"]),
        (Method::POST, "/openapi.json", &["GET"]),
        (Method::from_bytes(b"BREW").unwrap(), REGISTRATIONS, &["GET"]),
    ] {
        let answer = api.call(method.clone(), path, ATS, None).await;
        answer.problem(405, "method-not-allowed");
        for allowed in allowed {
            assert!(answer.header("allow").contains(allowed), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn odd_targets_are_problems_too() {
    let api = Api::start().await;
    for (line, status) in [
        ("GET /v1/registrations/%ff", 404),
        ("GET /v1/registrations/%", 404),
        ("OPTIONS *", 404),
        ("OPTIONS /v1/registrations", 405),
        ("CONNECT x:443", 404),
        ("GET http://elsewhere/v1/registrations/x", 404),
    ] {
        let answer = api
            .raw(
                format!(
                    "{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATS}\r\n\
                     connection: close\r\n\r\n"
                )
                .as_bytes(),
            )
            .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains("application/problem+json"), "{line}: {answer}");
    }
}

#[tokio::test]
async fn anything_but_plain_json_is_415() {
    let api = Api::start().await;
    let post = async |headers: &str| {
        let body = wanted("task-1").to_string();
        let length = body.len();
        api.raw(
            format!(
                "POST /v1/registrations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATS}\r\n\
                 connection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
            )
            .as_bytes(),
        )
        .await
    };
    for headers in [
        "",
        "content-type: text/plain\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "content-type: application/json; charset=gbk\r\n",
        "content-type: application/json\r\ncontent-encoding: gzip\r\n",
    ] {
        let answer = post(headers).await;
        assert!(answer.starts_with("HTTP/1.1 415 "), "{headers}: {answer}");
        assert!(answer.contains("urn:outcomed:problem:unsupported-media-type"), "{answer}");
    }
    assert_eq!(api.registrations().await, 0);
    let good = post("content-type: Application/JSON;charset=UTF-8\r\n").await;
    assert!(good.starts_with("HTTP/1.1 201 "), "{good}");
}

#[tokio::test]
async fn a_wrong_query_is_422_and_names_every_parameter() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    for (path, parameters) in [
        (
            "/v1/registrations?limit=0&state=lost&cursor=%21&sate=x",
            ["state", "limit", "cursor", "sate"].as_slice(),
        ),
        ("/v1/registrations?limit=1001&client=crm", &["client", "limit"]),
        (
            "/v1/outcomes?after=x&limit=-1&wait=61s&client=crm",
            &["after", "limit", "wait", "client"],
        ),
        ("/v1/outcomes?limit=1&limit=2", &["limit"]),
        (&format!("/v1/registrations/{id}?wait=soon"), &["wait"]),
        (&format!("/v1/registrations/{id}?wait=2h"), &["wait"]),
        (&format!("/v1/registrations/{id}?wiat=5s"), &["wiat"]),
        (&format!("/v1/registrations/{id}/attempts?x=1"), &["x"]),
    ] {
        let problem = api.get(path, ATS).await.problem(422, "invalid");
        let errors = problem["errors"].as_array().unwrap();
        let named: Vec<_> = errors.iter().map(|error| &error["parameter"]).collect();
        assert_eq!(named, parameters, "{path}");
    }
}

#[tokio::test]
async fn a_panic_is_one_requests_500() {
    let api = Api::start().await;
    let ping = serde_json::json!({"url": "https://hr.example.com/panic"});
    api.post("/v1/callbacks/ping", ATS, &ping).await.problem(500, "internal");
    assert_eq!(api.get("/healthz", "").await.status, 200);
}
