//! One attempt against receivers that are slow, broken or hostile.

use std::time::Duration;

use bytes::Bytes;
use outcomed::clock::Timestamp;
use outcomed::config::{CallbackAllow, SigningSecret};
use outcomed::delivery::send::http::HttpCourier;
use outcomed::delivery::send::{Class, Courier, Parcel, Reply, Tls};
use outcomed::delivery::sign::sign;
use tokio::time::Instant;

use crate::receiver::{Act, Receiver, ok, reply};

pub(crate) fn allow(entries: &[&str]) -> Vec<CallbackAllow> {
    entries.iter().map(|entry| CallbackAllow::Cidr(entry.parse().unwrap())).collect()
}

pub(crate) fn parcel(url: &str, allowed: &[&str]) -> Parcel {
    let secrets = [SigningSecret::new(vec![1; 32])];
    Parcel {
        client: "ats".into(),
        url: url.parse().unwrap(),
        allow: allow(allowed),
        tls: Tls::default(),
        headers: sign("msg_1", Timestamp(1_000), b"{}", &secrets, &[]).unwrap(),
        body: Bytes::from_static(b"{}"),
        timeout: Duration::from_secs(10),
    }
}

pub(crate) const LOOPBACK: &[&str] = &["127.0.0.0/8"];

async fn sent_to(acts: Vec<Act>, timeout: Duration) -> (Reply, Duration) {
    let receiver = Receiver::start(acts).await;
    let parcel = Parcel { timeout, ..parcel(&receiver.url(), LOOPBACK) };
    let started = Instant::now();
    let reply = HttpCourier::new(Vec::new()).send(parcel).await;
    (reply, started.elapsed())
}

async fn answered(act: Act) -> Reply {
    sent_to(vec![act], Duration::from_secs(10)).await.0
}

fn class(reply: &Reply) -> Option<Class> {
    reply.broken.as_ref().map(|broken| broken.class)
}

#[tokio::test]
async fn a_callback_arrives_as_the_contract_says() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let reply = HttpCourier::new(Vec::new()).send(parcel(&receiver.url(), LOOPBACK)).await;
    assert_eq!(reply.status, Some(200));
    assert_eq!((reply.broken, reply.excerpt.as_deref()), (None, Some("thanks")));
    let request = receiver.request().await;
    assert_eq!(request.line, "POST /hook?key=1 HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["user-agent"], format!("outcomed/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.headers["webhook-id"], "msg_1");
    assert_eq!(request.headers["webhook-timestamp"], "1");
    assert!(request.headers["webhook-signature"].starts_with("v1,"));
    assert_eq!(request.body, b"{}");
    assert!(!request.headers.contains_key("accept-encoding"), "nothing is to be inflated");
}

#[tokio::test]
async fn connections_are_reused() {
    let receiver = Receiver::start(vec![ok()]).await;
    let courier = HttpCourier::new(Vec::new());
    for _ in 0..5 {
        let reply = courier.send(parcel(&receiver.url(), LOOPBACK)).await;
        assert_eq!(reply.status, Some(200));
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_the_deadline_and_no_more() {
    let (reply, took) = sent_to(vec![Act::Hang], Duration::from_millis(300)).await;
    assert_eq!((class(&reply), reply.status), (Some(Class::Timeout), None));
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_header_that_drips_in_does_not_stretch_the_deadline() {
    let act =
        Act::Drip(b"HTTP/1.1 200 OK\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec());
    let (reply, took) = sent_to(vec![act], Duration::from_millis(300)).await;
    assert_eq!((class(&reply), reply.status), (Some(Class::Timeout), None));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_body_that_never_ends_in_time_is_a_timeout_although_the_status_was_good() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
    bytes.extend([b'x'; 10]);
    // The head at once, the rest never.
    let (reply, took) = sent_to(vec![Act::Reply(bytes)], Duration::from_millis(400)).await;
    assert_eq!((class(&reply), reply.status), (Some(Class::Timeout), Some(200)));
    assert_eq!(reply.excerpt.as_deref(), Some("xxxxxxxxxx"));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn of_an_endless_body_64_kibibytes_are_read_and_it_counts_as_arrived() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("400\r\n{}\r\n", "y".repeat(1024)).into_bytes();
    let (reply, took) = sent_to(vec![Act::Endless(head, chunk)], Duration::from_secs(30)).await;
    assert_eq!((class(&reply), reply.status), (None, Some(200)));
    assert_eq!(reply.excerpt, Some("y".repeat(1024)));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_huge_content_length_reserves_nothing() {
    let head = b"HTTP/1.1 500 Oops\r\nContent-Length: 999999999999999\r\n\r\n".to_vec();
    let (reply, _) =
        sent_to(vec![Act::Endless(head, vec![b'z'; 4096])], Duration::from_secs(30)).await;
    assert_eq!((class(&reply), reply.status), (None, Some(500)));
}

#[tokio::test]
async fn endless_headers_are_cut_off() {
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let act = Act::Endless(head, b"X-More: and more\r\n".to_vec());
    let (reply, took) = sent_to(vec![act], Duration::from_secs(30)).await;
    assert_eq!(class(&reply), Some(Class::BadReply));
    assert!(took < Duration::from_secs(10), "{took:?}");
    let one_line = Act::Endless(b"HTTP/1.1 200 OK\r\nX-Long: ".to_vec(), vec![b'a'; 4096]);
    let (reply, _) = sent_to(vec![one_line], Duration::from_secs(30)).await;
    assert_eq!(class(&reply), Some(Class::BadReply));
}

#[tokio::test]
async fn a_reply_may_have_64_header_lines_and_no_more() {
    for (more, expected) in [(63, None), (64, Some(Class::BadReply))] {
        let reply = answered(reply("200 OK", &"X-More: and more\r\n".repeat(more), "")).await;
        assert_eq!(class(&reply), expected, "{more} besides the length: {reply:?}");
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_not_inflated() {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n".to_vec();
    bytes.extend([0x1f, 0x8b, 0x08, 0x00]);
    let reply = answered(Act::Reply(bytes)).await;
    assert_eq!(reply.excerpt.as_deref(), Some("\\u{1f}\u{fffd}\\u{8}\\u{0}"));
}

#[tokio::test]
async fn what_breaks_has_a_stable_word() {
    for (act, expected) in [
        (Act::Reset, Class::Reset),
        (Act::Reply(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), Class::BadReply),
        (Act::Reply(b"HTTP/1.1 9999 What\r\n\r\n".to_vec()), Class::BadReply),
    ] {
        let reply = answered(act.clone()).await;
        assert_eq!(class(&reply), Some(expected), "{act:?}: {reply:?}");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reply = HttpCourier::new(Vec::new())
        .send(parcel(&format!("http://{closed}/secret-path?key=1"), LOOPBACK))
        .await;
    assert_eq!(class(&reply), Some(Class::Connect));
    let text = reply.broken.unwrap().to_string();
    assert!(!text.contains("secret-path") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn an_error_reply_is_kept_with_its_beginning_and_its_retry_after() {
    let reply = answered(reply("503 Busy", "Retry-After: 7\r\n", "come\tback")).await;
    assert_eq!((reply.status, reply.retry_after.as_deref()), (Some(503), Some("7")));
    assert_eq!(reply.excerpt.as_deref(), Some(r"come\tback"));
    assert_eq!(reply.broken, None);
}

#[tokio::test]
async fn a_204_without_a_body_arrived() {
    let reply = answered(Act::Reply(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())).await;
    assert_eq!((reply.status, reply.broken, reply.excerpt), (Some(204), None, None));
}
