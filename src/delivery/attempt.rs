//! One attempt from end to end: sign, send, judge, record.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_retry::RetryIf;
use tokio_retry::strategy::ExponentialBackoff;
use url::Url;

use super::alert::{Closed, EXHAUSTED, GONE};
use super::breaker::Pulse;
use super::dispatch::Ended;
use super::handover::{Handover, OVERDUE};
use super::retry::{Round, Verdict, asked, judge};
use super::send::{Class, Courier, Parcel, Reply, Tls, details};
use super::sign::{Headers, sign};
use crate::clock::{Clock, Steady, Timestamp};
use crate::config::{self, Client, Config};
use crate::observability::metrics::Metrics;
use crate::store::{self, Attempt, Delivery, Next, Outbox, StoreError};
use crate::task::webhook_id;

/// How soon a delivery that could not be signed is looked at again. The configuration has to
/// change first, which takes a person.
const UNSIGNABLE_WAIT: Duration = Duration::from_secs(60);
/// How soon a delivery is looked at again that may be another daemon's by now.
const NOT_OURS_WAIT: Duration = Duration::from_secs(1);
/// The longest wait before recording an attempt is tried again. The reply is all there is to show
/// for the receiver's work, so it is held until the store takes it.
const RECORD_WAIT_MAX: Duration = Duration::from_secs(5);
/// Deliveries to a callback that is gone which are ended in one commit, and the pause between two:
/// no other write waits noticeably.
const GONE_STEP: u32 = 200;
const GONE_PAUSE: Duration = Duration::from_millis(20);

/// What one attempt needs from around it.
pub(super) struct Attempting {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) courier: Arc<dyn Courier>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) handover: Handover,
    pub(super) closed: mpsc::Sender<Closed>,
    pub(super) ours: Arc<dyn Fn() -> bool + Send + Sync>,
    pub(super) jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
    pub(super) complaints: Complaints,
}

/// What was complained about for each client, and when: a thousand deliveries that wait for the
/// same person are one complaint a minute.
#[derive(Default)]
pub(super) struct Complaints(Mutex<BTreeMap<String, Steady>>);

impl Complaints {
    fn is_new(&self, client: &str, now: Steady) -> bool {
        let mut complaints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.retain(|_, at| now.since(*at) < UNSIGNABLE_WAIT);
        let is_new = !complaints.contains_key(client);
        if is_new {
            complaints.insert(client.to_owned(), now);
        }
        is_new
    }
}

impl Attempting {
    /// Makes one attempt. What it returns is durable.
    pub(super) async fn attempt(&self, delivery: &Delivery, config: &Config) -> (Pulse, Ended) {
        let now = self.clock.wall();
        let over_by = now.after(config.delivery.timeout.saturating_add(OVERDUE));
        let begun = (self.ours)().then(|| self.handover.begin(delivery, over_by));
        let Some(under_way) = begun.flatten() else {
            // Another daemon may be sending it: the rows will say, once they can be read. It is
            // still due in them, so the wait is here: else it would be fetched again at once.
            tokio::time::sleep(NOT_OURS_WAIT).await;
            return (Pulse::Unknown, Ended::Changed);
        };
        let over = self.begun(delivery, config, now).await;
        under_way.over();
        over
    }

    async fn begun(&self, delivery: &Delivery, config: &Config, now: Timestamp) -> (Pulse, Ended) {
        let (client, headers) = match signed(delivery, &config.clients, now) {
            Ok(signed) => signed,
            Err(problem) => return self.postpone(delivery, &problem, now).await,
        };
        let started = self.clock.steady();
        let reply = self.send(delivery, client, headers, &config.delivery).await;
        let duration = self.clock.steady().since(started);
        let ended_at = self.clock.wall();

        let broken = reply.broken.as_ref().map(ToString::to_string);
        let heard = reply.heard(broken.as_deref());
        let delays = &config.delivery.retry_delays;
        let began_at = delivery.first_attempt_at.unwrap_or(now);
        let round = Round { attempts: delivery.round, began_at };
        let verdict = judge(round, heard, delays, ended_at, (self.jitter)());
        let asked = asked(heard, ended_at);
        let pulse = match asked {
            Some(wait) => Pulse::Throttled(wait),
            None => pulse(&reply),
        };
        self.note(delivery, &reply, &verdict, duration, ended_at);
        let attempt = Attempt {
            number: delivery.attempts.saturating_add(1),
            at: now,
            duration,
            status: reply.status,
            error: error(&verdict),
            verdict: verdict.name().to_owned(),
            details: details(&reply, verdict.why(asked.is_some())),
            reply_excerpt: reply.excerpt,
        };
        (pulse, self.record(delivery, attempt, &verdict).await)
    }

    async fn send(
        &self,
        delivery: &Delivery,
        client: &Client,
        headers: Headers,
        settings: &config::Delivery,
    ) -> Reply {
        let Ok(url) = Url::parse(&delivery.callback_url) else {
            return Reply::broken(Class::RefusedAddress, "the stored callback is not a URL");
        };
        let parcel = Parcel {
            client: client.name.clone(),
            url,
            allow: client.callback_allow.clone(),
            headers,
            tls: Tls::of(client, settings),
            body: Bytes::from(delivery.body.clone()),
            timeout: settings.timeout,
        };
        // A panic over one odd reply must not take the other deliveries along.
        let sent = AssertUnwindSafe(self.courier.send(parcel)).catch_unwind().await;
        sent.unwrap_or_else(|_| Reply::broken(Class::Internal, "a bug: see the log"))
    }

    async fn postpone(&self, delivery: &Delivery, problem: &str, now: Timestamp) -> (Pulse, Ended) {
        let until = now.after(UNSIGNABLE_WAIT);
        if self.complaints.is_new(&delivery.client, self.clock.steady()) {
            tracing::error!(client = delivery.client, problem, "deliveries wait unsigned");
        }
        if let Err(error) = self.outbox.postpone(delivery, until, problem).await {
            tracing::warn!(%error, "a delivery could not be put off");
        }
        (Pulse::Unknown, Ended::DueAgain(until))
    }

    async fn record(&self, delivery: &Delivery, attempt: Attempt, verdict: &Verdict) -> Ended {
        let (next, ended) = match verdict {
            Verdict::Delivered => (Next::Delivered, Ended::Finished),
            Verdict::RetryAt { at, .. } => (Next::RetryAt(*at), Ended::DueAgain(*at)),
            Verdict::GaveUp { .. } => (Next::Undeliverable, Ended::Finished),
            Verdict::Gone => (Next::Gone, Ended::Finished),
        };
        let record = || self.outbox.record_attempt(delivery, attempt.clone(), next);
        let ended = match until_stored("an attempt", record).await {
            Ok(true) => ended,
            Ok(false) => Ended::Changed,
            Err(_) => return Ended::Unrecorded,
        };
        match verdict {
            Verdict::Gone => self.end_gone(delivery).await,
            Verdict::GaveUp { .. } => self.tell_closed(delivery, EXHAUSTED),
            Verdict::Delivered | Verdict::RetryAt { .. } => {}
        }
        ended
    }

    /// Ends, step by step, what waits for a callback that has just said 410. What is missed, a
    /// crash in between say, is attempted, and hears 410 itself.
    async fn end_gone(&self, delivery: &Delivery) {
        let (client, url) = (&delivery.client, &delivery.callback_url);
        let mut also_ended = 0;
        loop {
            let now = self.clock.wall();
            let step = || self.outbox.end_gone(client, url, now, GONE_STEP);
            let Ok(ended) = until_stored("a 410", step).await else { break };
            also_ended += ended;
            if ended < GONE_STEP {
                break;
            }
            tokio::time::sleep(GONE_PAUSE).await;
        }
        tracing::warn!(
            client,
            also_ended,
            "a callback URL answered 410 Gone: outcomes for it are kept as undeliverable until the \
             client registers it anew, redelivers to it, or pings it"
        );
        self.tell_closed(delivery, GONE);
    }

    fn tell_closed(&self, delivery: &Delivery, reason: &'static str) {
        if let Ok(url) = Url::parse(&delivery.callback_url) {
            // Nobody alerts, or too many at once: the log has said it.
            let _ = self.closed.try_send(Closed { client: delivery.client.clone(), url, reason });
        }
    }

    fn note(
        &self,
        delivery: &Delivery,
        reply: &Reply,
        verdict: &Verdict,
        took: Duration,
        now: Timestamp,
    ) {
        self.metrics.attempt(verdict.name(), reply.status, took);
        let registration_id = delivery.registration_id.as_str();
        let attempt = delivery.attempts.saturating_add(1);
        match verdict {
            Verdict::Delivered => {
                // A redelivery says nothing about how quickly outcomes are told.
                if delivery.attempts == delivery.round
                    && let Some(settled_at) = settled_at(&delivery.body)
                {
                    self.metrics.delivered(now.since(settled_at));
                }
                tracing::debug!(registration_id, attempt, "delivered");
            }
            Verdict::RetryAt { at, reason } => {
                tracing::info!(registration_id, attempt, reason, next_attempt_at = %at, "not delivered");
            }
            Verdict::GaveUp { reason } => {
                tracing::warn!(
                    registration_id,
                    attempt,
                    reason,
                    "undeliverable: the schedule is used up"
                );
            }
            Verdict::Gone => {
                tracing::warn!(registration_id, attempt, "undeliverable: the receiver said 410");
            }
        }
    }
}

/// The client and the signature, or what a person has to do first.
fn signed<'a>(
    delivery: &Delivery,
    clients: &'a [Client],
    now: Timestamp,
) -> Result<(&'a Client, Headers), String> {
    let name = &delivery.client;
    let client = clients
        .iter()
        .find(|client| client.name == *name)
        .ok_or_else(|| format!("client `{name}` is not configured: add it and reload"))?;
    let id = webhook_id(&delivery.registration_id);
    let headers = sign(&id, now, &delivery.body, &client.signing_secrets, &client.signing_keys)
        .map_err(|error| format!("client `{name}` has {error}"))?;
    Ok((client, headers))
}

/// What a reply says about its origin.
fn pulse(reply: &Reply) -> Pulse {
    match (&reply.broken, reply.status) {
        // These depend on who calls, not on who is called.
        (Some(broken), _) if matches!(broken.class, Class::RefusedAddress | Class::Internal) => {
            Pulse::Unknown
        }
        (Some(_), _) | (None, None | Some(408 | 429 | 500..=599)) => Pulse::Failing,
        (None, Some(_)) => Pulse::Alive,
    }
}

fn error(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Delivered => None,
        Verdict::RetryAt { reason, .. } | Verdict::GaveUp { reason } => Some(reason.clone()),
        Verdict::Gone => Some("the receiver answered 410: it wants nothing more here".to_owned()),
    }
}

/// When the outcome was stored, from the body that was fixed then.
fn settled_at(body: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Envelope {
        timestamp: Timestamp,
    }
    serde_json::from_slice::<Envelope>(body).ok().map(|envelope| envelope.timestamp)
}

/// Writes until it is written. Only a lost lease ends it: then the row is somebody else's.
async fn until_stored<T, F, W>(what: &'static str, mut write: W) -> store::Result<T>
where
    F: Future<Output = store::Result<T>>,
    W: FnMut() -> F,
{
    let waits = ExponentialBackoff::from_millis(2).factor(50).max_delay(RECORD_WAIT_MAX);
    let mut failed_before = false;
    let action = || write();
    RetryIf::start(waits, action, move |error: &StoreError| {
        if !std::mem::replace(&mut failed_before, true) {
            tracing::warn!(%error, "{what} could not be recorded, trying on");
        }
        !matches!(error, StoreError::LeaseLost)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_caller_says_nothing_about_the_origin() {
        let broken = |class| pulse(&Reply::broken(class, ""));
        for class in [Class::RefusedAddress, Class::Internal] {
            assert_eq!(broken(class), Pulse::Unknown);
        }
        for class in [Class::Dns, Class::Connect, Class::Tls, Class::Timeout, Class::Reset] {
            assert_eq!(broken(class), Pulse::Failing);
        }
        let status = |status| pulse(&Reply { status: Some(status), ..Reply::default() });
        for alive in [200, 204, 301, 400, 401, 404, 410, 422] {
            assert_eq!(status(alive), Pulse::Alive, "{alive}");
        }
        for failing in [408, 429, 500, 503, 599] {
            assert_eq!(status(failing), Pulse::Failing, "{failing}");
        }
    }

    #[test]
    fn one_client_is_complained_about_once_a_minute() {
        let complaints = Complaints::default();
        let at = |seconds: i64| Steady(seconds * 1_000);
        assert!(complaints.is_new("ats", at(0)));
        assert!(!complaints.is_new("ats", at(59)));
        assert!(complaints.is_new("other", at(59)));
        assert!(complaints.is_new("ats", at(60)));
    }

    #[test]
    fn the_time_of_the_outcome_is_read_from_the_body() {
        let body = br#"{"type":"x","timestamp":"1970-01-01T00:00:03.123Z","data":{}}"#;
        assert_eq!(settled_at(body), Some(Timestamp(3_123)));
        assert_eq!(settled_at(b"{}"), None);
    }
}
