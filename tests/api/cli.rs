//! The client commands, as processes against a running API.

use std::process::{Command, Output};

use outcomed::api::Limits;
use outcomed::clock::Timestamp;
use outcomed::config::Listen;
use outcomed::outcome::Outcome;
use outcomed::store::Next;
use serde_json::Value;

use crate::harness::{ATS, Api, OPERATOR, config};

async fn run(url: &str, token: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outcomed"));
    command.args(args).env("OUTCOMED_URL", url).env("OUTCOMED_TOKEN", token);
    // A proxy meant for elsewhere must not be asked for loopback.
    command.env("http_proxy", "http://127.0.0.1:1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(&out(output)).unwrap_or_else(|_| panic!("{}", err(output)))
}

const REGISTER: [&str; 6] = [
    "register",
    "7047318856652261676",
    "task-1",
    "--callback",
    "https://hr.example.com/hooks",
    "--json",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_unresolved_is_watched_again_from_the_command_line() {
    let api = Api::start().await;
    let url = format!("http://{}/", api.address);
    let first = json_of(&run(&url, ATS, &REGISTER).await);
    let id = first["id"].as_str().unwrap();
    let refused = run(&url, ATS, &["rewatch", id]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("wait for it"), "{}", err(&refused));
    api.end("task-1", Outcome::not_observed("Feishu was away".into())).await;
    let again = json_of(&run(&url, ATS, &["rewatch", id, "--json"]).await);
    assert_eq!(again["state"], "watching");
    assert_ne!(again["id"], first["id"]);
    let many = ["rewatch", "--account", "default", "--reason", "not_observed", "--json"];
    let many = json_of(&run(&url, ATS, &many).await);
    let bulk = many["id"].as_str().unwrap();
    let shown = out(&run(&url, ATS, &["rewatch", bulk]).await);
    assert!(shown.contains("running, 0 of 1 watched again"), "{shown}");
    let stopped = out(&run(&url, ATS, &["rewatch", bulk, "--cancel"]).await);
    assert!(stopped.contains("cancelled"), "{stopped}");
    for wrong in [&["rewatch"][..], &["rewatch", id, "--cancel"], &["rewatch", id, "--since", "x"]]
    {
        assert_eq!(run(&url, ATS, wrong).await.status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_lives_its_life_on_the_command_line() {
    let api = Api::start().await;
    let url = format!("http://{}/", api.address);
    let with_metadata = [&REGISTER[..], &["--metadata", r#"{ "n":1.0 }"#]].concat();
    let registered = run(&url, ATS, &with_metadata).await;
    assert!(out(&registered).contains(r#"{ "n":1.0 }"#), "kept to the byte");
    let id = json_of(&registered)["id"].as_str().unwrap().to_owned();
    let again = run(&url, ATS, &REGISTER).await;
    assert_eq!(json_of(&again)["id"], id.as_str());
    assert!(err(&again).contains("registered before"));

    let shown = out(&run(&url, ATS, &["show", &id]).await);
    assert!(shown.contains("watching") && shown.contains("task-1"), "{shown}");
    let listed = out(&run(&url, ATS, &["list", "--state", "watching"]).await);
    assert!(listed.contains(&id), "{listed}");

    let waiting = tokio::spawn({
        let (url, id) = (url.clone(), id.clone());
        async move { run(&url, ATS, &["wait", &id, "--timeout", "30s"]).await }
    });
    api.settle("task-1").await;
    let waited = waiting.await.unwrap();
    assert_eq!(waited.status.code(), Some(0), "{}", err(&waited));
    assert!(out(&waited).contains("succeeded"), "{}", out(&waited));

    api.attempt(500, Next::Undeliverable).await;
    let attempts = out(&run(&url, ATS, &["attempts", &id]).await);
    assert!(attempts.contains("500") && attempts.contains("retry"), "{attempts}");
    let sent = run(&url, ATS, &["redeliver", &id, "--json"]).await;
    assert_eq!(json_of(&sent)["state"], "delivering");
    let many = run(&url, ATS, &["redeliver", "--state", "undeliverable", "--json"]).await;
    let redelivery = json_of(&many)["id"].as_str().unwrap().to_owned();
    let shown = out(&run(&url, ATS, &["redelivery", &redelivery]).await);
    assert!(shown.contains("running, 0 of 0"), "{shown}");
    let stopped = out(&run(&url, ATS, &["redelivery", &redelivery, "--cancel"]).await);
    assert!(stopped.contains("cancelled"), "{stopped}");
    let cancelled = run(&url, ATS, &["cancel", &id, "--json"]).await;
    assert_eq!(json_of(&cancelled)["state"], "cancelled");
    let accounts = out(&run(&url, OPERATOR, &["accounts"]).await);
    assert!(accounts.contains("default") && accounts.contains("1000"), "{accounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_argument_arrives_where_it_belongs() {
    let api = Api::start().await;
    let url = format!("http://{}", api.address);
    let seconds = |value: &Value, pointer: &str| {
        let at: Timestamp = value.pointer(pointer).unwrap().as_str().unwrap().parse().unwrap();
        at.unix_seconds()
    };
    let more = ["--account", "default", "--give-up-after", "7m"];
    let registered = json_of(&run(&url, ATS, &[&REGISTER[..], &more].concat()).await);
    let waits = seconds(&registered, "/give_up_at") - seconds(&registered, "/created_at");
    assert_eq!(waits, 420);
    let period = ["--since", "2026-01-02T00:00:00Z", "--until", "2026-01-03T00:00:00Z"];
    for (what, more) in [
        ("redeliver", ["--state", "delivered", "--callback-host", "hr.example.com", "--json"]),
        ("rewatch", ["--account", "default", "--reason", "timed_out", "--json"]),
    ] {
        let asked = json_of(&run(&url, ATS, &[&[what][..], &period, &more].concat()).await);
        let filter = &asked["filter"];
        assert_eq!(filter["since"], "2026-01-02T00:00:00.000Z", "{asked}");
        assert_eq!(filter["until"], "2026-01-03T00:00:00.000Z", "{asked}");
        for pair in more[..4].chunks(2) {
            let member = pair[0].trim_start_matches("--").replace('-', "_");
            assert_eq!(filter[&member], pair[1], "{asked}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_not_the_last_says_how_to_go_on() {
    let api = Api::start().await;
    let url = format!("http://{}", api.address);
    api.register("task-1").await;
    api.register("task-2").await;
    let first = run(&url, ATS, &["list", "--limit", "1"]).await;
    assert!(out(&first).contains("task-2") && !out(&first).contains("task-1"));
    let said = err(&first);
    let cursor = said.trim().rsplit(' ').next().unwrap();
    let second = run(&url, ATS, &["list", "--limit", "1", "--cursor", cursor]).await;
    assert!(out(&second).contains("task-1"), "{}", err(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_is_told_on_standard_error_and_ends_with_1() {
    let api = Api::start().await;
    let url = format!("http://{}", api.address);
    let refused = run(&url, ATS, &["register", "", "a b", "--callback", "http://x/"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(out(&refused), "");
    let said = err(&refused);
    for pointer in ["/task/website_id", "/task/delivery_task_id", "/callback/url"] {
        assert!(said.contains(pointer), "{said}");
    }
    let unknown = run(&url, ATS, &["wait", "reg_0"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(err(&unknown).contains("404"), "{}", err(&unknown));
    let stranger = run(&url, "nobody", &["list"]).await;
    assert!(err(&stranger).contains("401"), "{}", err(&stranger));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_task_that_does_not_succeed_ends_with_1() {
    let api = Api::start().await;
    let url = format!("http://{}", api.address);
    let id = api.register("task-1").await;
    let late = run(&url, ATS, &["wait", &id, "--timeout", "100ms"]).await;
    assert_eq!(late.status.code(), Some(1));
    assert!(err(&late).contains("no outcome is known yet"), "{}", err(&late));
    run(&url, ATS, &["cancel", &id]).await;
    let cancelled = run(&url, ATS, &["wait", &id, "--json"]).await;
    assert_eq!(cancelled.status.code(), Some(1));
    assert_eq!(json_of(&cancelled)["state"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_2_and_an_absent_daemon_1() {
    let absent = run("http://127.0.0.1:1", ATS, &["list"]).await;
    assert_eq!(absent.status.code(), Some(1));
    assert!(err(&absent).contains("outcomed serve"), "{}", err(&absent));
    for (url, token, args) in [
        ("http://127.0.0.1:1", "", ["list"].as_slice()),
        ("ftp://x", ATS, &["list"]),
        ("http://127.0.0.1:1", ATS, &["show"]),
        ("http://127.0.0.1:1", ATS, &["redeliver"]),
        ("http://127.0.0.1:1", ATS, &["redeliver", "reg_1", "--state", "undeliverable"]),
        ("http://127.0.0.1:1", ATS, &["register", "1", "2", "--callback", "x", "--metadata", "{"]),
    ] {
        let wrong = run(url, token, args).await;
        assert_eq!(wrong.status.code(), Some(2), "{args:?} {}", err(&wrong));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_reached_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let mut config = config();
    config.http.listen = Listen::Unix(path.clone());
    let api = Api::start_with(config, Limits::default()).await;
    let url = format!("unix:{}", path.display());
    let registered = run(&url, ATS, &REGISTER).await;
    let id = json_of(&registered)["id"].as_str().unwrap().to_owned();
    assert_eq!(json_of(&run(&url, ATS, &["show", &id, "--json"]).await)["id"], id.as_str());
    api.shutdown.cancel();
    api.served.await.unwrap();
    assert!(!path.exists());
}
