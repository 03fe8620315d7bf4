//! Any daemon answers any call, whichever of them does the work.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{ATS, Daemon, OPS, until};
use crate::stage::{Fleet, account, metric, wanted};
use crate::upstream::{pending, success};

const LANES: usize = 4;

async fn three(fleet: &Fleet) -> [Daemon; 3] {
    let first = fleet.home(1, Duration::ZERO).await.start().await;
    first.register_all(fleet.pending_tasks(1)).await;
    let second = fleet.home(2, Duration::ZERO).await.start().await;
    let third = fleet.home(3, Duration::ZERO).await.start().await;
    fleet.until_held(&first, 3).await;
    [first, second, third]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_answered_whichever_daemon_settles_the_task() {
    let fleet = Fleet::new(LANES).await;
    let daemons = three(&fleet).await;
    let begins = daemons[0].call("GET", "/v1/outcomes", ATS, None).await.json();
    for lane in 0..LANES {
        let task = format!("w{lane}");
        fleet.upstreams[lane].script(&task, [pending()]);
        let body = wanted(lane, &task, &fleet.receiver.url("/"));
        let registered = daemons[lane % 3].register(&body).await;
        let path = format!("/v1/registrations/{}?wait=60s", registered["id"].as_str().unwrap());
        let waits = daemons.each_ref().map(|daemon| {
            let (door, path) = (daemon.door.clone(), path.clone());
            tokio::spawn(async move {
                let answer = door.exchange(&crate::http::request("GET", &path, OPS, None)).await;
                (crate::http::Response::parse(&answer.unwrap()).unwrap().json(), Instant::now())
            })
        });
        let polled = async || (!fleet.upstreams[lane].polls_of(&task).is_empty()).then_some(());
        until("it is watched", polled, || daemons[0].log()).await;
        fleet.upstreams[lane].script(&task, [success()]);
        let mut answered = Vec::new();
        for wait in waits {
            let (resource, at) = wait.await.unwrap();
            assert_eq!(resource["outcome"]["outcome"], "succeeded", "{resource}");
            answered.push(at);
        }
        let apart = *answered.iter().max().unwrap() - *answered.iter().min().unwrap();
        assert!(apart < Duration::from_secs(2), "{apart:?} apart");
    }
    // The log reads the same everywhere, from any place in it.
    let after = begins["next_cursor"].as_str().unwrap();
    let path = format!("/v1/outcomes?wait=1s&after={after}");
    let mut pages = Vec::new();
    for daemon in &daemons {
        pages.push(daemon.call("GET", &path, ATS, None).await.json());
    }
    assert_eq!(pages[0]["items"].as_array().unwrap().len(), LANES);
    let order = |page: &Value| -> Vec<Value> {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
    };
    assert!(pages.iter().all(|page| order(page) == order(&pages[0])));
    assert!(pages.iter().all(|page| page["next_cursor"] == pages[0]["next_cursor"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_daemon_shows_all_accounts_and_the_same_fleet() {
    let fleet = Fleet::new(LANES).await;
    let daemons = three(&fleet).await;
    let mut owners = Vec::new();
    for daemon in &daemons {
        // What the others say arrives with their next word.
        let all = async || {
            let accounts = daemon.get("/v1/accounts").await["items"].take();
            let accounts = accounts.as_array().unwrap().clone();
            let seen = accounts.iter().all(|it| it["watched"] == 1 && it["state"] == "ok");
            (seen && accounts.len() == LANES).then_some(())
        };
        until("all accounts are shown", all, || daemon.log()).await;
        let view = daemon.get("/v1/fleet").await;
        assert_eq!(view["lanes"].as_array().unwrap().len(), LANES);
        owners
            .push(view["lanes"].as_array().unwrap().iter().map(|l| l["member"].clone()).collect());
        let shown = daemon.call("GET", "/v1/fleet", ATS, None).await;
        shown.problem(403);
    }
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_outcomed"))
        .args(["fleet", "--token", OPS, "--url", &format!("http://{}", address(&daemons[1]))])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    // Two headings, a line between, three daemons and four lanes.
    assert_eq!(shown.lines().count(), 3 + 3 + LANES, "{shown}");
    assert!(shown.contains("lane-3"), "{shown}");
    assert!(owners.iter().all(|seen: &Vec<Value>| *seen == owners[0]), "{owners:?}");
    let mut held = 0;
    for daemon in &daemons {
        held += metric(daemon, "outcomed_fleet_lanes_held").await;
        assert_eq!(metric(daemon, "outcomed_fleet_members").await, 3);
    }
    assert_eq!(held, LANES as u64, "each lane is somebody's");
}

fn address(daemon: &Daemon) -> std::net::SocketAddr {
    let crate::http::Door::Tcp(address) = daemon.door else { unreachable!("it listens on TCP") };
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_daemon_cancels_another_stops_polling() {
    let fleet = Fleet::new(LANES).await;
    let daemons = three(&fleet).await;
    let lane = 1;
    fleet.upstreams[lane].script("c", [pending()]);
    let body = wanted(lane, "c", &fleet.receiver.url("/"));
    let registered = daemons[0].register(&body).await;
    let polled = async || (!fleet.upstreams[lane].polls_of("c").is_empty()).then_some(());
    until("it is watched", polled, || daemons[0].log()).await;
    let path = format!("/v1/registrations/{}", registered["id"].as_str().unwrap());
    for daemon in &daemons {
        let cancelled = daemon.call("DELETE", &path, ATS, None).await;
        assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let polls = fleet.upstreams[lane].polls_of("c").len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(fleet.upstreams[lane].polls_of("c").len(), polls, "it is still polled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_redelivery_survives_the_death_of_its_starter() {
    const COUNT: usize = 300;
    let fleet = Fleet::new(LANES).await;
    let mut homes = Vec::new();
    for number in 1..=2 {
        homes.push(fleet.home(number, Duration::ZERO).await);
    }
    let (first, second) = (homes[0].start().await, homes[1].start().await);
    let bodies = (0..COUNT).map(|n| {
        let task = format!("r{n}");
        fleet.upstreams[n % LANES].script(&task, [success()]);
        wanted(n % LANES, &task, &fleet.receiver.url("/"))
    });
    first.register_all(bodies.collect()).await;
    let count = |state: &str| {
        fleet.sql(&format!("SELECT count(*) FROM registration WHERE state = '{state}'"))
    };
    let all = async || (count("delivered") == COUNT.to_string()).then_some(());
    until("all are delivered", all, || count("delivering")).await;

    let begun = fleet.receiver.so_far().len();
    let bulk = json!({"state": "delivered"}).to_string();
    let started = first.call("POST", "/v1/redeliveries", OPS, Some(&bulk)).await;
    assert_eq!((started.status, &started.json()["matched"]), (202, &COUNT.into()), "{started:?}");
    first.kill().await;
    let path = format!("/v1/redeliveries/{}", started.json()["id"].as_str().unwrap());
    let over = async || Some(second.get(&path).await).filter(|it| it["state"] == "finished");
    let over = until("it is finished", over, || second.log()).await;
    assert_eq!(over["done"], COUNT);
    let all = async || (count("delivered") == COUNT.to_string()).then_some(());
    until("all are delivered again", all, || second.log()).await;
    let sent = fleet.receiver.so_far().len() - begun;
    assert!(sent <= COUNT + COUNT / 100 + 16, "{sent} callbacks for {COUNT}");
    fleet.receiver.assert_repeats_are_faithful();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_costs_no_lane_and_a_new_account_is_somebodys_at_once() {
    let fleet = Fleet::new(LANES).await;
    let homes = [fleet.home(1, Duration::ZERO).await, fleet.home(2, Duration::ZERO).await];
    let (first, second) = (homes[0].start().await, homes[1].start().await);
    first.register_all(fleet.pending_tasks(1)).await;
    fleet.until_held(&first, 2).await;
    let epochs =
        || fleet.sql("SELECT string_agg(account || epoch, ' ' ORDER BY account) FROM lane");
    let before = epochs();
    let more = fleet.upstreams[0].address;
    for (home, daemon) in homes.iter().zip([&first, &second]) {
        let config = std::fs::read_to_string(home.path("config.toml")).unwrap();
        let table = format!(
            "\n[[accounts]]\nname = \"late\"\napp_id = \"{}\"\napp_secret = \"{}\"\n\
             base_url = \"http://{more}\"\n",
            crate::upstream::APP_ID,
            crate::upstream::APP_SECRET
        );
        home.write("config.toml", &format!("{config}{table}"));
        daemon.signal("HUP");
        daemon.logged("configuration reloaded").await;
    }
    assert_eq!(epochs(), before, "a reload moved a lane");
    fleet.upstreams[0].script("late", [success()]);
    let mut body = wanted(0, "late", &fleet.receiver.url("/"));
    body["task"]["account"] = "late".into();
    let registered = second.register(&body).await;
    let done = first.until_state(registered["id"].as_str().unwrap(), "delivered").await;
    assert_eq!(done["task"]["account"], "late");
    assert_ne!(account(0), "late");
}
