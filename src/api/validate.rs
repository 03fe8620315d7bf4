//! A registration as clients ask for it, and what is right and wrong with it. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;
use utoipa::ToSchema;

use super::duration;
use super::json;
use super::problem::FieldError;
use super::shared::JudgeCallback;
use crate::clock::Timestamp;
use crate::config::{Client, Config};
use crate::store::NewRegistration;
use crate::task::{Kind, TaskRef};

/// Feishu's own ids have 19 and 32 characters.
const ID_BYTES_MAX: usize = 128;
/// What common servers and proxies accept.
const URL_BYTES_MAX: usize = 2048;
const METADATA_BYTES_MAX: usize = 4096;
/// Anything shorter would end before the first poll's answer.
const GIVE_UP_AFTER_MIN: Duration = Duration::from_secs(1);
/// Feishu forgets a task long before; more would only cost quota.
const GIVE_UP_AFTER_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The body of a registration.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRegistration, example = json!({
    "task": {"website_id": "7047318856652261676",
             "delivery_task_id": "f1c2a0f138ec492d99d7ab73594158ad",
             "account": "default", "kind": "hire.website_delivery"},
    "callback": {"url": "https://hr.example.com/hooks/feishu"},
    "metadata": {"candidate": "42"},
    "give_up_after": "30m"}))]
pub struct Wanted {
    /// What to wait for.
    #[schema(required = true, nullable = false, value_type = WantedTask)]
    #[serde(default, deserialize_with = "json::object")]
    task: Option<WantedTask>,
    /// Where to tell.
    #[schema(required = true, nullable = false, value_type = WantedCallback)]
    #[serde(default, deserialize_with = "json::object")]
    callback: Option<WantedCallback>,
    /// Any JSON object of at most 4 KiB; echoed to the byte.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
    /// How long to wait, from 1 second to 30 days; the configuration's default otherwise.
    #[schema(example = "30m")]
    give_up_after: Option<String>,
}

/// The task of a registration.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTask)]
pub struct WantedTask {
    /// Feishu's website id.
    #[schema(required = true, nullable = false, value_type = String,
             pattern = "^[A-Za-z0-9_-]{1,128}$")]
    website_id: Option<String>,
    /// Feishu's delivery task id: the `task_id` that `create_by_attachment` answered.
    #[schema(required = true, nullable = false, value_type = String,
             pattern = "^[A-Za-z0-9_-]{1,128}$")]
    delivery_task_id: Option<String>,
    /// May be left out where the daemon has one account.
    account: Option<String>,
    /// `hire.website_delivery` unless given.
    kind: Option<String>,
}

/// The callback of a registration.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCallback)]
pub struct WantedCallback {
    /// An absolute URL of at most 2 KiB; https unless the client's `callback_allow` says more.
    #[schema(required = true, nullable = false, value_type = String, format = "uri")]
    url: Option<String>,
}

/// What a registration is judged by.
pub struct Judge<'a> {
    /// Who registers.
    pub client: &'a Client,
    /// The settings.
    pub config: &'a Config,
    /// Judges callback URLs.
    pub callback: &'a JudgeCallback,
    /// Now.
    pub now: Timestamp,
}

impl Judge<'_> {
    /// The registration to store under `id`, or everything that is wrong.
    pub fn accept(&self, wanted: Wanted, id: String) -> Result<NewRegistration, Vec<FieldError>> {
        let mut errors = Vec::new();
        let task = required(wanted.task, "/task", &mut errors).map(|it| self.task(it, &mut errors));
        let callback = required(wanted.callback, "/callback", &mut errors)
            .and_then(|it| required(it.url, "/callback/url", &mut errors))
            .and_then(|text| {
                let url = self.callback_url(&text);
                note(url, "/callback/url", &mut errors).map(|url| (text, url))
            });
        let metadata = note(metadata(wanted.metadata.as_deref()), "/metadata", &mut errors);
        let give_up_after = self.give_up_after(wanted.give_up_after.as_deref());
        let give_up_after = note(give_up_after, "/give_up_after", &mut errors);
        match (task, callback, metadata, give_up_after) {
            (Some(task), Some((callback_url, url)), Some(metadata), Some(give_up_after))
                if errors.is_empty() =>
            {
                Ok(NewRegistration {
                    id,
                    client: self.client.name.clone(),
                    task,
                    callback_url,
                    callback_origin: origin(&url),
                    callback_host: url.host_str().unwrap_or_default().to_owned(),
                    metadata,
                    created_at: self.now,
                    give_up_at: self.now.after(give_up_after),
                })
            }
            _ => Err(errors),
        }
    }

    fn task(&self, wanted: WantedTask, errors: &mut Vec<FieldError>) -> TaskRef {
        let kind = match wanted.kind.as_deref() {
            None => Some(Kind::default()),
            Some(name) => {
                let known = || format!("unknown kind; known is: {}", Kind::default());
                note(Kind::named(name).ok_or_else(known), "/task/kind", errors)
            }
        };
        let account = note(self.account(wanted.account), "/task/account", errors);
        let mut id = |given, pointer| {
            required(given, pointer, errors).and_then(|id| note(upstream_id(id), pointer, errors))
        };
        TaskRef {
            kind: kind.unwrap_or_default(),
            account: account.unwrap_or_default(),
            website_id: id(wanted.website_id, "/task/website_id").unwrap_or_default(),
            delivery_task_id: id(wanted.delivery_task_id, "/task/delivery_task_id")
                .unwrap_or_default(),
        }
    }

    fn account(&self, wanted: Option<String>) -> Result<String, String> {
        let names: Vec<&str> = self.config.accounts.iter().map(|it| it.name.as_str()).collect();
        match (wanted, names.as_slice()) {
            (Some(name), names) if names.contains(&name.as_str()) => Ok(name),
            (None, [only]) => Ok((*only).to_owned()),
            (_, []) => Err("no account is configured; add one to `accounts`".to_owned()),
            (Some(_), names) => Err(format!("unknown account; known are: {}", names.join(", "))),
            (None, names) => Err(format!("is required, one of: {}", names.join(", "))),
        }
    }

    fn callback_url(&self, text: &str) -> Result<Url, String> {
        let url = callback_url(text)?;
        (self.callback)(&url, self.client)?;
        Ok(url)
    }

    fn give_up_after(&self, text: Option<&str>) -> Result<Duration, String> {
        let Some(text) = text else { return Ok(self.config.polling.give_up_after) };
        let duration = duration::parse(text)?;
        if (GIVE_UP_AFTER_MIN..=GIVE_UP_AFTER_MAX).contains(&duration) {
            return Ok(duration);
        }
        Err(format!(
            "must be from {} to {}",
            duration::print(GIVE_UP_AFTER_MIN),
            duration::print(GIVE_UP_AFTER_MAX)
        ))
    }
}

/// Reads a callback URL; whether we may call it is another question.
pub fn callback_url(text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("may have at most {URL_BYTES_MAX} bytes"));
    }
    // The URL standard drops these silently; what we call must be what the client wrote.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must not contain spaces or control characters; percent-encode them".into());
    }
    // So it does with `https:host`, `https:///host` and `https:\\host`, which other parsers read
    // otherwise.
    if text.contains('\\') {
        return Err("must not contain backslashes; percent-encode them".into());
    }
    let url = Url::parse(text).map_err(|error| {
        format!("is not an absolute URL such as https://hr.example.com/hooks ({error})")
    })?;
    let after_scheme = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
    let names_host = after_scheme.is_some_and(|rest| !rest.starts_with('/'));
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() || !names_host {
        return Err("must start with https:// and a host".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or password; callbacks are signed instead".into());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (`#…`); it would not be sent".into());
    }
    Ok(url)
}

/// A URL's `scheme://host:port`.
pub fn origin(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap_or_default())
}

fn upstream_id(id: String) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed) {
        return Ok(id);
    }
    Err(format!("must be 1 to {ID_BYTES_MAX} characters of A-Z a-z 0-9 _ -"))
}

fn metadata(raw: Option<&RawValue>) -> Result<String, String> {
    let Some(raw) = raw else { return Ok("{}".to_owned()) };
    if raw.get().len() > METADATA_BYTES_MAX {
        return Err(format!("may have at most {METADATA_BYTES_MAX} bytes"));
    }
    // Parsed only to be judged: receivers must be able to read what is kept to the byte.
    match serde_json::from_str(raw.get()) {
        Ok(serde_json::Value::Object(_)) => Ok(raw.get().to_owned()),
        Ok(_) => Err("must be a JSON object".to_owned()),
        Err(error) => Err(format!("cannot be read by common JSON parsers: {error}")),
    }
}

fn required<T>(value: Option<T>, pointer: &str, errors: &mut Vec<FieldError>) -> Option<T> {
    note(value.ok_or_else(|| "is required".to_owned()), pointer, errors)
}

fn note<T>(result: Result<T, String>, pointer: &str, errors: &mut Vec<FieldError>) -> Option<T> {
    result.map_err(|detail| errors.push(FieldError::at(pointer, detail))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_always_names_its_port() {
        let of = |text| origin(&callback_url(text).unwrap());
        assert_eq!(of("https://HR.example.com/hooks"), "https://hr.example.com:443");
        assert_eq!(of("http://127.0.0.1:9000/x"), "http://127.0.0.1:9000");
        assert_eq!(of("http://[::1]/x"), "http://[::1]:80");
    }

    #[test]
    fn a_callback_url_is_what_the_client_wrote_or_is_refused() {
        let long = format!("https://example.com/{}", "x".repeat(2048));
        for bad in [
            "",
            "/hooks",
            "ftp://example.com/",
            "https://",
            "https:example.com",
            "https:/example.com",
            "https:///example.com",
            "https:\\\\example.com",
            "https://example.com\\@127.0.0.1/",
            "https://u:p@example.com/",
            "https://example.com/#x",
            " https://example.com/",
            "https://exa\nmple.com/",
            "https://example.com/a b",
            long.as_str(),
        ] {
            assert!(callback_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_is_kept_to_the_byte_and_only_an_object_is_taken() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let spaced = raw("{ \"n\": 1.0 }");
        assert_eq!(metadata(Some(&spaced)).unwrap(), "{ \"n\": 1.0 }");
        assert_eq!(metadata(None).unwrap(), "{}");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(4096));
        for bad in ["[]", "1", r#"{"a":"\ud800"}"#, r#"{"a":1e999}"#, &deep, &long] {
            assert!(metadata(Some(&raw(bad))).is_err(), "{bad}");
        }
    }
}
