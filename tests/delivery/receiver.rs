//! A receiver on a real socket that does what a script says, however rude.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What the receiver does with each request, the last one over and over.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with these bytes, then waits for the next request.
    Reply(Vec<u8>),
    /// Answers with these bytes, then the last ones again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// Answers one byte every 20 ms.
    Drip(Vec<u8>),
    /// Never answers.
    Hang,
    /// Breaks the connection before it has read everything.
    Reset,
}

/// An HTTP/1.1 reply with a status line such as `200 OK`, more headers, and a body.
pub(crate) fn reply(status: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    Act::Reply(text.into_bytes())
}

pub(crate) fn ok() -> Act {
    reply("200 OK", "", "thanks")
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Whether the reference implementation verifies it with this key.
    pub(crate) fn verifies(&self, key: &[u8]) -> bool {
        let mut map = reqwest::header::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            map.insert(name, self.headers[name].parse().unwrap());
        }
        let webhook = standardwebhooks::Webhook::from_bytes(key.to_vec()).unwrap();
        webhook.verify(&self.body, &map).is_ok()
    }
}

impl Request {
    /// Whether this public key (`whpk_…`) accepts it.
    pub(crate) fn verifies_asymmetric(&self, public: &str) -> bool {
        use outcomed::receiver::verify::{Headers, Key, verify};
        let header = |name: &str| self.headers.get(name).map(String::as_str);
        let headers = Headers {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature").filter(|all| all.contains("v1a,")),
        };
        let now = self.headers["webhook-timestamp"].parse().unwrap();
        verify(&[Key::parse(public).unwrap()], headers, &self.body, now).is_ok()
    }
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Request>,
    connections: Arc<Mutex<usize>>,
    _serving: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let acts = Arc::new(Mutex::new(acts.into_iter().rev().collect::<Vec<_>>()));
        let connections = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&connections);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                *counted.lock().unwrap() += 1;
                open.spawn(serve(stream, Arc::clone(&acts), sender.clone()));
            }
        });
        Self { address, requests, connections, _serving: serving }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/hook?key=1", self.origin())
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// The next request; waits for it.
    pub(crate) async fn request(&mut self) -> Request {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), self.requests.recv());
        next.await.expect("a request in time").unwrap()
    }

    /// A request that is there already.
    pub(crate) fn request_now(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }
}

fn next_act(acts: &Mutex<Vec<Act>>) -> Act {
    let mut acts = acts.lock().unwrap();
    if acts.len() > 1 { acts.pop().unwrap() } else { acts[0].clone() }
}

async fn serve(
    mut stream: TcpStream,
    acts: Arc<Mutex<Vec<Act>>>,
    requests: mpsc::UnboundedSender<Request>,
) {
    loop {
        // Rude ones decide before they have read: data left unread makes a close a reset.
        if matches!(acts.lock().unwrap().last(), Some(Act::Reset)) {
            let mut one = [0];
            if stream.read(&mut one).await.is_err() || one[0] == 0 {
                return;
            }
            let _ = next_act(&acts);
            return;
        }
        let Some(request) = read(&mut stream).await else { return };
        let _ = requests.send(request);
        let written = match next_act(&acts) {
            Act::Reply(bytes) => stream.write_all(&bytes).await,
            Act::Endless(bytes, again) => {
                let mut written = stream.write_all(&bytes).await;
                while written.is_ok() {
                    written = stream.write_all(&again).await;
                }
                written
            }
            Act::Drip(bytes) => {
                for byte in bytes {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
                Ok(())
            }
            Act::Hang | Act::Reset => std::future::pending().await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers.get("content-length")?.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { line, headers, body })
}
