//! Is this callback genuine? Standard Webhooks, from the receiver's side.
//!
//! Written from the specification and apart from the daemon's signing: a mistake in one does not
//! hide in the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The tolerance of the specification: older is a replay, further ahead is a wrong clock.
const TOLERANCE_SECONDS: i64 = 300;

/// The three headers of a callback, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `webhook-id`
    pub id: Option<&'a str>,
    /// `webhook-timestamp`
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`
    pub signature: Option<&'a str>,
}

/// What a signature is checked with.
#[derive(Clone)]
pub enum Key {
    /// `whsec_…`: checks `v1` signatures.
    Shared(Vec<u8>),
    /// `whpk_…`: checks `v1a` signatures.
    Public(Box<VerifyingKey>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Why a secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither kind.
    #[error("the secret must start with `whsec_` (or `whpk_` for a public key)")]
    Prefix,
    /// Not base64.
    #[error("the secret is not base64 after its prefix; copy it again, with its `=`")]
    Base64,
    /// Not a point on the curve.
    #[error("the public key is not an ed25519 key")]
    PublicKey,
}

impl Key {
    /// Reads a `whsec_…` or `whpk_…`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (encoded, is_public) = match (text.strip_prefix("whsec_"), text.strip_prefix("whpk_")) {
            (Some(encoded), _) => (encoded, false),
            (None, Some(encoded)) => (encoded, true),
            (None, None) => return Err(KeyError::Prefix),
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| KeyError::Base64)?;
        if bytes.is_empty() {
            return Err(KeyError::Base64);
        }
        if !is_public {
            return Ok(Self::Shared(bytes));
        }
        let key = VerifyingKey::try_from(bytes.as_slice()).map_err(|_| KeyError::PublicKey)?;
        Ok(Self::Public(Box::new(key)))
    }

    /// Whether `candidate`, one `version,base64` of the header, signs `content`.
    fn accepts(&self, candidate: &str, content: &[u8]) -> bool {
        let Some((version, encoded)) = candidate.split_once(',') else { return false };
        let Ok(bytes) = STANDARD.decode(encoded) else { return false };
        match self {
            Self::Shared(key) if version == "v1" => {
                let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
                mac.update(content);
                // Compares in constant time.
                mac.verify_slice(&bytes).is_ok()
            }
            Self::Public(key) if version == "v1a" => Signature::from_slice(&bytes)
                .is_ok_and(|signature| key.verify_strict(content, &signature).is_ok()),
            _ => false,
        }
    }
}

/// Which part of a callback is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No `webhook-id`.
    #[error("the webhook-id header is missing")]
    NoId,
    /// No `webhook-timestamp`, or not a number of seconds.
    #[error("the webhook-timestamp header is missing or not a number of seconds")]
    NoTimestamp,
    /// No `webhook-signature`.
    #[error("the webhook-signature header is missing")]
    NoSignature,
    /// Sent more than five minutes ago.
    #[error("the webhook-timestamp is more than 5 minutes old")]
    TooOld,
    /// Sent more than five minutes from now.
    #[error("the webhook-timestamp is more than 5 minutes ahead: compare the two clocks")]
    TooNew,
    /// No signature fits the secret and these bytes.
    #[error("no signature fits: another secret, or the body was changed on its way")]
    Signature,
}

/// Checks one callback at `now` (Unix seconds) against any of `keys`.
pub fn verify(keys: &[Key], headers: Headers<'_>, body: &[u8], now: i64) -> Result<(), Invalid> {
    let id = headers.id.filter(|id| !id.is_empty()).ok_or(Invalid::NoId)?;
    let timestamp = headers.timestamp.ok_or(Invalid::NoTimestamp)?;
    let sent: i64 = timestamp.parse().map_err(|_| Invalid::NoTimestamp)?;
    let signatures = headers.signature.ok_or(Invalid::NoSignature)?;
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let fits = |candidate: &str| keys.iter().any(|key| key.accepts(candidate, &content));
    if !signatures.split(' ').any(fits) {
        return Err(Invalid::Signature);
    }
    if now.saturating_sub(sent) > TOLERANCE_SECONDS {
        return Err(Invalid::TooOld);
    }
    if sent.saturating_sub(now) > TOLERANCE_SECONDS {
        return Err(Invalid::TooNew);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The specification's published example.
    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const SENT: i64 = 1_649_367_553;
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    const HEADERS: Headers<'static> =
        Headers { id: Some(ID), timestamp: Some("1649367553"), signature: Some(SIGNATURE) };

    fn keys() -> Vec<Key> {
        vec![Key::parse(SECRET).unwrap()]
    }

    #[test]
    fn the_published_vector_verifies() {
        assert_eq!(verify(&keys(), HEADERS, BODY, SENT), Ok(()));
    }

    #[test]
    fn what_the_reference_library_signs_verifies() {
        let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
        let signature = theirs.sign("msg_1", SENT, b"{}").unwrap();
        let headers = Headers { id: Some("msg_1"), signature: Some(&signature), ..HEADERS };
        assert_eq!(verify(&keys(), headers, b"{}", SENT), Ok(()));
        assert_eq!(verify(&keys(), headers, b"{ }", SENT), Err(Invalid::Signature));
    }

    #[test]
    fn every_part_is_signed() {
        let changed = Headers { id: Some("msg_2"), ..HEADERS };
        assert_eq!(verify(&keys(), changed, BODY, SENT), Err(Invalid::Signature));
        let changed = Headers { timestamp: Some("1649367554"), ..HEADERS };
        assert_eq!(verify(&keys(), changed, BODY, SENT), Err(Invalid::Signature));
        let other = Key::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        assert_eq!(verify(&[other], HEADERS, BODY, SENT), Err(Invalid::Signature));
        let mislabelled = SIGNATURE.replace("v1,", "v1a,");
        let mislabelled = Headers { signature: Some(&mislabelled), ..HEADERS };
        assert_eq!(verify(&keys(), mislabelled, BODY, SENT), Err(Invalid::Signature));
    }

    #[test]
    fn a_missing_part_is_named() {
        let now = SENT;
        let without = Headers { id: None, ..HEADERS };
        assert_eq!(verify(&keys(), without, BODY, now), Err(Invalid::NoId));
        let without = Headers { timestamp: Some("soon"), ..HEADERS };
        assert_eq!(verify(&keys(), without, BODY, now), Err(Invalid::NoTimestamp));
        let without = Headers { signature: None, ..HEADERS };
        assert_eq!(verify(&keys(), without, BODY, now), Err(Invalid::NoSignature));
    }

    #[test]
    fn five_minutes_are_tolerated_either_way() {
        assert_eq!(verify(&keys(), HEADERS, BODY, SENT + 300), Ok(()));
        assert_eq!(verify(&keys(), HEADERS, BODY, SENT + 301), Err(Invalid::TooOld));
        assert_eq!(verify(&keys(), HEADERS, BODY, SENT - 300), Ok(()));
        assert_eq!(verify(&keys(), HEADERS, BODY, SENT - 301), Err(Invalid::TooNew));
    }

    #[test]
    fn any_of_several_signatures_and_secrets_will_do() {
        let rotating = format!("v1,AAAA v1a,AAAA {SIGNATURE}");
        let headers = Headers { signature: Some(&rotating), ..HEADERS };
        let other = Key::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let keys = [vec![other], keys()].concat();
        assert_eq!(verify(&keys, headers, BODY, SENT), Ok(()));
    }

    #[test]
    fn a_public_key_checks_the_asymmetric_signature() {
        use ed25519_dalek::{Signer as _, SigningKey};
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = format!("whpk_{}", STANDARD.encode(key.verifying_key().as_bytes()));
        let signature = key.sign(b"msg_1.1649367553.{}");
        let header = format!("v1,AAAA v1a,{}", STANDARD.encode(signature.to_bytes()));
        let headers = Headers { id: Some("msg_1"), signature: Some(&header), ..HEADERS };
        let keys = [Key::parse(&public).unwrap()];
        assert_eq!(format!("{keys:?}"), "[Key(…)]");
        assert_eq!(verify(&keys, headers, b"{}", SENT), Ok(()));
        let mislabelled = header.replace("v1a,", "v1,");
        let mislabelled = Headers { signature: Some(&mislabelled), ..headers };
        assert_eq!(verify(&keys, mislabelled, b"{}", SENT), Err(Invalid::Signature));
        assert_eq!(verify(&keys, headers, b"[]", SENT), Err(Invalid::Signature));
    }

    #[test]
    fn a_secret_that_cannot_work_is_refused_with_the_reason() {
        assert_eq!(Key::parse("hunter2").unwrap_err(), KeyError::Prefix);
        assert_eq!(Key::parse("whsec_").unwrap_err(), KeyError::Base64);
        assert_eq!(Key::parse("whsec_!").unwrap_err(), KeyError::Base64);
        assert_eq!(Key::parse("whpk_AAAA").unwrap_err(), KeyError::PublicKey);
    }
}
