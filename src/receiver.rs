//! A callback receiver that verifies: for `outcomed listen`, for the demo, and as an example of
//! what a downstream app has to do.

mod received;
pub mod verify;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;

use received::Arrivals;
pub use received::Received;
use verify::{Headers, Key};

use crate::clock::Clock;
use crate::small_server::{Body, SmallServer};

/// Callbacks that may wait for the program to look at them; then senders wait.
const UNREAD_MAX: usize = 10_000;

/// What a genuine callback is answered with. A forgery always gets 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// How long the answer takes.
    pub delay: Duration,
}

impl Answer {
    /// This status, at once.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, retry_after: None, delay: Duration::ZERO }
    }
}

/// Decides the answer to each genuine callback.
pub type Behaviour = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// Accepts everything that is genuine.
#[must_use]
pub fn accepting() -> Behaviour {
    Arc::new(|_| Answer::status(200))
}

/// Answers `status` the first `times` times that an id arrives, then accepts it.
#[must_use]
pub fn failing_first(times: u32, status: u16) -> Behaviour {
    Arc::new(move |callback| Answer::status(if callback.arrival <= times { status } else { 200 }))
}

/// A running receiver; it stops when this is dropped.
#[derive(Debug)]
pub struct Receiver {
    server: SmallServer,
    callbacks: mpsc::Receiver<Received>,
}

struct Desk {
    keys: Vec<Key>,
    behaviour: Behaviour,
    clock: Arc<dyn Clock>,
    arrivals: Mutex<Arrivals>,
    out: mpsc::Sender<Received>,
}

impl Receiver {
    /// Listens on `addr` and verifies with any of `keys`.
    pub async fn start(
        addr: SocketAddr,
        keys: Vec<Key>,
        behaviour: Behaviour,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (out, callbacks) = mpsc::channel(UNREAD_MAX);
        let arrivals = Mutex::default();
        let desk = Arc::new(Desk { keys, behaviour, clock, arrivals, out });
        let server = SmallServer::start(addr, move |head, body| {
            let desk = Arc::clone(&desk);
            async move { Ok(desk.receive(&head, body).await) }
        })
        .await?;
        Ok(Self { server, callbacks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The callback URL to register.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr())
    }

    /// The next callback, genuine or not.
    pub async fn next(&mut self) -> Option<Received> {
        self.callbacks.recv().await
    }

    /// Stops, and waits a moment for the answers under way.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

impl Desk {
    async fn receive(&self, head: &Parts, body: Bytes) -> Response<Body> {
        if head.method != Method::POST {
            return respond(Answer::status(405));
        }
        let at = self.clock.wall();
        let header = |name| text(&head.headers, name);
        let headers = Headers {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        let verified = verify::verify(&self.keys, headers, &body, at.unix_seconds());
        let id = headers.id.map(str::to_owned);
        let arrival = match (&id, verified) {
            (Some(id), Ok(())) => {
                self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).count(id)
            }
            _ => 0,
        };
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = head.uri.path().to_owned();
        let mut callback = Received { at, id, path, body, json, verified, arrival, answered: 401 };
        let answer = match verified {
            Ok(()) => (self.behaviour)(&callback),
            Err(_) => Answer::status(401),
        };
        callback.answered = answer.status;
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        // Nobody may be reading any more: the answer stands all the same.
        let _ = self.out.send(callback).await;
        respond(answer)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn respond(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
