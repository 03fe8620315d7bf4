//! Tasks that keep failing beside healthy ones, and tasks whose time is over: none holds up another.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{Daemon, Stage, wanted};
use crate::http::reply;
use crate::upstream::{Say, error, success};

const FAILING: usize = 10;
const HEALTHY: usize = 60;
/// What is promised.
const TOLD_WITHIN: Duration = Duration::from_secs(6);

/// Ten tasks get this for ever; sixty others settle one after the other while that goes on.
async fn beside_sixty_healthy_ones(name: &str, fault: Say) -> (Stage, Daemon) {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    let mut bodies = Vec::new();
    for n in 0..FAILING {
        upstream.script(&format!("sick{n}"), [fault.clone()]);
        bodies.push(wanted(&format!("sick{n}"), &receiver.url("/")));
    }
    let begun = Instant::now();
    let settles = |n: usize| Duration::from_millis(5_000 + 100 * n as u64);
    for n in 0..HEALTHY {
        upstream.script_after(settles(n), &format!("healthy{n}"), [success()]);
        bodies.push(wanted(&format!("healthy{n}"), &receiver.url("/")));
    }
    let daemon = stage.home.start().await;
    daemon.register_all(bodies).await;
    let told = receiver.distinct(HEALTHY).await;
    for callback in told {
        let n: usize = callback.task().trim_start_matches("healthy").parse().unwrap();
        let late = callback.request.at.saturating_duration_since(begun + settles(n));
        let within = if name == "quota" { TOLD_WITHIN * 2 } else { TOLD_WITHIN };
        assert!(late < within, "{name}: healthy{n} is told {late:?} after it settled");
    }
    // What fails is polled less and less.
    for n in 0..FAILING {
        let polls = upstream.polls_of(&format!("sick{n}"));
        let polls = polls.iter().filter(|poll| poll.at < begun + Duration::from_secs(15)).count();
        assert!((2..=9).contains(&polls), "{name}: sick{n} is polled {polls} times in 15 s");
    }
    (stage, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tasks_with_an_unknown_code_hold_up_none_of_sixty() {
    let (_stage, daemon) = beside_sixty_healthy_ones("unknown code", error(400, 1_254_000)).await;
    daemon.logged("answers other tasks but not this one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_code_from_ten_tasks_suspends_nothing() {
    let (_stage, daemon) = beside_sixty_healthy_ones("missing scope", error(400, 99_991_672)).await;
    daemon.logged("answers other tasks but not this one").await;
    assert!(!daemon.log().contains("account suspended"), "{}", daemon.log());
    daemon.until_account("ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_way_ten_tasks_fail_they_hold_up_none_of_sixty() {
    let page = "<html><head><title>502 Bad Gateway</title></head></html>";
    let html = [("Content-Type", "text/html")];
    let faults = [
        ("HTML", Say::Else(reply(200, &html, page))),
        ("HTTP 500", error(500, 1_002_001)),
        ("reset", Say::Else(crate::http::Answer::Reset)),
        ("refused token", error(400, 99_991_663)),
        ("quota", Say::Quota(429, "1")),
    ];
    for pair in faults.chunks(2) {
        let stages =
            pair.iter().map(|(name, fault)| beside_sixty_healthy_ones(name, fault.clone()));
        for (_, daemon) in futures_util::future::join_all(stages).await {
            assert!(!daemon.log().contains("account suspended"), "{}", daemon.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_task_past_its_deadline_is_polled_once_or_twice_more() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script("sick", [error(400, 1_254_000)]);
    let daemon = stage.home.start().await;
    let mut body = wanted("sick", &receiver.url("/"));
    body["give_up_after"] = json!("2s");
    let registered = Instant::now();
    daemon.register(&body).await;
    receiver.distinct(1).await;
    let deadline = registered + Duration::from_secs(2);
    let after = upstream.polls_of("sick").iter().filter(|poll| poll.at > deadline).count();
    assert!((1..=5).contains(&after), "{after} polls after its deadline");
}

/// They are told within seconds, across a restart, and the API answers all the while.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_that_expire_together_are_all_told_and_the_api_answers() {
    const TASKS: usize = 3_000;
    let stage = Stage::new().await;
    let receiver = &stage.receiver;
    let daemon = stage.home.start().await;
    let body = |n: usize| {
        let mut body = wanted(&format!("t{n}"), &receiver.url("/"));
        body["give_up_after"] = json!("20s");
        body
    };
    for n in 0..TASKS {
        // Pending, so that it is the deadline that ends them.
        stage.upstream.script(&format!("t{n}"), []);
    }
    let bodies: Vec<Value> = (0..TASKS).map(body).collect();
    for thousand in bodies.chunks(1_000) {
        daemon.register_all(thousand.to_vec()).await;
    }
    // In the middle of giving up.
    receiver.distinct(TASKS / 10).await;
    daemon.kill().await;
    let daemon = stage.home.start().await;
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while receiver.so_far().iter().filter(|callback| callback.arrival == 1).count() < TASKS {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", receiver.so_far().len());
        let asked = Instant::now();
        daemon.get("/v1/registrations?limit=1").await;
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(slowest < Duration::from_secs(2), "the API took {slowest:?}");
    receiver.assert_repeats_are_faithful();
}
