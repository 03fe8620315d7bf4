//! A small HTTP/1 server for the stand-ins: the mock upstream and the verifying receiver. Unlike
//! the daemon's own it can misbehave: reset a connection, or send a body slowly.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Far above any body that is sent to a stand-in; keeps a mistake from filling the memory.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Idle connections are kept as long as the clients' pools keep them (reqwest: 90 s).
const HEAD_WITHIN: Duration = Duration::from_secs(120);

/// How long a stop waits for the replies that are under way.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// A pause before accepting again when the process is out of sockets.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// In place of a response: reset the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on purpose")]
pub(crate) struct HangUp;

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct SmallServer {
    addr: SocketAddr,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl SmallServer {
    /// Listens on `addr` and has `handle` answer every request.
    pub(crate) async fn start<H, F>(addr: SocketAddr, handle: H) -> io::Result<Self>
    where
        H: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, HangUp>> + Send + 'static,
    {
        let listener = TcpListener::bind(addr).await?;
        let server = Self {
            addr: listener.local_addr()?,
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
        };
        let (stop, connections) = (server.stop.clone(), server.connections.clone());
        tokio::spawn(accept(listener, Arc::new(handle), stop, connections));
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops, and waits a moment for the replies under way.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.connections.close();
        let _ = tokio::time::timeout(DRAIN_WITHIN, self.connections.wait()).await;
    }
}

impl Drop for SmallServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept<H, F>(
    listener: TcpListener,
    handle: Arc<H>,
    stop: CancellationToken,
    connections: TaskTracker,
) where
    H: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, HangUp>> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&handle), stop.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
        }
    }
}

async fn connection<H, F>(stream: TcpStream, handle: Arc<H>, stop: CancellationToken)
where
    H: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, HangUp>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let wire = Wire { stream, reset: Arc::clone(&reset) };
    let service = service_fn(move |request: Request<Incoming>| {
        let (handle, reset) = (Arc::clone(&handle), Arc::clone(&reset));
        async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
                return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE));
            };
            let answer = handle(parts, body.to_bytes()).await;
            reset.store(answer.is_err(), Ordering::Relaxed);
            answer
        }
    });
    // Title case puts `X-Tt-Logid` on the wire exactly so: the official Python SDK looks its
    // headers up case-sensitively.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(wire), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_WITHIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to a stand-in broke");
    }
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

/// A socket that, once told so, goes with a RST instead of a FIN.
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
