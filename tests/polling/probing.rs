//! Accounts without a lane are asked for a token, and none waits for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use outcomed::config::QuotaLimits;
use outcomed::polling::{Upstream, Upstreams};
use outcomed::source::{PollError, Polled, Source, TransientClass};
use outcomed::task::{Kind, LaneName};
use tokio::sync::watch;
use tokio::time::sleep;

use super::stage::Stage;

/// How an account's host answers when it is asked for a token.
#[derive(Default)]
struct Host {
    /// Never, for so many calls.
    silent: AtomicU64,
    /// Then with a failure, for so many.
    failing: AtomicU64,
}

impl Host {
    fn new(silent: u64, failing: u64) -> Arc<Self> {
        Arc::new(Self { silent: silent.into(), failing: failing.into() })
    }
}

fn one_less(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl Source for Host {
    async fn prepare(&self) -> Result<(), PollError> {
        if one_less(&self.silent) {
            std::future::pending::<()>().await;
        }
        if one_less(&self.failing) {
            let detail = "refused".into();
            return Err(PollError::Transient { class: TransientClass::Network, detail });
        }
        Ok(())
    }

    async fn observe(&self, _website: &str, _task: &str) -> Result<Polled, PollError> {
        unreachable!("there is no task")
    }
}

fn upstreams(hosts: impl IntoIterator<Item = (String, Arc<Host>)>) -> Arc<Upstreams> {
    let upstream = |source| Upstream { source, quota: QuotaLimits::default() };
    Arc::new(hosts.into_iter().map(|(name, host)| (name, upstream(host))).collect())
}

fn lane(account: &str) -> LaneName {
    LaneName { account: account.into(), kind: Kind::default() }
}

#[tokio::test(start_paused = true)]
async fn hosts_that_never_answer_delay_the_probing_of_no_other_account() {
    let stage = Stage::new(Duration::MAX);
    let dead = (0..20).map(|n| (format!("dead-{n:02}"), Host::new(u64::MAX, 0)));
    let others = [("mended".into(), Host::new(0, 1)), ("well".into(), Host::new(0, 0))];
    let running = stage.start_with(watch::channel(upstreams(dead.chain(others))).1).await;
    sleep(Duration::from_secs(2)).await;
    let known = |account| running.board.probe_of(&lane(account));
    assert!(known("well").is_some_and(|it| it.answered.is_some()), "asked at once");
    assert!(known("mended").is_some_and(|it| it.failing.is_some()), "asked at once");
    sleep(Duration::from_secs(5)).await;
    assert!(known("mended").is_some_and(|it| it.failing.is_none()), "asked again after 5 s");
    sleep(Duration::from_secs(10)).await;
    let why = known("dead-19").and_then(|it| it.failing);
    assert!(why.is_some_and(|it| it.message.contains("no token within 15 s")));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_dead_hosts_are_all_asked_within_minutes() {
    let stage = Stage::new(Duration::MAX);
    let dead = || (0..500).map(|n| (format!("dead-{n:03}"), Host::new(u64::MAX, 0)));
    let running = stage.start_with(watch::channel(upstreams(dead())).1).await;
    sleep(Duration::from_secs(180)).await;
    let failing = running.board.read_known().iter().filter(|it| it.1.failing.is_some()).count();
    assert_eq!(failing, 500, "each was asked within three minutes");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_a_reload_removes_is_forgotten() {
    let stage = Stage::new(Duration::MAX);
    let both = ["kept", "removed"].map(|name| (name.to_owned(), Host::new(0, u64::MAX)));
    let (change, accounts) = watch::channel(upstreams(both));
    let running = stage.start_with(accounts).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(running.board.read_known().len(), 2);
    let kept = ("kept".to_owned(), Host::new(0, u64::MAX));
    change.send(upstreams([kept])).unwrap();
    sleep(Duration::from_secs(2)).await;
    let known: Vec<_> = running.board.read_known().into_iter().map(|it| it.0.account).collect();
    assert_eq!(known, ["kept"]);
    running.stop().await;
}
