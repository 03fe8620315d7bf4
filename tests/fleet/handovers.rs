//! Callbacks under way when their lane goes to another daemon are sent once.

use std::time::Duration;

use crate::daemon::{Daemon, SECRET, until};
use crate::http::{Answer, reply};
use crate::receiver::Receiver;
use crate::stage::{Fleet, wanted};
use crate::upstream::success;

/// Enough that each of two daemons has some, but for one run in five hundred.
const LANES: usize = 10;
/// What a receiver takes, and how long a second copy is waited for: longer than an attempt may
/// take, so that also what was put off would have come.
const SLOW: Duration = Duration::from_secs(4);
const TIMEOUT: &str = "timeout = \"6s\"\nretry_delays = [\"1s\", \"1s\"]";

async fn slow() -> Receiver {
    Receiver::behaving(&[SECRET], |_| Answer::After(SLOW, Box::new(reply(204, &[], "")))).await
}

async fn daemon(fleet: &Fleet, number: usize) -> Daemon {
    let mut home = fleet.home(number, Duration::ZERO).await;
    home.delivery = TIMEOUT.into();
    home.start().await
}

/// One callback in each lane, all under way at a receiver of their own; returns their ids.
async fn under_way(fleet: &Fleet, first: &Daemon, receivers: &[Receiver]) -> Vec<String> {
    let mut ids = Vec::new();
    for (lane, receiver) in receivers.iter().enumerate() {
        let task = format!("slow-{lane}");
        fleet.upstreams[lane].script(&task, [success()]);
        let registered = first.register(&wanted(lane, &task, &receiver.url("/"))).await;
        ids.push(registered["id"].as_str().unwrap().to_owned());
    }
    for receiver in receivers {
        receiver.distinct(1).await;
    }
    ids
}

async fn once_each(asked: &Daemon, ids: &[String], receivers: &[Receiver]) {
    for id in ids {
        let ended = asked.until_state(id, "delivered").await;
        assert_eq!(ended["delivery"]["attempts"], 1, "{ended}");
    }
    tokio::time::sleep(SLOW).await;
    let copies: Vec<usize> = receivers.iter().map(|receiver| receiver.so_far().len()).collect();
    assert_eq!(copies, [1; LANES], "sent twice");
}

async fn receivers() -> Vec<Receiver> {
    let mut receivers = Vec::new();
    for _ in 0..LANES {
        receivers.push(slow().await);
    }
    receivers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_sends_no_callback_twice_that_is_under_way() {
    let (fleet, receivers) = (Fleet::new(LANES).await, receivers().await);
    let first = daemon(&fleet, 1).await;
    let ids = under_way(&fleet, &first, &receivers).await;
    let second = daemon(&fleet, 2).await;
    fleet.until_held(&first, 2).await;
    once_each(&second, &ids, &receivers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_sends_no_callback_twice_that_is_under_way() {
    let (fleet, receivers) = (Fleet::new(LANES).await, receivers().await);
    let second = daemon(&fleet, 2).await;
    until(
        "it is a member",
        async || second.get("/v1/fleet").await["members"][0].is_object().then_some(()),
        String::new,
    )
    .await;
    let mut first = daemon(&fleet, 1).await;
    let ids = under_way(&fleet, &first, &receivers).await;
    first.signal("TERM");
    once_each(&second, &ids, &receivers).await;
    assert_eq!(first.ended().await.code(), Some(0), "{}", first.log());
}
