//! Private authorities and client certificates, as configured, over real TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use outcomed::config::{Config, Sources, load};
use outcomed::delivery::send::http::HttpCourier;
use outcomed::delivery::send::resolve::Lookup;
use outcomed::delivery::send::{Class, Courier, Reply, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::courier::{LOOPBACK, parcel};

const HOST: &str = "receiver.example";

struct Home;

#[async_trait::async_trait]
impl Lookup for Home {
    async fn addresses(
        &self,
        _client: &str,
        _host: &str,
    ) -> std::io::Result<Vec<std::net::IpAddr>> {
        Ok(vec!["127.0.0.1".parse().unwrap()])
    }
}

/// A private certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both PEM.
struct Identity {
    certificate: String,
    key: String,
    der: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> Identity {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&pair, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        Identity {
            certificate: certificate.pem(),
            key: pair.serialize_pem(),
            der: (certificate.der().clone(), key),
        }
    }
}

/// A receiver that answers 200 over TLS, and says which client certificate each connection showed.
fn receiver(own: &Identity, asks: Option<&Authority>) -> (SocketAddr, Receiver<Option<Vec<u8>>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match asks {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let (certificate, key) = (own.der.0.clone(), own.der.1.clone_key());
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (said, shown) = channel();
    std::thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            let (config, said) = (Arc::clone(&config), said.clone());
            std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, tcp);
                let mut arrived = [0; 4096];
                while tls.read(&mut arrived).is_ok_and(|length| length > 0) {
                    let shown = tls.conn.peer_certificates().map(|chain| chain[0].to_vec());
                    let _ = said.send(shown);
                    let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    let _ = tls.flush();
                }
            });
        }
    });
    (address, shown)
}

/// The settings as an operator writes them, read as the daemon reads them.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn load(&self, extra_ca: &[String], identity: Option<&Identity>) -> Config {
        let mut text = format!(
            "[delivery]\nextra_ca_files = {extra_ca:?}\n[[clients]]\nname = \"ats\"\n\
             token = \"a-token-of-some-length\"\n\
             signing_secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n"
        );
        if let Some(identity) = identity {
            let certificate = self.write("client.pem", &identity.certificate);
            let key = self.write("client.key", &identity.key);
            let lines = [("tls_certificate", certificate), ("tls_key", key)];
            text.extend(lines.map(|(name, path)| format!("{name} = \"file:{path}\"\n")));
        }
        let file = Some(self.write("config.toml", &text).into());
        load(Sources { file, ..Sources::default() }).unwrap_or_else(|e| panic!("{e}")).config
    }
}

fn courier() -> HttpCourier {
    HttpCourier::new(Vec::new()).with_lookup(Arc::new(Home))
}

async fn send(courier: &HttpCourier, to: SocketAddr, config: &Config) -> Reply {
    let mut parcel = parcel(&format!("https://{HOST}:{}/hook", to.port()), LOOPBACK);
    parcel.tls = Tls::of(&config.clients[0], &config.delivery);
    courier.send(parcel).await
}

fn class(reply: &Reply) -> Option<Class> {
    reply.broken.as_ref().map(|broken| broken.class)
}

#[tokio::test]
async fn a_private_authority_counts_once_it_is_configured_and_until_it_is_not() {
    let (place, authority) = (Place::new(), Authority::new());
    let (address, _shown) = receiver(&authority.issue(HOST), None);
    let courier = courier();
    let without = place.load(&[], None);
    assert_eq!(class(&send(&courier, address, &without).await), Some(Class::Tls));
    let file = place.write("ca.pem", &authority.0.pem());
    let with = place.load(std::slice::from_ref(&file), None);
    assert_eq!(send(&courier, address, &with).await.status, Some(200));
    // The connection that is open now was vouched for by settings that no longer hold.
    assert_eq!(class(&send(&courier, address, &without).await), Some(Class::Tls));
    // The same path with another content is another setting after a reload.
    place.write("ca.pem", &Authority::new().0.pem());
    let replaced = place.load(&[file], None);
    assert_ne!(replaced, with);
    assert_eq!(class(&send(&courier, address, &replaced).await), Some(Class::Tls));
}

#[tokio::test]
async fn a_receiver_that_asks_is_shown_the_clients_certificate_and_only_that_clients() {
    let (place, authority) = (Place::new(), Authority::new());
    let (address, shown) = receiver(&authority.issue(HOST), Some(&authority));
    let file = [place.write("ca.pem", &authority.0.pem())];
    let [ours, theirs] = ["ats", "crm"].map(|name| authority.issue(name));
    let courier = courier();
    for identity in [&ours, &theirs, &ours] {
        let config = place.load(&file, Some(identity));
        let reply = send(&courier, address, &config).await;
        assert_eq!(reply.status, Some(200), "{reply:?}");
        assert_eq!(shown.recv().unwrap().as_deref(), Some(identity.der.0.as_ref()));
    }
    let nobody = send(&courier, address, &place.load(&file, None)).await;
    assert_eq!(nobody.status, None, "{nobody:?}");
    let stranger = place.load(&file, Some(&Authority::new().issue("ats")));
    assert_eq!(send(&courier, address, &stranger).await.status, None);
    assert!(shown.try_recv().is_err());
}

#[tokio::test]
async fn an_attempt_says_how_long_it_took_to_connect_and_to_be_answered() {
    let (place, authority) = (Place::new(), Authority::new());
    let (address, _shown) = receiver(&authority.issue(HOST), None);
    let config = place.load(&[place.write("ca.pem", &authority.0.pem())], None);
    let courier = courier();
    let first = send(&courier, address, &config).await;
    assert!(first.connect.unwrap() <= first.first_byte.unwrap(), "{first:?}");
    let second = send(&courier, address, &config).await;
    assert_eq!(second.connect, None, "the connection was open: {second:?}");
    assert!(second.first_byte.is_some());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = send(&courier, closed, &config).await;
    assert_eq!((refused.connect, refused.first_byte), (None, None), "{refused:?}");
}
