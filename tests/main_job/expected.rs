//! What a callback must say, by the contract: written from its tables, field by field.

use outcomed::clock::Timestamp;
use serde_json::{Value, json};

use crate::receiver::Callback;
use crate::upstream::{Poll, Upstream, WEBSITE};

/// How far the daemon's time of a poll and the stand-in's may be apart on a busy machine.
const APART_MAX: i64 = 1_500;

/// The part that the task's end decides.
pub(crate) struct Expected {
    pub(crate) outcome: &'static str,
    pub(crate) delivery: Value,
    pub(crate) failure: Value,
}

/// The ids that may be passed on: absent ones are null.
pub(crate) fn delivery(given: &Value) -> Value {
    let id = |name: &str| given.get(name).cloned().unwrap_or_default();
    json!({"application_id": id("application_id"), "job_id": id("job_id"),
           "job_post_id": id("job_post_id"), "portal_resume_id": id("portal_resume_id"),
           "user_id": id("user_id"), "talent_id": id("talent_id")})
}

pub(crate) fn succeeded(given: &Value) -> Expected {
    Expected { outcome: "succeeded", delivery: delivery(given), failure: Value::Null }
}

pub(crate) fn failed(reason: &str, message: Option<&str>, duplicate_of: Option<&str>) -> Expected {
    let failure = json!({"reason": reason, "message": message, "duplicate_of": duplicate_of});
    Expected { outcome: "failed", delivery: Value::Null, failure }
}

pub(crate) fn unresolved(reason: &str) -> Expected {
    Expected { outcome: "unresolved", ..failed(reason, None, None) }
}

/// Never seen, and the callback's message says why in these words among others.
#[track_caller]
pub(crate) fn not_observed(callback: &Callback, words: &[&str]) -> Expected {
    let message = callback.json()["data"]["failure"]["message"].clone();
    let told = message.as_str().unwrap_or_default();
    assert!(words.iter().all(|word| told.contains(word)), "{words:?} in: {message}");
    Expected { outcome: "unresolved", ..failed("not_observed", Some(told), None) }
}

fn time(value: &Value) -> i64 {
    let text = value.as_str().unwrap();
    assert!(text.len() == 24 && text.ends_with('Z'), "no RFC 3339 UTC with milliseconds: {text}");
    text.parse::<Timestamp>().unwrap().0
}

fn near(told: &Value, seen: &Poll) {
    let apart = (time(told) - seen.wall.0).abs();
    assert!(apart <= APART_MAX, "{told} is {apart} ms from {seen:?}");
}

/// The callback says exactly this about the registration, as the 201 showed it.
#[track_caller]
pub(crate) fn assert_says(
    callback: &Callback,
    registered: &Value,
    metadata: &Value,
    expected: &Expected,
    upstream: &Upstream,
) {
    let body = callback.json();
    let task = &registered["task"];
    let polls = upstream.polls_of(task["delivery_task_id"].as_str().unwrap());
    let told: Vec<&Poll> = polls.iter().filter(|poll| !poll.refused).collect();
    let observed = &body["data"]["observed"];
    let settled_at = &observed["settled_at"];
    let reason = &expected.failure["reason"];
    let timed_out = reason == "timed_out" || reason == "not_observed";
    let not_found = expected.failure["reason"] == "task_not_found";
    // Whether the last one told the end is for the caller to say.
    let last_pending =
        told.iter().rev().find(|poll| !poll.ends && (timed_out || poll.status == 200));
    match last_pending {
        None => assert_eq!(observed["last_pending_at"], Value::Null, "{body}"),
        Some(poll) => near(&observed["last_pending_at"], poll),
    }
    let log_id = match told.last() {
        Some(last) if !timed_out => {
            assert!(last.ends || not_found, "{last:?}");
            near(settled_at, last);
            json!(last.log_id)
        }
        _ => Value::Null,
    };
    assert_eq!(
        body,
        json!({
            "type": format!("delivery_task.{}", expected.outcome),
            "timestamp": settled_at,
            "data": {
                "registration_id": registered["id"],
                "task": {"kind": "hire.website_delivery", "account": "default",
                         "website_id": WEBSITE, "delivery_task_id": task["delivery_task_id"]},
                "outcome": expected.outcome,
                "delivery": expected.delivery,
                "failure": expected.failure,
                "observed": {
                    "registered_at": registered["created_at"],
                    "last_pending_at": observed["last_pending_at"],
                    "settled_at": settled_at,
                    "polls": told.len(),
                    "log_id": log_id,
                },
                "metadata": metadata,
            }
        })
    );
    let id = registered["id"].as_str().unwrap();
    assert!(callback.id.starts_with("msg_") && id.starts_with("reg_"), "{} {id}", callback.id);
}

/// The headers of contract 2.
#[track_caller]
pub(crate) fn assert_headers(callback: &Callback, path: &str) {
    let header = |name| callback.request.header(name).unwrap_or_default();
    assert_eq!(
        (callback.request.method.as_str(), callback.request.target.as_str()),
        ("POST", path)
    );
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("user-agent"), concat!("outcomed/", env!("CARGO_PKG_VERSION")));
    assert_eq!(header("content-length"), callback.request.body.len().to_string());
    assert_eq!(header("authorization"), "");
    let timestamp: i64 = header("webhook-timestamp").parse().unwrap();
    assert!((callback.request.wall.unix_seconds() - timestamp).abs() <= 3, "{timestamp}");
    assert!(header("webhook-signature").starts_with("v1,"));
}
