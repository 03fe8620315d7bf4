//! Access tokens: what a token call's reply means, and how long a token is good for. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::field;
use super::refusal;
use super::reply::{Envelope, Reply};
use crate::clock::Steady;
use crate::config::secret::Secret;
use crate::source::{AccountProblem, PollError};

/// Feishu's longest life of a token; a longer one in a reply is not believed.
const LIFE_MAX: Duration = Duration::from_secs(7_200);
/// Refresh this long before the end: Feishu hands out a new token only in the last 30 minutes.
const REFRESH_LEAD_MAX: Duration = Duration::from_secs(25 * 60);
/// Of a short life, this share is left when the refresh starts.
const REFRESH_LEAD_SHARE: u32 = 5;
/// After a failed refresh, this share of what is left passes before the next one.
const REFRESH_AGAIN_SHARE: u32 = 10;
/// The bounds of that wait.
const REFRESH_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Real tokens have about 40 characters.
const TOKEN_CHARS_MAX: usize = 4_096;

/// The token calls. All answer flat, with HTTP 200 even when they fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A self-built app's `tenant_access_token`.
    Internal,
    /// A store app's `app_access_token`.
    App,
    /// A store app's `tenant_access_token`.
    Tenant,
    /// "Push the `app_ticket` again"; issues nothing.
    Resend,
}

impl Call {
    /// Where it is, below `base_url`.
    pub(super) fn path(self) -> &'static [&'static str] {
        match self {
            Self::Internal => &["open-apis", "auth", "v3", "tenant_access_token", "internal"],
            Self::App => &["open-apis", "auth", "v3", "app_access_token"],
            Self::Tenant => &["open-apis", "auth", "v3", "tenant_access_token"],
            Self::Resend => &["open-apis", "auth", "v3", "app_ticket", "resend"],
        }
    }
}

/// A token as it was issued.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) value: Secret,
    /// What is left of its life.
    pub(super) expire: Duration,
}

/// Why a token call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The `app_ticket` is no longer good: ask for another.
    Ticket,
    /// The `app_access_token` is no longer good: fetch another.
    AppToken,
    /// What the poll would say.
    Because(PollError),
}

/// The token in the reply to `call`.
pub(super) fn issued(reply: &Reply, call: Call) -> Result<Issued, Refused> {
    let envelope = accepted(reply, call)?;
    let name = if call == Call::App { "app_access_token" } else { "tenant_access_token" };
    let value = field::text(&envelope.fields, name)
        .filter(|token| token.len() <= TOKEN_CHARS_MAX)
        .filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
    let seconds = envelope.fields.get("expire").and_then(|expire| field::integer(expire));
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0);
    let (Some(value), Some(seconds)) = (value, seconds) else {
        let error = reply.unreadable(&format!("code 0 but no usable `{name}` and `expire`"));
        return Err(Refused::Because(error));
    };
    Ok(Issued { value: Secret::new(value), expire: Duration::from_secs(seconds).min(LIFE_MAX) })
}

/// The reply to `call`, if it says that all is well.
pub(super) fn accepted(reply: &Reply, call: Call) -> Result<Envelope<'_>, Refused> {
    let envelope = reply.envelope().map_err(Refused::Because)?;
    match envelope.code {
        0 if reply.is_success() => Ok(envelope),
        // 10012 is Feishu's SDKs' "app ticket invalid".
        10_012 => Err(Refused::Ticket),
        99_991_663 | 99_991_664 | 99_991_665 | 99_991_671 | 20_005 if call == Call::Tenant => {
            Err(Refused::AppToken)
        }
        code => Err(Refused::Because(match problem(code, call) {
            Some((reason, remedy)) => {
                PollError::Account(refusal::problem(reason, remedy, reply, &envelope))
            }
            // Also 2200, 1500, 5000, 10101; and 99991400, for this is not the polls' quota.
            None => refusal::upstream(reply, &envelope),
        })),
    }
}

fn problem(code: i64, call: Call) -> Option<(&'static str, &'static str)> {
    let remedy = match (code, call) {
        (10_003, Call::Tenant) => {
            "correct the account's `tenant_key` (and check that the app is installed for that \
             tenant)"
        }
        (10_003, _) => {
            "correct the account's `app_id` (and its `base_url`, if the app lives on another of \
             Feishu's hosts)"
        }
        (10_014, _) => "correct the account's `app_secret`",
        (10_015, _) => {
            "correct the account's `app_id` and `app_secret`: they do not belong together"
        }
        _ => return refusal::account_problem(code),
    };
    Some(("bad_credentials", remedy))
}

/// Why a store app cannot get a token before its first `app_ticket`.
pub(super) fn no_ticket(app_id: &str) -> AccountProblem {
    AccountProblem {
        reason: "no_app_ticket",
        message: format!(
            "Feishu has not pushed an app_ticket yet, though it was asked to: in the developer \
             console set the app's event request URL to the public https address of this daemon \
             followed by /v1/feishu/events/{app_id}, and check `verification_token` and \
             `encrypt_key`"
        ),
    }
}

/// One account's token, or one app's.
#[derive(Debug, Default)]
pub(super) struct Cache {
    held: Option<Held>,
    generation: u64,
}

#[derive(Debug)]
struct Held {
    value: Arc<Secret>,
    refresh_at: Steady,
    expires_at: Steady,
}

/// A token to use now.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    pub(super) value: Arc<Secret>,
    /// Which token this is: to be named when it is refused.
    pub(super) generation: u64,
}

impl Cache {
    /// The token, while it lives.
    pub(super) fn lend(&self, now: Steady) -> Option<Lent> {
        let held = self.held.as_ref().filter(|held| now < held.expires_at)?;
        Some(Lent { value: Arc::clone(&held.value), generation: self.generation })
    }

    /// Whether a fresh one should be fetched, be it ahead of expiry.
    pub(super) fn refresh_due(&self, now: Steady) -> bool {
        self.held.as_ref().is_none_or(|held| now >= held.refresh_at)
    }

    /// Keeps what was issued upon a call made at `asked_at`. The same token as the one held is
    /// the same generation, so that refusals of it still count; the same token after a refusal is
    /// another, so that late refusals of the old one do not drop it again.
    pub(super) fn keep(&mut self, issued: Issued, asked_at: Steady) -> Lent {
        let same = self.held.as_ref().is_some_and(|held| *held.value == issued.value);
        if !same {
            self.generation += 1;
        }
        let lead = (issued.expire / REFRESH_LEAD_SHARE).min(REFRESH_LEAD_MAX);
        let value = Arc::new(issued.value);
        self.held = Some(Held {
            value: Arc::clone(&value),
            refresh_at: asked_at.after(issued.expire.saturating_sub(lead)),
            expires_at: asked_at.after(issued.expire),
        });
        Lent { value, generation: self.generation }
    }

    /// Feishu refused that token: it is dropped, unless another has taken its place.
    pub(super) fn refused(&mut self, generation: u64) {
        if generation == self.generation {
            self.held = None;
        }
    }

    /// A refresh failed: the next one waits a while, since the token at hand still works.
    pub(super) fn refresh_failed(&mut self, now: Steady) {
        if let Some(held) = &mut self.held {
            let (least, most) = REFRESH_AGAIN;
            let wait = held.expires_at.since(now) / REFRESH_AGAIN_SHARE;
            held.refresh_at = now.after(wait.clamp(least, most));
        }
    }
}

#[cfg(test)]
mod tests;
