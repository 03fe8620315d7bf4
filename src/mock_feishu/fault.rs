//! What can go wrong on demand or by chance.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::options::{App, QuotaStatus};
use super::reply::Reply;
use super::windows::{Spent, Window};

/// How long a chance-made slow body takes: long for a poll, short of every sane timeout.
const SLOW_BODY: Duration = Duration::from_secs(3);

/// One call that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500 with 1002001.
    System,
    /// 502 with a page of HTML.
    BadGateway,
    /// 504 with nothing.
    GatewayTimeout,
    /// 400 with a page of HTML.
    EdgePage,
    /// The connection is reset.
    Reset,
    /// The right answer, in pieces that take this long.
    SlowBody(Duration),
    /// JSON that ends too early.
    BrokenJson,
    /// 99991400, with this much time to wait.
    Quota(Duration),
    /// 429 with 99991403.
    MonthlyQuota,
    /// Any code, with any HTTP status: Feishu sends some errors with 200.
    Code {
        /// The HTTP status.
        status: u16,
        /// The JSON `code`.
        code: i64,
        /// The JSON `msg`.
        msg: String,
    },
}

impl Fault {
    /// One of the faults that networks and edges make by chance.
    pub(super) fn draw(random: &mut impl Rng) -> Self {
        match random.random_range(0..6) {
            0 => Self::System,
            1 => Self::BadGateway,
            2 => Self::GatewayTimeout,
            3 => Self::EdgePage,
            4 => Self::Reset,
            _ => Self::SlowBody(SLOW_BODY),
        }
    }

    /// The reply in place of the right one; a slow body has none of its own.
    pub(super) fn reply(&self, quota: QuotaStatus, log_id: &str) -> Option<Reply> {
        Some(match self {
            Self::System => Reply::system_error(log_id),
            Self::BadGateway => Reply::bad_gateway(),
            Self::GatewayTimeout => Reply::gateway_timeout(),
            Self::EdgePage => Reply::edge_page(),
            Self::Reset => Reply::reset(),
            Self::SlowBody(_) => return None,
            Self::BrokenJson => Reply::broken_json(),
            Self::Quota(reset) => {
                let window = Window { calls: 1000, length: Duration::from_secs(60) };
                Reply::quota(quota, Spent { window, reset: *reset }, log_id)
            }
            Self::MonthlyQuota => Reply::monthly_quota(log_id),
            Self::Code { status, code, msg } => {
                Reply::refusal("scripted", *status, *code, msg, log_id)
            }
        })
    }
}

/// What the account may do: everything but `Good` needs a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    #[default]
    Good,
    /// 99991672.
    MissingScope,
    /// 99991662.
    AppDisabled,
    /// 99991673.
    NotInstalled,
    /// 99991401.
    IpDenied,
    /// 99991676.
    NoPermission,
    /// 99991403.
    MonthlyQuotaGone,
}

impl Standing {
    /// Why a call of the hire API is refused, if it is.
    pub(super) fn refusal(self, app: &App, log_id: &str) -> Option<Reply> {
        let (word, code, msg) = match self {
            Self::Good => return None,
            Self::MissingScope => return Some(Reply::missing_scope(app, log_id)),
            Self::MonthlyQuotaGone => return Some(Reply::monthly_quota(log_id)),
            Self::AppDisabled => {
                ("app_disabled", 99_991_662, "The app is not enabled. Please check the app status.")
            }
            Self::NotInstalled => {
                ("not_installed", 99_991_673, "The app is not installed in this tenant.")
            }
            Self::IpDenied => {
                ("ip_denied", 99_991_401, "The request is denied by the app's IP allow list.")
            }
            Self::NoPermission => {
                ("no_permission", 99_991_676, "The token has no permission to call this API.")
            }
        };
        Some(Reply::refusal(word, 400, code, msg, log_id))
    }
}
