//! The three headers of Standard Webhooks, by which a receiver knows that a callback is ours.
//!
//! What is signed is `{id}.{timestamp}.{body}` (Standard Webhooks 1.0, "Signature scheme"): the
//! timestamp is the attempt's, so that a captured callback cannot be replayed later.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::config::{SigningKey, SigningSecret};

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

/// Signs `body` with every secret, then with every key, each in the order given (newest first).
pub fn sign(
    id: &str,
    now: Timestamp,
    body: &[u8],
    secrets: &[SigningSecret],
    keys: &[SigningKey],
) -> Result<Headers, Unsignable> {
    if secrets.is_empty() && keys.is_empty() {
        return Err(Unsignable::NoSecret);
    }
    let timestamp = now.unix_seconds().to_string();
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(body);
    let symmetric =
        secrets.iter().map(|secret| format!("v1,{}", STANDARD.encode(hmac(secret, &content))));
    let asymmetric = keys.iter().map(|key| format!("v1a,{}", STANDARD.encode(key.sign(&content))));
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
            &[],
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
        let headers = sign("msg_1", now, b"{}", &both, &[]).unwrap();
        assert!(verifies(&new, &headers, b"{}") && verifies(&old, &headers, b"{}"));
        assert!(!verifies(&[3; 32], &headers, b"{}"));
        let newest_alone = sign("msg_1", now, b"{}", &both[..1], &[]).unwrap();
        assert_eq!(headers.signature.split(' ').count(), 2);
        assert_eq!(headers.signature.split(' ').next(), Some(newest_alone.signature.as_str()));
    }

    /// Whether our own verifier, which is held against the reference by its own tests, accepts.
    fn fits(key: &SigningKey, headers: &Headers, body: &[u8]) -> bool {
        let keys = [crate::receiver::verify::Key::parse(&key.public()).unwrap()];
        let given = crate::receiver::verify::Headers {
            id: Some(&headers.id),
            timestamp: Some(&headers.timestamp),
            signature: Some(&headers.signature),
        };
        let now = headers.timestamp.parse().unwrap();
        crate::receiver::verify::verify(&keys, given, body, now).is_ok()
    }

    #[test]
    fn every_key_adds_an_ed25519_signature_after_the_others_the_newest_first() {
        let [new, old, other] = [7, 8, 9].map(|seed| SigningKey::from_seed(&[seed; 32]));
        let secrets = [SigningSecret::new(vec![1; 32])];
        let keys = [new.clone(), old.clone()];
        let headers = sign("msg_1", Timestamp(5_000), b"body", &secrets, &keys).unwrap();
        let kinds: Vec<&str> =
            headers.signature.split(' ').map(|one| one.split(',').next().unwrap()).collect();
        assert_eq!(kinds, ["v1", "v1a", "v1a"]);
        assert!(fits(&new, &headers, b"body") && fits(&old, &headers, b"body"));
        assert!(!fits(&other, &headers, b"body"));
        for bit in 0..4 * 7 {
            let mut flipped = b"body".to_vec();
            flipped[bit / 7] ^= 1 << (bit % 7);
            assert!(!fits(&new, &headers, &flipped), "bit {bit}");
        }
        let newest = sign("msg_1", Timestamp(5_000), b"body", &[], &keys[..1]).unwrap();
        assert_eq!(headers.signature.split(' ').nth(1), Some(newest.signature.as_str()));
    }

    #[test]
    fn nothing_goes_out_unsigned() {
        assert_eq!(sign("msg_1", Timestamp(0), b"", &[], &[]), Err(Unsignable::NoSecret));
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
            let headers = sign(&id, now, body.as_bytes(), &secrets, &[]).unwrap();
            prop_assert!(verifies(&secret, &headers, body.as_bytes()));

            // Seven bits a byte, so that the text stays ASCII and the verifier gets to compare.
            let at = bit.index(body.len() * 7);
            let mut flipped = body.into_bytes();
            flipped[at / 7] ^= 1 << (at % 7);
            prop_assert!(!verifies(&secret, &headers, &flipped));
        }
    }
}
