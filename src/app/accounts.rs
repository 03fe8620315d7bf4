//! The configured accounts' upstreams: made once, and made anew when their settings change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::secret::Secret;
use crate::config::{Account, Config, Credentials};
use crate::observability::Metrics;
use crate::polling::{Upstream, Upstreams};
use crate::source::feishu::{Feishu, Http, Tickets};

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

    /// A ticket that Feishu pushed, to this daemon or to another.
    pub(super) fn offer(&self, app_id: &str, ticket: Secret) {
        self.tickets.offer(app_id, ticket);
        // Its tenants may be waiting for just this.
        self.nudge();
    }

    /// Whether any account is a store app's.
    pub(super) fn has_store_apps(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().any(|it| matches!(it.credentials, Credentials::Store { .. }))
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
