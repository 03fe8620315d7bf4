//! What all tenants of a store app share: its `app_ticket` and its `app_access_token`.
//!
//! Memory is enough: Feishu pushes the ticket every hour, and after a restart we ask for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::token::{Cache, Issued, Lent};
use crate::clock::Steady;
use crate::config::secret::Secret;

/// Feishu is asked for a ticket no more often than this. Its own quota for the call is unknown,
/// and a ticket that does not come within a minute does not come for the asking.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// The tickets of all store apps, by `app_id`. One for the whole daemon.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<BTreeMap<String, Arc<SharedApp>>>);

impl Tickets {
    /// No tickets yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a ticket that Feishu pushed. The caller has checked that the event is Feishu's and
    /// that `app_id` is configured, which bounds how many are kept.
    pub fn offer(&self, app_id: &str, ticket: Secret) {
        self.app(app_id).tickets.send_replace(Some(Arc::new(ticket)));
    }

    /// What the app's tenants share.
    pub(super) fn app(&self, app_id: &str) -> Arc<SharedApp> {
        Arc::clone(self.lock().entry(app_id.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<SharedApp>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the tenants of one app share.
#[derive(Debug, Default)]
pub(super) struct SharedApp {
    tickets: watch::Sender<Option<Arc<Secret>>>,
    state: Mutex<State>,
    /// Held while the app's token is looked up and fetched, so that one fetch serves all.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    token: Cache,
    asked_at: Option<Steady>,
}

impl SharedApp {
    /// The ticket, if one has come.
    pub(super) fn ticket(&self) -> Option<Arc<Secret>> {
        self.tickets.borrow().clone()
    }

    /// The ticket, as it comes.
    pub(super) fn arrivals(&self) -> watch::Receiver<Option<Arc<Secret>>> {
        self.tickets.subscribe()
    }

    /// Feishu refused that ticket: it is dropped, unless another has come.
    pub(super) fn ticket_refused(&self, refused: &Arc<Secret>) {
        self.tickets.send_if_modified(|ticket| {
            let same = ticket.as_ref().is_some_and(|ticket| Arc::ptr_eq(ticket, refused));
            if same {
                *ticket = None;
            }
            same
        });
    }

    /// Whether it is time to ask for a ticket; if so, it counts as asked.
    pub(super) fn may_ask(&self, now: Steady) -> bool {
        let mut state = self.lock();
        let may = state.asked_at.is_none_or(|at| now.since(at) >= ASK_EVERY);
        if may {
            state.asked_at = Some(now);
        }
        may
    }

    /// The asking itself failed, so it does not count.
    pub(super) fn asking_failed(&self) {
        self.lock().asked_at = None;
    }

    /// How long ago Feishu was asked.
    pub(super) fn asked_ago(&self, now: Steady) -> Duration {
        self.lock().asked_at.map_or(Duration::MAX, |at| now.since(at))
    }

    /// The app's token, while it lives, and whether it need not be renewed yet.
    pub(super) fn app_token(&self, now: Steady) -> (Option<Lent>, bool) {
        let state = self.lock();
        (state.token.lend(now), !state.token.refresh_due(now))
    }

    /// Keeps the app's token and lends it.
    pub(super) fn keep_app_token(&self, issued: Issued, asked_at: Steady) -> Lent {
        self.lock().token.keep(issued, asked_at)
    }

    /// Feishu refused that token.
    pub(super) fn app_token_refused(&self, generation: u64) {
        self.lock().token.refused(generation);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_asked_for_once_a_minute_unless_the_asking_failed() {
        let app = SharedApp::default();
        assert!(app.may_ask(Steady(0)));
        assert!(!app.may_ask(Steady(59_999)));
        assert!(app.may_ask(Steady(60_000)));
        app.asking_failed();
        assert!(app.may_ask(Steady(60_001)));
    }

    #[test]
    fn a_refused_ticket_goes_but_the_one_that_came_meanwhile_stays() {
        let tickets = Tickets::new();
        tickets.offer("cli_a", Secret::new("t1"));
        let app = tickets.app("cli_a");
        let first = app.ticket().unwrap();
        tickets.offer("cli_a", Secret::new("t2"));
        app.ticket_refused(&first);
        let second = app.ticket().unwrap();
        assert_eq!(second.expose(), "t2");
        app.ticket_refused(&second);
        assert!(app.ticket().is_none());
    }
}
