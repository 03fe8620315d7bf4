//! Feishu's event pushes to a store app: who sent them, and what they say. Pure.
//!
//! With an Encrypt Key the body is `{"encrypt": base64(iv ‖ ciphertext)}` in AES-256-CBC with
//! PKCS7, and the push is signed; without one only the verification token tells Feishu from
//! anybody else.

use std::time::Duration;

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock::Timestamp;
use crate::config::secret::Secret;

/// How far an event's time may be from ours: what is older is a recording, or a clock is wrong.
const AGE_MAX: Duration = Duration::from_secs(300);

/// The length of AES's block, and so of the initialisation vector in front of the ciphertext.
const BLOCK_BYTES: usize = 16;

/// The headers of a push that matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventHeaders<'a> {
    /// `X-Lark-Request-Timestamp`
    pub timestamp: Option<&'a str>,
    /// `X-Lark-Request-Nonce`
    pub nonce: Option<&'a str>,
    /// `X-Lark-Signature`
    pub signature: Option<&'a str>,
}

/// What Feishu pushed.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The URL check: answer 200 with `{"challenge": …}` within a second.
    Challenge(String),
    /// A new `app_ticket`: check that `app_id` is the one of the URL, then offer it to
    /// [`super::Tickets`].
    Ticket {
        /// Whose.
        app_id: String,
        /// The ticket.
        ticket: Secret,
        /// When Feishu made it.
        at: Timestamp,
        /// The event's own id, the same each time it is pushed.
        uuid: Option<String>,
    },
    /// Something else: answer 200, or Feishu sends it again.
    Other,
}

/// Why a push was refused. Deliberately coarse where a stranger could learn from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Answer 400.
    #[error("the event is not the JSON that Feishu sends")]
    Malformed,
    /// Answer 400.
    #[error("the event is encrypted: set the account's `encrypt_key` to the app's Encrypt Key")]
    NoEncryptKey,
    /// Answer 403.
    #[error("the event is not encrypted, but the account has an `encrypt_key`: use both or none")]
    Plain,
    /// Answer 403.
    #[error("the event's signature or encryption is wrong: check the account's `encrypt_key`")]
    NotSigned,
    /// Answer 403.
    #[error(
        "the event's time is more than {} minutes from this machine's: if Feishu has just sent it, \
         set this machine's clock", AGE_MAX.as_secs() / 60
    )]
    Stale,
    /// Answer 403.
    #[error("the event's token is wrong: check the account's `verification_token`")]
    WrongToken,
}

/// What an app's events are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// In every event.
    pub verification_token: &'a Secret,
    /// Encrypts and signs events, where the app has one.
    pub encrypt_key: Option<&'a Secret>,
}

/// Reads one push at `now`, if it is Feishu's and not a recording.
pub fn handle_event(
    body: &[u8],
    headers: EventHeaders<'_>,
    keys: Keys<'_>,
    now: Timestamp,
) -> Result<Event, EventError> {
    let sent_at = headers.timestamp.and_then(seconds);
    let event = authentic(body, headers, keys, now)?;
    // The signature covers this header, or nothing does; then it is Feishu's all the same.
    if headers.timestamp.is_some() && !sent_at.is_some_and(|at| is_recent(at, now)) {
        return Err(EventError::Stale);
    }
    Ok(event)
}

fn authentic(
    body: &[u8],
    headers: EventHeaders<'_>,
    keys: Keys<'_>,
    now: Timestamp,
) -> Result<Event, EventError> {
    let Keys { verification_token, encrypt_key } = keys;
    let outer: Value = serde_json::from_slice(body).map_err(|_| EventError::Malformed)?;
    let encrypted = outer.get("encrypt").and_then(Value::as_str);
    match (encrypted, encrypt_key) {
        (None, None) => read(&outer, verification_token, now),
        (None, Some(_)) => Err(EventError::Plain),
        (Some(_), None) => Err(EventError::NoEncryptKey),
        (Some(encrypted), Some(key)) => {
            let signed = headers.signature.is_some();
            if signed && !signature_is_right(body, headers, key) {
                return Err(EventError::NotSigned);
            }
            let event = decrypt(encrypted, key)
                .and_then(|plain| serde_json::from_slice(&plain).ok())
                .map(|inner: Value| read(&inner, verification_token, now));
            match event {
                // The URL check may come unsigned. Everything else that is unsigned gets one and
                // the same answer, or the padding could be guessed from the answers.
                Some(Ok(Event::Challenge(challenge))) => Ok(Event::Challenge(challenge)),
                Some(result) if signed => result,
                _ => Err(EventError::NotSigned),
            }
        }
    }
}

fn read(event: &Value, verification_token: &Secret, now: Timestamp) -> Result<Event, EventError> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    // Where version 2 of the schema has it, and version 1.
    let token = text("/header/token").or_else(|| text("/token")).unwrap_or_default();
    // An empty configured token proves nothing.
    let right = token.as_bytes().ct_eq(verification_token.expose().as_bytes());
    if token.is_empty() || !bool::from(right) {
        return Err(EventError::WrongToken);
    }
    if text("/type") == Some("url_verification") {
        let challenge = text("/challenge").ok_or(EventError::Malformed)?;
        return Ok(Event::Challenge(challenge.to_owned()));
    }
    // Where version 1 of the schema has it, in seconds, and version 2, in milliseconds. A URL check
    // has none. Without one the event counts as made now.
    let said = text("/ts").map(seconds);
    let said = said.or_else(|| Some(text("/header/create_time")?.parse().ok().map(Timestamp)));
    let at = said.unwrap_or(Some(now)).filter(|at| is_recent(*at, now)).ok_or(EventError::Stale)?;
    if text("/event/type") != Some("app_ticket") {
        return Ok(Event::Other);
    }
    let filled = |pointer| text(pointer).filter(|text| !text.trim().is_empty());
    let app_id = filled("/event/app_id").ok_or(EventError::Malformed)?;
    let ticket = filled("/event/app_ticket").ok_or(EventError::Malformed)?;
    let uuid = filled("/uuid").or_else(|| filled("/header/event_id")).map(str::to_owned);
    Ok(Event::Ticket { app_id: app_id.to_owned(), ticket: Secret::new(ticket), at, uuid })
}

/// Seconds since 1970 with or without a fraction, as Feishu writes them.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let milliseconds = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    Some(Timestamp(whole.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(milliseconds)?))
}

fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.since(at).max(at.since(now)) <= AGE_MAX
}

/// hex(sha256(timestamp + nonce + key + body)), compared in constant time.
fn signature_is_right(body: &[u8], headers: EventHeaders<'_>, key: &Secret) -> bool {
    let EventHeaders { timestamp: Some(timestamp), nonce: Some(nonce), signature: Some(given) } =
        headers
    else {
        return false;
    };
    let digest = Sha256::new()
        .chain_update(timestamp)
        .chain_update(nonce)
        .chain_update(key.expose())
        .chain_update(body)
        .finalize();
    let right = format!("{:x}", bytes::Bytes::copy_from_slice(&digest));
    right.as_bytes().ct_eq(given.trim().to_ascii_lowercase().as_bytes()).into()
}

fn decrypt(encrypted: &str, key: &Secret) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(encrypted.trim()).ok()?;
    let (iv, ciphertext) = bytes.split_at_checked(BLOCK_BYTES)?;
    let key = Sha256::digest(key.expose());
    let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&key, iv).ok()?;
    let mut plain = ciphertext.to_vec();
    let length = cipher.decrypt_padded::<Pkcs7>(&mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

#[cfg(test)]
mod tests;
