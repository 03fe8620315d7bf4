//! A lease that is over is not used: whoever was paused, or is not heard, sends nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use outcomed::config::QuotaLimits;
use tokio::time::{advance, sleep};

use super::stage::Stage;

const LASTS: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_lease_is_counted_from_the_heartbeats_sending() {
    let stage = Stage::new(LASTS);
    stage.register(0..50).await;
    stage.beats_in.store(1_500, Ordering::SeqCst);
    let _running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(20)).await;
    stage.deaf.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(20)).await;
    let last = *stage.reached().last().unwrap();
    assert!(last >= 19_000, "it polled for as long as it was heard: {last}");
    // One that was sent in time is on its way for some ten milliseconds.
    assert!(last < stage.lease_ends(), "{last} of {}", stage.lease_ends());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_counted_from_the_claims_sending() {
    let stage = Stage::new(LASTS);
    stage.register(0..50).await;
    stage.claims_in.store(3_900, Ordering::SeqCst);
    let _running = stage.start(QuotaLimits::default()).await;
    // The claim is on its way by then, and no heartbeat is heard after it.
    sleep(Duration::from_millis(100)).await;
    stage.deaf.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(20)).await;
    let last = *stage.reached().last().unwrap();
    assert!(last < stage.lease_ends(), "{last} of {}", stage.lease_ends());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_was_paused_past_its_lease_sends_nothing_until_it_is_heard() {
    let stage = Stage::new(LASTS);
    stage.register(0..50).await;
    let _running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(20)).await;
    stage.deaf.store(true, Ordering::SeqCst);
    let before = stage.reached().len();
    assert!(before > 0);
    let lane = stage.lane();
    advance(Duration::from_secs(10)).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.reached().len(), before, "others may have its lanes");
    assert_eq!(stage.lane(), lane, "and nothing was prepared for sending");
    stage.deaf.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(30)).await;
    assert!(stage.reached().len() > before, "nobody had taken them");
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_was_connecting_when_its_daemon_was_paused_is_not_sent() {
    let stage = Stage::new(LASTS);
    stage.connects_in.store(600, Ordering::SeqCst);
    stage.register(0..1).await;
    let _running = stage.start(QuotaLimits::default()).await;
    while stage.begun.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    stage.deaf.store(true, Ordering::SeqCst);
    advance(Duration::from_secs(10)).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(stage.reached(), [0; 0], "it would be beyond the new owner's quota");
}
