//! Greedy, slow and malformed peers, over raw sockets.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outcomed::api::Limits;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{ATS, Api, config, read_to_end, wanted};

fn head(extra: &str) -> String {
    format!(
        "POST /v1/registrations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATS}\r\n\
         content-type: application/json\r\n{extra}\r\n"
    )
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_by_its_announced_length() {
    let api = Api::start().await;
    // Nothing of the body is ever sent: the announcement is enough.
    let answer =
        api.raw(head("expect: 100-continue\r\ncontent-length: 65537\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("urn:outcomed:problem:too-large"), "{answer}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_by_counting() {
    let api = Api::start().await;
    let mut bytes = head("connection: close\r\ntransfer-encoding: chunked\r\n").into_bytes();
    for _ in 0..5 {
        bytes.extend(format!("{:x}\r\n{}\r\n", 16_384, " ".repeat(16_384)).bytes());
    }
    bytes.extend(b"0\r\n\r\n");
    let answer = api.raw(&bytes).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(api.registrations().await, 0);
}

/// As it would be by itself.
#[tokio::test]
async fn one_of_a_batch_that_is_too_large_is_refused_alone() {
    let api = Api::start().await;
    let padded = |bytes: usize| {
        let one = wanted("task-1").to_string();
        format!("{}{}}}", &one[..one.len() - 1], " ".repeat(bytes - one.len()))
    };
    for (bytes, status) in [(65_537, 413), (65_536, 201)] {
        let body = format!("{{\"registrations\":[{}, {}]}}", padded(bytes), wanted("task-2"));
        let answer = api.call(Method::POST, "/v1/registrations/batch", ATS, Some(&body)).await;
        let results = answer.json()["results"].clone();
        assert_eq!(results[0]["status"], status, "{}", answer.text);
        assert!(results[1]["registration"]["id"].is_string(), "{}", answer.text);
    }
}

#[tokio::test]
async fn the_limits_are_64_kib_and_4_mib_for_a_batch() {
    let api = Api::start().await;
    let padded = |body: &str, bytes: usize| format!("{}{body}", " ".repeat(bytes - body.len()));
    let one = wanted("task-1").to_string();
    let batch = json!({"registrations": [wanted("task-2")]}).to_string();
    for (path, body, limit, good) in [
        ("/v1/registrations", one, 65_536, 201),
        ("/v1/registrations/batch", batch, 4 * 1024 * 1024, 200),
    ] {
        let over = api.call(Method::POST, path, ATS, Some(&padded(&body, limit + 1))).await;
        assert_eq!(over.problem(413, "too-large")["limit_bytes"], limit);
        let fits = api.call(Method::POST, path, ATS, Some(&padded(&body, limit))).await;
        assert_eq!(fits.status, good, "{}", fits.text);
    }
}

#[tokio::test]
async fn a_slow_body_is_408_and_the_connection_is_closed() {
    let limits = Limits { body_time_max: Duration::from_millis(200), ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let answer = api.raw(format!("{}{{", head("content-length: 10\r\n")).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:outcomed:problem:request-timeout"), "{answer}");
}

#[tokio::test]
async fn a_silent_or_dripping_connection_is_closed_in_time() {
    let limits = Limits { header_time_max: Duration::from_millis(300), ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    for begun in ["", "G", "PRI * HTTP/2.0\r\n\r\n", "GET /healthz HTTP/1.1\r\nhost: x\r\nx: "] {
        // It reads to the end, so it would fail by its own deadline if nobody closed.
        let answer = api.raw(begun.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{begun}: {answer}");
    }
    let mut dripping = api.connect().await;
    let closed = async {
        loop {
            if dripping.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("drips do not keep it open");
}

#[tokio::test]
async fn malformed_requests_are_refused_and_the_next_client_is_served() {
    let api = Api::start().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
    let both = head("content-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n");
    for bytes in
        ["\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &long, &many, &both]
    {
        let mut stream = api.connect().await;
        let _ = stream.write_all(bytes.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(api.get("/healthz", "").await.status, 200);
    assert_eq!(api.registrations().await, 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let api = Api::start().await;
    let body = wanted("task-1").to_string();
    let mut stream = api.connect().await;
    let head = head(&format!("content-length: {}\r\n", body.len() + 1));
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_to_end(stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(api.registrations().await, 0);
}

#[tokio::test]
async fn one_busy_connection_too_many_is_503_and_a_free_place_is_used_again() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let mut busy = api.connect().await;
    let request = format!(
        "GET /v1/outcomes?wait=60s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATS}\r\n\r\n"
    );
    busy.write_all(request.as_bytes()).await.unwrap();
    api.store.listeners(1).await;
    let closing = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let refused = api.raw(closing).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("urn:outcomed:problem:overloaded"), "{refused}");
    drop(busy);
    // The place is free once the server has noticed; until then it keeps refusing.
    let again = async { while !api.raw(closing).await.starts_with("HTTP/1.1 200 ") {} };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("the place is free again");
}

#[tokio::test]
async fn silent_connections_make_way_for_those_that_ask() {
    let limits = Limits { connections_max: 8, ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let mut silent = Vec::new();
    for begun in ["", "GET /healthz HTTP/1.1\r\nx: "].iter().cycle().take(40) {
        let mut stream = api.connect().await;
        let _ = stream.write_all(begun.as_bytes()).await;
        silent.push(stream);
    }
    let closing = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let asking = async {
        for _ in 0..20 {
            let answer = api.raw(closing).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    };
    // Far below the 15 s after which the silent ones would be closed anyway.
    tokio::time::timeout(Duration::from_secs(8), asking).await.expect("no starving");
}

#[tokio::test]
async fn one_address_that_opens_many_connections_loses_its_own() {
    let limits = Limits { connections_max: 8, ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let asks = async |stream: &mut TcpStream| {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        stream.read(&mut [0; 4096]).await
    };
    let mut well = api.connect().await;
    assert!(asks(&mut well).await.unwrap() > 0);
    let mut greedy = Vec::new();
    for _ in 0..40 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        greedy.push(socket.connect(api.address).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(asks(&mut well).await.unwrap() > 0, "idle for longer than any of the others");
}

#[tokio::test]
async fn too_many_batches_at_once_are_503() {
    let limits = Limits { batches_max: 0, ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let answer = api.post("/v1/registrations/batch", ATS, &json!({"registrations": []})).await;
    answer.problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn without_its_store_every_call_is_503_and_says_when_to_come_back() {
    let limits = Limits { store_time_max: Duration::from_millis(100), ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let id = api.register("task-1").await;
    for switch in [&api.store.away, &api.store.hung] {
        switch.store(true, Ordering::Relaxed);
        let answers = [
            api.post("/v1/registrations", ATS, &wanted("task-2")).await,
            api.get(&format!("/v1/registrations/{id}?wait=5s"), ATS).await,
            api.get("/v1/registrations", ATS).await,
            api.get("/v1/outcomes", ATS).await,
            api.call(Method::DELETE, &format!("/v1/registrations/{id}"), ATS, None).await,
        ];
        for answer in answers {
            answer.problem(503, "store-unavailable");
            assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        }
        switch.store(false, Ordering::Relaxed);
    }
    assert_eq!(api.registrations().await, 1);
}

#[tokio::test]
async fn a_store_that_fails_is_said_as_often_as_a_person_can_read() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    // Everything here is on this thread.
    let _guard = tracing::subscriber::set_default(subscriber);
    let api = Api::start().await;
    api.store.away.store(true, Ordering::Relaxed);
    for _ in 0..200 {
        api.get("/v1/outcomes", ATS).await.problem(503, "store-unavailable");
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines = text.lines().filter(|line| line.contains("the store failed")).count();
    assert!((1..50).contains(&lines), "{lines} lines of 200 failures");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_given_up() {
    const REQUESTS: usize = 4;
    let limits = Limits { write_time_max: Duration::from_millis(300), ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    let item = |n: u32| {
        let mut item = wanted(&format!("task-{n}"));
        item["metadata"] = json!({"padding": "x".repeat(3000)});
        item
    };
    let batch = json!({"registrations": (0..1000).map(item).collect::<Vec<_>>()});
    assert_eq!(api.post("/v1/registrations/batch", ATS, &batch).await.status, 200);
    let path = "/v1/registrations?limit=1000";
    let bytes = api.get(path, ATS).await.text.len();

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(api.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATS}\r\n\r\n");
    stream.write_all(request.repeat(REQUESTS).as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    api.shutdown.cancel();
    // Not given up, it would be cut off at the deadline for draining, and later than this.
    let ended = tokio::time::timeout(Duration::from_secs(15), api.served).await.unwrap().unwrap();
    assert_eq!(ended, outcomed::api::Drained::Clean);
    let mut taken = Vec::new();
    let _ = stream.read_to_end(&mut taken).await;
    assert!(taken.len() < bytes, "the first answer alone did not fit: {} {bytes}", taken.len());
}
