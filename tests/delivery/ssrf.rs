//! Attempts to make the daemon call what it must not: nothing may arrive there.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use outcomed::delivery::send::http::HttpCourier;
use outcomed::delivery::send::resolve::Lookup;
use outcomed::delivery::send::{Class, Courier, Reply};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::courier::{LOOPBACK, parcel};
use crate::receiver::{Receiver, ok, reply};

/// A name server under an attacker's control: one answer after the other, the last for good.
struct Liar(Mutex<(VecDeque<Vec<IpAddr>>, usize)>);

impl Liar {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new((answers.iter().map(parse).collect(), 0))))
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

#[async_trait]
impl Lookup for Liar {
    async fn addresses(&self, client: &str, _host: &str) -> std::io::Result<Vec<IpAddr>> {
        assert_eq!(client, "ats", "lookups are shared out by client");
        let mut this = self.0.lock().unwrap();
        this.1 += 1;
        Ok(if this.0.len() > 1 { this.0.pop_front().unwrap() } else { this.0[0].clone() })
    }
}

/// A listener that must stay alone.
fn forbidden(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// The kernel completes a connection before anybody accepts it, so looking once is enough.
fn assert_untouched(listener: &TcpListener) {
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn refused(reply: &Reply) -> bool {
    reply.status.is_none()
        && reply.broken.as_ref().is_some_and(|broken| broken.class == Class::RefusedAddress)
}

#[tokio::test]
async fn literals_in_every_spelling_are_refused_without_a_connection() {
    let listener = forbidden("127.0.0.1:0");
    let port = listener.local_addr().unwrap().port();
    let courier = HttpCourier::new(Vec::new());
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        for scheme in ["http", "https"] {
            let reply = courier.send(parcel(&format!("{scheme}://{host}:{port}/"), &[])).await;
            assert!(refused(&reply), "{scheme}://{host}: {reply:?}");
        }
    }
    assert_untouched(&listener);
}

#[tokio::test]
async fn a_name_for_a_forbidden_address_is_refused_without_a_connection() {
    let listener = forbidden("127.0.0.1:0");
    let port = listener.local_addr().unwrap().port();
    for answer in [&["127.0.0.1"][..], &["8.8.8.8", "127.0.0.1"], &["::ffff:127.0.0.1"], &["::"]] {
        let courier = HttpCourier::new(Vec::new()).with_lookup(Liar::new(&[answer]));
        let reply = courier.send(parcel(&format!("https://evil.example:{port}/"), &[])).await;
        assert!(refused(&reply), "{answer:?}: {reply:?}");
        let told = reply.broken.unwrap().detail;
        assert!(!answer.iter().any(|address| told.contains(address)), "{answer:?}: {told}");
    }
    assert_untouched(&listener);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_judged_again_for_every_connection() {
    // 127.0.0.1 is the public address of this story, 127.0.0.2 the private one.
    let bye = reply("200 OK", "Connection: close\r\n", "");
    let mut receiver = Receiver::start(vec![bye]).await;
    let port = receiver.address.port();
    let listener = forbidden(&format!("127.0.0.2:{port}"));
    let liar = Liar::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let courier = HttpCourier::new(Vec::new()).with_lookup(liar.clone());
    let url = format!("http://evil.example:{port}/");
    let first = courier.send(parcel(&url, &["127.0.0.1/32"])).await;
    assert_eq!(first.status, Some(200), "{first:?}");
    receiver.request().await;
    let second = courier.send(parcel(&url, &["127.0.0.1/32"])).await;
    assert!(refused(&second), "{second:?}");
    assert_eq!(liar.asked(), 2);
    assert_untouched(&listener);
}

#[tokio::test]
async fn what_is_dialled_is_what_was_judged_with_no_second_look_at_the_name() {
    let receiver = Receiver::start(vec![ok()]).await;
    let port = receiver.address.port();
    let listener = forbidden(&format!("127.0.0.2:{port}"));
    let liar = Liar::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let courier = HttpCourier::new(Vec::new()).with_lookup(liar.clone());
    for _ in 0..3 {
        let url = format!("http://evil.example:{port}/");
        let reply = courier.send(parcel(&url, &["127.0.0.1/32"])).await;
        assert_eq!(reply.status, Some(200), "{reply:?}");
    }
    // One look for one connection, which served all three.
    assert_eq!((liar.asked(), receiver.connections()), (1, 1));
    assert_untouched(&listener);
}

#[tokio::test]
async fn a_connection_opened_under_one_policy_is_not_used_under_another() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let courier = HttpCourier::new(Vec::new()).with_lookup(Liar::new(&[&["127.0.0.1"]]));
    let url = format!("http://shared.example:{}/", receiver.address.port());
    assert_eq!(courier.send(parcel(&url, LOOPBACK)).await.status, Some(200));
    receiver.request().await;
    // Plain http to a name is not refused before its addresses are known.
    let reply = courier.send(parcel(&url, &["10.0.0.0/8"])).await;
    assert!(refused(&reply), "{reply:?}");
    assert!(receiver.request_now().is_none());
    assert_eq!(courier.send(parcel(&url, LOOPBACK)).await.status, Some(200));
    assert_eq!(receiver.connections(), 1, "the first one's connection is still its own");
}

#[tokio::test]
async fn a_redirect_is_not_followed_anywhere() {
    let listener = forbidden("127.0.0.1:0");
    let target = format!("Location: http://{}/\r\n", listener.local_addr().unwrap());
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let receiver = Receiver::start(vec![reply(status, &target, "")]).await;
        let sent = HttpCourier::new(Vec::new()).send(parcel(&receiver.url(), LOOPBACK)).await;
        assert_eq!(sent.status.map(|code| code / 100), Some(3), "{status}: {sent:?}");
    }
    assert_untouched(&listener);
}

#[tokio::test]
async fn the_daemon_does_not_call_its_own_listener() {
    let listener = forbidden("127.0.0.1:0");
    let own = listener.local_addr().unwrap();
    let everywhere = forbidden("0.0.0.0:0");
    let port = everywhere.local_addr().unwrap().port();
    let liar = Liar::new(&[&["127.0.0.1"]]);
    let courier = HttpCourier::new(vec![own, everywhere.local_addr().unwrap()]).with_lookup(liar);
    for url in [
        format!("http://{own}/"),
        format!("http://me.example:{}/", own.port()),
        format!("http://127.0.0.1:{port}/"),
        format!("http://127.9.9.9:{port}/"),
    ] {
        let reply = courier.send(parcel(&url, LOOPBACK)).await;
        assert!(refused(&reply), "{url}: {reply:?}");
    }
    assert_untouched(&listener);
    assert_untouched(&everywhere);
}

#[tokio::test]
async fn a_name_without_an_address_is_said_so() {
    let courier = HttpCourier::new(Vec::new()).with_lookup(Liar::new(&[&[]]));
    let reply = courier.send(parcel("https://empty.example/", &[])).await;
    assert!(reply.broken.unwrap().detail.contains("no address"));
}

struct Silent;

#[async_trait]
impl Lookup for Silent {
    async fn addresses(&self, _client: &str, _host: &str) -> std::io::Result<Vec<IpAddr>> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_never_answers_is_named_as_the_culprit() {
    let courier = HttpCourier::new(Vec::new()).with_lookup(Arc::new(Silent));
    let started = tokio::time::Instant::now();
    let reply = courier.send(parcel("https://slow.example/", &[])).await;
    assert_eq!(reply.broken.unwrap().to_string(), "dns: no answer within 5 s");
    assert_eq!(started.elapsed().as_secs(), 5);
}

const INNER: &str = "ssrf::inner_send_in_this_environment";

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_the_environment_gets_nothing() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let proxy = forbidden("127.0.0.1:0");
    let proxy_url = format!("http://{}", proxy.local_addr().unwrap());
    let mut inner = std::process::Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", INNER, "--ignored"]).env("OUTCOMED_TEST_URL", receiver.url());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        inner.env(name, &proxy_url);
    }
    let output = inner.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    receiver.request().await;
    assert_untouched(&proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_certificate_authorities_what_needs_none_is_still_delivered() {
    let receiver = Receiver::start(vec![ok()]).await;
    let mut inner = std::process::Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", INNER, "--ignored"]).env("OUTCOMED_TEST_URL", receiver.url());
    inner.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR");
    let output = inner.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
#[ignore = "run by the tests above, in a process with an environment of its own"]
async fn inner_send_in_this_environment() {
    let url = std::env::var("OUTCOMED_TEST_URL").unwrap();
    let reply = HttpCourier::new(Vec::new()).send(parcel(&url, LOOPBACK)).await;
    assert_eq!(reply.status, Some(200), "{reply:?}");
}

/// Serves one TLS connection with a certificate of its own making; returns what HTTP arrived.
fn tls_receiver() -> (u16, Vec<u8>, std::thread::JoinHandle<Vec<u8>>) {
    let made = rcgen::generate_simple_self_signed(["receiver.example".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut tls = rustls::StreamOwned::new(connection, tcp);
        let mut arrived = vec![0; 4096];
        let length = tls.read(&mut arrived).unwrap_or(0);
        arrived.truncate(length);
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let _ = tls.flush();
        arrived
    });
    (port, certificate.to_vec(), serving)
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_callback() {
    let (port, _, serving) = tls_receiver();
    let courier = HttpCourier::new(Vec::new()).with_lookup(Liar::new(&[&["127.0.0.1"]]));
    let url = format!("https://receiver.example:{port}/hook");
    let reply = courier.send(parcel(&url, LOOPBACK)).await;
    assert_eq!(reply.broken.map(|broken| broken.class), Some(Class::Tls));
    assert_eq!(serving.join().unwrap(), b"");
}

#[tokio::test]
async fn a_certificate_for_another_name_gets_no_callback_and_the_right_one_does() {
    for (host, arrives) in [("receiver.example", true), ("other.example", false)] {
        let (port, certificate, serving) = tls_receiver();
        let root = reqwest::Certificate::from_der(&certificate).unwrap();
        let courier = HttpCourier::new(Vec::new())
            .with_lookup(Liar::new(&[&["127.0.0.1"]]))
            .with_roots(vec![root]);
        let reply = courier.send(parcel(&format!("https://{host}:{port}/hook"), LOOPBACK)).await;
        assert_eq!(reply.status.is_some(), arrives, "{host}: {reply:?}");
        assert_eq!(!serving.join().unwrap().is_empty(), arrives, "{host}");
    }
}
