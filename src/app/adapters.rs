//! What the API asks of other parts of the house, which it does not know.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use axum::http::HeaderMap;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::watch;
use url::Url;

use super::accounts::Accounts;
use crate::api::{EventRefusal, EventReply, EventSink, PingError, Pinger};
use crate::clock::Clock;
use crate::config::{Client, Config, Credentials};
use crate::delivery::alert::incident::Sight;
use crate::delivery::handover::Handover;
use crate::delivery::send::http::HttpCourier;
use crate::delivery::{guard, ping};
use crate::polling::Follower;
use crate::polling::board::LaneStatus;
use crate::source::feishu::seen::Seen;
use crate::source::feishu::ticket::{Event, EventError, EventHeaders, Keys, handle_event};
use crate::store::{AppTicket, Attempt, Store};
use crate::task::LaneName;

/// Sends pings.
pub(super) struct Callbacks {
    pub(super) courier: Arc<HttpCourier>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: watch::Receiver<Arc<Config>>,
}

#[async_trait]
impl Pinger for Callbacks {
    async fn ping(&self, client: &Client, url: &Url) -> Result<Attempt, PingError> {
        guard::judge_url(url, &client.callback_allow)
            .map_err(|refusal| PingError::Refused(refusal.to_string()))?;
        let config = self.config.borrow().clone();
        ping::ping(&*self.courier, &*self.clock, client, url.clone(), &config.delivery)
            .await
            .map_err(|error| PingError::Failed(error.to_string()))
    }
}

/// Lets a lane's deliveries under way be over before its next owner attempts them.
pub(super) struct Deliveries(pub(super) Handover);

impl Follower for Deliveries {
    fn claimed(&self, lane: i64) {
        self.0.claimed(lane);
    }

    fn given_up(&self, lane: i64) -> BoxFuture<'static, ()> {
        let handover = self.0.clone();
        Box::pin(async move { handover.give_up(lane).await })
    }
}

/// What alerting sees of the accounts: as ill as their illest lane.
pub(super) fn sights(lanes: &[(LaneName, LaneStatus)]) -> BTreeMap<String, Sight> {
    let mut sights = BTreeMap::new();
    for (lane, status) in lanes {
        let sight = status.suspended.as_ref().map_or(Sight::Well, |it| Sight::Ill {
            since: it.since,
            reason: it.reason.to_string(),
        });
        let kept = sights.entry(lane.account.clone()).or_insert(Sight::Well);
        if *kept == Sight::Well {
            *kept = sight;
        }
    }
    sights
}

/// Takes Feishu's event pushes to store apps.
pub(super) struct FeishuEvents {
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) accounts: Accounts,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seen: Mutex<Seen>,
}

impl FeishuEvents {
    pub(super) fn new(
        config: watch::Receiver<Arc<Config>>,
        accounts: Accounts,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { config, accounts, store, clock, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answered once the ticket is durable: Feishu does not push it again after that.
    async fn keep(&self, ticket: AppTicket, uuid: Option<String>) -> Result<(), EventRefusal> {
        let uuid = uuid.unwrap_or_default();
        if self.seen().contains(&uuid) || !self.accounts.offer(&ticket) {
            return Ok(());
        }
        self.store.keep_ticket(&ticket).await.map_err(EventRefusal::NotKept)?;
        self.seen().insert(uuid);
        Ok(())
    }
}

#[async_trait]
impl EventSink for FeishuEvents {
    fn knows(&self, app_id: &str) -> bool {
        let store = |it: &Credentials| matches!(it, Credentials::Store { .. });
        let config = self.config.borrow();
        let mut all = config.accounts.iter().map(|account| &account.credentials);
        all.any(|credentials| store(credentials) && credentials.app_id() == app_id)
    }

    async fn handle(
        &self,
        app_id: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<EventReply, EventRefusal> {
        let config = self.config.borrow().clone();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let headers = EventHeaders {
            timestamp: header("X-Lark-Request-Timestamp"),
            nonce: header("X-Lark-Request-Nonce"),
            signature: header("X-Lark-Signature"),
        };
        // All tenants of an app have the same token and key; the first one's stand for all.
        let keys = config.accounts.iter().find_map(|account| match &account.credentials {
            Credentials::Store { app_id: id, verification_token, encrypt_key, .. }
                if id == app_id =>
            {
                Some(Keys { verification_token, encrypt_key: encrypt_key.as_ref() })
            }
            Credentials::Store { .. } | Credentials::Internal { .. } => None,
        });
        let keys = keys.ok_or(EventRefusal::UnknownApp)?;
        match handle_event(body, headers, keys, self.clock.wall()).map_err(refusal)? {
            Event::Challenge(challenge) => Ok(EventReply(json!({ "challenge": challenge }))),
            Event::Ticket { app_id: whose, ticket, at, uuid } if whose == app_id => {
                self.keep(AppTicket { app_id: whose, ticket, at }, uuid).await?;
                Ok(EventReply(json!({})))
            }
            Event::Ticket { .. } => {
                let told = "the ticket is for another app_id than the one in the URL";
                Err(EventRefusal::NotAuthentic(told.to_owned()))
            }
            Event::Other => Ok(EventReply(json!({}))),
        }
    }
}

fn refusal(error: EventError) -> EventRefusal {
    match error {
        EventError::Malformed | EventError::NoEncryptKey => {
            EventRefusal::Malformed(error.to_string())
        }
        EventError::Plain | EventError::Stale | EventError::NotSigned | EventError::WrongToken => {
            EventRefusal::NotAuthentic(error.to_string())
        }
    }
}
