//! Feishu, over HTTP: polls one account's delivery tasks with a token that is always at hand.

mod field;
mod http;
mod issuer;
mod keeper;
mod refusal;
mod reply;
pub mod seen;
mod store_app;
pub mod ticket;
mod tickets;
mod token;
pub mod wire;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use url::Url;

pub use http::{Deadlines, Http, HttpError};
pub use reply::Reply;
pub use tickets::Tickets;

use crate::clock::Clock;
use crate::config::Account;
use crate::observability::Metrics;
use crate::source::{Observation, PollError, Polled, Source};

use issuer::Issuer;
use keeper::Keeper;

/// Undocumented statuses warned of, one line each; should Feishu number freely, it ends there.
const UNKNOWN_STATUSES_MAX: usize = 32;

/// One account's delivery tasks at Feishu.
///
/// [`Source::observe`] sends at most one request: none if there is no living token, and then it
/// says [`PollError::Token`].
pub struct Feishu {
    account: String,
    base_url: Url,
    http: Http,
    token: Keeper,
    unknown_statuses: Mutex<BTreeSet<i64>>,
}

impl Feishu {
    /// The source of `account`. `http` and `tickets` are shared by all accounts.
    #[must_use]
    pub fn new(
        account: &Account,
        http: Http,
        tickets: &Tickets,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let issuer = Issuer::of(account, http.clone(), tickets, Arc::clone(&clock));
        Self {
            account: account.name.clone(),
            base_url: account.base_url.clone(),
            http,
            token: Keeper::new(account.name.clone(), issuer, clock, metrics),
            unknown_statuses: Mutex::default(),
        }
    }

    /// Fetches a token and nothing else: shows whether the credentials and `base_url` are right.
    /// A store app's first time ends in `no_app_ticket` unless the ticket arrives meanwhile; by
    /// then Feishu has accepted `app_id` and `app_secret`.
    pub async fn check_token(&self) -> Result<(), PollError> {
        self.token.ready().await
    }

    /// Asks Feishu to push the ticket of the account's app, if it is a store app, at most once a
    /// minute.
    pub async fn ask_for_ticket(
        account: &Account,
        http: &Http,
        tickets: &Tickets,
        clock: &Arc<dyn Clock>,
    ) -> Result<(), PollError> {
        match Issuer::of(account, http.clone(), tickets, Arc::clone(clock)) {
            Issuer::Store(app) => app.ask().await,
            Issuer::Internal(_) => Ok(()),
        }
    }

    fn warn_once(&self, status: i64, log_id: Option<&str>) {
        let mut seen = self.unknown_statuses.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < UNKNOWN_STATUSES_MAX && seen.insert(status) {
            tracing::warn!(
                account = %self.account,
                status,
                log_id,
                "Feishu answered with a status that is not documented; such tasks count as pending"
            );
        }
    }
}

#[async_trait]
impl Source for Feishu {
    async fn prepare(&self) -> Result<(), PollError> {
        self.token.ready().await
    }

    async fn observe(&self, website_id: &str, delivery_task_id: &str) -> Result<Polled, PollError> {
        let token = self.token.lend().ok_or(PollError::Token)?;
        let path =
            ["open-apis", "hire", "v1", "websites", website_id, "delivery_tasks", delivery_task_id];
        let reply = self.http.get(&self.base_url, &path, &token.value).await?;
        let result = wire::poll(&reply);
        match &result {
            Err(PollError::Token) => self.token.refused(token.generation),
            Ok(Polled {
                observation: Observation::Pending { unknown_status: Some(status) },
                log_id,
            }) => {
                self.warn_once(*status, log_id.as_deref());
            }
            _ => {}
        }
        result
    }
}
