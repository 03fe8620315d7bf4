//! What delivery is told of the lanes, which it must not send for when they are another's; and lanes
//! after a suspend.

use std::sync::atomic::Ordering;
use std::time::Duration;

use outcomed::config::QuotaLimits;
use outcomed::store::{Lanes, Lease};
use outcomed::task::State;
use tokio::time::sleep;

use super::stage::Stage;

const LASTS: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn delivery_is_told_of_every_lane_that_comes_and_before_each_that_goes() {
    let stage = Stage::new(LASTS);
    stage.register(0..5).await;
    let running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.followed(), ["claimed 1"]);
    stage.lost.lock().unwrap().push(Lease { lane: 1, epoch: 1 });
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.followed(), ["claimed 1", "given up 1", "claimed 1"], "lost, and ours again");
    running.stop().await;
    assert_eq!(stage.followed()[3..], ["given up 1", "released 1"], "before anybody else has it");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_whose_lease_is_over_renews_nothing_before_it_has_heard_an_answer() {
    let stage = Stage::new(LASTS);
    stage.register(0..5).await;
    let _running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(20)).await;
    stage.mute.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(60)).await;
    let (renewed, ended) = (stage.beaten_at.load(Ordering::SeqCst), stage.lease_ends());
    assert!(renewed < ended, "{renewed} of {ended}: others wait for lanes that nobody works on");
    stage.mute.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(10)).await;
    assert!(stage.beaten_at.load(Ordering::SeqCst) > ended);
}

/// Nothing is polled, so that nothing but the deadline could wake the lane.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_during_a_suspend_is_kept_soon_after_it() {
    let stage = Stage::new(Duration::MAX);
    stage.refused.store(true, Ordering::SeqCst);
    stage.register(0..1).await;
    let _running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(181)).await;
    assert!(stage.store.lanes().await.unwrap().len() == 1);
    stage.suspended.fetch_add(7_200_000, Ordering::SeqCst);
    // A moment to notice, and what a final poll is waited for.
    sleep(Duration::from_secs(7)).await;
    assert_eq!(stage.state(0).await, State::Delivering);
}

#[tokio::test(start_paused = true)]
async fn the_quota_holds_where_some_polls_arrive_later_than_others() {
    let stage = Stage::new(Duration::MAX);
    stage.register(0..3_000).await;
    let _running = stage.start(QuotaLimits { per_second: 10, per_minute: 6_000 }).await;
    for number in 0..60 {
        let slow = if number % 2 == 0 { 900 } else { 10 };
        stage.connects_in.store(slow, Ordering::SeqCst);
        sleep(Duration::from_millis(500)).await;
    }
    let mut reached = stage.reached();
    reached.sort_unstable();
    assert!(reached.len() > 150, "{}", reached.len());
    for (first, eleventh) in reached.iter().zip(&reached[10..]) {
        assert!(eleventh - first >= 1_000, "eleven polls from {first} to {eleventh}");
    }
}

/// Many changes at once are more than are told one by one.
#[tokio::test(start_paused = true)]
async fn what_was_registered_is_watched_although_its_hint_was_lost_among_many() {
    let stage = Stage::new(Duration::MAX);
    stage.register_for("other", 0..1).await;
    stage.register(1..2).await;
    let running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(5)).await;
    stage.register_for("other", 2..3).await;
    stage.register(3..9_000).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(running.watched(), 9_000);
    running.stop().await;
}
