//! Feishu's event door is open to anybody: what strangers do there is felt nowhere else.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::daemon::{ATS, Daemon, Stage, wanted};
use crate::http::{Door, Response};
use crate::upstream::APP_ID;

/// More than the daemon serves at once.
const SOCKETS: usize = 1_100;
const STORE: &str = "kind = \"store\"\ntenant_key = \"t\"\nverification_token = \"v\"";

fn head(app_id: &str, bytes: usize) -> String {
    format!(
        "POST /v1/feishu/events/{app_id} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {bytes}\r\n\r\n"
    )
}

async fn connect(daemon: &Daemon) -> TcpStream {
    let Door::Tcp(address) = &daemon.door else { unreachable!() };
    TcpStream::connect(address).await.unwrap()
}

async fn ended(mut stream: TcpStream) -> Option<Response> {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(12), read).await.expect("it is closed");
    Response::parse(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_at_the_event_door_do_not_close_the_api() {
    let mut stage = Stage::new().await;
    stage.home.account = STORE.into();
    let daemon = stage.home.start().await;
    for app_id in [APP_ID, "cli_unknown"] {
        let mut silent = Vec::new();
        for _ in 0..SOCKETS {
            let mut stream = connect(&daemon).await;
            let _ = stream.write_all(head(app_id, 500).as_bytes()).await;
            silent.push(stream);
        }
        let begun = Instant::now();
        for number in 0..10 {
            let body = wanted(&format!("{app_id}-{number}"), "http://127.0.0.1:1/").to_string();
            let answer = daemon.try_call("POST", "/v1/registrations", ATS, Some(&body)).await;
            assert_eq!(answer.map(|answer| answer.status), Some(201), "{number} of {app_id}");
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for ten", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_app_is_refused_before_its_body_and_a_known_ones_is_short() {
    let mut stage = Stage::new().await;
    stage.home.account = STORE.into();
    let daemon = stage.home.start().await;
    let mut stranger = connect(&daemon).await;
    stranger.write_all(head("cli_unknown", 500).as_bytes()).await.unwrap();
    ended(stranger).await.expect("an answer").problem(404);
    let mut long = connect(&daemon).await;
    long.write_all(head(APP_ID, 20_000).as_bytes()).await.unwrap();
    ended(long).await.expect("an answer").problem(413);
    let mut slow = connect(&daemon).await;
    slow.write_all(head(APP_ID, 500).as_bytes()).await.unwrap();
    let begun = Instant::now();
    ended(slow).await.expect("an answer").problem(408);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_write_a_few_short_log_lines_however_much_they_send() {
    let mut stage = Stage::new().await;
    stage.home.account = STORE.into();
    let daemon = stage.home.start().await;
    let long = "x".repeat(8_000);
    let forged = json!({"token": "no", "type": "event_callback"}).to_string();
    for number in 0..1_000 {
        let app_id = [APP_ID, &long][number % 2];
        let request = format!("{}{forged}", head(app_id, forged.len()));
        let mut stream = connect(&daemon).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, [b"HTTP/1.1 401", b"HTTP/1.1 404"][number % 2]);
    }
    let told = daemon.logged("were suppressed").await;
    assert!(told["fields"]["lines"].as_u64().unwrap() > 500, "{told}");
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("an event push was refused"));
    let longest = lines.clone().map(str::len).max().unwrap();
    assert!(lines.count() < 100 && longest < 600, "{longest}: {} bytes", log.len());
}
