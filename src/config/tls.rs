//! Whom we trust besides the system's authorities, and who we are to a receiver that asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::field::Field;
use super::reader::{Bad, Reported, Table};
use super::secret::Secret;
use super::secrets::Secrets;

/// A bundle of every public authority is a quarter of this.
const CA_BYTES_MAX: u64 = 1024 * 1024;
/// One for each private authority; a bundle holds many.
const CA_FILES_MAX: usize = 16;

/// A file of certificate authorities, as it was when the settings were read.
#[derive(Clone, PartialEq, Eq)]
pub struct CaFile {
    /// Where.
    pub path: PathBuf,
    /// Its certificates, DER. Shared, because every attempt carries them.
    pub certificates: Arc<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for CaFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CaFile({}, {} certificates)", self.path.display(), self.certificates.len())
    }
}

/// A client certificate with its key, for receivers that ask who calls (mTLS).
#[derive(Clone, Debug, PartialEq)]
pub struct TlsIdentity {
    /// The chain, PEM, the own certificate first.
    pub certificate: Secret,
    /// The private key, PEM.
    pub key: Secret,
}

/// `extra_ca_files`
pub(super) fn ca_files(field: &Field<'_>) -> Option<Vec<CaFile>> {
    let list = field.list()?;
    if list.len() > CA_FILES_MAX {
        let bad = format!("`{}` holds more than {CA_FILES_MAX} files", field.shown());
        field.error(Bad::new(bad).help("put several certificates into one file"));
        return None;
    }
    let files: Vec<Option<CaFile>> = list.iter().map(|element| element.parse(ca_file)).collect();
    files.into_iter().collect()
}

fn ca_file(text: &str) -> Result<CaFile, Bad> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(Bad::new("is not a full path").help("write /etc/ssl/private-ca.pem, say"));
    }
    let failed = |error: std::io::Error| {
        Bad::new(format!("names {text}, which cannot be read: {error}"))
            .help("create it, correct the path, or let the daemon's user read it")
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > CA_BYTES_MAX {
        let bad = format!("names {text}, which is not a regular file of at most 1 MiB");
        return Err(Bad::new(bad).help("name a PEM file with certificates"));
    }
    let pem = std::fs::read(path).map_err(failed)?;
    let certificates = authorities(&pem).map_err(|why| {
        Bad::new(format!("names {text}, {why}")).help("name a PEM file with CA certificates")
    })?;
    Ok(CaFile { path: path.to_owned(), certificates: Arc::new(certificates) })
}

fn authorities(pem: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let certificates = chain(pem)?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|_| "which holds a broken certificate")?;
    }
    Ok(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|_| "which is not PEM")?;
    if certificates.is_empty() { Err("which holds no certificate") } else { Ok(certificates) }
}

/// `tls_certificate` and `tls_key`: both, or neither.
pub(super) fn identity(
    row: &Table<'_>,
    secrets: &Secrets<'_>,
) -> Result<Option<TlsIdentity>, Reported> {
    let certificate = row.field("tls_certificate");
    let key = row.field("tls_key");
    let (given, missing) = match (certificate.is_absent(), key.is_absent()) {
        (true, true) => return Ok(None),
        (false, false) => {
            let found = (secrets.follow_text(&certificate), secrets.follow_text(&key));
            let (Some(certificate_pem), Some(key_pem)) = found else { return Err(Reported) };
            let identity = TlsIdentity { certificate: certificate_pem, key: key_pem };
            return match check(&identity) {
                Ok(()) => Ok(Some(identity)),
                Err((of_key, why)) => {
                    let field = if of_key { &key } else { &certificate };
                    let help = "give the certificate's chain and its own private key, both PEM";
                    field.error(Bad::new(format!("`{}` {why}", field.shown())).help(help));
                    Err(Reported)
                }
            };
        }
        (false, true) => (&certificate, &key),
        (true, false) => (&key, &certificate),
    };
    let bad = format!("`{}` needs `{}` beside it", given.shown(), missing.shown());
    given.error(Bad::new(bad).help("a client certificate is both"));
    Err(Reported)
}

/// Whether the two belong together; `true` beside the reason if it is about the key.
fn check(identity: &TlsIdentity) -> Result<(), (bool, &'static str)> {
    let certificates = chain(identity.certificate.expose().as_bytes())
        .map_err(|_| (false, "holds no PEM certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes())
        .map_err(|_| (true, "holds no PEM private key"))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(certificates, key, &provider)
        .map(drop)
        .map_err(|_| (true, "is not the key of the certificate, or of an unknown kind"))
}
