//! Every kind of task, every shape of "not yet": each callback comes once and says what it must.

use std::time::Duration;

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::daemon::{ATS, SECRET, Stage, wanted};
use crate::expected::{
    Expected, assert_headers, assert_says, delivery, failed, succeeded, unresolved,
};
use crate::receiver::{Callback, silence};
use crate::upstream::{Say, data, error, ids, pending, success};

/// Every way in which Feishu says "not yet", by its documents, its SDKs and its sample.
fn pendings() -> Vec<Say> {
    let json = |body: Value| Say::Json(200, body.to_string());
    let sample = json!({"status": 1, "status_msg": " ", "extra_info": " ", "delivery": ids()});
    vec![
        data(&Value::Null),
        data(&json!({})),
        json(json!({"code": 0, "msg": "success"})),
        data(&json!({"status_msg": "", "extra_info": ""})),
        data(&json!({"status": null})),
        data(&json!({"status": 0})),
        data(&json!({"status": 1})),
        data(&sample),
        data(&json!({"status": 4})),
        data(&json!({"status": -1, "delivery": ids()})),
        data(&json!({"status": 99, "extra_info": "6960663240925956657"})),
    ]
}

struct Case {
    task: String,
    steps: Vec<Say>,
    expected: Expected,
}

fn failure(message: &str, extra_info: &str) -> Say {
    data(&json!({"status": 3, "status_msg": message, "extra_info": extra_info}))
}

/// The kinds of end, each as (last words, what must be told).
fn end(kind: usize) -> (Vec<Say>, Expected) {
    let blanks = json!({"application_id": "6960663240925956657", "job_id": "", "user_id": " \t",
                        "job_post_id": null});
    match kind {
        0 => (vec![success()], succeeded(&ids())),
        1 => (
            vec![data(&json!({"status": 2, "delivery": blanks}))],
            succeeded(&json!({"application_id": "6960663240925956657"})),
        ),
        2 => (vec![data(&json!({"status": 2}))], succeeded(&json!({}))),
        3 => (
            vec![failure("  \u{91cd}\u{590d}\u{6295}\u{9012}\n", " 6960663240925956657 ")],
            failed(
                "duplicate",
                Some("\u{91cd}\u{590d}\u{6295}\u{9012}"),
                Some("6960663240925956657"),
            ),
        ),
        4 => (vec![failure(" no such post ", " ")], failed("rejected", Some("no such post"), None)),
        5 => (vec![failure("", "")], failed("rejected", None, None)),
        // Deleted by Feishu; it comes again for as long as the grace period asks.
        6 => (vec![error(400, 1_002_008)], unresolved("task_not_found")),
        7 => (vec![error(400, 1_002_002)], unresolved("invalid_task")),
        8 => (
            // Replication lag: not to be believed at once.
            vec![error(400, 1_002_008), pending(), success()],
            succeeded(&ids()),
        ),
        _ => (
            vec![data(&json!({"status": 3, "status_msg": "x", "extra_info": "7",
                              "delivery": {"talent_id": "18446744073709551615"}}))],
            Expected {
                delivery: delivery(&json!({"talent_id": "18446744073709551615"})),
                ..failed("duplicate", Some("x"), Some("7"))
            },
        ),
    }
}

/// Sixty: each kind of end after each of several shapes of pending, and at the first look.
fn sixty() -> Vec<Case> {
    let pendings = pendings();
    (0..60)
        .map(|number| {
            let (last, expected) = end(number % 10);
            let before = match number / 10 {
                0 if number % 10 != 6 => Vec::new(),
                round => vec![
                    pendings[(number + round) % pendings.len()].clone(),
                    pendings[(number * 3) % pendings.len()].clone(),
                ],
            };
            let steps = before.into_iter().chain(last).collect();
            Case { task: format!("{number:032x}"), steps, expected }
        })
        .chain(pendings.iter().enumerate().map(|(number, shape)| {
            // One by one, so that a shape that is misread is known by its number.
            let steps = vec![shape.clone(), shape.clone(), success()];
            let expected = succeeded(&ids());
            Case { task: format!("shape-{number}"), steps, expected }
        }))
        .chain([
            Case {
                task: "unknown".into(),
                steps: vec![error(400, 1_002_008)],
                expected: unresolved("task_not_found"),
            },
            Case {
                task: "for_ever".into(),
                steps: vec![pending()],
                expected: unresolved("timed_out"),
            },
        ])
        .collect()
}

/// Bytes that every re-serialisation would change.
fn metadata(task: &str) -> String {
    format!(r#"{{ "b":1.0,  "a":"{task}", "id":9007199254740993, "e":1E2, "u":"é\/" }}"#)
}

fn find<'a>(callbacks: &'a [Callback], task: &str) -> &'a Callback {
    let mut of_it = callbacks.iter().filter(|callback| callback.task() == task);
    let callback = of_it.next().unwrap();
    assert!(of_it.next().is_none(), "{task} was called back twice");
    callback
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_tasks_of_every_kind_are_each_told_once_and_exactly() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    let cases = sixty();
    for case in &cases {
        upstream.script(&case.task, case.steps.clone());
    }
    let daemon = stage.home.start().await;
    let mut registered = Vec::new();
    for case in &cases {
        let mut body = wanted(&case.task, &receiver.url("/hooks/feishu?team=%E4%BA%BA"));
        if case.task == "for_ever" {
            body["give_up_after"] = json!("6s");
        }
        let text = body.to_string();
        let text = format!("{},\"metadata\":{}}}", &text[..text.len() - 1], metadata(&case.task));
        let answer = daemon.call("POST", "/v1/registrations", ATS, Some(&text)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let resource = answer.json();
        let location = format!("/v1/registrations/{}", resource["id"].as_str().unwrap());
        assert!(answer.header("location").unwrap().ends_with(&location), "{answer:?}");
        registered.push(resource);
    }
    // Half-way: some are settled, some are not.
    receiver.distinct(cases.len() / 3).await;
    upstream.kill_tokens();
    let callbacks = receiver.distinct(cases.len()).await;
    silence().await;
    assert_eq!(receiver.so_far().len(), cases.len(), "each exactly once");

    for (case, resource) in cases.iter().zip(&registered) {
        let callback = find(&callbacks, &case.task);
        let metadata = metadata(&case.task);
        let as_json: Value = serde_json::from_str(&metadata).unwrap();
        assert_says(callback, resource, &as_json, &case.expected, upstream);
        let text = String::from_utf8(callback.request.body.clone()).unwrap();
        assert!(text.contains(&format!("\"metadata\":{metadata}")), "changed metadata: {text}");
        assert_headers(callback, "/hooks/feishu?team=%E4%BA%BA");
        let shown = daemon.until_state(resource["id"].as_str().unwrap(), "delivered").await;
        let mut data = callback.json()["data"].clone();
        data.as_object_mut()
            .unwrap()
            .retain(|key, _| key != "registration_id" && key != "metadata");
        assert_eq!(shown["outcome"], data, "the API shows what was told");
        assert_eq!(shown["delivery"]["attempts"], 1);
    }
    upstream.assert_polite();
    let state = upstream.state();
    let calls = &state.token_calls;
    assert!((2..=3).contains(&calls.len()), "{} token calls, 1 of them the first", calls.len());
    for (content_type, body) in calls {
        assert!(content_type.as_deref().unwrap().starts_with("application/json"));
        let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["app_id", "app_secret"]);
    }
    let ours = concat!("outcomed/", env!("CARGO_PKG_VERSION"));
    assert!(state.polls.iter().all(|poll| poll.user_agent == ours));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_of_a_callback_does_not_verify() {
    let stage = Stage::new().await;
    stage.upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    let callback = stage.receiver.distinct(1).await.remove(0);
    let webhook = Webhook::new(SECRET).unwrap();
    let mut headers = axum::http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, callback.request.header(name).unwrap().parse().unwrap());
    }
    let mut body = callback.request.body.clone();
    webhook.verify(&body, &headers).unwrap();
    *body.last_mut().unwrap() ^= 1;
    assert!(webhook.verify(&body, &headers).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_of_several_registrations_is_polled_once_and_told_to_each() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script_after(Duration::from_secs(1), "shared", [success()]);
    let daemon = stage.home.start().await;
    let first = daemon.register(&wanted("shared", &receiver.url("/1"))).await;
    let second = daemon.register(&wanted("shared", &receiver.url("/2"))).await;
    let again = wanted("shared", &receiver.url("/1")).to_string();
    let again = daemon.call("POST", "/v1/registrations", ATS, Some(&again)).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &first["id"]));
    receiver.distinct(2).await;
    let polls = upstream.polls_of("shared").len();

    // Known already: told at once, with no poll.
    let late = daemon.register(&wanted("shared", &receiver.url("/3"))).await;
    let all = receiver.distinct(3).await;
    let told: Vec<&str> = all.iter().map(|callback| callback.request.target.as_str()).collect();
    assert_eq!(told.len(), 3);
    for (resource, path) in [(&first, "/1"), (&second, "/2"), (&late, "/3")] {
        let of_it = all.iter().find(|callback| callback.request.target == path).unwrap();
        assert_eq!(of_it.json()["data"]["registration_id"], resource["id"]);
    }
    assert_eq!(upstream.polls_of("shared").len(), polls);
    upstream.assert_polite();
}
