//! The Feishu client over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "feishu_source/polls.rs"]
mod polls;
#[path = "feishu_source/store_app.rs"]
mod store_app;
#[path = "feishu_source/tls.rs"]
mod tls;
#[path = "feishu_source/tokens.rs"]
mod tokens;
#[path = "feishu_source/upstream.rs"]
mod upstream;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use outcomed::clock::{Clock, Steady, Timestamp};
use outcomed::config::secret::Secret;
use outcomed::config::{Account, Credentials, QuotaLimits};
use outcomed::observability::Metrics;
use outcomed::source::feishu::{Deadlines, Feishu, Http, Tickets};
use outcomed::source::{Observation, PollError, Polled, Source, TransientClass};

use upstream::Upstream;

const WEBSITE: &str = "7047318856652261676";
const TASK: &str = "f1c2a0f138ec492d99d7ab73594158ad";
/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that stands still until a test moves it.
#[derive(Default)]
struct TestClock(AtomicI64);

impl TestClock {
    fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Steady {
        Steady(self.0.load(Ordering::SeqCst))
    }
}

fn provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("installed once");
    });
}

fn http(total: Duration) -> Http {
    provider();
    Http::new(Deadlines { connect: total, total }).unwrap()
}

fn account(upstream: &Upstream, credentials: Credentials) -> Account {
    let base_url = upstream.base_url();
    Account { name: "default".into(), credentials, base_url, quota: QuotaLimits::default() }
}

fn internal() -> Credentials {
    Credentials::Internal { app_id: "cli_a".into(), app_secret: Secret::new("s3cret") }
}

/// A self-built app's source at `upstream`, and its clock.
fn source(upstream: &Upstream) -> (Arc<Feishu>, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    let account = account(upstream, internal());
    let http = http(Duration::from_secs(5));
    let metrics = Arc::new(Metrics::default());
    let feishu = Feishu::new(&account, http, &Tickets::new(), clock.clone(), metrics);
    (Arc::new(feishu), clock)
}

async fn poll(source: &Feishu) -> Result<Polled, PollError> {
    tokio::time::timeout(PATIENCE, source.observe(WEBSITE, TASK)).await.expect("it hangs")
}

async fn prepare(source: &Feishu) -> Result<(), PollError> {
    tokio::time::timeout(PATIENCE, source.prepare()).await.expect("it hangs")
}

fn pending(result: &Result<Polled, PollError>) -> bool {
    matches!(result, Ok(Polled { observation: Observation::Pending { .. }, .. }))
}

/// The class of a transient error.
fn class(result: &Result<Polled, PollError>) -> Option<TransientClass> {
    match result {
        Err(PollError::Transient { class, .. }) => Some(*class),
        _ => None,
    }
}

/// The account's problem: its reason and its message.
fn problem<T: std::fmt::Debug>(result: Result<T, PollError>) -> (&'static str, String) {
    match result {
        Err(PollError::Account(problem)) => (problem.reason, problem.message),
        other => panic!("not an account's problem: {other:?}"),
    }
}
