//! Fills in how watching goes, from what this daemon's lanes and the other daemons say now.

use super::shared::Shared;
use crate::task::Registration;

/// What the account's state says to whoever waits.
pub fn with_account(shared: &Shared, mut registration: Registration) -> Registration {
    if let Some(watch) = &mut registration.watch {
        let trouble = shared.given.board.trouble_of(&registration.task.account);
        let (state, message) = match trouble {
            Some((state, why)) => (state, Some(why.message)),
            None => ("ok", None),
        };
        (watch.account_state, watch.account_message) = (Some(state.to_owned()), message);
    }
    registration
}

/// The same, and how the task's watching goes now, if this daemon polls it.
pub async fn as_it_is_now(shared: &Shared, registration: Registration) -> Registration {
    let mut registration = with_account(shared, registration);
    let Some(watch) = &mut registration.watch else { return registration };
    let Some(task) = watch.task else { return registration };
    let lane = registration.task.lane();
    if let Some(view) = shared.given.board.ask(&lane, task).await {
        watch.polls = view.progress.polls;
        if let Some(at) = view.progress.last_polled_at {
            watch.last_polled_at = Some(at);
            watch.answered(view.progress.last_answer);
        }
        watch.next_poll_at = view.next_poll_at;
    }
    registration
}
