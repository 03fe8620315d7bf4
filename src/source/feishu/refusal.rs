//! What a `code` other than 0 means. Judged by the number alone: the texts change.

use std::time::Duration;

use super::field::{self, Object};
use super::reply::{Envelope, Reply, one_line};
use crate::source::{AccountProblem, PollError, TransientClass};

/// A reset of 0 must not turn a refusal into a busy loop.
const RESET_MIN: Duration = Duration::from_millis(100);
/// The longest published window is a minute; twice that is certainly enough, and a reset that is
/// garbage (a date, say) must not stop an account for years.
const RESET_MAX: Duration = Duration::from_secs(120);
/// How much of Feishu's `msg` is shown. Its scope messages with their console link fit.
const MSG_CHARS_MAX: usize = 500;
/// How much of a console link is shown; a longer one is no link a person would follow.
const LINK_CHARS_MAX: usize = 1_000;
/// How many missing scopes are named.
const SUBJECTS_MAX: usize = 10;

/// `code` when the quota is spent.
pub(super) const QUOTA: i64 = 99_991_400;

/// Why a reply with this code says nothing about its task.
pub(super) fn refusal(reply: &Reply, envelope: &Envelope<'_>) -> PollError {
    match envelope.code {
        // 99991671 is not in the endpoint's own table: Feishu's SDKs drop the token on it too.
        99_991_663 | 99_991_664 | 99_991_665 | 99_991_671 | 20_005 => PollError::Token,
        QUOTA => PollError::Quota { reset: reset(reply) },
        code => match account_problem(code) {
            Some((reason, remedy)) => PollError::Account(problem(reason, remedy, reply, envelope)),
            // Undocumented, but whatever it is, 429 asks for patience.
            None if reply.status == 429 => PollError::Quota { reset: reset(reply) },
            None => upstream(reply, envelope),
        },
    }
}

/// Feishu's own trouble, or a code nobody has documented: never a task's outcome.
pub(super) fn upstream(reply: &Reply, envelope: &Envelope<'_>) -> PollError {
    PollError::Transient {
        class: TransientClass::Code(envelope.code),
        detail: format!(
            "HTTP {} with code {}: {}{}",
            reply.status,
            envelope.code,
            one_line(&envelope.msg, MSG_CHARS_MAX),
            reply.log_suffix(Some(envelope))
        ),
    }
}

/// The codes on which a person must act: a stable word, and what to do.
pub(super) fn account_problem(code: i64) -> Option<(&'static str, &'static str)> {
    Some(match code {
        99_991_672 => (
            "missing_scope",
            "grant the app the scope hire:site_application:readonly in Feishu's developer console \
             and publish a new version of the app",
        ),
        99_991_662 => ("app_disabled", "enable the app in Feishu's admin console"),
        99_991_673 => ("app_not_installed", "install the app for this tenant"),
        99_991_401 => (
            "ip_denied",
            "add this machine's outgoing address to the app's IP allow-list in Feishu's developer \
             console",
        ),
        99_991_676 => (
            "no_permission",
            "give the app access to this resource in Feishu's developer and admin consoles",
        ),
        99_991_403 => (
            "monthly_quota",
            "this tenant's API calls for the month are used up: buy more, or wait for the month's \
             end",
        ),
        99_991_661 => (
            "token_not_sent",
            "outcomed sent no access token, which is a bug of outcomed (or a proxy strips \
             `Authorization`): report it with the log id",
        ),
        _ => return None,
    })
}

/// The whole message for a person: what to do first, then what Feishu said.
pub(super) fn problem(
    reason: &'static str,
    remedy: &str,
    reply: &Reply,
    envelope: &Envelope<'_>,
) -> AccountProblem {
    let said = one_line(&envelope.msg, MSG_CHARS_MAX);
    let mut parts = vec![format!("{remedy}. Feishu says: code {} {said}", envelope.code)];
    let subjects = subjects(&envelope.error);
    if !subjects.is_empty() {
        parts.push(format!("missing: {}", subjects.join(", ")));
    }
    if let Some(link) = console_link(envelope).filter(|link| !said.contains(link)) {
        parts.push(format!("see {link}"));
    }
    let message = parts.join("; ") + &reply.log_suffix(Some(envelope));
    AccountProblem { reason, message }
}

/// How long to wait, from the header: seconds from now, possibly fractional.
pub(super) fn reset(reply: &Reply) -> Option<Duration> {
    let seconds: f64 = reply.ratelimit_reset.as_deref()?.trim().parse().ok()?;
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    let bounded = seconds.min(RESET_MAX.as_secs_f64());
    Some(Duration::from_secs_f64(bounded).clamp(RESET_MIN, RESET_MAX))
}

fn subjects(error: &Object<'_>) -> Vec<String> {
    let violations = field::present(error, "permission_violations").and_then(field::array);
    let objects = violations.unwrap_or_default().into_iter().filter_map(field::object);
    objects
        .filter_map(|violation| field::text(&violation, "subject"))
        .take(SUBJECTS_MAX)
        .map(|subject| one_line(&subject, MSG_CHARS_MAX))
        .collect()
}

/// The page on which a person can act: in `msg`, else in `error.helps`, else the troubleshooter's.
fn console_link(envelope: &Envelope<'_>) -> Option<String> {
    let helps = || {
        let helps = field::present(&envelope.error, "helps").and_then(field::array)?;
        let urls = helps.into_iter().filter_map(field::object);
        urls.filter_map(|help| field::text(&help, "url")).find_map(|url| first_link(&url))
    };
    let troubleshooter =
        || field::text(&envelope.error, "troubleshooter").and_then(|text| first_link(&text));
    first_link(&envelope.msg).or_else(helps).or_else(troubleshooter)
}

fn first_link(text: &str) -> Option<String> {
    let start = text.find("https://")?;
    let is_part = |char: &char| char.is_ascii_graphic() && !"\"'<>()[]{}`\\".contains(*char);
    let link: String = text[start..].chars().take_while(is_part).take(LINK_CHARS_MAX).collect();
    let link = link.trim_end_matches(['.', ',', ';']);
    (link.len() > "https://".len()).then(|| link.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset_of(header: &str) -> Option<Duration> {
        reset(&Reply { ratelimit_reset: Some(header.to_owned()), ..Reply::default() })
    }

    #[test]
    fn a_reset_is_relative_maybe_fractional_and_bounded() {
        assert_eq!(reset_of("42"), Some(Duration::from_secs(42)));
        assert_eq!(reset_of(" 0.25 "), Some(Duration::from_millis(250)));
        assert_eq!(reset_of("0"), Some(RESET_MIN));
        assert_eq!(reset_of("1763805600"), Some(RESET_MAX));
        for odd in ["", "soon", "-1", "NaN", "inf", "1e999"] {
            assert_eq!(reset_of(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_link_ends_where_the_chinese_text_goes_on() {
        let text = "点击链接申请：https://open.feishu.cn/app/cli_a/auth?q=hire:site。谢谢";
        let link = Some("https://open.feishu.cn/app/cli_a/auth?q=hire:site".to_owned());
        assert_eq!(first_link(text), link);
        assert_eq!(first_link("https://, nothing"), None);
    }
}
