//! Bulk redeliveries, worked off beside the live ones without getting in their way.
//!
//! A step makes a few registrations due, and the next one waits until they have gone out: so a
//! receiver that has just come back gets what is new and what is old in turn, and never a flood.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{Outbox, Result};

/// Registrations looked at in one step: a commit of a few milliseconds.
const STEP: u32 = 50;
/// How often it is looked whether there is something to work off.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause between two steps, however quick the receivers: at most 500 redeliveries a second.
const STEP_PAUSE: Duration = Duration::from_millis(100);
/// Due deliveries that an origin of the last step may have when the next step comes: as many as
/// it is sent at once by default.
const WAITING_MAX: usize = 16;
/// How long a step waits for the one before. A receiver that is down must not hold up the rest
/// for ever; its own rows wait behind its breaker.
const STEP_WAIT_MAX: Duration = Duration::from_secs(30);
/// The pause after the store failed.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// Works off bulk redeliveries until `shutdown`. Stopping at any point loses nothing: the next
/// step goes on where the last commit ended.
pub async fn run(outbox: Arc<dyn Outbox>, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let working = async {
        loop {
            let wait = match step(&*outbox, &*clock).await {
                Ok(true) => STEP_PAUSE,
                Ok(false) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "a bulk redelivery cannot go on now, trying again");
                    STORE_WAIT
                }
            };
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = working => {}
    }
}

/// One step, and the wait for what it made due. `false`: nothing is running.
async fn step(outbox: &dyn Outbox, clock: &dyn Clock) -> Result<bool> {
    let Some(step) = outbox.step_redelivery(STEP, clock.wall()).await? else { return Ok(false) };
    if step.finished {
        tracing::info!(redelivery = step.id, "a bulk redelivery is worked off");
    }
    let mut waiting: BTreeSet<String> = step.origins.into_iter().collect();
    let until = clock.steady().after(STEP_WAIT_MAX);
    while let Some(origin) = waiting.first() {
        let limit = u32::try_from(WAITING_MAX + 1).unwrap_or(u32::MAX);
        if outbox.due(origin, clock.wall(), limit).await?.len() <= WAITING_MAX {
            waiting.pop_first();
            continue;
        }
        if clock.steady() >= until {
            break;
        }
        tokio::time::sleep(STEP_PAUSE).await;
    }
    Ok(true)
}
