//! What the settings are, once read, checked and with their secrets resolved.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::secret::Secret;
use super::signing_key::SigningKey;
use super::tls::{CaFile, TlsIdentity};

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients reach us.
    pub http: Http,
    /// Where everything durable lives.
    pub store: StoreUrl,
    /// Upstream credentials, each with its quota.
    pub accounts: Vec<Account>,
    /// Downstream apps.
    pub clients: Vec<Client>,
    /// How tasks are polled.
    pub polling: Polling,
    /// How outcomes are told.
    pub delivery: Delivery,
    /// How long things are kept.
    pub retention: Retention,
    /// What is logged.
    pub log: Log,
}

/// Where clients reach us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address of the API; a socket passed by systemd wins.
    pub listen: Listen,
    /// Whether `/metrics` answers without an operator's token.
    pub open_metrics: bool,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `127.0.0.1:8474`
    Tcp(SocketAddr),
    /// `unix:/run/outcomed/api.sock`
    Unix(PathBuf),
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where everything durable lives.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreUrl {
    /// `sqlite:outcomed.db`
    Sqlite(PathBuf),
    /// `postgres://user@host/db`
    Postgres(Secret),
}

impl std::fmt::Display for StoreUrl {
    /// A Postgres URL may hold a password, so only its kind is told.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres"),
        }
    }
}

/// One set of upstream credentials, and the quota that comes with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its name in the API, the logs and the metrics.
    pub name: String,
    /// How its token is obtained.
    pub credentials: Credentials,
    /// Feishu, Lark, or a private deployment. Without a trailing slash.
    pub base_url: Url,
    /// The quota of one API.
    pub quota: QuotaLimits,
}

/// How an account's token is obtained.
#[derive(Clone, Debug, PartialEq)]
pub enum Credentials {
    /// A self-built app.
    Internal {
        /// `cli_…`
        app_id: String,
        /// Its secret.
        app_secret: Secret,
    },
    /// A store app, for one tenant.
    Store {
        /// `cli_…`
        app_id: String,
        /// Its secret.
        app_secret: Secret,
        /// The tenant.
        tenant_key: String,
        /// Proves that an event comes from Feishu.
        verification_token: Secret,
        /// Decrypts events and checks their signature, where the app has one.
        encrypt_key: Option<Secret>,
    },
}

impl Credentials {
    /// The app's id.
    #[must_use]
    pub fn app_id(&self) -> &str {
        match self {
            Self::Internal { app_id, .. } | Self::Store { app_id, .. } => app_id,
        }
    }
}

/// A quota: both windows hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Polls in any second.
    pub per_second: u32,
    /// Polls in any 60 seconds.
    pub per_minute: u32,
}

impl Default for QuotaLimits {
    /// Feishu's published limit of the delivery task API.
    fn default() -> Self {
        Self { per_second: 50, per_minute: 1000 }
    }
}

/// A downstream app.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// What it may see.
    pub role: Role,
    /// SHA-256 of its bearer token.
    pub token_sha256: [u8; 32],
    /// Keys of its callbacks' signatures, newest first, decoded from `whsec_…`. Empty for an
    /// operator that receives no callbacks.
    pub signing_secrets: Vec<SigningSecret>,
    /// Its ed25519 keys, newest first, for receivers that should not share a secret.
    pub signing_keys: Vec<SigningKey>,
    /// Callback addresses and origins allowed beyond public https.
    pub callback_allow: Vec<CallbackAllow>,
    /// Who we are to its receivers, where they ask (mTLS).
    pub tls_identity: Option<TlsIdentity>,
    /// Where a person is told that its deliveries, or an account it waits for, stand still.
    pub alert_url: Option<Url>,
}

impl Client {
    /// Whether its callbacks can be signed.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        !self.signing_secrets.is_empty() || !self.signing_keys.is_empty()
    }
}

/// What a client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its own registrations.
    Client,
    /// Everything.
    Operator,
}

/// A decoded `whsec_…` key.
#[derive(Clone)]
pub struct SigningSecret(secrecy::SecretSlice<u8>);

impl SigningSecret {
    /// Wraps the decoded bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// The key's bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        secrecy::ExposeSecret::expose_secret(&self.0)
    }
}

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

impl PartialEq for SigningSecret {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.expose(), other.expose()).into()
    }
}

/// One entry of `callback_allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackAllow {
    /// A range of addresses; one of loopback or private range also lifts the https rule for it.
    Cidr(IpNet),
    /// A host whose addresses are not checked; https only.
    Host(String),
    /// An `http://host[:port]` origin for which the https rule is lifted.
    Origin(Url),
}

/// How tasks are polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polling {
    /// How long a registration waits, unless it says otherwise.
    pub give_up_after: Duration,
    /// How long 1002008 must last before it is believed.
    pub not_found_grace: Duration,
    /// The expected waiting that a poll must save to be worth it.
    pub poll_worth: Duration,
}

/// How outcomes are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The deadline of one attempt, body included.
    pub timeout: Duration,
    /// The waits between attempts, each ±20 %.
    pub retry_delays: Vec<Duration>,
    /// Attempts under way at once to one origin.
    pub concurrency_per_host: u32,
    /// Certificate authorities trusted besides the system's.
    pub extra_ca_files: Vec<CaFile>,
}

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Registrations that were delivered or cancelled.
    pub delivered: Duration,
    /// Registrations that stayed undeliverable.
    pub undeliverable: Duration,
    /// Entries of the attempt log.
    pub attempts: Duration,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or a filter such as `info,outcomed::polling=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `journald` under systemd, else `text`.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Text with the priority prefix that journald reads.
    Journald,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_sign_with_a_secret_or_a_key() {
        let secret = SigningSecret::new(vec![1]);
        let key = SigningKey::from_seed(&[7; 32]);
        for (secrets, keys) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let client = Client {
                name: "ats".into(),
                role: Role::Client,
                token_sha256: [0; 32],
                signing_secrets: vec![secret.clone(); secrets],
                signing_keys: vec![key.clone(); keys],
                callback_allow: Vec::new(),
                tls_identity: None,
                alert_url: None,
            };
            assert_eq!(client.can_sign(), secrets + keys > 0);
        }
    }

    #[test]
    fn a_secret_is_compared_and_never_shown() {
        let secret = SigningSecret::new(vec![1, 2]);
        assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
        assert!(secret == SigningSecret::new(vec![1, 2]) && secret != SigningSecret::new(vec![1]));
    }

    #[test]
    fn addresses_are_shown_as_they_are_configured_but_for_a_database_with_its_password() {
        let listen = Listen::Tcp("127.0.0.1:8474".parse().unwrap());
        assert_eq!(listen.to_string(), "127.0.0.1:8474");
        assert_eq!(Listen::Unix("/run/api.sock".into()).to_string(), "unix:/run/api.sock");
        assert_eq!(StoreUrl::Sqlite("a.db".into()).to_string(), "sqlite:a.db");
        let url = StoreUrl::Postgres(Secret::new("postgres://user:password@host/db"));
        assert_eq!(url.to_string(), "postgres");
        let app_secret = Secret::new("secret");
        let credentials = Credentials::Internal { app_id: "cli_1".into(), app_secret };
        assert_eq!(credentials.app_id(), "cli_1");
    }
}
