//! Bad input at the API: the contract's status, a problem that helps, and nothing changed.

use serde_json::{Value, json};

use crate::daemon::{ATS, Daemon, OPS, Stage, wanted};
use crate::http::{Response, request};

const REGISTRATIONS: &str = "/v1/registrations";
const URL: &str = "http://127.0.0.1:9/hook";

async fn assert_nothing_happened(stage: &Stage, daemon: &Daemon) {
    let list = daemon.get(REGISTRATIONS).await;
    assert_eq!(list, json!({"items": [], "next_cursor": null}));
    assert!(stage.upstream.state().polls.is_empty(), "something was polled");
    assert!(stage.receiver.so_far().is_empty(), "something was called back");
}

async fn post(daemon: &Daemon, body: &str) -> Response {
    daemon.call("POST", REGISTRATIONS, ATS, Some(body)).await
}

/// A good registration with one member changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut body = wanted("a", URL);
    body["task"]["account"] = json!("default");
    body["task"]["kind"] = json!("hire.website_delivery");
    body["metadata"] = json!({});
    body["give_up_after"] = json!("1m");
    *body.pointer_mut(pointer).unwrap() = value;
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_json_is_400() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let good = wanted("a", URL).to_string();
    let bodies = ["", "{", "nul", "{\"task\":}", "\u{feff}{}", "{'task': 1}", "// x\n{}"];
    for body in bodies.into_iter().chain([&*format!("{good}{good}"), &good[..good.len() - 1]]) {
        post(&daemon, body).await.problem(400);
        let batch = daemon.call("POST", "/v1/registrations/batch", ATS, Some(body)).await;
        if body != format!("{good}{good}") {
            batch.problem(400);
        }
        let ping = daemon.call("POST", "/v1/callbacks/ping", ATS, Some(body)).await;
        assert!((400..500).contains(&ping.status), "{ping:?}");
    }
    let mut not_utf_8 = request("POST", REGISTRATIONS, ATS, Some("{\"task\": \"??\"}"));
    let at = not_utf_8.len() - 4;
    not_utf_8[at] = 0xff;
    let answer = daemon.door.exchange(&not_utf_8).await.unwrap();
    Response::parse(&answer).unwrap().problem(400);
    assert_nothing_happened(&stage, &daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_by_name() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    for pointer in ["/calback", "/task/websiteid", "/callback/uri", "/callback/headers"] {
        let mut body = wanted("a", URL);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = json!("x");
        let answer = post(&daemon, &body.to_string()).await;
        assert!(answer.text.contains(name), "{pointer} is not named: {answer:?}");
        answer.problem(422);
        let batch = json!({"registrations": [body]}).to_string();
        let answer = daemon.call("POST", "/v1/registrations/batch", ATS, Some(&batch)).await;
        assert_eq!(answer.json()["results"][0]["status"], 422, "{answer:?}");
        assert!(answer.text.contains(name), "{pointer} is not named: {answer:?}");
    }
    assert_nothing_happened(&stage, &daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_types_and_values_are_422_with_a_pointer() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let long = "x".repeat(129);
    let big = json!({"a": "x".repeat(4_096)});
    let far = format!("http://127.0.0.1/{}", "x".repeat(2_048));
    let cases = [
        ("/task", vec![json!(null), json!("x"), json!([]), json!(1)]),
        ("/task/website_id", vec![json!(null), json!(7), json!(""), json!("a/b"), json!("..")]),
        (
            "/task/delivery_task_id",
            vec![
                json!(null),
                json!(7),
                json!(long),
                json!("a b"),
                json!("ä"),
                json!("a\u{0}"),
                json!("%2e"),
            ],
        ),
        ("/task/account", vec![json!(1), json!(""), json!("elsewhere"), json!("Default")]),
        ("/task/kind", vec![json!(1), json!(""), json!("drive.import")]),
        ("/callback", vec![json!(null), json!("x"), json!([])]),
        ("/callback/url", vec![json!(null), json!(1), json!(""), json!("x"), json!(far)]),
        ("/metadata", vec![json!([]), json!("x"), json!(1), json!(true), big]),
        (
            "/give_up_after",
            vec![
                json!(1),
                json!(""),
                json!("soon"),
                json!("0s"),
                json!("-1s"),
                json!("1e9d"),
                json!("99999999999d"),
            ],
        ),
    ];
    for (pointer, values) in cases {
        for value in values {
            let body = with(pointer, value.clone()).to_string();
            let answer = post(&daemon, &body).await;
            let pointers = answer.pointers();
            assert_eq!(pointers.len(), 1, "{pointer} {value}: {answer:?}");
            assert!(pointers[0].starts_with(pointer), "{pointer} {value}: {pointers:?}");
        }
    }
    let empty = post(&daemon, "{}").await;
    assert_eq!(empty.pointers(), ["/task", "/callback"], "{empty:?}");
    for body in ["[]", "null", "1", "\"x\""] {
        post(&daemon, body).await.problem(422);
    }
    assert_nothing_happened(&stage, &daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_its_good_ones_and_names_the_bad() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    for body in [
        json!({}),
        json!({"registrations": 1}),
        json!({"registrations": vec![json!({}); 1_001]}),
        json!({"registrations": [], "x": 1}),
    ] {
        let answer =
            daemon.call("POST", "/v1/registrations/batch", ATS, Some(&body.to_string())).await;
        answer.problem(422);
    }
    assert_nothing_happened(&stage, &daemon).await;
    let bodies = json!({"registrations": [
        with("/task/website_id", json!(1)), wanted("good", URL), json!({}), wanted("good", URL)]});
    let answer =
        daemon.call("POST", "/v1/registrations/batch", ATS, Some(&bodies.to_string())).await;
    let results = answer.json()["results"].clone();
    let statuses: Vec<_> = (0..4).map(|n| results[n]["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [422, 201, 422, 200], "{results}");
    assert_eq!(results[1]["registration"]["id"], results[3]["registration"]["id"]);
    assert_eq!(results[0]["problem"]["errors"][0]["pointer"], "/task/website_id");
    assert_eq!(daemon.get(REGISTRATIONS).await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_bodies_are_413() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let padded = |bytes: usize| format!("{}{}", " ".repeat(bytes), wanted("a", URL));
    post(&daemon, &padded(64 * 1024)).await.problem(413);
    post(&daemon, &padded(8 * 1024 * 1024)).await.problem(413);
    let batch = format!("{}{{\"registrations\":[]}}", " ".repeat(4 * 1024 * 1024));
    let answer = daemon.call("POST", "/v1/registrations/batch", ATS, Some(&batch)).await;
    answer.problem(413);
    // A length that is a lie, or a number too big for any integer.
    for length in ["99999999999", "99999999999999999999999999"] {
        let head = format!(
            "POST {REGISTRATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ATS}\r\n\
             Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = daemon.door.exchange(head.as_bytes()).await;
        let status = answer.and_then(|answer| Response::parse(&answer)).map(|it| it.status);
        assert!(matches!(status, None | Some(400 | 413)), "{length}: {status:?}");
    }
    assert_nothing_happened(&stage, &daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_paths_and_media_types_are_told_apart() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let good = wanted("a", URL).to_string();
    for (method, path, status) in [
        ("PUT", REGISTRATIONS, 405),
        ("DELETE", REGISTRATIONS, 405),
        ("PATCH", "/v1/registrations/reg_x", 405),
        ("GET", "/v1/registrations/batch/x", 404),
        ("GET", "/v1/registrations/reg_x/redeliver", 405),
        ("POST", "/v1/accounts", 405),
        ("POST", "/healthz", 405),
        ("TRACE", REGISTRATIONS, 405),
        ("GET", "/v1/registrations/reg_x", 404),
        ("DELETE", "/v1/registrations/reg_x", 404),
        ("POST", "/v1/registrations/reg_x/redeliver", 404),
        ("POST", "/v2/registrations", 404),
        ("POST", "/v1/registrations/../registrations", 404),
        ("POST", "/v1/feishu/events/cli_nobody", 404),
    ] {
        let body = (method != "GET").then_some(good.as_str());
        let answer = daemon.call(method, path, ATS, body).await;
        answer.problem(status);
        if status == 405 {
            assert!(answer.header("allow").is_some(), "{method} {path}: {answer:?}");
        }
    }
    for media in ["text/plain", "application/xml", "application/json; charset=utf-16"] {
        let raw = format!(
            "POST {REGISTRATIONS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \
             {ATS}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n{good}",
            good.len()
        );
        let answer = daemon.door.exchange(raw.as_bytes()).await.unwrap();
        Response::parse(&answer).unwrap().problem(415);
    }
    for query in ["?limit=0", "?limit=x", "?state=done", "?cursor=%00", "?sort=1"] {
        let answer = daemon.call("GET", &format!("{REGISTRATIONS}{query}"), ATS, None).await;
        answer.problem(422);
    }
    assert_nothing_happened(&stage, &daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_401_and_a_clients_token_opens_no_operators_door() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let good = wanted("a", URL).to_string();
    let almost = &ATS[..ATS.len() - 1];
    let upper = ATS.to_uppercase();
    for token in ["", "x", almost, &format!("{ATS}x"), &upper, "\u{e9}", &"x".repeat(4_000)] {
        for (method, path) in [
            ("POST", REGISTRATIONS),
            ("GET", REGISTRATIONS),
            ("GET", "/v1/accounts"),
            ("GET", "/metrics"),
        ] {
            let body = (method == "POST").then_some(good.as_str());
            let answer = daemon.call(method, path, token, body).await;
            answer.problem(401);
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    for scheme in ["Basic", "bearer2", "Token"] {
        let raw = format!(
            "GET {REGISTRATIONS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {scheme} {ATS}\r\n\r\n"
        );
        let answer = daemon.door.exchange(raw.as_bytes()).await.unwrap();
        Response::parse(&answer).unwrap().problem(401);
    }
    for path in ["/v1/accounts", "/metrics"] {
        daemon.call("GET", path, ATS, None).await.problem(403);
    }
    // An operator without a signing secret cannot be called back.
    daemon.call("POST", REGISTRATIONS, OPS, Some(&good)).await.problem(403);
    assert!(!daemon.log().contains(almost), "a token is in the log");
    assert_nothing_happened(&stage, &daemon).await;
}
