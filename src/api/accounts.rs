//! `GET /v1/accounts`: how each account does, for operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::duration;
use super::openapi::{QueryRefused, Refused};
use super::problem::Result;
use super::query::Query;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::config::{Account, QuotaLimits};
use crate::polling::board::{self, LaneStatus};
use crate::task::LaneName;

/// Every account.
#[derive(Serialize, ToSchema)]
pub struct AccountList {
    /// In the configuration's order.
    items: Vec<AccountView>,
}

/// How one account does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountView {
    /// Its name.
    name: String,
    /// `ok`; `failing`: no usable answer lately; or `suspended`: it cannot poll until a person acts.
    #[schema(pattern = "^(ok|failing|suspended)$")]
    state: &'static str,
    /// The stable word for why it is not ok; `no_answer` while it is failing.
    reason: Option<String>,
    /// What happened, and what to do about it.
    message: Option<String>,
    /// Since when it is so.
    since: Option<Timestamp>,
    /// What Feishu last answered: `pending`, `not_found`, `settled`, or `token` where only a token
    /// was asked for so far; null if nothing since the start.
    last_answer: Option<String>,
    /// When that was.
    last_answer_at: Option<Timestamp>,
    /// Tasks watched.
    watched: u64,
    /// Polls sent lately.
    polls: Polls,
    /// The limits of each API's quota.
    quota: Quota,
    /// How long after a task settles it is expected to be seen; null until enough is known.
    #[schema(example = "850ms")]
    expected_detection_delay: Option<String>,
    /// How long after they settled the latest tasks were seen, on average; null until a few were.
    #[schema(example = "870ms")]
    mean_detection_delay: Option<String>,
    /// The least mean delay that any schedule could have with this many tasks, this quota and polls
    /// that are worth `polling.poll_worth`.
    #[schema(example = "820ms")]
    detection_delay_bound: Option<String>,
    /// The mean delay divided by the bounds of its time; until there is one, of the expected delay.
    #[schema(example = 1.06)]
    ratio_to_bound: Option<f64>,
    /// What one poll must save at present, in expected waiting.
    #[schema(example = "95ms")]
    poll_price: Option<String>,
    /// Polls that a new task can expect.
    #[schema(example = 5.2)]
    polls_per_task: Option<f64>,
    /// New tasks a minute.
    #[schema(example = 190.5)]
    tasks_per_minute: Option<f64>,
}

/// Polls sent lately.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Polls {
    /// In the last second.
    last_second: u32,
    /// In the last minute.
    last_minute: u32,
}

/// A quota's limits.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quota {
    /// In any second.
    per_second: u32,
    /// In any 60 seconds.
    per_minute: u32,
}

/// Look at the accounts
#[utoipa::path(get, path = "/v1/accounts", operation_id = "listAccounts", tag = "accounts",
    responses((status = 200, description = "Every account", body = AccountList),
              QueryRefused, Refused))]
pub async fn accounts(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<AccountList>> {
    caller.require_operator()?;
    Query::parse(uri.query()).finish()?;
    let board = shared.given.board.read_all();
    Ok(Json(AccountList { items: views(&caller.config.accounts, &board) }))
}

/// Joins what is configured with what the lanes say.
fn views(accounts: &[Account], board: &[(LaneName, LaneStatus)]) -> Vec<AccountView> {
    let mut lanes: BTreeMap<&str, Vec<&LaneStatus>> = BTreeMap::new();
    for (lane, status) in board {
        lanes.entry(&lane.account).or_default().push(status);
    }
    let none = Vec::new();
    accounts.iter().map(|it| view(it, lanes.get(it.name.as_str()).unwrap_or(&none))).collect()
}

/// An account is as ill as its illest lane, and as slow as its slowest.
fn view(account: &Account, lanes: &[&LaneStatus]) -> AccountView {
    let (state, trouble) = board::trouble(lanes.iter().copied()).unzip();
    let answered = lanes.iter().filter_map(|lane| lane.answered.as_ref()).max();
    let QuotaLimits { per_second, per_minute } = account.quota;
    let figures =
        lanes.iter().filter_map(|lane| lane.figures).max_by_key(|figures| figures.expected_delay);
    AccountView {
        name: account.name.clone(),
        state: state.unwrap_or("ok"),
        reason: trouble.as_ref().map(|it| it.reason.to_string()),
        message: trouble.as_ref().map(|it| it.message.clone()),
        since: trouble.as_ref().map(|it| it.since),
        last_answer: answered.map(|(_, what)| what.to_string()),
        last_answer_at: answered.map(|(at, _)| *at),
        watched: lanes.iter().map(|lane| lane.watched).sum(),
        polls: Polls {
            last_second: lanes.iter().map(|lane| lane.polls_last_second).sum(),
            last_minute: lanes.iter().map(|lane| lane.polls_last_minute).sum(),
        },
        quota: Quota { per_second, per_minute },
        expected_detection_delay: figures.map(|it| duration::print(it.expected_delay)),
        mean_detection_delay: figures.and_then(|it| it.mean_delay).map(duration::print),
        detection_delay_bound: figures.map(|it| duration::print(it.bound)),
        ratio_to_bound: figures.map(|it| hundredths(it.ratio_to_bound)),
        poll_price: figures.map(|it| duration::print(it.price)),
        polls_per_task: figures.map(|it| hundredths(it.polls_per_task)),
        tasks_per_minute: figures.map(|it| hundredths(it.tasks_per_minute)),
    }
}

/// More digits would only pretend.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The names and reasons of the accounts in this state, without what only operators may read.
pub fn in_state(
    state: &str,
    accounts: &[Account],
    board: &[(LaneName, LaneStatus)],
) -> Vec<serde_json::Value> {
    views(accounts, board)
        .into_iter()
        .filter(|view| view.state == state)
        .map(|view| {
            serde_json::json!({"name": view.name, "reason": view.reason, "since": view.since})
        })
        .collect()
}
