//! `[[clients]]`

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use url::Url;

use super::accounts::unique_name;
use super::callback_allow;
use super::field::Field;
use super::model::{CallbackAllow, Client, Role, SigningSecret};
use super::reader::{Bad, Reported, Table};
use super::secrets::Secrets;
use super::signing_key::{self, SigningKey};
use super::{tls, values};

/// Standard Webhooks: keys are 24 to 64 bytes.
const SIGNING_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Every secret is one more signature in one header; a rotation needs two.
const SIGNING_SECRETS_MAX: usize = 8;
/// Shorter tokens can be guessed; `outcomed new-token` makes 43 characters.
const TOKEN_CHARS_GOOD: usize = 16;

/// Both padded and unpadded secrets are about.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads all clients. Several things may be wrong with several of them.
pub(super) fn read(root: &Table<'_>, secrets: &Secrets<'_>) -> Option<Vec<Client>> {
    let mut seen = Seen::default();
    let clients: Vec<Option<Client>> =
        root.rows("clients").into_iter().map(|row| client(row, secrets, &mut seen)).collect();
    let clients: Vec<Client> = clients.into_iter().collect::<Option<_>>()?;
    if clients.is_empty() {
        root.reader.warn("there are no clients: nobody can register until [[clients]] has one");
    }
    Some(clients)
}

/// What must differ between clients, and who had it first.
#[derive(Default)]
struct Seen {
    names: BTreeMap<String, String>,
    tokens: BTreeMap<[u8; 32], String>,
}

fn client(row: Table<'_>, secrets: &Secrets<'_>, seen: &mut Seen) -> Option<Client> {
    let name = unique_name(&row, &mut seen.names);
    let role = row.field("role").or("client").parse(|text| match text {
        "client" => Ok(Role::Client),
        "operator" => Ok(Role::Operator),
        _ => Err(Bad::new("is not a role").help("use \"client\" or \"operator\"")),
    });
    let token_sha256 = token(&row, secrets, seen);
    let signing_keys = signing_keys(&row, secrets);
    let has_key = signing_keys.as_ref().is_none_or(|keys| !keys.is_empty());
    let signing_secrets = signing_secrets(&row, secrets, role, has_key);
    let callback_allow = callback_allow(&row);
    let tls_identity = tls::identity(&row, secrets);
    let alert_url = alert_url(&row);
    row.finish();
    Some(Client {
        name: name?,
        role: role?,
        token_sha256: token_sha256?,
        signing_secrets: signing_secrets?,
        signing_keys: signing_keys?,
        callback_allow: callback_allow?,
        tls_identity: tls_identity.ok()?,
        alert_url: alert_url.ok()?,
    })
}

fn token(row: &Table<'_>, secrets: &Secrets<'_>, seen: &mut Seen) -> Option<[u8; 32]> {
    let token = row.field("token");
    let hash = row.field("token_sha256");
    let (field, digest) = match (token.is_absent(), hash.is_absent()) {
        (true, true) => {
            let shown = row.shown();
            let bad = Bad::new(format!("`{shown}` has neither `token` nor `token_sha256`"));
            row.error(bad.help("make one with `outcomed new-token`"));
            return None;
        }
        (false, false) => {
            let bad = Bad::new(format!("`{}` has both `token` and `token_sha256`", row.shown()));
            hash.error(bad.help("keep one of them"));
            return None;
        }
        (false, true) => {
            let secret = secrets.follow(&token)?;
            let text = secret.expose();
            if !text.chars().all(|c| c.is_ascii_graphic()) {
                let bad = format!("`{}` holds characters that no header may hold", token.shown());
                token.error(Bad::new(bad).help("make one with `outcomed new-token`"));
                return None;
            }
            if text.len() < TOKEN_CHARS_GOOD {
                token.reader.warn(format!(
                    "`{}` is shorter than {TOKEN_CHARS_GOOD} characters and can be guessed: \
                     make one with `outcomed new-token`",
                    token.shown()
                ));
            }
            (token, Sha256::digest(text.as_bytes()).into())
        }
        (true, false) => {
            let digest = hash.parse(|text| {
                sha256(text).ok_or_else(|| {
                    Bad::new("is not a SHA-256 hash").help("write 64 hexadecimal digits")
                })
            })?;
            (hash, digest)
        }
    };
    if let Some(first) = seen.tokens.get(&digest) {
        let bad = Bad::new(format!("`{}` is the same token as `{first}`", field.shown()));
        field.error(bad.help("every client needs a token of its own"));
        return None;
    }
    seen.tokens.insert(digest, field.shown());
    Some(digest)
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
    }
    Some(digest)
}

fn signing_secrets(
    row: &Table<'_>,
    secrets: &Secrets<'_>,
    role: Option<Role>,
    has_key: bool,
) -> Option<Vec<SigningSecret>> {
    let field = row.field("signing_secrets");
    let list = field.list()?;
    if list.is_empty() && role == Some(Role::Client) && !has_key {
        let bad = format!("`{}` holds no secret: callbacks could not be signed", field.shown());
        field.error(Bad::new(bad).help("make one with `outcomed new-secret`"));
        return None;
    }
    if list.len() > SIGNING_SECRETS_MAX {
        let bad = format!("`{}` holds more than {SIGNING_SECRETS_MAX} secrets", field.shown());
        field.error(Bad::new(bad).help("keep the newest and those still being rotated out"));
        return None;
    }
    each_secret(&list, secrets, signing_secret)
}

fn signing_keys(row: &Table<'_>, secrets: &Secrets<'_>) -> Option<Vec<SigningKey>> {
    let field = row.field("signing_keys");
    let list = field.list()?;
    if list.len() > SIGNING_SECRETS_MAX {
        let bad = format!("`{}` holds more than {SIGNING_SECRETS_MAX} keys", field.shown());
        field.error(Bad::new(bad).help("keep the newest and those still being rotated out"));
        return None;
    }
    each_secret(&list, secrets, signing_key::parse)
}

/// Follows every element and understands what it finds there. No complaint repeats a secret.
fn each_secret<T>(
    list: &[Field<'_>],
    secrets: &Secrets<'_>,
    parse: impl Fn(&str) -> Result<T, Bad>,
) -> Option<Vec<T>> {
    let decoded: Vec<Option<T>> = list
        .iter()
        .map(|element| {
            let secret = secrets.follow(element)?;
            parse(secret.expose())
                .map_err(|bad| {
                    let message = format!("`{}` {}", element.shown(), bad.message);
                    element.error(Bad { message, help: bad.help });
                })
                .ok()
        })
        .collect();
    decoded.into_iter().collect()
}

fn alert_url(row: &Table<'_>) -> Result<Option<Url>, Reported> {
    let field = row.field("alert_url");
    if field.is_absent() {
        return Ok(None);
    }
    field.parse(values::alert_url).map(Some).ok_or(Reported)
}

fn signing_secret(text: &str) -> Result<SigningSecret, Bad> {
    let bad = |message: &str| Err(Bad::new(message).help("make one with `outcomed new-secret`"));
    let Some(encoded) = text.strip_prefix("whsec_") else {
        return bad("does not begin with whsec_");
    };
    let Ok(bytes) = BASE64.decode(encoded) else {
        return bad("is not base64 after whsec_");
    };
    if !SIGNING_BYTES.contains(&bytes.len()) {
        return bad("must be 24 to 64 bytes long once decoded");
    }
    Ok(SigningSecret::new(bytes))
}

fn callback_allow(row: &Table<'_>) -> Option<Vec<CallbackAllow>> {
    let list = row.field("callback_allow").list()?;
    let entries: Vec<Option<CallbackAllow>> =
        list.iter().map(|element| element.parse(callback_allow::parse)).collect();
    let entries: Vec<CallbackAllow> = entries.into_iter().collect::<Option<_>>()?;
    let is_everything =
        |entry: &CallbackAllow| matches!(entry, CallbackAllow::Cidr(r) if r.prefix_len() == 0);
    if entries.iter().any(is_everything) {
        row.reader.warn(format!(
            "`{}.callback_allow` allows every address: this client may reach the daemon's own \
             network and the cloud's metadata service",
            row.shown()
        ));
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_secret_is_24_to_64_bytes_with_or_without_padding() {
        let whsec = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![7; bytes]));
        assert_eq!(signing_secret(&whsec(24)).unwrap().expose(), [7; 24]);
        assert_eq!(signing_secret(&whsec(64)).unwrap().expose(), [7; 64]);
        assert_eq!(signing_secret(whsec(32).trim_end_matches('=')).unwrap().expose(), [7; 32]);
        assert!(signing_secret(&whsec(23)).is_err());
        assert!(signing_secret(&whsec(65)).is_err());
        assert!(signing_secret("whsec_not base64").is_err());
        assert!(signing_secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_err());
    }

    #[test]
    fn a_hash_is_64_hexadecimal_digits() {
        let mut expected = [0; 32];
        expected[0] = 0xab;
        assert_eq!(sha256(&format!("aB{}", "0".repeat(62))), Some(expected));
        assert_eq!(sha256("ab"), None);
        assert_eq!(sha256(&"g".repeat(64)), None);
        assert_eq!(sha256(&"é".repeat(32)), None);
    }
}
