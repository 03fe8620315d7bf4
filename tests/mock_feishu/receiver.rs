//! The verifying receiver, sent to by the reference library's signatures.

use std::net::SocketAddr;
use std::sync::Arc;

use outcomed::clock::{Clock, SystemClock};
use outcomed::receiver::verify::{Invalid, Key};
use outcomed::receiver::{Answer, Behaviour, Received, Receiver, accepting, failing_first};
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kit::PATIENCE;

pub(super) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
pub(super) const BODY: &str = r#"{"type":"delivery_task.failed","timestamp":"2026-11-22T10:00:00.123Z","data":{"registration_id":"reg_1","task":{"kind":"hire.website_delivery","account":"default","website_id":"7047318856652261676","delivery_task_id":"f1c2a0f138ec492d99d7ab73594158ad"},"outcome":"failed","delivery":null,"failure":{"reason":"duplicate","message":null,"duplicate_of":"69"},"observed":{},"metadata":{}}}"#;

async fn start(behaviour: Behaviour) -> Receiver {
    let keys = vec![Key::parse(SECRET).expect("a secret")];
    let clock = Arc::new(SystemClock::new());
    Receiver::start(SocketAddr::from(([127, 0, 0, 1], 0)), keys, behaviour, clock)
        .await
        .expect("a free port")
}

/// Sends `body` under a signature of `signed` and returns the answer's head.
pub(super) async fn send(addr: SocketAddr, id: &str, signed: &str, body: &str) -> String {
    let now = SystemClock::new().wall().unix_seconds();
    let webhook = Webhook::new(SECRET).expect("a secret");
    let signature = webhook.sign(id, now, signed.as_bytes()).expect("a signature");
    let request = format!(
        "POST /hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nwebhook-id: {id}\r\n\
         webhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

async fn next(receiver: &mut Receiver) -> Received {
    let next = tokio::time::timeout(PATIENCE, receiver.next()).await;
    next.expect("a callback in time").expect("the receiver lives")
}

#[tokio::test]
async fn a_genuine_callback_is_accepted_and_understood() {
    let mut receiver = start(accepting()).await;
    let answer = send(receiver.addr(), "msg_1", BODY, BODY).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let callback = next(&mut receiver).await;
    assert_eq!(callback.verified, Ok(()));
    assert_eq!(callback.id.as_deref(), Some("msg_1"));
    assert_eq!(callback.kind(), Some("delivery_task.failed"));
    assert_eq!(callback.outcome(), Some("failed"));
    assert_eq!(callback.task_id(), Some("f1c2a0f138ec492d99d7ab73594158ad"));
    assert_eq!((callback.reason(), callback.duplicate_of()), (Some("duplicate"), Some("69")));
    assert_eq!((callback.body.as_ref(), callback.path.as_str()), (BODY.as_bytes(), "/hook"));
}

#[tokio::test]
async fn a_changed_body_gets_401_and_does_not_count_as_an_arrival() {
    let mut receiver = start(accepting()).await;
    let answer = send(receiver.addr(), "msg_1", BODY, "{}").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let forged = next(&mut receiver).await;
    assert_eq!((forged.verified, forged.answered), (Err(Invalid::Signature), 401));
    send(receiver.addr(), "msg_1", BODY, BODY).await;
    assert_eq!(next(&mut receiver).await.arrival, 1);
}

#[tokio::test]
async fn a_repeat_is_recognised_by_its_webhook_id() {
    let mut receiver = start(accepting()).await;
    for id in ["msg_1", "msg_2", "msg_1"] {
        send(receiver.addr(), id, BODY, BODY).await;
    }
    let (first, other, repeat) =
        (next(&mut receiver).await, next(&mut receiver).await, next(&mut receiver).await);
    assert!(!first.is_repeat() && !other.is_repeat() && repeat.is_repeat());
    assert_eq!(repeat.arrival, 2);
}

#[tokio::test]
async fn it_can_fail_the_first_arrivals_of_each_id() {
    let mut receiver = start(failing_first(2, 503)).await;
    let mut answered = Vec::new();
    for id in ["msg_1", "msg_1", "msg_1", "msg_2"] {
        send(receiver.addr(), id, BODY, BODY).await;
        answered.push(next(&mut receiver).await.answered);
    }
    assert_eq!(answered, [503, 503, 200, 503]);
}

#[tokio::test]
async fn it_can_ask_for_patience() {
    let busy = Answer { retry_after: Some(7), ..Answer::status(429) };
    let receiver = start(Arc::new(move |_: &Received| busy)).await;
    let answer = send(receiver.addr(), "msg_1", BODY, BODY).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 7\r\n"), "{answer}");
}
