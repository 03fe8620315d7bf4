//! The configured accounts' upstreams: made once, and made anew when their settings change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::clock::{Clock, Steady};
use crate::config::{Account, Config, Credentials};
use crate::observability::Metrics;
use crate::polling::{Upstream, Upstreams};
use crate::source::feishu::{Feishu, Http, Tickets};
use crate::store::AppTicket;

/// Feishu pushes a store app's ticket this often.
const TICKET_EVERY: Duration = Duration::from_secs(3600);
/// The waits between asking and asking again for a ticket that does not come: at first, and at most.
const ASK_AGAIN_FIRST: Duration = Duration::from_secs(60);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(3600);
/// How often it is looked whom to ask.
const ASK_TICK: Duration = Duration::from_secs(5);

/// How asking for one app's ticket goes.
struct Asked {
    done: bool,
    next: Steady,
    wait: Duration,
}

impl Asked {
    fn new(now: Steady) -> Self {
        Self { done: false, next: now, wait: ASK_AGAIN_FIRST }
    }

    /// Whether to ask now; then the next time is later.
    fn is_due(&mut self, now: Steady) -> bool {
        let due = !self.done && now >= self.next;
        if due {
            self.next = now.after(self.wait);
            self.wait = (self.wait * 2).min(ASK_AGAIN_MAX);
        }
        due
    }
}

/// The configured accounts' upstreams.
#[derive(Clone)]
pub(super) struct Accounts {
    http: Http,
    tickets: Arc<Tickets>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    known: Arc<Mutex<BTreeMap<String, Account>>>,
    upstreams: watch::Sender<Arc<Upstreams>>,
}

impl Accounts {
    pub(super) fn new(
        config: &Config,
        http: Http,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let accounts = Self {
            http,
            tickets: Arc::new(Tickets::new()),
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
            known: Arc::default(),
            upstreams: watch::channel(Arc::default()).0,
        };
        accounts.apply(config);
        accounts
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Upstreams>> {
        self.upstreams.subscribe()
    }

    /// A ticket that Feishu pushed, to this daemon or to another, now or before a restart. `false`:
    /// a newer one is known.
    pub(super) fn offer(&self, ticket: &AppTicket) -> bool {
        let newest = self.tickets.offer(&ticket.app_id, ticket.ticket.clone(), ticket.at);
        // Its tenants may be waiting for just this.
        self.nudge();
        newest
    }

    /// One account of each store app, by `app_id`.
    pub(super) fn store_apps(&self) -> BTreeMap<String, Account> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let store = |it: &&Account| matches!(it.credentials, Credentials::Store { .. });
        let of_app = |it: &Account| (it.credentials.app_id().to_owned(), it.clone());
        known.values().filter(store).map(of_app).collect()
    }

    /// Asks Feishu for the ticket of every store app that has none, or one that must have been
    /// followed by another while nobody listened; each again until it comes. What is pushed every
    /// hour needs no more asking after that.
    pub(super) async fn ask_for_tickets(&self) {
        let mut changed = self.subscribe();
        let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
        loop {
            let now = self.clock.steady();
            let since = self.clock.wall().before(TICKET_EVERY);
            let mut due = Vec::new();
            for (app_id, account) in self.store_apps() {
                let app = asked.entry(app_id.clone()).or_insert_with(|| Asked::new(now));
                app.done |= self.tickets.has_one_since(&app_id, since);
                if app.is_due(now) {
                    due.push(account);
                }
            }
            // Side by side: one that does not answer keeps no other waiting for its turn.
            join_all(due.iter().map(|account| self.ask_for_ticket(account))).await;
            let _ = tokio::time::timeout(ASK_TICK, changed.changed()).await;
        }
    }

    async fn ask_for_ticket(&self, account: &Account) {
        let asked = Feishu::ask_for_ticket(account, &self.http, &self.tickets, &self.clock).await;
        if let Err(error) = asked {
            let app_id = account.credentials.app_id();
            tracing::warn!(app_id, %error, "Feishu cannot be asked for the app_ticket; trying again");
        }
    }

    /// Makes what is new, keeps what is unchanged (its token stays good), drops what is gone.
    pub(super) fn apply(&self, config: &Config) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.upstreams.borrow().clone();
        let upstreams = config.accounts.iter().map(|account| {
            let kept =
                before.get(&account.name).filter(|_| known.get(&account.name) == Some(account));
            (account.name.clone(), kept.cloned().unwrap_or_else(|| self.upstream(account)))
        });
        let upstreams = Arc::new(upstreams.collect());
        *known = config.accounts.iter().map(|a| (a.name.clone(), a.clone())).collect();
        self.upstreams.send_replace(upstreams);
    }

    /// Has every lane try again now: something that held one back has changed.
    fn nudge(&self) {
        self.upstreams.send_modify(|_| {});
    }

    fn upstream(&self, account: &Account) -> Upstream {
        let feishu = Feishu::new(
            account,
            self.http.clone(),
            &self.tickets,
            Arc::clone(&self.clock),
            Arc::clone(&self.metrics),
        );
        Upstream { source: Arc::new(feishu), quota: account.quota }
    }
}
