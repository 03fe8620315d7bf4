//! Bulk rewatches, worked off in small steps beside the live registrations: what comes of them is
//! polled within the quota like everything else.

use std::time::Duration;

use super::Context;
use crate::ids::Ids;
use crate::store::{NewRegistration, Registered, Result};

/// Registrations read in one step: a commit of a few milliseconds.
const STEP: u32 = 50;
/// The pause between two steps: at most 500 registrations a second.
const STEP_PAUSE: Duration = Duration::from_millis(100);
/// How often it is asked whether there is something to work off.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// Works off bulk rewatches until shutdown. Stopping at any point loses nothing: registering the
/// same page again finds what is there. Of a fleet one daemon does it.
pub(super) async fn run(context: Context) {
    let ids = Ids::default();
    let working = async {
        loop {
            let leads = context.board.leads(context.member.id, context.clock.steady());
            let stepped = if leads { step(&context, &ids).await } else { Ok(false) };
            let pause = match stepped {
                Ok(true) => STEP_PAUSE,
                Ok(false) => IDLE_PAUSE,
                Err(error) => {
                    tracing::warn!(%error, "a bulk rewatch cannot go on now; trying again");
                    STORE_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = context.shutdown.cancelled() => {}
        () = working => {}
    }
}

/// One step. `false`: nothing is running.
async fn step(context: &Context, ids: &Ids) -> Result<bool> {
    let (store, now) = (&context.store, context.clock.wall());
    let Some(page) = store.rewatch_page(STEP, now).await? else { return Ok(false) };
    let again = |it: &crate::store::Unresolved| it.registered.again(ids.next(now), now);
    let new: Vec<NewRegistration> = page.found.iter().map(again).collect();
    let registered = store.register(new).await?;
    let new = registered.iter().filter(|it| matches!(it, Registered::New(_))).count();
    store.rewatched(&page, u32::try_from(new).unwrap_or(u32::MAX), now).await?;
    if page.finished {
        tracing::info!(rewatch = page.id, "a bulk rewatch is worked off");
    }
    Ok(true)
}
