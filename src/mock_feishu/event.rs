//! Events that Feishu pushes to a store app: plain, or encrypted and signed.

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::Encryptor;
use cbc::cipher::{Block, BlockModeEncrypt as _, KeyIvInit as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::options::StoreApp;

const BLOCK_BYTES: usize = 16;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Does the app own the address? It must echo the challenge within a second.
    UrlCheck {
        /// To be echoed.
        challenge: String,
    },
    /// The hourly ticket.
    Ticket {
        /// The app it is for.
        app_id: String,
        /// The ticket.
        ticket: String,
    },
}

/// An event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The signature's headers, if the app has an encrypt key.
    pub headers: Vec<(&'static str, String)>,
    /// The body's bytes.
    pub body: String,
}

/// The randomness of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt {
    /// The event's `uuid`, and the signature's nonce.
    pub nonce: u64,
    /// The cipher's first block.
    pub iv: [u8; BLOCK_BYTES],
}

impl Event {
    /// The bytes and headers of this event, as `app` is to get it at `unix_seconds`.
    #[must_use]
    pub fn render(&self, app: &StoreApp, unix_seconds: i64, salt: Salt) -> Rendered {
        let plain = self.json(&app.verification_token, unix_seconds, salt.nonce).to_string();
        let Some(key) = &app.encrypt_key else {
            return Rendered { headers: Vec::new(), body: plain };
        };
        let body = json!({ "encrypt": encrypt(key, salt.iv, plain.as_bytes()) }).to_string();
        let (timestamp, nonce) = (unix_seconds.to_string(), salt.nonce.to_string());
        let signed = [&timestamp, &nonce, key, &body].map(String::as_bytes).concat();
        let headers = vec![
            ("X-Lark-Signature", hex(&Sha256::digest(signed))),
            ("X-Lark-Request-Timestamp", timestamp),
            ("X-Lark-Request-Nonce", nonce),
        ];
        Rendered { headers, body }
    }

    fn json(&self, token: &str, unix_seconds: i64, nonce: u64) -> Value {
        match self {
            Self::UrlCheck { challenge } => {
                json!({ "challenge": challenge, "token": token, "type": "url_verification" })
            }
            Self::Ticket { app_id, ticket } => json!({
                "ts": unix_seconds.to_string(),
                "uuid": format!("{nonce:016x}"),
                "token": token,
                "type": "event_callback",
                "event": { "app_id": app_id, "app_ticket": ticket, "type": "app_ticket" },
            }),
        }
    }
}

/// AES-256-CBC with PKCS7 padding and the key's SHA-256, the first block in front, in base64.
#[must_use]
pub fn encrypt(key: &str, iv: [u8; BLOCK_BYTES], plain: &[u8]) -> String {
    let mut cipher = Encryptor::<Aes256>::new(&Sha256::digest(key.as_bytes()), &iv.into());
    let padding = BLOCK_BYTES - plain.len() % BLOCK_BYTES;
    let mut bytes = plain.to_vec();
    bytes.resize(plain.len() + padding, u8::try_from(padding).unwrap_or_default());
    let mut out = iv.to_vec();
    for chunk in bytes.as_chunks::<BLOCK_BYTES>().0 {
        let mut block: Block<Encryptor<Aes256>> = (*chunk).into();
        cipher.encrypt_block(&mut block);
        out.extend_from_slice(&block);
    }
    STANDARD.encode(out)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_encrypts_as_feishus_published_vector() {
        let published = "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=";
        let iv: [u8; 16] = STANDARD.decode(published).unwrap()[..16].try_into().unwrap();
        assert_eq!(encrypt("test key", iv, b"hello world"), published);
    }

    #[test]
    fn a_plain_ticket_reads_as_documented() {
        let app = StoreApp { verification_token: "v".into(), ..StoreApp::default() };
        let event = Event::Ticket { app_id: "cli_1".into(), ticket: "tick".into() };
        let rendered = event.render(&app, 1_700_000_000, Salt { nonce: 255, iv: [0; 16] });
        assert_eq!(rendered.headers, []);
        assert_eq!(
            serde_json::from_str::<Value>(&rendered.body).unwrap(),
            json!({
                "ts": "1700000000", "uuid": "00000000000000ff", "token": "v",
                "type": "event_callback",
                "event": { "app_id": "cli_1", "app_ticket": "tick", "type": "app_ticket" },
            })
        );
    }

    #[test]
    fn an_encrypted_event_is_signed_over_its_raw_body() {
        let app = StoreApp { encrypt_key: Some("k".into()), ..StoreApp::default() };
        let event = Event::UrlCheck { challenge: "c".into() };
        let rendered = event.render(&app, 1_700_000_000, Salt { nonce: 7, iv: [1; 16] });
        let signed = format!("17000000007k{}", rendered.body);
        let expected = hex(&Sha256::digest(signed.as_bytes()));
        assert_eq!(rendered.headers[0], ("X-Lark-Signature", expected));
        assert!(rendered.body.starts_with(r#"{"encrypt":""#));
        assert!(!rendered.body.contains("url_verification"));
    }
}
