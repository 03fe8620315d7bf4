//! Raw HTTP, so that a test sees the wire, and a clock that tests turn by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use outcomed::clock::{Clock, Steady, Timestamp};
use outcomed::mock_feishu::{App, MockFeishu, Options};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const SITE: &str = "7047318856652261676";
pub(super) const LOGIN: &str = "/open-apis/auth/v3/tenant_access_token/internal";

#[derive(Default)]
pub(super) struct HandClock(AtomicI64);

impl HandClock {
    pub(super) fn advance(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).expect("short");
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.0.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Steady {
        Steady(self.0.load(Ordering::SeqCst))
    }
}

pub(super) async fn start(options: Options) -> (MockFeishu, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    let mock = MockFeishu::start_with_clock(options, Arc::<HandClock>::clone(&clock)).await;
    (mock.expect("a free port"), clock)
}

/// One exchange as it was on the wire.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(super) fn code(&self) -> i64 {
        self.json()["code"].as_i64().expect("a code")
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Sends bytes and reads until the server closes.
pub(super) async fn exchange(mock: &MockFeishu, request: &str) -> std::io::Result<Seen> {
    let mut stream = TcpStream::connect(mock.addr()).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await??;
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head[9..12].parse().expect("a status");
    Ok(Seen { status, head: head.into(), body: body.into() })
}

pub(super) fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> String {
    let bearer =
        token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: mock\r\nConnection: close\r\n{bearer}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) async fn post(mock: &MockFeishu, path: &str, body: &Value) -> Seen {
    exchange(mock, &request("POST", path, None, &body.to_string())).await.expect("a reply")
}

pub(super) fn credentials() -> Value {
    json!({ "app_id": App::ID, "app_secret": App::SECRET })
}

pub(super) async fn login(mock: &MockFeishu) -> String {
    let reply = post(mock, LOGIN, &credentials()).await;
    reply.json()["tenant_access_token"].as_str().expect("a token").into()
}

pub(super) fn poll_path(task_id: &str) -> String {
    format!("/open-apis/hire/v1/websites/{SITE}/delivery_tasks/{task_id}")
}

pub(super) async fn poll(mock: &MockFeishu, token: &str, task_id: &str) -> Seen {
    let request = request("GET", &poll_path(task_id), Some(token), "");
    exchange(mock, &request).await.expect("a reply")
}

pub(super) async fn create(mock: &MockFeishu, token: &str) -> Seen {
    let path = format!("/open-apis/hire/v1/websites/{SITE}/deliveries/create_by_attachment");
    let body = r#"{"job_post_id":"1","user_id":"2","resume_file_id":"3"}"#;
    exchange(mock, &request("POST", &path, Some(token), body)).await.expect("a reply")
}

/// SHA-256 in lower-case hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
