//! One connection: hyper's HTTP/1 with a deadline on every step.

use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::listen::Stream;
use super::seats::Seat;
use super::stall::Impatient;
use crate::api::problem::Problem;
use crate::api::shared::Limits;

/// Far above what clients and proxies send together.
const HEADERS_MAX: usize = 64;
/// Of a request's head; a URL of 8 KiB and the headers above fit.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// For a connection that makes way to get its last answer out.
const LEAVING_TIME_MAX: Duration = Duration::from_millis(250);
/// For a refused client to take its answer.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(2);

/// Serves one connection until it ends, is drained, is cut off, or makes way for another.
pub(super) async fn serve(
    stream: Stream,
    seat: Seat,
    router: &Router,
    limits: Limits,
    shutdown: &CancellationToken,
    abort: &CancellationToken,
) {
    let io = TokioIo::new(Impatient::new(stream, limits.write_time_max));
    let router = TowerToHyperService::new(router.clone());
    let service = service_fn(|request: Request<Incoming>| async {
        seat.busy();
        let shows_token = request.headers().contains_key(header::AUTHORIZATION);
        let response = router.call(request).await;
        if shows_token && response.as_ref().is_ok_and(|it| it.status() != StatusCode::UNAUTHORIZED)
        {
            seat.known();
        }
        seat.idle();
        response
    });
    let connection = http1::Builder::new()
        // Without a timer hyper silently has no timeout.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let mut leaving = false;
    loop {
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = abort.cancelled() => return,
            () = shutdown.cancelled(), if !leaving => {
                connection.as_mut().graceful_shutdown();
                leaving = true;
                continue;
            }
            () = seat.asked_to_leave(), if !leaving => {
                connection.as_mut().graceful_shutdown();
                leaving = true;
                // Its last answer may still be on its way, or a request may just have come.
                let ended = timeout(LEAVING_TIME_MAX, connection.as_mut()).await;
                match ended {
                    Ok(ended) => ended,
                    Err(_) if seat.is_busy() => continue,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
        return;
    }
}

/// Tells a client that there is no place for it, without waiting for its request.
pub(super) async fn refuse(mut stream: Stream) {
    let body = Problem::overloaded("too many connections; keep fewer open, and reuse them")
        .to_json()
        .to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         retry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let telling = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection under the answer.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(REFUSAL_TIME_MAX, telling).await;
}
