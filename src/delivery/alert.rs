//! Tells a person, at the client's `alert_url`, that something stands still, and that it is back:
//! one signed event an incident, not a delivery.
//!
//! A loop of its own: nothing here can hold up a delivery, and what was told is in the store, so
//! that a restart does not tell it again.

pub mod incident;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::incident::{DISABLED_AFTER, GONE_FOR, News, Recovery, Sight, retry_at};
use super::health::{Health, OriginState, OriginStatus, by_origin};
use super::ping;
use super::send::{Courier, Parcel, Tls};
use super::sign::sign;
use crate::clock::{Clock, Timestamp};
use crate::config::{Client, Config, Role};
use crate::store::{Filter, Notice, Result, Store};
use crate::task::State;

/// How often it is looked whether something stands still: well below the patience with anything.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Events sent at once.
const AT_ONCE: usize = 8;
/// Callbacks that wait to be told of; more at once are told of by the log.
pub const CLOSED_MAX: usize = 64;

/// Why nothing more is sent: the receiver said 410.
pub const GONE: &str = "gone";
/// Why nothing more is sent: a delivery's schedule is used up.
pub const EXHAUSTED: &str = "exhausted";

/// A callback where a delivery ended undelivered.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Whose.
    pub client: String,
    /// Where.
    pub url: Url,
    /// [`GONE`] or [`EXHAUSTED`].
    pub reason: &'static str,
}

/// What is seen of each account, by name.
pub type Accounts = Arc<dyn Fn() -> BTreeMap<String, Sight> + Send + Sync>;

/// What alerting is made of.
pub struct Alerts {
    /// Where what was told is remembered.
    pub store: Arc<dyn Store>,
    /// How the receivers are doing.
    pub health: Health,
    /// How the accounts are doing.
    pub accounts: Accounts,
    /// Whether, of all daemons, this one decides and tells now: an incident is told once.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Where deliveries ended undelivered.
    pub closed: mpsc::Receiver<Closed>,
    /// Who is told, and where.
    pub config: watch::Receiver<Arc<Config>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What carries events, under the rules for callbacks.
    pub courier: Arc<dyn Courier>,
}

/// Alerts until `shutdown`.
pub async fn run(mut alerts: Alerts, shutdown: CancellationToken) {
    let mut recovery = BTreeMap::new();
    let alerting = async {
        loop {
            if let Err(error) = alerts.look(&mut recovery).await {
                tracing::warn!(%error, "alerts cannot be looked after now, trying again");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = alerting => {}
    }
}

impl Alerts {
    /// One look: what stands still, whom that concerns, and what is due to be told.
    async fn look(&mut self, recovery: &mut BTreeMap<String, Recovery>) -> Result<()> {
        let config = self.config.borrow().clone();
        let mut closed = Vec::new();
        while let Ok(one) = self.closed.try_recv() {
            closed.push(one);
        }
        if config.clients.iter().all(|client| client.alert_url.is_none()) {
            return Ok(());
        }
        let now = self.clock.wall();
        let told = self.store.notices().await?;
        let origins = self.health.everywhere().await;
        let leads = (self.leads)();
        for client in config.clients.iter().filter(|client| client.alert_url.is_some()) {
            let sights = self.sights(client, &origins);
            let recovery = recovery.entry(client.name.clone()).or_default();
            recovery.observe(&sights, now);
            for (subject, sight) in sights.iter().filter(|_| leads) {
                let last = find(&told, &client.name, subject);
                let Some(news) = recovery.news(subject, sight, last, now) else { continue };
                // Whoever was told that it began is told that it is over.
                if last.is_some_and(|last| last.raised) || self.concerns(client, subject).await? {
                    self.store.keep_notice(&notice(client, subject, &news, last, now)).await?;
                }
            }
            for ended in closed.iter().filter(|ended| ended.client == client.name) {
                let subject = callback(&ended.url);
                if find(&told, &client.name, &subject).is_none() {
                    let news = News::Raised { since: now, reason: ended.reason.to_owned() };
                    self.store.keep_notice(&notice(client, &subject, &news, None, now)).await?;
                }
            }
        }
        if leads {
            self.forget_closed(told, now).await?;
            self.tell(&config, now).await?;
        }
        Ok(())
    }

    /// What a client sees: of the origins what becomes of its own callbacks, an operator's what
    /// becomes of everybody's.
    fn sights(&self, client: &Client, origins: &[OriginStatus]) -> BTreeMap<String, Sight> {
        let accounts = (self.accounts)();
        let accounts = accounts.into_iter().map(|(name, sight)| (format!("account {name}"), sight));
        let all = client.role == Role::Operator;
        let of_it = origins.iter().filter(|it| all || it.client == client.name).cloned().collect();
        let origins = by_origin(of_it);
        let origins = origins.into_iter().filter_map(|it| Some((origin(&it), seen(&it)?)));
        accounts.chain(origins).collect()
    }

    /// An operator is concerned by everything, a client by what it waits for.
    async fn concerns(&self, client: &Client, subject: &str) -> Result<bool> {
        if client.role == Role::Operator {
            return Ok(true);
        }
        let of_client = Filter { client: Some(client.name.clone()), ..Filter::default() };
        let filter = match subject.split_once(' ') {
            Some(("account", name)) => {
                Filter { state: Some(State::Watching), account: Some(name.to_owned()), ..of_client }
            }
            Some((_, url)) => {
                let host = Url::parse(url).ok().and_then(|url| Some(url.host_str()?.to_owned()));
                Filter { state: Some(State::Delivering), callback_host: host, ..of_client }
            }
            None => return Ok(false),
        };
        let mut before = None;
        loop {
            let listed = self.store.list(&filter, before.as_deref(), 1).await?;
            if !listed.items.is_empty() || listed.resume.is_none() {
                return Ok(!listed.items.is_empty());
            }
            before = listed.resume;
        }
    }

    /// That a delivery ended has no end that could be seen; it is forgotten after a while.
    async fn forget_closed(&self, told: Vec<Notice>, now: Timestamp) -> Result<()> {
        let is_old = |notice: &Notice| {
            notice.subject.starts_with("callback ")
                && notice.next_attempt_at.is_none()
                && now.since(notice.at) > GONE_FOR
        };
        for notice in told.into_iter().filter(is_old) {
            self.store.keep_notice(&Notice { raised: false, ..notice }).await?;
        }
        Ok(())
    }

    /// Sends what is due, and remembers how that went.
    async fn tell(&self, config: &Config, now: Timestamp) -> Result<()> {
        let due: Vec<Notice> = self.store.notices().await?;
        let is_due = |notice: &&Notice| notice.next_attempt_at.is_some_and(|at| at <= now);
        let due: Vec<&Notice> = due.iter().filter(is_due).take(AT_ONCE).collect();
        let sent = join_all(due.iter().map(|notice| self.send(notice, config))).await;
        for (notice, problem) in due.into_iter().zip(sent) {
            let attempts = notice.attempts.saturating_add(1);
            let next_attempt_at =
                problem.as_ref().and_then(|_| retry_at(attempts, self.clock.wall()));
            if let Some(problem) = problem {
                let (client, subject) = (&notice.client, &notice.subject);
                tracing::warn!(client, subject, problem, "an alert could not be told");
            }
            let notice = Notice { attempts, next_attempt_at, ..notice.clone() };
            self.store.keep_notice(&notice).await?;
        }
        Ok(())
    }

    /// One attempt; what went wrong, if anything did.
    async fn send(&self, notice: &Notice, config: &Config) -> Option<String> {
        let client = config.clients.iter().find(|client| client.name == notice.client);
        let Some((client, url)) = client.and_then(|it| Some((it, it.alert_url.clone()?))) else {
            return Some("the client has no alert_url any more".to_owned());
        };
        let (secrets, keys) = (&client.signing_secrets, &client.signing_keys);
        let headers = match sign(&notice.id, self.clock.wall(), &notice.body, secrets, keys) {
            Ok(headers) => headers,
            Err(error) => return Some(error.to_string()),
        };
        let parcel = Parcel {
            client: client.name.clone(),
            url,
            allow: client.callback_allow.clone(),
            tls: Tls::of(client, &config.delivery),
            headers,
            body: Bytes::from(notice.body.clone()),
            timeout: config.delivery.timeout,
        };
        let reply = self.courier.send(parcel).await;
        match (reply.broken, reply.status) {
            (Some(broken), _) => Some(broken.to_string()),
            (None, Some(200..=299)) => None,
            (None, status) => Some(format!("the receiver answered {}", status.unwrap_or_default())),
        }
    }
}

fn find<'a>(told: &'a [Notice], client: &str, subject: &str) -> Option<&'a Notice> {
    told.iter().find(|notice| notice.client == client && notice.subject == subject)
}

fn origin(status: &OriginStatus) -> String {
    format!("origin {}", status.origin)
}

/// Held on a receiver's own word (429) is not ill, unless it has been saying so for long; only
/// proof of life is well.
fn seen(status: &OriginStatus) -> Option<Sight> {
    match (status.state, status.held_since) {
        (OriginState::Ok, _) => Some(Sight::Well),
        (OriginState::Held, Some(since)) if status.failures_in_a_row > 0 => {
            Some(Sight::Ill { since, reason: "unreachable".to_owned() })
        }
        (OriginState::Held, Some(since)) => {
            let lasts = status.refused_at.is_some_and(|at| at.since(since) >= DISABLED_AFTER);
            lasts.then(|| Sight::Ill { since, reason: "throttled".to_owned() })
        }
        _ => None,
    }
}

/// The subject of a callback, without the query, which may be secret.
fn callback(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    format!("callback {url}")
}

/// The event, its bytes fixed.
fn notice(
    client: &Client,
    subject: &str,
    news: &News,
    last: Option<&Notice>,
    now: Timestamp,
) -> Notice {
    let (what, name) = subject.split_once(' ').unwrap_or(("origin", subject));
    let of = if what == "account" { "account" } else { "delivery" };
    let mut data = Map::from_iter([(what.to_owned(), Value::from(name))]);
    let (event, since) = match news {
        News::Raised { since, reason } => {
            data.insert("reason".to_owned(), reason.as_str().into());
            (if of == "account" { "suspended" } else { "disabled" }, *since)
        }
        News::Recovered => {
            data.insert("recovered_at".to_owned(), now.to_string().into());
            ("recovered", last.map_or(now, |last| last.since))
        }
    };
    data.insert("since".to_owned(), since.to_string().into());
    let kind = format!("{of}.{event}");
    let body = serde_json::json!({"type": kind, "timestamp": now.to_string(), "data": data});
    Notice {
        client: client.name.clone(),
        subject: subject.to_owned(),
        raised: matches!(news, News::Raised { .. }),
        since,
        at: now,
        id: ping::id(now),
        body: body.to_string().into_bytes(),
        attempts: 0,
        next_attempt_at: Some(now),
    }
}
