//! From a URL to a way of connecting: hosts, deadlines, TLS.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where a Postgres listens unless told otherwise.
const PORT: u16 = 5432;
/// How long one host may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A database host that vanished without a word is noticed after this much silence.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;

/// Why a `postgres://` URL cannot be used. Never repeats the URL: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Not understood.
    #[error("`store.url` cannot be used: {0}")]
    Config(String),
    /// An option that has no such value.
    #[error("`store.url` says sslmode={0}: use disable, require or verify-full")]
    SslMode(String),
    /// The authority's certificate.
    #[error("the certificates in sslrootcert={path} cannot be used: {why}")]
    RootCertificate {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A way of connecting.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

/// The options that the driver does not know in full.
#[derive(Default)]
struct Ours {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
}

impl Target {
    pub(super) fn of(url: &str) -> Result<Self, UrlError> {
        let (url, ours) = split(url);
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            UrlError::Config(why.unwrap_or_else(|| error.to_string()))
        })?;
        let encrypted = encrypted(ours.sslmode.as_deref(), config.get_hosts())?;
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        let tls = MakeRustlsConnect::new(tls(encrypted, ours.sslrootcert.as_deref())?);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_MAX);
        }
        if config.get_application_name().is_none() {
            config.application_name("outcomed");
        }
        config
            // Of several hosts, the one that takes writes: nothing is decided from a replica.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(SILENCE_MAX)
            .keepalives_interval(PROBE_EVERY)
            .keepalives_retries(PROBES);
        Ok(Self { config, tls })
    }

    /// Hosts and database, as a person would write them; nothing of it is secret.
    pub(super) fn shown(&self) -> String {
        let port = |n: usize| self.config.get_ports().get(n).or(self.config.get_ports().first());
        let host = |(n, host): (usize, &Host)| {
            let name = match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            };
            format!("{name}:{}", port(n).copied().unwrap_or(PORT))
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().enumerate().map(host).collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("postgres {}/{database}", hosts.join(","))
    }
}

/// Takes our options out of the URL.
fn split(url: &str) -> (String, Ours) {
    let Some((base, query)) = url.split_once('?') else { return (url.into(), Ours::default()) };
    let mut ours = Ours::default();
    let mut rest = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "sslmode" => ours.sslmode = Some(value.into_owned()),
            "sslrootcert" => ours.sslrootcert = Some(value.into_owned()),
            _ => drop(rest.append_pair(&name, &value)),
        }
    }
    // The driver reads %20, not `+`.
    (format!("{base}?{}", rest.finish().replace('+', "%20")), ours)
}

/// Whether to encrypt. An encrypted connection is always a verified one; without a word about it,
/// everything but this machine itself is encrypted.
fn encrypted(sslmode: Option<&str>, hosts: &[Host]) -> Result<bool, UrlError> {
    let here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
    };
    match sslmode {
        Some("disable") => Ok(false),
        Some("require" | "verify-ca" | "verify-full") => Ok(true),
        None | Some("allow" | "prefer") => Ok(!hosts.iter().all(here)),
        Some(other) => Err(UrlError::SslMode(other.into())),
    }
}

fn tls(encrypted: bool, root: Option<&str>) -> Result<ClientConfig, UrlError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match root {
        Some(path) => builder.with_root_certificates(roots(path)?),
        None if encrypted => builder.with_platform_verifier()?,
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

fn roots(path: &str) -> Result<RootCertStore, UrlError> {
    let bad = |why: String| UrlError::RootCertificate { path: path.into(), why };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))? {
        let certificate = certificate.map_err(|e| bad(e.to_string()))?;
        store.add(certificate).map_err(|e| bad(e.to_string()))?;
    }
    if store.is_empty() { Err(bad("it holds none".into())) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        Target::of(url).map(|target| target.config.get_ssl_mode()).unwrap()
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear_unless_told_so() {
        assert_eq!(mode("postgres:///db?host=%2Frun%2Fpostgresql"), SslMode::Disable);
        assert_eq!(mode("postgres://me@127.0.0.1:5433/db"), SslMode::Disable);
        assert_eq!(mode("postgres://me@db.example/db?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://me@localhost/db?sslmode=verify-full"), SslMode::Require);
        if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
            assert_eq!(mode("postgres://me@db.example/db"), SslMode::Require);
            assert_eq!(mode("postgres://me@a.example,b.example/db"), SslMode::Require);
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_the_password() {
        let told = |url| Target::of(url).err().unwrap().to_string();
        assert!(told("postgres://me:hunter2@h/db?sslmode=maybe").contains("sslmode=maybe"));
        let unknown = told("postgres://me:hunter2@h/db?colour=red");
        assert!(unknown.contains("colour") && !unknown.contains("hunter2"), "{unknown}");
        let missing = told("postgres://me:hunter2@h/db?sslrootcert=%2Fnone.pem");
        assert!(missing.contains("/none.pem") && !missing.contains("hunter2"), "{missing}");
    }
}
