//! An upstream's reply before anybody believes it: is it Feishu's at all?

use serde_json::value::RawValue;

use super::field::{self, Object};
use crate::source::{AccountProblem, PollError, TransientClass};

/// Longer support ids are not Feishu's and are cut (real ones have 32 to 46 characters).
const LOG_ID_CHARS_MAX: usize = 128;

/// What matters of an HTTP reply. It cannot be printed, since a token call's body is a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`, as it came.
    pub content_type: Option<String>,
    /// `X-Tt-Logid`, else `X-Request-Id`.
    pub log_id: Option<String>,
    /// `x-ogw-ratelimit-reset`, as it came.
    pub ratelimit_reset: Option<String>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Feishu's own envelope: everything it answers has a `code`.
pub(super) struct Envelope<'a> {
    pub(super) code: i64,
    pub(super) msg: String,
    pub(super) fields: Object<'a>,
    pub(super) error: Object<'a>,
}

impl Reply {
    /// Whether the HTTP status says success.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The media type, lower-case and without parameters.
    fn media_type(&self) -> Option<String> {
        let media_type = self.content_type.as_deref()?.split(';').next()?;
        Some(media_type.trim().to_ascii_lowercase())
    }

    /// Reads the envelope. The content type comes first, as Feishu's documentation demands: its
    /// edge answers in HTML and its router in plain text.
    pub(super) fn envelope(&self) -> Result<Envelope<'_>, PollError> {
        let media_type = self.media_type();
        if self.status == 404 && media_type.as_deref() == Some("text/plain") {
            return Err(PollError::Account(wrong_base_url()));
        }
        // A reply that names no type may still be Feishu's; one that names another type is not.
        let json = media_type.as_deref().is_none_or(|media_type| {
            media_type == "application/json"
                || media_type == "text/json"
                || media_type.ends_with("+json")
        });
        if !json {
            let media_type = media_type.unwrap_or_default();
            return Err(
                self.unreadable(&format!("`{}` instead of JSON", one_line(&media_type, 60)))
            );
        }
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Err(self.unreadable("an empty body"));
        }
        let fields: Object<'_> =
            serde_json::from_slice(&self.body).map_err(|_| self.unreadable("no JSON object"))?;
        let code = fields.get("code").and_then(|code| field::integer(code));
        let code = code.ok_or_else(|| self.unreadable("JSON without Feishu's `code`"))?;
        let error = fields.get("error").and_then(|error| field::object(error)).unwrap_or_default();
        let msg = field::text(&fields, "msg").unwrap_or_default();
        Ok(Envelope { code, msg, fields, error })
    }

    /// This reply is not Feishu's, or not what is documented.
    pub(super) fn unreadable(&self, what: &str) -> PollError {
        let hint = match self.status {
            300..=399 => "; a redirect is not followed: check `base_url`",
            404 => "; if this lasts, check `base_url`",
            _ => "",
        };
        PollError::Transient {
            class: TransientClass::Unreadable,
            detail: format!("HTTP {} with {what}{hint}{}", self.status, self.log_suffix(None)),
        }
    }

    /// Feishu's support id of the exchange.
    pub(super) fn support_id(&self, envelope: Option<&Envelope<'_>>) -> Option<String> {
        let in_body = || {
            let error = &envelope?.error;
            field::text(error, "log_id").or_else(|| field::text(error, "logid"))
        };
        let id = self.log_id.clone().filter(|id| !id.trim().is_empty()).or_else(in_body)?;
        let id: String =
            id.trim().chars().filter(char::is_ascii_graphic).take(LOG_ID_CHARS_MAX).collect();
        (!id.is_empty()).then_some(id)
    }

    /// ` (log id …)`, or nothing.
    pub(super) fn log_suffix(&self, envelope: Option<&Envelope<'_>>) -> String {
        self.support_id(envelope).map_or_else(String::new, |id| format!(" (log id {id})"))
    }
}

impl<'a> Envelope<'a> {
    /// The value of `data`, if there is one.
    pub(super) fn data(&self) -> Option<&'a RawValue> {
        field::present(&self.fields, "data")
    }
}

fn wrong_base_url() -> AccountProblem {
    AccountProblem {
        reason: "wrong_base_url",
        message: "the server at `base_url` has no such API (404 in plain text): set the account's \
                  `base_url` to https://open.feishu.cn, https://open.larksuite.com or the origin \
                  of your own deployment, without a path"
            .to_owned(),
    }
}

/// Upstream text made safe for a log line and a page: one line, no control characters, bounded.
pub(super) fn one_line(text: &str, chars_max: usize) -> String {
    let mut line: String = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(chars_max)
        .collect();
    if text.chars().count() > chars_max {
        line.push('…');
    }
    line.trim().to_owned()
}
