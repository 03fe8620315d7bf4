//! A database that crashes and comes back.

use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::{ATS, Home, until};
use crate::postgres_cluster::Cluster;
use crate::stage::{Fleet, wanted};
use crate::upstream::success;

const LANES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_nothing_is_polled_for_long_and_nothing_is_lost() {
    let cluster: &'static Cluster =
        tokio::task::block_in_place(|| Box::leak(Box::new(Cluster::start())));
    let fleet = Fleet::on(cluster, LANES, std::net::Ipv4Addr::LOCALHOST).await;
    let first = fleet.home(1, Duration::ZERO).await.start().await;
    let second = fleet.home(2, Duration::ZERO).await.start().await;
    first.register_all(fleet.pending_tasks(3)).await;
    let bodies = (0..40).map(|n| {
        let (lane, task) = (n % LANES, format!("d{n}"));
        // Some end before the crash, some during the outage, some after it.
        fleet.upstreams[lane].script_after(
            Duration::from_millis(800 * n as u64),
            &task,
            [success()],
        );
        wanted(lane, &task, &fleet.receiver.url("/"))
    });
    let registered = second.register_all(bodies.collect()).await;
    fleet.until_held(&first, 2).await;
    tokio::time::sleep(Duration::from_secs(4)).await;

    tokio::task::block_in_place(|| cluster.kill());
    let crashed = Instant::now();
    let body = wanted(0, "refused", &fleet.receiver.url("/")).to_string();
    for daemon in [&first, &second] {
        let refused = daemon.call("POST", "/v1/registrations", ATS, Some(&body)).await;
        refused.problem(503);
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        daemon.call("GET", "/readyz", "", None).await.problem(503);
        assert_eq!(daemon.call("GET", "/healthz", "", None).await.status, 200);
    }
    tokio::time::sleep(Duration::from_secs(14).saturating_sub(crashed.elapsed())).await;
    tokio::task::block_in_place(|| cluster.restart());
    for upstream in &fleet.upstreams {
        let late = crashed + Duration::from_secs(6);
        let polls = upstream.state().polls.iter().filter(|poll| poll.at > late).count();
        assert_eq!(polls, 0, "polled by a lease that nobody can renew");
    }
    let back = Instant::now();
    let ready = async || {
        let answer = first.call("GET", "/readyz", "", None).await;
        (answer.status == 200).then_some(())
    };
    until("it is ready", ready, || first.log()).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    for resource in &registered {
        second.until_state(resource["id"].as_str().unwrap(), "delivered").await;
    }
    fleet.receiver.assert_repeats_are_faithful();
    let callbacks = fleet.receiver.so_far();
    let repeats = callbacks.iter().filter(|callback| callback.arrival > 1).count();
    assert!(
        repeats <= 4,
        "{repeats} of {}: only what was under way may be repeated",
        callbacks.len()
    );
    assert_eq!(fleet.beyond_quota(), 0);
    assert_eq!(fleet.sql("SELECT count(*) FROM task WHERE delivery_task_id = 'refused'"), "0");
}

/// `check-config --online` there: whether it is content, and what it says.
fn check(home: &Home) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_outcomed"))
        .args(["check-config", "--online", "--config"])
        .arg(home.path("config.toml"))
        .output()
        .unwrap();
    (done.status.success(), String::from_utf8(done.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_online_logs_in_and_changes_nothing() {
    let fleet = Fleet::new(1).await;
    let mut home = fleet.home(1, Duration::ZERO).await;
    home.write_config();
    let (content, said) = tokio::task::block_in_place(|| check(&home));
    assert!(content && said.contains("tables will be created"), "{said}");
    assert_eq!(fleet.sql("SELECT to_regclass('schema_migration') IS NULL"), "t");
    let daemon = home.start().await;
    let (content, said) = tokio::task::block_in_place(|| check(&home));
    assert!(content && said.contains("with schema 4"), "{said}");
    assert_eq!(daemon.get("/v1/fleet").await["members"].as_array().unwrap().len(), 1);
    home.store_url = Some(format!("{}_not", fleet.url));
    home.write_config();
    let (content, said) = tokio::task::block_in_place(|| check(&home));
    assert!(!content && said.contains("does not exist"), "{said}");
}
