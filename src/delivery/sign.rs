//! The three headers of Standard Webhooks, by which a receiver knows that a callback is ours.
//!
//! What is signed is `{id}.{timestamp}.{body}` (Standard Webhooks 1.0, "Signature scheme"): the
//! timestamp is the attempt's, so that a captured callback cannot be replayed later.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::config::SigningSecret;

/// The header that names the message, the same on every attempt.
pub const ID: &str = "webhook-id";
/// The header with the attempt's time, in whole seconds since the Unix epoch.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";

/// The values of the three headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `webhook-id`
    pub id: String,
    /// `webhook-timestamp`
    pub timestamp: String,
    /// `webhook-signature`
    pub signature: String,
}

/// Why a callback cannot be signed; one that is not signed is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsignable {
    /// Neither a secret nor a key.
    #[error("no signing secret: add one to the client's signing_secrets and reload")]
    NoSecret,
}

/// Signs `body` with every secret, in the order given (newest first), and with `key` if there is
/// one.
pub fn sign(
    id: &str,
    now: Timestamp,
    body: &[u8],
    secrets: &[SigningSecret],
    key: Option<&SigningKey>,
) -> Result<Headers, Unsignable> {
    if secrets.is_empty() && key.is_none() {
        return Err(Unsignable::NoSecret);
    }
    let timestamp = now.unix_seconds().to_string();
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(body);
    let symmetric =
        secrets.iter().map(|secret| format!("v1,{}", STANDARD.encode(hmac(secret, &content))));
    let asymmetric =
        key.map(|key| format!("v1a,{}", STANDARD.encode(key.sign(&content).to_bytes())));
    let signature = symmetric.chain(asymmetric).collect::<Vec<_>>().join(" ");
    Ok(Headers { id: id.to_owned(), timestamp, signature })
}

fn hmac(secret: &SigningSecret, content: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose())
        .expect("HMAC takes keys of every length (RFC 2104)");
    mac.update(content);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Verifier};
    use proptest::prelude::*;
    use reqwest::header::HeaderMap;
    use standardwebhooks::Webhook;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn secret(text: &str) -> SigningSecret {
        SigningSecret::new(STANDARD.decode(text).unwrap())
    }

    fn header_map(headers: &Headers) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(ID, headers.id.parse().unwrap());
        map.insert(TIMESTAMP, headers.timestamp.parse().unwrap());
        map.insert(SIGNATURE, headers.signature.parse().unwrap());
        map
    }

    fn verifies(secret: &[u8], headers: &Headers, body: &[u8]) -> bool {
        let webhook = Webhook::from_bytes(secret.to_vec()).unwrap();
        webhook.verify(body, &header_map(headers)).is_ok()
    }

    #[test]
    fn the_published_vector_comes_out() {
        // Standard Webhooks, README of the specification's repository.
        let headers = sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp(1_614_265_330_999),
            br#"{"test": 2432232314}"#,
            &[secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
            None,
        )
        .unwrap();
        assert_eq!(headers.timestamp, "1614265330");
        assert_eq!(headers.signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_rotating_every_secret_signs_and_the_newest_comes_first() {
        let (new, old) = (vec![1; 32], vec![2; 32]);
        let now = SystemClock::new().wall();
        let both = [SigningSecret::new(new.clone()), SigningSecret::new(old.clone())];
        let headers = sign("msg_1", now, b"{}", &both, None).unwrap();
        assert!(verifies(&new, &headers, b"{}") && verifies(&old, &headers, b"{}"));
        assert!(!verifies(&[3; 32], &headers, b"{}"));
        let newest_alone = sign("msg_1", now, b"{}", &both[..1], None).unwrap();
        assert_eq!(headers.signature.split(' ').count(), 2);
        assert_eq!(headers.signature.split(' ').next(), Some(newest_alone.signature.as_str()));
    }

    #[test]
    fn a_key_adds_an_ed25519_signature_after_the_others() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let secrets = [SigningSecret::new(vec![1; 32])];
        let headers = sign("msg_1", Timestamp(5_000), b"body", &secrets, Some(&key)).unwrap();
        let encoded = headers.signature.split(' ').nth(1).unwrap().strip_prefix("v1a,").unwrap();
        let signature = Signature::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap();
        key.verifying_key().verify(b"msg_1.5.body", &signature).unwrap();
        let alone = sign("msg_1", Timestamp(5_000), b"body", &[], Some(&key)).unwrap();
        assert_eq!(alone.signature, format!("v1a,{encoded}"));
    }

    #[test]
    fn nothing_goes_out_unsigned() {
        assert_eq!(sign("msg_1", Timestamp(0), b"", &[], None), Err(Unsignable::NoSecret));
    }

    proptest! {
        #[test]
        fn the_reference_verifier_accepts_ours_and_refuses_every_flipped_bit(
            secret in prop::collection::vec(any::<u8>(), 24..=64),
            body in "[ -~]{1,200}",
            id in "msg_[a-z0-9]{1,30}",
            bit in any::<prop::sample::Index>(),
        ) {
            let now = SystemClock::new().wall();
            let secrets = [SigningSecret::new(secret.clone())];
            let headers = sign(&id, now, body.as_bytes(), &secrets, None).unwrap();
            prop_assert!(verifies(&secret, &headers, body.as_bytes()));

            // Seven bits a byte, so that the text stays ASCII and the verifier gets to compare.
            let at = bit.index(body.len() * 7);
            let mut flipped = body.into_bytes();
            flipped[at / 7] ^= 1 << (at % 7);
            prop_assert!(!verifies(&secret, &headers, &flipped));
        }
    }
}
