//! The least of HTTP/1.1 that a peer can get by with: a scripted server, and one call of a client.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::{Clock, SystemClock, Timestamp};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::Instant;

/// How long anything may take that is waited for here. Failing late beats failing on a busy
/// machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a peer sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// When its head had arrived.
    pub(crate) at: Instant,
    pub(crate) wall: Timestamp,
}

impl Request {
    /// The one header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let first = found.next();
    assert_eq!(found.next(), None, "{name} came twice");
    first
}

/// What the scripted server does.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes, as they are.
    Bytes(Vec<u8>),
    /// These bytes, and no more of the connection.
    Cut(Vec<u8>),
    /// These bytes, and then nothing, for ever.
    Stall(Vec<u8>),
    /// A TCP reset.
    Reset,
    /// Nothing, for ever.
    Hang,
    /// After a while.
    After(Duration, Box<Answer>),
}

/// A reply with its length.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    Answer::Bytes(format!("{head}\r\n{body}").into_bytes())
}

type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// Serves on a free loopback port until the test ends.
pub(crate) async fn serve(handler: Handler) -> SocketAddr {
    serve_at(Ipv4Addr::LOCALHOST, handler).await
}

/// Serves on a free port of this address until the test ends.
pub(crate) async fn serve_at(address: Ipv4Addr, handler: Handler) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&handler)));
        }
    });
    address
}

async fn connection(mut stream: TcpStream, handler: Handler) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let mut answer = handler(request);
        while let Answer::After(wait, then) = answer {
            tokio::time::sleep(wait).await;
            answer = *then;
        }
        match answer {
            Answer::Bytes(bytes) if stream.write_all(&bytes).await.is_ok() => {}
            Answer::Bytes(_) | Answer::After(..) => return,
            Answer::Cut(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Answer::Stall(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return std::future::pending().await;
            }
            Answer::Reset => return stream.set_zero_linger().unwrap(),
            Answer::Hang => return std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let (at, wall) = (Instant::now(), SystemClock::new().wall());
    let (line, headers) = head(&buffer[..end]);
    buffer.drain(..end + 4);
    let length = header(&headers, "content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    Some(Request { method, target, headers, body, at, wall })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn head(bytes: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut lines = text.split("\r\n").map(str::to_owned);
    let first = lines.next().unwrap();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    (first, headers)
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Response {
    /// Reads a whole reply; `None` if there was none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = find(bytes, b"\r\n\r\n")?;
        let (line, headers) = head(&bytes[..end]);
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let text = String::from_utf8(bytes[end + 4..].to_vec()).unwrap();
        Some(Self { status, headers, text })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// It is RFC 9457 of this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail"] {
            let text = problem[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "no {member}: {problem}");
        }
        problem
    }

    /// The pointers of a 422.
    #[track_caller]
    pub(crate) fn pointers(&self) -> Vec<String> {
        let problem = self.problem(422);
        let errors = problem["errors"].as_array().unwrap().iter();
        errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

/// Where an API listens.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Door {
    /// As the daemon's log names it.
    pub(crate) fn named(name: &str) -> Self {
        match name.strip_prefix("unix:") {
            Some(path) => Self::Unix(Path::new(path).to_owned()),
            None => Self::Tcp(name.trim_start_matches("http://").parse().unwrap()),
        }
    }

    /// Sends these bytes and reads until the other side closes. `None`: it could not be reached,
    /// or went away without a word.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Tcp(address) => exchange(TcpStream::connect(address).await.ok()?, bytes).await,
            Self::Unix(path) => exchange(UnixStream::connect(path).await.ok()?, bytes).await,
        }
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) -> Option<Vec<u8>> {
    // A server may answer before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let read = read.expect("the connection is closed in time");
    (read.is_ok() || !answer.is_empty()).then_some(answer).filter(|answer| !answer.is_empty())
}

/// The bytes of a call.
pub(crate) fn request(method: &str, path: &str, token: &str, body: Option<&str>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: outcomed\r\nConnection: close\r\n");
    if !token.is_empty() {
        write!(text, "Authorization: Bearer {token}\r\n").unwrap();
    }
    if let Some(body) = body {
        let length = body.len();
        let media = "application/json";
        write!(text, "Content-Type: {media}\r\nContent-Length: {length}\r\n").unwrap();
    }
    format!("{text}\r\n{}", body.unwrap_or_default()).into_bytes()
}
