//! The shell: bytes from a socket into the core, its reply back onto the socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::control::Shared;
use super::reply::{Manner, Reply};
use super::upstream::Request;
use crate::small_server::{Body, HangUp};

/// A slow body goes out in this many pieces.
const SLOW_PIECES: u32 = 8;

pub(super) async fn answer(
    shared: Arc<Shared>,
    head: Parts,
    body: Bytes,
) -> Result<Response<Body>, HangUp> {
    let half_way = shared.latency / 2;
    travel(half_way).await;
    let request = Request {
        method: head.method.as_str(),
        path: head.uri.path(),
        authorization: head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()),
        body: &body,
    };
    let reply = shared.change(|upstream, now| upstream.answer(now, &request));
    shared.push_due_tickets();
    travel(half_way).await;
    respond(reply)
}

async fn travel(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn respond(reply: Reply) -> Result<Response<Body>, HangUp> {
    let body = match reply.manner {
        Manner::AtOnce => Full::new(Bytes::from(reply.body)).boxed_unsync(),
        Manner::Slowly(pace) => slowly(reply.body.as_bytes(), pace),
        Manner::Reset => return Err(HangUp),
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(kind) = reply.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

/// `bytes` in pieces, each after its share of `pace`.
fn slowly(bytes: &[u8], pace: Duration) -> Body {
    let piece = bytes.len().div_ceil(SLOW_PIECES as usize).max(1);
    let pieces: Vec<Bytes> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    let frames = stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pace / SLOW_PIECES).await;
        Ok(Frame::data(piece))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}
