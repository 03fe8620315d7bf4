//! What a lane keeps over a restart: what it has spent, and what it has learned.

use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Stage, until, wanted};
use crate::upstream::{pending, success};

const SECOND: Duration = Duration::from_secs(1);

/// Polls that the store's only lane calls spent or reserved.
fn spent(stage: &Stage) -> u64 {
    let store = rusqlite::Connection::open(&stage.home.store).unwrap();
    let text: String =
        store.query_row("SELECT reservations FROM lane", [], |row| row.get(0)).unwrap();
    let reservations: Vec<Value> = serde_json::from_str(&text).unwrap();
    reservations.iter().map(|reserved| reserved["polls"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_gives_back_what_was_only_reserved() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    for number in 0..5 {
        upstream.script(&format!("g{number}"), [pending()]);
    }
    let polls = || upstream.state().polls.len();
    let enough = async |count: usize| {
        until("polls", async || (polls() >= count).then_some(()), || polls().to_string()).await;
    };
    let mut daemon = stage.home.start().await;
    let bodies = (0..5).map(|n| wanted(&format!("g{n}"), &receiver.url("/"))).collect();
    daemon.register_all(bodies).await;
    enough(11).await;
    daemon.signal("TERM");
    assert!(daemon.ended().await.success());
    assert_eq!(spent(&stage), polls() as u64);
    let before = polls();
    let _daemon = stage.home.start().await;
    enough(before + 3).await;
    upstream.assert_polite();
    assert!(upstream.most_in_any(SECOND) <= 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_lane_knows_what_it_had_learned() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    for number in 0..40 {
        let after = Duration::from_millis(1_500 + 40 * number);
        upstream.script_after(after, &format!("m{number}"), [success()]);
    }
    upstream.script("late", [pending()]);
    let mut daemon = stage.home.start().await;
    let bodies = (0..40).map(|n| wanted(&format!("m{n}"), &receiver.url("/"))).collect();
    daemon.register_all(bodies).await;
    daemon.register(&wanted("late", &receiver.url("/"))).await;
    receiver.distinct(40).await;
    daemon.signal("TERM");
    assert!(daemon.ended().await.success());
    // Nothing settles any more: whatever it tells now, it knew.
    let daemon = stage.home.start().await;
    let look = async || {
        let account = daemon.get("/v1/accounts").await["items"][0].take();
        account["expected_detection_delay"].is_string().then_some(account)
    };
    let account = until("figures", look, || daemon.log()).await;
    assert!(account["mean_detection_delay"].is_null(), "nothing was seen since: {account}");
    for told in ["poll_price", "detection_delay_bound"] {
        assert!(account[told].is_string(), "{told}: {account}");
    }
    for told in ["polls_per_task", "ratio_to_bound"] {
        assert!(account[told].as_f64().is_some_and(|it| it > 0.0), "{told}: {account}");
    }
}
