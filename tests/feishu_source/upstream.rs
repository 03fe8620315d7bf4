//! A server for one test: answers as the test says, remembers what it was asked, and can break in
//! ways that no HTTP library lets a server break.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use url::Url;

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The last part of the path.
    pub(crate) fn last(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    /// The value under `key` in the JSON body.
    pub(crate) fn field(&self, key: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        Some(body.get(key)?.as_str()?.to_owned())
    }
}

/// What to answer.
pub(crate) enum Answer {
    /// A whole reply.
    Reply { status: u16, headers: String, body: String },
    /// Half a reply, and then nothing while the connection stays open.
    Stall,
    /// A whole reply; then the server closes, and says so here once the client has noticed.
    Last { body: String, closed: Arc<Notify> },
    /// The connection is reset.
    Reset,
}

/// JSON, as Feishu sends it.
pub(crate) fn json(status: u16, body: &str) -> Answer {
    reply(status, "Content-Type: application/json; charset=utf-8\r\n", body)
}

/// A reply with these header lines, each ending in CRLF.
pub(crate) fn reply(status: u16, headers: &str, body: &str) -> Answer {
    Answer::Reply { status, headers: headers.to_owned(), body: body.to_owned() }
}

type Handler =
    dyn Fn(Request) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync + 'static;

/// The server. It ends with the test's runtime.
pub(crate) struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) async fn start<F, A>(handler: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let handler: Arc<Handler> = Arc::new(move |request| Box::pin(handler(request)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen_by_all, counted) = (Arc::clone(&seen), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen_by_all));
                tokio::spawn(serve(stream, handler, seen));
            }
        });
        Self { address, seen, connections }
    }

    pub(crate) fn base_url(&self) -> Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// Everything that was asked with a path that ends so.
    pub(crate) fn asked(&self, path_end: &str) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.path.ends_with(path_end)).cloned().collect()
    }

    /// Every poll that was sent.
    pub(crate) fn polls(&self) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.method == "GET").cloned().collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, seen: Arc<Mutex<Vec<Request>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        seen.lock().unwrap().push(request.clone());
        match handler(request).await {
            Answer::Reply { status, headers, body } => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
                if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
                    return;
                }
            }
            Answer::Stall => {
                let half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                            Content-Length: 100\r\n\r\n{\"code\":0,";
                stream.write_all(half.as_bytes()).await.unwrap();
                // Until the client hangs up.
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
            Answer::Last { body, closed } => {
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
                let whole = format!("{head}Content-Length: {length}\r\n\r\n{body}");
                stream.write_all(whole.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                let _ = stream.read(&mut [0; 1]).await;
                closed.notify_one();
                return;
            }
            Answer::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let mut request = parse(head);
            let length: usize =
                request.header("content-length").map_or(0, |length| length.parse().unwrap());
            if buffer.len() >= end + 4 + length {
                request.body =
                    String::from_utf8(buffer[end + 4..end + 4 + length].to_vec()).unwrap();
                buffer.drain(..end + 4 + length);
                return Some(request);
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => buffer.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

fn parse(head: String) -> Request {
    let mut words = head.split_whitespace();
    let method = words.next().unwrap().to_owned();
    let path = words.next().unwrap().to_owned();
    Request { method, path, head, body: String::new() }
}
