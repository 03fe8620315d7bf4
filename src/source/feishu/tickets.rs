//! What all tenants of a store app share: its `app_ticket` and its `app_access_token`.
//!
//! In memory; the composition root keeps each ticket in the store as well, and offers what is
//! stored at its start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::token::{Cache, Issued, Lent};
use crate::clock::{Steady, Timestamp};
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

    /// Takes a ticket that Feishu made at `at`. The caller has checked that the event is Feishu's
    /// and that `app_id` is configured, which bounds how many there are. `false`: a newer one is
    /// known. One that is known already changes nothing, even if Feishu has refused it since.
    pub fn offer(&self, app_id: &str, ticket: Secret, at: Timestamp) -> bool {
        let app = self.app(app_id);
        let mut state = app.lock();
        match &state.newest {
            Some((newest, _)) if at < *newest => return false,
            Some((newest, known)) if at == *newest && **known == ticket => return true,
            _ => {}
        }
        let ticket = Arc::new(ticket);
        state.newest = Some((at, Arc::clone(&ticket)));
        app.tickets.send_replace(Some(ticket));
        true
    }

    /// Whether the app has a ticket that was made after `since`.
    #[must_use]
    pub fn has_one_since(&self, app_id: &str, since: Timestamp) -> bool {
        let app = self.app(app_id);
        let newest = app.lock().newest.as_ref().map(|(at, _)| *at);
        app.ticket().is_some() && newest.is_some_and(|at| at > since)
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
    /// The newest ticket that came, and when Feishu made it.
    newest: Option<(Timestamp, Arc<Secret>)>,
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
        let offer = |ticket, at| tickets.offer("cli_a", Secret::new(ticket), Timestamp(at));
        assert!(offer("t1", 1));
        let app = tickets.app("cli_a");
        let first = app.ticket().unwrap();
        assert!(offer("t2", 2));
        app.ticket_refused(&first);
        let second = app.ticket().unwrap();
        assert_eq!(second.expose(), "t2");
        app.ticket_refused(&second);
        assert!(app.ticket().is_none());
        assert!(offer("t2", 2), "pushed again");
        assert!(app.ticket().is_none(), "and no better for that");
    }

    #[test]
    fn an_older_ticket_takes_no_newer_ones_place() {
        let tickets = Tickets::new();
        let offer = |ticket, at| tickets.offer("cli_a", Secret::new(ticket), Timestamp(at));
        assert!(offer("t2", 20));
        assert!(!offer("t1", 19));
        assert_eq!(tickets.app("cli_a").ticket().unwrap().expose(), "t2");
        assert!(tickets.has_one_since("cli_a", Timestamp(19)));
        assert!(!tickets.has_one_since("cli_a", Timestamp(20)));
    }
}
