//! What the store has not taken yet is not acted on, and what it must take is offered again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use outcomed::config::QuotaLimits;
use outcomed::task::State;
use tokio::time::sleep;

use super::stage::Stage;

#[tokio::test(start_paused = true)]
async fn nothing_is_polled_before_its_reservation_is_stored() {
    let stage = Stage::new(Duration::MAX);
    stage.register(0..50).await;
    stage.refuse("UPDATE OF reservations ON lane");
    let _running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.reached(), [0; 0], "a crash would forget them");
    stage.mend();
    sleep(Duration::from_secs(10)).await;
    assert!(!stage.reached().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_the_store_refuses_is_offered_until_it_is_taken() {
    let stage = Stage::new(Duration::MAX);
    stage.register(0..1).await;
    stage.settles.store(true, Ordering::SeqCst);
    stage.refuse("UPDATE OF outcome ON task");
    let running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.state(0).await, State::Watching);
    assert_eq!(stage.polls_of(0), 1, "what is known is not asked again");
    stage.mend();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(stage.state(0).await, State::Delivering);
    assert_eq!((stage.polls_of(0), running.watched()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn every_task_is_watched_however_many_there_are() {
    let stage = Stage::new(Duration::MAX);
    stage.register(0..2_500).await;
    let running = stage.start(QuotaLimits::default()).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(running.watched(), 2_500, "found at the start");
    stage.register(2_500..6_000).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(running.watched(), 6_000, "registered at once later on");
    running.stop().await;
}
