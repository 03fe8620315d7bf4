//! How long a stop waits for attempts under way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outcomed::delivery::send::{Courier, Parcel, Reply};
use outcomed::delivery::{DRAIN_MAX, Drained};

use super::running::{Engine, KEY, config};

/// Takes so long, whatever the timeout.
struct Slow(Duration);

#[async_trait]
impl Courier for Slow {
    async fn send(&self, _parcel: Parcel) -> Reply {
        tokio::time::sleep(self.0).await;
        Reply { status: Some(200), ..Reply::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_as_long_as_an_attempt_may_take_and_no_longer_than_allowed() {
    for (timeout, takes, cut_off, waits) in
        [(30, 29, 0, 29), (30, 99, 1, 35), (10, 99, 1, 15), (99, 99, 1, 40)]
    {
        let mut config = config(&[KEY], 0);
        config.delivery.timeout = Duration::from_secs(timeout);
        let slow = Arc::new(Slow(Duration::from_secs(takes)));
        let engine = Engine::with_courier(config, DRAIN_MAX, slow);
        engine.outbox.add("ats", "https://receiver.example/");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(engine.stop().await, Drained { cut_off }, "{timeout} s");
        assert_eq!((begun.elapsed() + Duration::from_millis(500)).as_secs(), waits, "{timeout} s");
    }
}
