//! Everything that an edge, a network and an ailing Feishu put in the place of an answer.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{ATS, Daemon, Stage, until, wanted};
use crate::expected::{assert_says, not_observed, succeeded};
use crate::http::{Answer, reply};
use crate::receiver::{Callback, silence};
use crate::upstream::{Say, data, error, ids, pending, success};

const HTML: (&str, &str) = ("Content-Type", "text/html");
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn edge(status: u16, body: &str) -> Say {
    Say::Else(reply(status, &[HTML], body))
}

/// What must be taken for nothing at all, by name.
fn faults() -> Vec<(&'static str, Say)> {
    let page = "<html><head><title>502 Bad Gateway</title></head></html>";
    let over = json!({"code": 0, "data": {"status": 2, "delivery": ids()}}).to_string();
    let Answer::Bytes(mut half) = reply(200, &[JSON], &over) else { unreachable!() };
    half.truncate(half.len() - 20);
    let huge = format!(r#"{{"code":0,"data":{{"status":2,"x":"{}"}}}}"#, "x".repeat(1 << 20));
    let coded = |code: Value| json!({"code": code, "data": {"status": 2}}).to_string();
    vec![
        ("reset", Say::Else(Answer::Reset)),
        ("closed without a word", Say::Else(Answer::Cut(Vec::new()))),
        ("cut off in the body", Say::Else(Answer::Cut(half))),
        ("no HTTP", Say::Else(Answer::Cut(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()))),
        ("HTML 502", edge(502, page)),
        ("HTML 400", edge(400, page)),
        ("HTML 200", edge(200, page)),
        ("HTML that holds an end", edge(200, &over)),
        ("empty 504", Say::Else(reply(504, &[], ""))),
        ("empty 200", Say::Else(reply(200, &[JSON], ""))),
        ("1002001", error(500, 1_002_001)),
        ("1020001", error(500, 1_020_001)),
        ("an unknown code", error(400, 1_254_000)),
        ("500 with an end", Say::Json(500, over.clone())),
        ("500 with 1002008", error(500, 1_002_008)),
        ("503 with 1002002", error(503, 1_002_002)),
        ("broken JSON", Say::Json(200, over[..over.len() - 2].to_owned())),
        ("two JSON values", Say::Json(200, format!("{over}{over}"))),
        ("no object", Say::Json(200, "null".into())),
        ("a list", Say::Json(200, "[2]".into())),
        ("no code", Say::Json(200, json!({"data": {"status": 2}}).to_string())),
        ("a code in quotes", Say::Json(200, coded(json!("zero")))),
        ("a broken code", Say::Json(200, coded(json!(0.5)))),
        ("a status in quotes", data(&json!({"status": "three"}))),
        ("a broken status", data(&json!({"status": 2.5}))),
        ("a list of data", data(&json!([{"status": 3}]))),
        ("a redirect", Say::Else(reply(302, &[("Location", "http://127.0.0.1:9/"), HTML], ""))),
        ("too many bytes", Say::Json(200, huge)),
        ("quota", Say::Quota(429, "0.5")),
        ("quota as 400", Say::Quota(400, "0.5")),
        ("quota in HTML", Say::Else(reply(429, &[HTML, ("x-ogw-ratelimit-reset", "1")], page))),
        ("a refused token", error(400, 99_991_663)),
        ("an expired token", error(200, 99_991_664)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_of_the_upstream_loses_or_settles_a_task() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    let faults = faults();
    let bodies = (0..faults.len()).map(|n| wanted(&format!("f{n}"), &receiver.url("/"))).collect();
    for (number, (_, fault)) in faults.iter().enumerate() {
        // Before it was ever seen, and again after it was seen pending.
        let steps = [fault.clone(), pending(), fault.clone(), success()];
        upstream.script(&format!("f{number}"), steps);
    }
    let daemon = stage.home.start().await;
    let registered = daemon.register_all(bodies).await;
    let callbacks = receiver.distinct(faults.len()).await;
    silence().await;
    assert_eq!(receiver.so_far().len(), faults.len(), "each exactly once");
    for (number, (name, _)) in faults.iter().enumerate() {
        let callback = callbacks.iter().find(|it| it.task() == format!("f{number}")).unwrap();
        assert_eq!(callback.json()["type"], "delivery_task.succeeded", "{name}: {callback:?}");
        assert_eq!(upstream.polls_of(&format!("f{number}")).len(), 4, "{name}");
        let told = upstream.polls_of(&format!("f{number}")).iter().filter(|p| !p.refused).count();
        if told == 2 {
            let resource = &registered[number];
            assert_says(callback, resource, &json!({}), &succeeded(&ids()), upstream);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_of_everything_is_over_soon_after_it_is_over() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    for number in 0..40 {
        upstream.script(&format!("o{number}"), [pending(), success()]);
    }
    upstream.state().to_all = Some(Say::Else(Answer::Reset));
    let daemon = stage.home.start().await;
    let bodies = (0..40).map(|n| wanted(&format!("o{n}"), &receiver.url("/"))).collect();
    daemon.register_all(bodies).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let during = upstream.state().polls.len();
    assert!(during > 1, "it does not look");
    assert!(during < 60, "{during} polls in 3 s into an upstream that is down");
    upstream.state().to_all = None;
    let mended = Instant::now();
    receiver.distinct(40).await;
    // It backs off by doubling, so it comes back within about as long as the outage took.
    let late = mended.elapsed();
    assert!(late < Duration::from_secs(10), "{late:?} after the end of an outage of 3 s");
    upstream.assert_polite();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_spends_the_quota_is_waited_for() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script("q", [Say::Quota(429, "3"), success()]);
    let daemon = stage.home.start().await;
    daemon.register(&wanted("q", &receiver.url("/"))).await;
    receiver.distinct(1).await;
    let polls = upstream.polls_of("q");
    let waited = polls[1].at - polls[0].at;
    assert!(waited >= Duration::from_secs(3), "the reset said 3 s, it waited {waited:?}");
    assert!(waited < Duration::from_secs(6), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_call_that_fails_for_a_moment_is_made_again_and_suspends_nothing() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script("t", [success()]);
    let faults =
        [edge(502, "<html>"), error(200, 2_200), Say::Else(Answer::Reset), error(500, 1_500)];
    upstream.state().token_faults.extend(faults);
    let daemon = stage.home.start().await;
    daemon.register(&wanted("t", &receiver.url("/"))).await;
    let watching = async || (upstream.state().token_calls.len() >= 2).then_some(());
    until("a second token call", watching, || daemon.log()).await;
    assert_eq!(daemon.get("/v1/accounts").await["items"][0]["state"], "ok");
    receiver.distinct(1).await;
    assert_eq!(upstream.state().token_calls.len(), 5, "one for each fault, and the good one");
    upstream.assert_polite();
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_hang_hold_up_no_other_task() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    for number in 0..10 {
        upstream.script(&format!("h{number}"), [Say::Else(Answer::Hang), success()]);
        upstream.script_after(Duration::from_secs(1), &format!("g{number}"), [success()]);
    }
    let daemon = stage.home.start().await;
    let both = |n| [format!("h{n}"), format!("g{n}")].map(|task| wanted(&task, &receiver.url("/")));
    daemon.register_all((0..10).flat_map(both).collect()).await;
    let begun = Instant::now();
    let first = receiver.distinct(10).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(first.iter().all(|callback| callback.task().starts_with('g')));
    receiver.distinct(20).await;
    upstream.assert_polite();
}

/// Everything Feishu says is lost until the deadline of `tasks`; their registrations.
async fn lost_until_the_deadline(stage: &Stage, daemon: &Daemon, tasks: &[&str]) -> Vec<Value> {
    stage.upstream.state().to_all = Some(Say::Else(Answer::Reset));
    let wanted = |task: &&str| {
        let mut body = wanted(task, &stage.receiver.url("/"));
        body["give_up_after"] = json!("2s");
        body
    };
    let registered = daemon.register_all(tasks.iter().map(wanted).collect()).await;
    for callback in stage.receiver.distinct(tasks.len()).await {
        not_observed(&callback, &["no answer", "account default"]);
    }
    registered
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_one_or_many_are_watched_again_and_told() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    let tasks = ["r0", "r1", "r2", "r3", "r4"];
    for task in tasks {
        upstream.script(task, [success()]);
    }
    let daemon = stage.home.start().await;
    let lost = lost_until_the_deadline(&stage, &daemon, &tasks).await;
    upstream.state().to_all = None;

    let path = format!("/v1/registrations/{}/rewatch", lost[0]["id"].as_str().unwrap());
    let one = daemon.call("POST", &path, ATS, None).await;
    assert_eq!(one.status, 201, "{one:?}");
    let told = receiver.distinct(tasks.len() + 1).await.pop().unwrap();
    assert_eq!(told.json()["type"], "delivery_task.succeeded");
    assert_eq!(told.json()["data"]["registration_id"], one.json()["id"]);

    // All of them: the one that is told already is not watched a third time.
    let since = lost[0]["created_at"].as_str().unwrap();
    let body = json!({"account": "default", "reason": "not_observed", "since": since}).to_string();
    let many = daemon.call("POST", "/v1/rewatches", ATS, Some(&body)).await;
    assert_eq!((many.status, &many.json()["matched"]), (202, &json!(5)), "{many:?}");
    let told = receiver.distinct(2 * tasks.len()).await;
    let succeeded = |it: &&Callback| it.json()["type"] == "delivery_task.succeeded";
    let mut ended: Vec<String> = told.iter().filter(succeeded).map(Callback::task).collect();
    ended.sort();
    assert_eq!(ended, tasks);
    let path = format!("/v1/rewatches/{}", many.json()["id"].as_str().unwrap());
    let finished = async || {
        let it = daemon.get(&path).await;
        (it["state"] == "finished").then_some(it)
    };
    assert_eq!(until("it is worked off", finished, || daemon.log()).await["done"], 4);
    silence().await;
    assert_eq!(receiver.so_far().len(), 2 * tasks.len(), "each exactly once");
    let first = daemon.get(&format!("/v1/registrations/{}", lost[1]["id"].as_str().unwrap())).await;
    assert_eq!(first["outcome"]["failure"]["reason"], "not_observed", "the old one stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_rewatch_goes_on_after_a_kill() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    let tasks = ["k0", "k1", "k2"];
    for task in tasks {
        upstream.script(task, [success()]);
    }
    let daemon = stage.home.start().await;
    lost_until_the_deadline(&stage, &daemon, &tasks).await;
    upstream.state().to_all = None;
    let body = json!({"reason": "not_observed"}).to_string();
    let many = daemon.call("POST", "/v1/rewatches", ATS, Some(&body)).await;
    assert_eq!(many.status, 202);
    daemon.kill().await;
    let _daemon = stage.home.start().await;
    let told = receiver.distinct(2 * tasks.len()).await;
    let succeeded = told.iter().filter(|it| it.json()["type"] == "delivery_task.succeeded");
    assert_eq!(succeeded.count(), tasks.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_shows_everywhere_a_person_may_look_until_it_is_over() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script("w", [pending(), success()]);
    let daemon = stage.home.start().await;
    upstream.state().to_all = Some(error(500, 1_002_001));
    let registered = daemon.register(&wanted("w", &receiver.url("/"))).await;
    let account = daemon.until_account("failing").await;
    assert_eq!(account["reason"], "no_answer");
    let told = account["message"].as_str().unwrap();
    for word in ["has not answered", "polls in a row since 20", "1002001", "account default"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let ready = daemon.call("GET", "/readyz", "", None).await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["failing_accounts"][0]["name"], "default");
    let metrics = daemon.call("GET", "/metrics", crate::daemon::OPS, None).await;
    let text = metrics.text;
    assert!(text.contains("outcomed_lane_failing{account=\"default\""), "{text}");

    let path = format!("/v1/registrations/{}", registered["id"].as_str().unwrap());
    let watch = daemon.get(&path).await["watch"].clone();
    assert_eq!((&watch["last_answer"], &watch["last_code"]), (&json!("error"), &json!(1_002_001)));
    assert_eq!((&watch["polls"], &watch["account_state"]), (&json!(0), &json!("failing")));
    assert!(watch["last_polled_at"].is_string(), "{watch}");
    let warned = || daemon.log().matches("has not answered").count();
    until("a warning", async || (warned() > 0).then_some(()), || daemon.log()).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(warned(), 1, "one line for one outage: {}", daemon.log());

    upstream.state().to_all = None;
    receiver.distinct(1).await;
    let account = daemon.until_account("ok").await;
    assert_eq!((&account["last_answer"], &account["reason"]), (&json!("settled"), &Value::Null));
    let again =
        async || daemon.log().contains("answers polls of account default again").then_some(());
    until("a line on recovery", again, || daemon.log()).await;
    assert_eq!(daemon.get(&path).await["watch"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_account_shows_before_its_first_task() {
    let mut stage = Stage::new().await;
    // Nobody listens there.
    let right = std::mem::replace(&mut stage.home.base_url, "http://127.0.0.1:9".to_owned());
    let daemon = stage.home.start().await;
    let account = daemon.until_account("failing").await;
    assert!(account["message"].as_str().unwrap().contains("no token"), "{account}");
    assert!(daemon.log().contains("Feishu gives the account no token"), "{}", daemon.log());
    let ready = daemon.call("GET", "/readyz", "", None).await;
    assert_eq!(
        (ready.status, &ready.json()["failing_accounts"][0]["name"]),
        (200, &json!("default"))
    );
    stage.home.base_url = right;
    stage.home.set_app_secret("not-the-secret");
    stage.home.write_config();
    daemon.signal("HUP");
    assert_eq!(daemon.until_account("suspended").await["reason"], "bad_credentials");
    stage.home.set_app_secret(crate::upstream::APP_SECRET);
    daemon.signal("HUP");
    assert_eq!(daemon.until_account("ok").await["last_answer"], "token");
}
