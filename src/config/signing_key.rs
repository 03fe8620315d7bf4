//! `whsk_…`: a client's ed25519 key, and the `whpk_…` that its receiver checks with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::reader::Bad;

/// An ed25519 secret key (`whsk_…` of Standard Webhooks).
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that grows from this seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The signature of `content`.
    #[must_use]
    pub fn sign(&self, content: &[u8]) -> [u8; 64] {
        ed25519_dalek::Signer::sign(&self.0, content).to_bytes()
    }

    /// `whpk_…`: what a receiver checks with.
    #[must_use]
    pub fn public(&self) -> String {
        format!("whpk_{}", STANDARD.encode(self.0.verifying_key().as_bytes()))
    }

    /// `whsk_…`, for the one place that makes new ones: the seed and the public key, as the
    /// libraries of Standard Webhooks write it.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("whsk_{}", STANDARD.encode(self.0.to_keypair_bytes()))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// Reads a `whsk_…`: 32 bytes (the seed) or 64 (the seed and its public key).
pub(super) fn parse(text: &str) -> Result<SigningKey, Bad> {
    let help = "make one with `outcomed new-secret --asymmetric`";
    let bad = |message: &str| Err(Bad::new(message).help(help));
    let Some(encoded) = text.strip_prefix("whsk_") else {
        return bad("does not begin with whsk_");
    };
    let Ok(bytes) = super::clients::BASE64.decode(encoded) else {
        return bad("is not base64 after whsk_");
    };
    if let Ok(seed) = <&[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(SigningKey::from_seed(seed));
    }
    let Ok(pair) = <&[u8; 64]>::try_from(bytes.as_slice()) else {
        return bad("must be 32 or 64 bytes long once decoded");
    };
    match ed25519_dalek::SigningKey::from_keypair_bytes(pair) {
        Ok(key) => Ok(SigningKey(key)),
        Err(_) => bad("holds a public key that is not its own"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 1: the secret key, and the public key that belongs to it.
    const SEED: [u8; 32] = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    const PUBLIC: [u8; 32] = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07,
        0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07,
        0x51, 0x1a,
    ];

    #[test]
    fn a_seed_and_a_pair_are_the_same_key() {
        let public = format!("whpk_{}", STANDARD.encode(PUBLIC));
        let seed = parse(&format!("whsk_{}", STANDARD.encode(SEED))).unwrap();
        assert_eq!(seed.public(), public);
        let pair = [SEED, PUBLIC].concat();
        assert_eq!(seed.expose(), format!("whsk_{}", STANDARD.encode(&pair)));
        assert_eq!(parse(&seed.expose()).unwrap(), seed);
        assert_eq!(parse(seed.expose().trim_end_matches('=')).unwrap(), seed);
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_reason() {
        let mixed = [SEED, SEED].concat();
        for (text, why) in [
            ("whsec_AAAA".to_owned(), "does not begin with whsk_"),
            ("whsk_!".to_owned(), "is not base64"),
            ("whsk_AAAA".to_owned(), "32 or 64 bytes"),
            (format!("whsk_{}", STANDARD.encode(mixed)), "not its own"),
        ] {
            let bad = parse(&text).unwrap_err();
            assert!(bad.message.contains(why), "{}", bad.message);
            assert!(bad.help.unwrap().contains("--asymmetric"));
        }
    }

    #[test]
    fn it_signs_what_rfc_8032_says() {
        // The same test: the signature of the empty message.
        let expected = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555\
                        fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        let signature = SigningKey::from_seed(&SEED).sign(b"");
        let hex: Vec<String> = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.concat(), expected);
    }

    #[test]
    fn a_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", SigningKey::from_seed(&SEED)), "SigningKey(…)");
    }
}
