//! Bulk redeliveries, worked off beside the live ones without getting in their way.
//!
//! A step makes a few registrations due, and the next one waits until they have gone out: so a
//! receiver that has just come back gets what is new and what is old in turn, and never a flood.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Steady};
use crate::store::{Destination, Outbox, Result};

/// Registrations looked at in one step: a commit of a few milliseconds.
const STEP: u32 = 50;
/// How often it is looked whether there is something to work off.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause between two steps, however quick the receivers: at most 500 redeliveries a second.
const STEP_PAUSE: Duration = Duration::from_millis(100);
/// Due deliveries that a destination of the last step may have when the next step comes: as many as
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
        let mut turns = Turns::default();
        loop {
            let wait = match turns.step(&*outbox, &*clock).await {
                Ok(wait) => wait,
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

/// Whoever asked for redeliveries takes turns with the others who did, and waits for his own
/// receivers only.
#[derive(Default)]
struct Turns {
    /// Who has had a step in this round.
    had: BTreeSet<String>,
    /// Whose last step is still going out, to where, and until when that is waited for.
    waiting: BTreeMap<String, (BTreeSet<Destination>, Steady)>,
}

impl Turns {
    /// At most one step; returns how long to wait for the next.
    async fn step(&mut self, outbox: &dyn Outbox, clock: &dyn Clock) -> Result<Duration> {
        self.forget_those_who_are_through(outbox, clock).await?;
        let passed_by: Vec<String> = self.had.iter().chain(self.waiting.keys()).cloned().collect();
        let Some(step) = outbox.step_redelivery(&passed_by, STEP, clock.wall()).await? else {
            let idle = self.had.is_empty() && self.waiting.is_empty();
            self.had.clear();
            return Ok(if idle { LOOK_EVERY } else { STEP_PAUSE });
        };
        if step.finished {
            tracing::info!(redelivery = step.id, "a bulk redelivery is worked off");
        }
        let until = clock.steady().after(STEP_WAIT_MAX);
        self.waiting.insert(step.owner.clone(), (step.destinations.into_iter().collect(), until));
        self.had.insert(step.owner);
        Ok(STEP_PAUSE)
    }

    async fn forget_those_who_are_through(
        &mut self,
        outbox: &dyn Outbox,
        clock: &dyn Clock,
    ) -> Result<()> {
        let limit = u32::try_from(WAITING_MAX + 1).unwrap_or(u32::MAX);
        for (destinations, until) in self.waiting.values_mut() {
            while let Some(to) = destinations.first().filter(|_| clock.steady() < *until) {
                if outbox.due(to, clock.wall(), limit).await?.len() > WAITING_MAX {
                    break;
                }
                destinations.pop_first();
            }
        }
        let now = clock.steady();
        self.waiting.retain(|_, (destinations, until)| !destinations.is_empty() && now < *until);
        Ok(())
    }
}
