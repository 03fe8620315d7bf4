//! Gets a token for every account that no lane polls, so that wrong credentials or a dead network
//! show before the first task comes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::board::{LaneStatus, NO_LOOP, Suspension};
use super::{Context, Upstream};
use crate::clock::Steady;
use crate::config::QuotaLimits;
use crate::source::PollError;
use crate::task::{Kind, LaneName};

/// Token calls at once.
const AT_ONCE_MAX: usize = 64;
/// Of those, calls for accounts that failed before: hosts that never answer leave room for others.
const AGAIN_AT_ONCE_MAX: usize = 32;
/// Token calls begun in one round, so that thousands of accounts do not all ask Feishu at once.
const BEGUN_MAX: usize = 25;
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
    under_way: bool,
}

/// A token call: the account, its quota, and what came of it.
type Call = BoxFuture<'static, (String, QuotaLimits, Result<(), PollError>)>;

/// Until shutdown. Of a fleet one daemon does it.
pub(super) async fn run(context: Context) {
    let shutdown = context.shutdown.clone();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = probing(context) => {}
    }
}

async fn probing(context: Context) {
    let mut accounts: BTreeMap<String, Probed> = BTreeMap::new();
    let mut calls: FuturesUnordered<Call> = FuturesUnordered::new();
    let mut upstreams = context.upstreams.clone();
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = 0;
    loop {
        tokio::select! {
            Some((account, quota, ready)) = calls.next() => {
                ended(&context, &mut accounts, (&account, quota, &ready), &mut failed);
            }
            _ = rounds.tick() => {
                if failed > LINES_MAX {
                    let more = failed - LINES_MAX;
                    tracing::error!(more, "more accounts get no token: see `outcomed accounts`");
                }
                failed = 0;
                // Changed settings may have mended an account, or broken it.
                if upstreams.has_changed().unwrap_or(false) {
                    let known = upstreams.borrow_and_update().clone();
                    context.board.forget_probes(|account| known.contains_key(account));
                    accounts.clear();
                    calls.clear();
                }
                if context.board.leads(context.member.id, context.clock.steady()) {
                    calls.extend(begin(&context, &mut accounts, calls.len()));
                }
            }
        }
    }
}

/// The token calls that are due: of those that have waited longest, as many as there is room for.
fn begin(
    context: &Context,
    accounts: &mut BTreeMap<String, Probed>,
    under_way: usize,
) -> Vec<Call> {
    let upstreams = context.upstreams.borrow().clone();
    let now = context.clock.steady();
    let mut due: Vec<(Option<Steady>, &String, &Upstream)> = Vec::new();
    for (account, upstream) in &*upstreams {
        let probed = accounts.entry(account.clone()).or_default();
        let wanted = !probed.asked || probed.again_at.is_some_and(|at| at <= now);
        if !wanted || probed.under_way {
            continue;
        }
        if context.board.has_lane_of(account) {
            // Its polls tell.
            *probed = Probed { asked: true, ..Probed::default() };
        } else {
            due.push((probed.again_at, account, upstream));
        }
    }
    // Those that were never asked come first.
    due.sort_by_key(|(again_at, ..)| *again_at);
    let again_under_way =
        accounts.values().filter(|it| it.under_way && it.again_at.is_some()).count();
    let mut again_room = AGAIN_AT_ONCE_MAX.saturating_sub(again_under_way);
    let room = AT_ONCE_MAX.saturating_sub(under_way).min(BEGUN_MAX);
    let mut calls: Vec<Call> = Vec::new();
    for (again_at, account, upstream) in due {
        if calls.len() >= room || (again_at.is_some() && again_room == 0) {
            break;
        }
        again_room -= usize::from(again_at.is_some());
        accounts.entry(account.clone()).or_default().under_way = true;
        let (account, upstream) = (account.clone(), upstream.clone());
        calls.push(Box::pin(async move {
            let ready = tokio::time::timeout(TIME_MAX, upstream.source.prepare()).await;
            (account, upstream.quota, ready.unwrap_or_else(|_| Err(overdue())))
        }));
    }
    calls
}

/// Takes what came of a token call. `failed` counts the accounts that began to fail this round.
fn ended(
    context: &Context,
    accounts: &mut BTreeMap<String, Probed>,
    (account, quota, ready): (&str, QuotaLimits, &Result<(), PollError>),
    failed: &mut usize,
) {
    let probed = accounts.entry(account.to_owned()).or_default();
    let first = probed.failures == 0;
    if ready.is_ok() {
        *probed = Probed { asked: true, ..Probed::default() };
    } else {
        let wait = AGAIN_FIRST * 2_u32.saturating_pow(probed.failures.min(8));
        let again_at = Some(context.clock.steady().after(wait.min(AGAIN_MAX)));
        *probed = Probed { again_at, failures: probed.failures + 1, asked: true, under_way: false };
    }
    let lane = LaneName { account: account.to_owned(), kind: Kind::default() };
    let status = status(context, account, quota, ready, &lane);
    if first && ready.is_err() && *failed < LINES_MAX {
        tell(account, &status);
    } else if !first && ready.is_ok() {
        tracing::info!(account, "the account gets a token again");
    }
    *failed += usize::from(first && ready.is_err());
    context.board.probed(&lane, status);
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
    quota: QuotaLimits,
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
