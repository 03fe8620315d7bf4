//! A signed `ping`, for whoever sets up a receiver.

use bytes::Bytes;
use url::Url;
use uuid::Uuid;

use super::send::{Courier, Parcel, Tls, details};
use super::sign::{Unsignable, sign};
use crate::clock::{Clock, Timestamp};
use crate::config::{Client, Delivery};
use crate::store::Attempt;

/// Sends one signed `ping` to `url` now and says what came back. Nothing is stored or retried; the
/// verdict is `delivered` or `failed`.
pub async fn ping(
    courier: &dyn Courier,
    clock: &dyn Clock,
    client: &Client,
    url: Url,
    settings: &Delivery,
) -> Result<Attempt, Unsignable> {
    let at = clock.wall();
    let body = format!(r#"{{"type":"ping","timestamp":"{at}","data":{{}}}}"#);
    let headers =
        sign(&id(at), at, body.as_bytes(), &client.signing_secrets, &client.signing_keys)?;
    let allow = client.callback_allow.clone();
    let started = clock.steady();
    let (tls, timeout) = (Tls::of(client, settings), settings.timeout);
    let body = Bytes::from(body);
    let reply = courier
        .send(Parcel { client: client.name.clone(), url, allow, tls, headers, body, timeout })
        .await;
    let duration = clock.steady().since(started);
    let error = match (&reply.broken, reply.status) {
        (Some(broken), _) => Some(broken.to_string()),
        (None, Some(200..=299)) => None,
        (None, Some(status)) => Some(format!("the receiver answered {status}")),
        (None, None) => Some("no reply".to_owned()),
    };
    let verdict = if error.is_none() { "delivered" } else { "failed" };
    Ok(Attempt {
        number: 1,
        at,
        duration,
        status: reply.status,
        details: details(&reply, if error.is_none() { "accepted" } else { "ping" }),
        error,
        reply_excerpt: reply.excerpt,
        verdict: verdict.to_owned(),
    })
}

/// Like the id of a real message, so that a receiver's check of it is exercised.
pub(super) fn id(now: Timestamp) -> String {
    let milliseconds = u64::try_from(now.0).unwrap_or_default();
    let nanoseconds = u32::try_from(milliseconds % 1000).unwrap_or_default() * 1_000_000;
    let time = uuid::Timestamp::from_unix_time(milliseconds / 1000, nanoseconds, 0, 0);
    format!("msg_{}", Uuid::new_v7(time).simple())
}
