//! One account's token: fetched once however many wait for it, and renewed ahead of its end while
//! polls go on with the old one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_retry::RetryIf;
use tokio_retry::strategy::{ExponentialBackoff, jitter};

use super::issuer::Issuer;
use super::token::{Cache, Lent};
use crate::clock::{Clock, Steady};
use crate::observability::Metrics;
use crate::source::{PollError, TransientClass};

/// Quick tries after the first one, within one fetch; the lane's own backoff follows.
const RETRIES: usize = 2;
/// `ExponentialBackoff` counts base^n, so base 2 times this: at most 200 ms, then 400 ms.
const RETRY_FACTOR_MS: u64 = 100;
/// The end of one fetch with all its tries and calls (a store app makes up to three).
const FETCH_DEADLINE: Duration = Duration::from_secs(30);

/// One account's token. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Keeper(Arc<Inner>);

struct Inner {
    account: String,
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cache: Cache,
    /// The fetch under way, which everybody who needs a token waits for.
    flight: Option<Flight>,
}

type Flight = Shared<BoxFuture<'static, Result<(), PollError>>>;

/// Ends the flight whichever way its task ends, a panic included: otherwise everybody would wait
/// for a fetch that is over.
struct Landing(Arc<Inner>);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.lock().flight = None;
    }
}

impl Keeper {
    pub(super) fn new(
        account: String,
        issuer: Issuer,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner { account, issuer, clock, metrics, state: Mutex::default() }))
    }

    /// Waits until there is a token; starts to renew one that nears its end.
    pub(super) async fn ready(&self) -> Result<(), PollError> {
        let flight = {
            // Looking and joining under one lock: a fetch that lands in between would otherwise
            // be followed by another one for nothing.
            let mut state = self.0.lock();
            if self.0.lend(&mut state).is_some() {
                return Ok(());
            }
            self.0.take_off(&mut state)
        };
        flight.await
    }

    /// The token, if there is one; starts to renew one that nears its end.
    pub(super) fn lend(&self) -> Option<Lent> {
        self.0.lend(&mut self.0.lock())
    }

    /// Feishu refused that token.
    pub(super) fn refused(&self, generation: u64) {
        self.0.lock().cache.refused(generation);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(self: &Arc<Self>, state: &mut State) -> Option<Lent> {
        let now = self.clock.steady();
        let lent = state.cache.lend(now)?;
        if state.cache.refresh_due(now) {
            // Nobody waits for this one: it runs on by itself.
            drop(self.take_off(state));
        }
        Some(lent)
    }

    /// Joins the fetch under way, or starts one. It is a task of its own, so that a caller who
    /// gives up neither stops it nor leaves it half done.
    fn take_off(self: &Arc<Self>, state: &mut State) -> Flight {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let task = tokio::spawn(Arc::clone(self).fetch());
        let flight = async move { task.await.unwrap_or_else(|_| Err(fetch_lost())) };
        let flight = flight.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    async fn fetch(self: Arc<Self>) -> Result<(), PollError> {
        // Made here, not by the caller: a runtime that shuts down drops the task where it is
        // spawned, under the lock that landing takes.
        let _landing = Landing(Arc::clone(&self));
        let backoff = ExponentialBackoff::from_millis(2).factor(RETRY_FACTOR_MS);
        let tries = RetryIf::start(
            backoff.map(jitter).take(RETRIES),
            || self.try_once(),
            |error: &PollError| matches!(error, PollError::Transient { .. }),
        );
        let result = tokio::time::timeout(FETCH_DEADLINE, tries).await;
        let result = result.unwrap_or_else(|_| Err(fetch_too_slow()));
        if let Err(error) = &result {
            self.failed(error);
        }
        result
    }

    async fn try_once(&self) -> Result<(), PollError> {
        // Its life is counted from before the call: rather too early than too late.
        let asked_at: Steady = self.clock.steady();
        let result = self.issuer.issue().await;
        let word = match &result {
            Ok(_) => "ok",
            Err(PollError::Account(_)) => "refused",
            Err(_) => "failed",
        };
        self.metrics.token_call(&self.account, word);
        let issued = result?;
        tracing::debug!(
            account = %self.account,
            expire_seconds = issued.expire.as_secs(),
            "got an access token"
        );
        self.lock().cache.keep(issued, asked_at);
        Ok(())
    }

    fn failed(&self, error: &PollError) {
        let now = self.clock.steady();
        let mut state = self.lock();
        // Without a token at hand, whoever waits for this fetch is told, and says so.
        if state.cache.lend(now).is_some() {
            tracing::warn!(
                account = %self.account,
                %error,
                "could not renew the access token; polls go on with the old one for now"
            );
        }
        state.cache.refresh_failed(now);
    }
}

fn fetch_too_slow() -> PollError {
    let detail = format!("no access token within {} s of asking for one", FETCH_DEADLINE.as_secs());
    PollError::Transient { class: TransientClass::Timeout, detail }
}

fn fetch_lost() -> PollError {
    let detail = "the fetch of an access token ended before its time".to_owned();
    PollError::Transient { class: TransientClass::Upstream, detail }
}
