//! Gets a token for every account that no lane polls, so that wrong credentials or a dead network
//! show before the first task comes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::board::{LaneStatus, NO_LOOP, Suspension};
use super::{Context, Upstream};
use crate::clock::Steady;
use crate::source::PollError;
use crate::task::{Kind, LaneName};

/// Token calls at once.
const AT_ONCE: usize = 8;
/// The least time between two of them: thousands of accounts take minutes, not Feishu's patience.
const SPACING: Duration = Duration::from_millis(20);
/// How long one may take.
const TIME_MAX: Duration = Duration::from_secs(15);
/// An account that failed is asked again after this; the wait doubles.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked at what is due.
const ROUND: Duration = Duration::from_millis(500);
/// Lines about single accounts in one round; the rest are counted.
const LINES_MAX: usize = 10;

/// How far an account is.
#[derive(Debug, Default)]
struct Probed {
    /// When to ask again; `None`: it is well, or has not been asked.
    again_at: Option<Steady>,
    failures: u32,
    asked: bool,
}

/// Until shutdown. Of a fleet one daemon does it.
pub(super) async fn run(context: Context) {
    let mut accounts: BTreeMap<String, Probed> = BTreeMap::new();
    let mut upstreams = context.upstreams.clone();
    let probing = async {
        loop {
            // Changed settings may have mended an account, or broken it.
            if upstreams.has_changed().unwrap_or(false) {
                upstreams.borrow_and_update();
                accounts.clear();
            }
            if context.board.leads(context.member.id, context.clock.steady()) {
                round(&context, &mut accounts).await;
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    tokio::select! {
        () = context.shutdown.cancelled() => {}
        () = probing => {}
    }
}

async fn round(context: &Context, accounts: &mut BTreeMap<String, Probed>) {
    let upstreams = context.upstreams.borrow().clone();
    accounts.retain(|account, _| upstreams.contains_key(account));
    let now = context.clock.steady();
    let mut due: Vec<(String, Upstream)> = Vec::new();
    for (account, upstream) in &*upstreams {
        let probed = accounts.entry(account.clone()).or_default();
        let wanted = !probed.asked || probed.again_at.is_some_and(|at| at <= now);
        if !wanted {
            continue;
        }
        if context.board.has_lane_of(account) {
            // Its polls tell.
            *probed = Probed { asked: true, ..Probed::default() };
        } else {
            due.push((account.clone(), upstream.clone()));
        }
    }
    let mut lines = 0;
    let spaced = due.into_iter().enumerate().map(async |(number, (account, upstream))| {
        if number >= AT_ONCE {
            tokio::time::sleep(SPACING * u32::try_from(AT_ONCE).unwrap_or(1)).await;
        }
        let ready = tokio::time::timeout(TIME_MAX, upstream.source.prepare()).await;
        (account, upstream.quota, ready)
    });
    let mut answers = std::pin::pin!(stream::iter(spaced).buffer_unordered(AT_ONCE));
    while let Some((account, quota, ready)) = answers.next().await {
        let ready = ready.unwrap_or_else(|_| Err(overdue()));
        let now = context.clock.steady();
        let probed = accounts.entry(account.clone()).or_default();
        let first = probed.failures == 0;
        probed.asked = true;
        if ready.is_ok() {
            *probed = Probed { asked: true, ..Probed::default() };
        } else {
            let wait = AGAIN_FIRST * 2_u32.saturating_pow(probed.failures.min(8));
            probed.again_at = Some(now.after(wait.min(AGAIN_MAX)));
            probed.failures += 1;
        }
        let lane = LaneName { account: account.clone(), kind: Kind::default() };
        let status = status(context, &account, quota, &ready, &lane);
        if first && ready.is_err() {
            lines += 1;
            if lines <= LINES_MAX {
                tell(&account, &status);
            }
        } else if !first && ready.is_ok() {
            tracing::info!(account, "the account gets a token again");
        }
        context.board.probed(&lane, status);
    }
    if lines > LINES_MAX {
        let more = lines - LINES_MAX;
        tracing::error!(more, "more accounts get no token: see `outcomed accounts`");
    }
}

fn tell(account: &str, status: &LaneStatus) {
    if let Some(why) = &status.suspended {
        tracing::error!(account, reason = %why.reason, why = why.message,
            "the account cannot poll; its tasks would wait");
    } else if let Some(why) = &status.failing {
        tracing::warn!(account, why = why.message, "Feishu gives the account no token");
    }
}

fn overdue() -> PollError {
    let detail = format!("no token within {} s", TIME_MAX.as_secs());
    PollError::Transient { class: crate::source::TransientClass::Timeout, detail }
}

fn status(
    context: &Context,
    account: &str,
    quota: crate::config::QuotaLimits,
    ready: &Result<(), PollError>,
    lane: &LaneName,
) -> LaneStatus {
    let wall = context.clock.wall();
    let before = context.board.probe_of(lane);
    let (mut suspended, mut failing) = (None, None);
    let since = |was: Option<Suspension>| was.map_or(wall, |was| was.since);
    match ready {
        Ok(()) => {}
        Err(PollError::Account(problem)) => {
            suspended = Some(Suspension {
                reason: problem.reason.into(),
                message: problem.message.clone(),
                since: since(before.as_ref().and_then(|it| it.suspended.clone())),
            });
        }
        Err(error) => {
            let since = since(before.as_ref().and_then(|it| it.failing.clone()));
            let message = format!(
                "Feishu has given account {account} no token since {since} ({error}); its tasks \
                 would wait"
            );
            failing = Some(Suspension { reason: "no_answer".into(), message, since });
        }
    }
    let answered = if ready.is_ok() {
        Some((wall, "token".into()))
    } else {
        before.and_then(|it| it.answered)
    };
    LaneStatus {
        suspended,
        failing,
        answered,
        watched: 0,
        polls_last_second: 0,
        polls_last_minute: 0,
        quota,
        figures: None,
        alive_at: NO_LOOP,
    }
}
