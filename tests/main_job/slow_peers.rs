//! Slow, silent and senseless sockets: closed in time, and nobody else is held up.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::daemon::{ATS, Daemon, Stage};
use crate::http::{Door, Response};

/// The daemon's own limits are 15 s for a head and 30 s for a body.
const HEAD_MAX: Duration = Duration::from_secs(25);
const BODY_MAX: Duration = Duration::from_secs(45);

async fn connect(daemon: &Daemon) -> TcpStream {
    let Door::Tcp(address) = &daemon.door else { unreachable!() };
    TcpStream::connect(address).await.unwrap()
}

/// Sends the beginning, then one byte now and then; what came back when it was closed.
async fn drip(mut stream: TcpStream, begun: String, drop: &[u8]) -> (Duration, Vec<u8>) {
    let since = Instant::now();
    stream.write_all(begun.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    let dripping = async {
        while writing.write_all(drop).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = reading.read_to_end(&mut answer) => {}
        () = dripping => {}
        () = tokio::time::sleep(BODY_MAX * 2) => panic!("never closed: {begun}"),
    }
    (since.elapsed(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_loris_sockets_are_closed_in_time_and_hold_up_nobody() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let head = format!(
        "POST /v1/registrations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ATS}\r\n\
         Content-Type: application/json\r\nContent-Length: 600\r\n\r\n"
    );
    let mut heads = tokio::task::JoinSet::new();
    let mut bodies = tokio::task::JoinSet::new();
    for number in 0..60 {
        let begun = ["", "GET /healthz HTTP/1.1\r\nX-Slow: "][number % 2].to_owned();
        heads.spawn(drip(connect(&daemon).await, begun, b"x"));
        bodies.spawn(drip(connect(&daemon).await, head.clone(), b" "));
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(daemon.call("GET", "/v1/registrations", ATS, None).await.status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?} for 20 calls", begun.elapsed());
    while let Some(closed) = heads.join_next().await {
        let (took, answer) = closed.unwrap();
        assert!(took < HEAD_MAX, "a head may drip for {took:?}");
        let status = Response::parse(&answer).map(|answer| answer.status);
        assert!(matches!(status, None | Some(400 | 408)), "{status:?}");
    }
    while let Some(closed) = bodies.join_next().await {
        let (took, answer) = closed.unwrap();
        assert!(took < BODY_MAX, "a body may drip for {took:?}");
        Response::parse(&answer).expect("an answer to a slow body").problem(408);
    }
    assert_eq!(daemon.get("/v1/registrations").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_megabytes_is_refused_without_being_read() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let one = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(2 << 20));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(300_000));
    let line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(2 << 20));
    for bytes in [one, many, line] {
        let answer = daemon.door.exchange(bytes.as_bytes()).await;
        let status = answer.and_then(|answer| Response::parse(&answer)).map(|it| it.status);
        assert!(matches!(status, None | Some(400 | 414 | 431)), "{status:?}");
    }
    assert_eq!(daemon.call("GET", "/healthz", "", None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_behind_a_good_request_ends_the_connection_and_no_more() {
    let stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let good = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let smuggled = format!(
        "POST /v1/registrations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ATS}\r\nContent-Length: \
         4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    for garbage in [
        "\0\u{1}\u{2}\u{3}\r\n\r\n",
        "GET\r\n\r\n",
        "HELO mail\r\n\r\n",
        &smuggled,
        "\u{16}\u{3}\u{1}",
    ] {
        let mut stream = connect(&daemon).await;
        let bytes = format!("{good}{good}{garbage}");
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(HEAD_MAX, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "not closed after {garbage:?}");
        let answer = String::from_utf8_lossy(&answer);
        let good = answer.matches("HTTP/1.1 200 ").count();
        assert_eq!(good, 2, "{garbage:?}: {answer}");
        let rest = answer.rsplit("HTTP/1.1 ").next().unwrap();
        assert!(rest.starts_with("200") || rest.starts_with('4'), "{garbage:?}: {answer}");
    }
    assert_eq!(daemon.get("/v1/registrations").await["items"], json!([]));
}
