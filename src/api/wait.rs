//! Long polls: ask, wait for a hint, ask again, until there is an answer or the time is over.

use std::future::Future;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use super::problem::Result;
use super::shared::Shared;
use crate::store::Hint;

/// The longest a client may ask us to wait: below the idle limits of common proxies (60 s is
/// the shortest default among them, and the answer itself takes no time).
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Hints may be lost, or happen on another daemon: look again this often.
const RECHECK_EVERY: Duration = Duration::from_secs(1);
/// Many outcomes at once are one look, not many.
const HINTS_GATHERED_FOR: Duration = Duration::from_millis(20);

/// Asks until `enough` of the answer, or until `wait` is over or the daemon stops: then the last
/// answer is given as it is. `relevant` says which outcomes' ids are worth asking again.
pub async fn until<T, F>(
    shared: &Shared,
    client: &str,
    wait: Option<Duration>,
    relevant: impl Fn(&str) -> bool,
    enough: impl Fn(&T) -> bool,
    ask: impl Fn() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    // Before asking: a hint between the question and the wait must not be missed.
    let mut hints = shared.store().hints();
    let mut answer = ask().await?;
    let Some(wait) = wait.filter(|wait| !wait.is_zero()) else { return Ok(answer) };
    if enough(&answer) {
        return Ok(answer);
    }
    let _pass = shared.waiters.enter(client)?;
    let over = sleep(wait);
    tokio::pin!(over);
    while !enough(&answer) {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return Ok(answer),
            () = &mut over => return ask().await,
            () = hint(&mut hints, &relevant) => {}
        }
        answer = ask().await?;
    }
    Ok(answer)
}

/// Returns when it is worth asking again.
async fn hint(hints: &mut Receiver<Hint>, relevant: &impl Fn(&str) -> bool) {
    let recheck = sleep(RECHECK_EVERY);
    tokio::pin!(recheck);
    loop {
        tokio::select! {
            () = &mut recheck => return,
            hint = hints.recv() => match hint {
                Ok(Hint::Outcome { registration_id }) if relevant(&registration_id) => {
                    return sleep(HINTS_GATHERED_FOR).await;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                // The store is going away; what is left is looking now and then.
                Err(RecvError::Closed) => return recheck.await,
            },
        }
    }
}
