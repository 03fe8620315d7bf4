//! Over TLS: HTTP/2 by ALPN, and no request that the client repeats by itself.
//!
//! Which certificates are trusted is the system's word, given in the environment; so each of
//! these tests runs its client in a process of its own: this binary, with one ignored test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use outcomed::config::Account;
use outcomed::source::feishu::{Deadlines, Feishu, Http, Tickets};

use crate::{QuotaLimits, TestClock, internal, prepare, provider};

const BASE_URL: &str = "FEISHU_SOURCE_TEST_BASE_URL";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
/// `REFUSED_STREAM`: "not processed, feel free to send it again", which HTTP libraries do.
const REFUSED: [u8; 4] = [0, 0, 0, 7];

#[tokio::test]
#[ignore = "the client of the other tests here, which start it"]
async fn client() {
    provider();
    let account = Account {
        name: "default".into(),
        credentials: internal(),
        base_url: std::env::var(BASE_URL).unwrap().parse().unwrap(),
        quota: QuotaLimits::default(),
    };
    let http = Http::new(Deadlines::default()).unwrap();
    let clock = Arc::new(TestClock::default());
    let source = Feishu::new(&account, http, &Tickets::new(), clock, Arc::default());
    let result = prepare(&source).await;
    writeln!(std::io::stdout(), "RESULT {result:?}").unwrap();
}

fn run_client(base_url: &str, certificates: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::client", "--ignored", "--nocapture"])
        .env(BASE_URL, base_url)
        .env("SSL_CERT_FILE", certificates)
        .env("SSL_CERT_DIR", "/nonexistent")
        .env("NO_PROXY", "localhost")
        .output()
        .unwrap()
}

/// A server that speaks just enough HTTP/2 to refuse every request, and tells of each one; and
/// its certificate.
fn refusing_server() -> (String, String, Receiver<()>) {
    provider();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (requests, seen) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, requests) = (Arc::clone(&config), requests.clone());
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                // Ends with an error when the client hangs up, or does not trust us.
                let _ = refuse_all(StreamOwned::new(connection, stream), || {
                    requests.send(()).unwrap();
                });
            });
        }
    });
    (base_url, made.cert.pem(), seen)
}

fn refuse_all(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    on_request: impl Fn(),
) -> std::io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(preface, PREFACE);
    stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u16::from_be_bytes([head[1], head[2]]);
        stream.read_exact(&mut vec![0; length.into()])?;
        match (head[3], head[4]) {
            (SETTINGS, 0) => stream.write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0])?,
            (HEADERS, _) => {
                on_request();
                let stream_id = &head[5..9];
                stream.write_all(&[&[0, 0, 4, 3, 0], stream_id, &REFUSED].concat())?;
            }
            _ => {}
        }
        stream.flush()?;
    }
}

#[test]
fn a_request_that_http_2_refuses_is_not_repeated_behind_the_lanes_back() {
    let (base_url, certificate, requests) = refusing_server();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();
    let output = run_client(&base_url, &file);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("RESULT Err(Transient { class: Network"), "{said}");
    assert_eq!(requests.try_iter().count(), 3, "a token call and its two quick tries: {said}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_not_accepted() {
    let (base_url, _, requests) = refusing_server();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, other.cert.pem()).unwrap();
    let output = run_client(&base_url, &file);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("RESULT Err(Transient { class: Network"), "{said}");
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(requests.try_iter().count(), 0);
}

#[test]
fn without_ca_certificates_the_account_says_what_to_install() {
    let output = run_client("https://localhost:1", Path::new("/dev/null"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(r#"reason: "no_ca_certificates""#), "{said}");
    assert!(said.contains("ca-certificates"), "{said}");
}
