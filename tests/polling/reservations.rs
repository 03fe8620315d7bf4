//! What an earlier life reserved counts for a minute from when it was, whatever the clocks say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outcomed::clock::{Clock, Timestamp};
use outcomed::config::QuotaLimits;
use outcomed::store::{Checkpoint, Lanes, Reservation};
use outcomed::task::{Kind, LaneName};
use tokio::time::sleep;

use super::stage::Stage;

/// Tasks are waited for whose last owner reserved a minute's quota within a second, and died.
async fn reserved() -> Arc<Stage> {
    let stage = Stage::new(Duration::MAX);
    stage.register(0..50).await;
    let lane = LaneName { account: "default".into(), kind: Kind::default() };
    let lease = stage.store.take(&lane, stage.wall()).await.unwrap().lease;
    let polls = QuotaLimits::default().per_minute / 2;
    let half = |at: Timestamp| Reservation { at, polls, boot: None };
    let reservations = vec![half(stage.wall()), half(stage.wall().after(Duration::from_secs(1)))];
    let checkpoint = Checkpoint { reservations: Some(reservations), ..Checkpoint::default() };
    stage.store.checkpoint(&lease, checkpoint).await.unwrap();
    stage
}

/// How long after that, and after the next life's start, its first poll comes.
async fn next(stage: &Arc<Stage>) -> (i64, i64) {
    let started = stage.now();
    let _running = stage.start(QuotaLimits::default()).await;
    while stage.reached().is_empty() && stage.now() < started + 300_000 {
        sleep(Duration::from_millis(10)).await;
    }
    let first = *stage.reached().first().expect("it polls again");
    (first, first - started)
}

#[tokio::test(start_paused = true)]
async fn what_was_reserved_before_a_crash_counts_for_a_minute_from_then() {
    let stage = reserved().await;
    sleep(Duration::from_secs(30)).await;
    let (since, _) = next(&stage).await;
    assert!((60_000..65_000).contains(&since), "{since}");
}

#[tokio::test(start_paused = true)]
async fn after_a_minute_nothing_of_it_counts_but_the_last() {
    let stage = reserved().await;
    sleep(Duration::from_secs(90)).await;
    let (_, waited) = next(&stage).await;
    assert!(waited < 5_000, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_neither_forgets_it_nor_keeps_the_quota_closed() {
    let stage = reserved().await;
    sleep(Duration::from_secs(30)).await;
    stage.wall_ahead.store(-3_600_000, Ordering::SeqCst);
    let (since, waited) = next(&stage).await;
    assert!(since >= 60_000 && waited < 65_000, "{since}, {waited}");
}

#[tokio::test(start_paused = true)]
async fn each_reservation_is_stored_with_the_time_at_which_it_was_made() {
    let stage = Stage::new(Duration::MAX);
    stage.register(0..200).await;
    let _running = stage.start(QuotaLimits { per_second: 5, per_minute: 300 }).await;
    let began = stage.wall();
    sleep(Duration::from_secs(40)).await;
    let stored: Vec<Reservation> = serde_json::from_str(&stage.lane()).unwrap();
    let ages: Vec<u64> = stored.iter().map(|it| it.at.since(began).as_secs()).collect();
    assert!(ages[0] < 10 && *ages.last().unwrap() > 30, "{ages:?}");
}
