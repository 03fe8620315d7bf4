//! (interim) delivers directly.
use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::{Clock, Timestamp};
use outcomed::store::{Attempt, Next, Store};
use outcomed::task::webhook_id;
use tokio_util::sync::CancellationToken;

use super::world::Shared;

pub async fn run_delivery(world: &Shared, store: &Arc<dyn Store>, shutdown: &CancellationToken) {
    while !shutdown.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Ok(origins) = store.origins().await else { continue };
        for (origin, _) in origins {
            let Ok(due) = store.due(&origin, Timestamp(i64::MAX), 10).await else { continue };
            for delivery in due {
                world
                    .lock()
                    .accepted
                    .insert(webhook_id(&delivery.registration_id), (delivery.body.clone(), 1));
                let attempt = Attempt {
                    number: delivery.attempts + 1,
                    at: world.wall(),
                    duration: Duration::ZERO,
                    status: Some(200),
                    error: None,
                    reply_excerpt: None,
                    verdict: "delivered".into(),
                };
                let _ = store.record_attempt(&delivery, attempt, Next::Delivered).await;
            }
        }
    }
}
