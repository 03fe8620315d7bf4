//! Stopping: what was begun is finished, in bounded time; and the listeners themselves.

use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outcomed::api::{Drained, Limits, Listener};
use outcomed::config::Listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::harness::{ATS, Api, config, read_to_end};

const PROMPT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn stopping_ends_long_polls_at_once_with_what_they_have() {
    let api = Api::start().await;
    let id = api.register("task-1").await;
    let mut stream = api.connect().await;
    let request = format!(
        "GET /v1/registrations/{id}?wait=60s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATS}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    api.store.listeners(1).await;
    api.shutdown.cancel();
    let answer = timeout(PROMPT, read_to_end(stream)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"watching\""), "{answer}");
    let ended = timeout(PROMPT, api.served).await.unwrap().unwrap();
    assert_eq!(ended, Drained::Clean);
}

#[tokio::test]
async fn a_request_that_arrives_while_stopping_is_503() {
    let api = Api::start().await;
    let mut stream = api.connect().await;
    stream.write_all(b"GET /v1/registrations HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    // Requests that were sent later have been answered, so half of the head has been read.
    for _ in 0..3 {
        api.get("/healthz", "").await;
    }
    api.shutdown.cancel();
    stream.write_all(format!("authorization: Bearer {ATS}\r\n\r\n").as_bytes()).await.unwrap();
    let answer = read_to_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("urn:outcomed:problem:draining"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert_eq!(timeout(PROMPT, api.served).await.unwrap().unwrap(), Drained::Clean);
}

#[tokio::test]
async fn what_does_not_end_by_the_deadline_is_cut_off_and_said_so() {
    let limits = Limits { drain_time_max: Duration::from_millis(200), ..Limits::default() };
    let api = Api::start_with(config(), limits).await;
    api.store.hung.store(true, Ordering::Relaxed);
    let mut stream = api.connect().await;
    let request =
        format!("GET /v1/outcomes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATS}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let served = api.served;
    let mut half = [0; 1];
    // Nothing can come while the store hangs; when this gives up the request is under way.
    assert!(timeout(Duration::from_millis(300), stream.read(&mut half)).await.is_err());
    api.shutdown.cancel();
    let ended = timeout(PROMPT, served).await.unwrap().unwrap();
    assert_eq!(ended, Drained::Aborted { connections: 1 });
}

#[tokio::test]
async fn nothing_is_accepted_any_more_once_stopped() {
    let api = Api::start().await;
    api.shutdown.cancel();
    assert_eq!(timeout(PROMPT, api.served).await.unwrap().unwrap(), Drained::Clean);
    assert!(tokio::net::TcpStream::connect(api.address).await.is_err());
}

#[tokio::test]
async fn only_a_dead_socket_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listen = Listen::Unix(path.clone());

    std::fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&listen).await.unwrap_err().to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();

    let alive = UnixListener::bind(&path).unwrap();
    let error = Listener::bind(&listen).await.unwrap_err().to_string();
    assert!(error.contains("another process answers"), "{error}");
    drop(alive);
    assert!(path.exists(), "a killed process leaves its file behind");

    let listener = Listener::bind(&listen).await.unwrap();
    assert_eq!(listener.address(), format!("unix:{}", path.display()));
    drop(listener);
    assert!(!path.exists(), "what we made we remove");
}

#[tokio::test]
async fn sockets_handed_in_by_systemd_are_served() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    assert_eq!(Listener::from_tcp(tcp).unwrap().address(), format!("http://{address}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("systemd.sock");
    let unix = UnixListener::bind(&path).unwrap();
    drop(Listener::from_unix(unix).unwrap());
    assert!(path.exists(), "systemd's file is systemd's");
}
