//! A unix socket, waiting in one call, and the cost of doing nothing.

use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::daemon::{ATS, Daemon, Stage, proc, wanted};
use crate::http::{Door, Response, request};
use crate::upstream::success;

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_as_good_as_a_port() {
    let mut stage = Stage::new().await;
    let socket = stage.home.path("api.sock");
    stage.home.listen = format!("unix:{}", socket.display());
    stage.upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    assert!(matches!(&daemon.door, Door::Unix(path) if *path == socket));
    let registered = daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    stage.receiver.distinct(1).await;
    daemon.until_state(registered["id"].as_str().unwrap(), "delivered").await;
    daemon.kill().await;
    // A socket that a killed daemon left behind does not keep the next one out.
    assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
    let daemon = stage.home.start().await;
    assert_eq!(daemon.call("GET", "/v1/registrations", ATS, None).await.status, 200);
}

async fn wait(daemon: &Daemon, id: &str, wait: &str) -> (Duration, Value) {
    let begun = Instant::now();
    let path = format!("/v1/registrations/{id}?wait={wait}");
    let answer = daemon.door.exchange(&request("GET", &path, ATS, None)).await.unwrap();
    let answer = Response::parse(&answer).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    (begun.elapsed(), answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_the_outcome_comes_or_when_it_is_over() {
    let stage = Stage::new().await;
    stage.upstream.script_after(Duration::from_secs(3), "a", [success()]);
    let daemon = stage.home.start().await;
    let registered = daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    let id = registered["id"].as_str().unwrap();
    let (took, nothing) = wait(&daemon, id, "1s").await;
    assert!((Duration::from_millis(950)..Duration::from_secs(2)).contains(&took), "{took:?}");
    assert_eq!((&nothing["state"], &nothing["outcome"]), (&"watching".into(), &Value::Null));
    let (_, settled) = wait(&daemon, id, "30s").await;
    assert_eq!(settled["outcome"]["outcome"], "succeeded", "{settled}");
    let told = stage.upstream.polls_of("a").last().unwrap().at.elapsed();
    assert!(told < Duration::from_secs(1), "the answer came {told:?} after the outcome");
    let (took, _) = wait(&daemon, id, "30s").await;
    assert!(took < Duration::from_millis(500), "{took:?} for an outcome that is known");
}

/// User and system time so far, in clock ticks (proc(5), fields 14 and 15).
fn ticks(pid: u32) -> u64 {
    let stat = proc(pid, "stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn resident_kib(pid: u32) -> u64 {
    let status = proc(pid, "status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tasks_it_costs_nothing() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    // What starting leaves to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = ticks(daemon.pid());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let spent = ticks(daemon.pid()) - before;
    assert!(spent <= 2, "{spent} ticks in 5 s without a task");
    // A release build has less; see the limit of 30 MB there.
    let resident = resident_kib(daemon.pid());
    let limit = if cfg!(debug_assertions) { 45_000 } else { 30_000 };
    assert!(resident < limit, "{resident} KiB");
    let state = stage.upstream.state();
    assert_eq!((state.polls.len(), state.lost), (0, 0));
}
