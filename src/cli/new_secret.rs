//! `new-token` and `new-secret`: fresh randomness in the form that the configuration wants.

use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Exit;
use crate::config::SigningKey;

/// 256 bits: what SHA-256 hashes and HMAC-SHA-256 keys are worth at most.
const RANDOM_BYTES: usize = 32;

/// The arguments of `new-token`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct TokenArgs {
    /// Print one JSON object with the token and its hash
    #[arg(long)]
    json: bool,
}

/// The arguments of `new-secret`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SecretArgs {
    /// Make an ed25519 key instead: its receivers need no secret, only the public key
    #[arg(long)]
    asymmetric: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints a token.
pub fn run_token(args: TokenArgs) -> Exit {
    let (token, hash) = token(rand::random());
    if args.json {
        return print(&json!({ "token": token, "token_sha256": hash }).to_string(), "");
    }
    print(
        &token,
        &format!(
            "The line above is the token: give it to the client and store it nowhere else.\n\
             This goes into its [[clients]] section:\n\n    token_sha256 = \"{hash}\"\n"
        ),
    )
}

/// Prints a secret.
pub fn run_secret(args: SecretArgs) -> Exit {
    if args.asymmetric {
        return run_key(args, &SigningKey::from_seed(&rand::random()));
    }
    let secret = secret(rand::random());
    if args.json {
        return print(&json!({ "signing_secret": secret }).to_string(), "");
    }
    print(
        &secret,
        "The line above is a signing secret: put it first in the client's `signing_secrets`\n\
         (as `credential:…`, `file:…` or `env:…`) and give it to the callback's receiver.\n\
         Keep the old one second until the receiver knows the new one.\n",
    )
}

fn run_key(args: SecretArgs, key: &SigningKey) -> Exit {
    let (secret, public) = (key.expose(), key.public());
    if args.json {
        return print(&json!({ "signing_key": secret, "public_key": public }).to_string(), "");
    }
    print(
        &secret,
        &format!(
            "The line above is a signing key: put it first in the client's `signing_keys`\n\
             (as `credential:…`, `file:…` or `env:…`) and give it to nobody. Receivers check with\n\
             its public key, which GET /v1/keys publishes:\n\n    {public}\n\n\
             Keep the old key second until every receiver knows the new one.\n"
        ),
    )
}

/// The token of these bytes, and the hash under which it is configured.
fn token(random: [u8; RANDOM_BYTES]) -> (String, String) {
    use std::fmt::Write as _;
    let token = format!("oct_{}", URL_SAFE_NO_PAD.encode(random));
    let hash = Sha256::digest(token.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    (token, hash)
}

fn secret(random: [u8; RANDOM_BYTES]) -> String {
    format!("whsec_{}", STANDARD.encode(random))
}

fn print(data: &str, advice: &str) -> Exit {
    let printed = writeln!(io::stdout(), "{data}").and_then(|()| write!(io::stderr(), "{advice}"));
    if printed.is_ok() { Exit::Success } else { Exit::Failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_whole_token() {
        let (token, hash) = token([0; RANDOM_BYTES]);
        assert_eq!(token, "oct_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        // printf oct_AAAA… | sha256sum
        assert_eq!(hash, "d317bd2090b131fcf2a8c8685893bf2eed25e1643e2ebe3f188173e26ea6aaed");
    }

    #[test]
    fn the_public_key_is_one_that_a_receiver_can_check_with() {
        let key = SigningKey::from_seed(&[3; RANDOM_BYTES]);
        assert!(crate::receiver::verify::Key::parse(&key.public()).is_ok());
        assert!(key.expose().starts_with("whsk_"));
    }

    #[test]
    fn the_secret_is_one_that_standard_webhooks_accepts() {
        assert!(standardwebhooks::Webhook::new(&secret([255; RANDOM_BYTES])).is_ok());
        assert!(crate::receiver::verify::Key::parse(&secret([255; RANDOM_BYTES])).is_ok());
    }
}
