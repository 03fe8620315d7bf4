//! A request's body: read within its limits, parsed with the place of every mistake.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use serde_path_to_error::Segment;

use super::json;
use super::problem::{FieldError, Kind, Problem, Result};

/// A registration is under 10 KiB (2 KiB URL, 4 KiB metadata); the rest is room for whitespace.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// 1,000 registrations of ordinary size.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an oversized body that are read and dropped, so that a client which is still sending
/// gets our answer instead of a connection reset.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// And for how long.
const DISCARDING_TIME_MAX: Duration = Duration::from_secs(5);

/// Reads a JSON body of at most `limit` bytes within `deadline`.
pub async fn read_json(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes> {
    require_json(headers)?;
    if content_length(headers).is_some_and(|length| length > limit as u64) {
        // A client that asked first (`Expect: 100-continue`) has sent nothing yet.
        if !headers.contains_key(header::EXPECT) {
            discard(body).await;
        }
        return Err(too_large(limit));
    }
    let Ok(read) = tokio::time::timeout(deadline, collect(&mut body, limit)).await else {
        return Err(too_slow(deadline));
    };
    if matches!(&read, Err(problem) if problem.kind == Kind::TooLarge) {
        discard(body).await;
    }
    read
}

/// Reads a body that anybody may have sent: once it is too large or too slow, the connection is
/// closed and nothing more is read.
pub async fn read_from_stranger(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes> {
    if content_length(headers).is_some_and(|length| length > limit as u64) {
        return Err(closing(too_large(limit)));
    }
    match tokio::time::timeout(deadline, collect(&mut body, limit)).await {
        Ok(read) => read.map_err(closing),
        Err(_) => Err(too_slow(deadline)),
    }
}

fn too_slow(deadline: Duration) -> Problem {
    let detail = format!("the body did not arrive within {} seconds", deadline.as_secs());
    closing(Problem::new(Kind::RequestTimeout, detail))
}

/// A refusal after which nothing more is read.
pub fn closing(problem: Problem) -> Problem {
    problem.header(header::CONNECTION, HeaderValue::from_static("close"))
}

async fn collect(body: &mut Body, limit: usize) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Problem::new(Kind::MalformedRequest, "the body broke off before its end")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

async fn discard(mut body: Body) {
    let dropping = async {
        let mut dropped = 0;
        while let Some(Ok(frame)) = body.frame().await {
            dropped += frame.data_ref().map_or(0, Bytes::len);
            if dropped > DISCARDED_BYTES_MAX {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARDING_TIME_MAX, dropping).await;
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body may have at most {limit} bytes; split it");
    Problem::new(Kind::TooLarge, detail).with("limit_bytes", limit)
}

fn require_json(headers: &HeaderMap) -> Result<()> {
    let advice = "send the header `Content-Type: application/json` and an uncompressed UTF-8 body";
    let refused = || Problem::new(Kind::UnsupportedMediaType, advice);
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(is_json) {
        return Err(refused());
    }
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(()),
        Some(_) => Err(refused()),
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"))
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            !name.eq_ignore_ascii_case("charset")
                || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

/// Parses a body; a mistake in its form is 400 with line and column, any other 422 with a pointer.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // Form first: whether a body is JSON must not depend on which mistake comes earlier in it.
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| refusal("", &error))?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let parsed = json::required_object(tracked);
    parsed.map_err(|error| refusal(&pointer(&track.path()), &error))
}

fn refusal(pointer: &str, error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    if error.classify() == Category::Data {
        return Problem::invalid(vec![FieldError::at(pointer, json::plain(message))]);
    }
    Problem::new(Kind::MalformedJson, format!("{message}{place}"))
        .with("line", error.line())
        .with("column", error.column())
}

/// An RFC 6901 pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use std::fmt::Write as _;
    let mut pointer = String::new();
    for segment in path {
        let token = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        let _ = write!(pointer, "/{token}");
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default, rename = "a/b~c", deserialize_with = "json::object")]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(default)]
        list: Vec<u8>,
        #[serde(default)]
        raw: Option<Box<serde_json::value::RawValue>>,
    }

    fn refused(text: &str) -> serde_json::Value {
        parse::<Outer>(text.as_bytes()).unwrap_err().to_json()
    }

    #[test]
    fn a_wrong_type_is_named_by_an_escaped_pointer() {
        let problem = refused(r#"{"a/b~c": {"list": [1, "x"]}}"#);
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["errors"][0]["pointer"], "/a~1b~0c/list/1");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let problem = refused(r#"{"a/b~c": {"lisst": []}}"#);
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["errors"][0]["pointer"], "/a~1b~0c/lisst");
        assert!(problem["detail"].as_str().unwrap().contains("`lisst`"));
    }

    #[test]
    fn a_list_is_no_object_wherever_it_stands() {
        for body in ["[]", "[null]", r#"{"a/b~c": [[1], null]}"#, "7", "null", "\"x\""] {
            let problem = refused(body);
            assert_eq!(problem["status"], 422, "{body}");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.starts_with("must be an object, not "), "{body}: {detail}");
        }
        assert_eq!(refused(r#"{"a/b~c": []}"#)["errors"][0]["pointer"], "/a~1b~0c");
        assert!(parse::<Outer>(br#"{"a/b~c": null}"#).unwrap().inner.is_none());
    }

    #[test]
    fn malformed_json_is_refused_with_line_and_column() {
        let problem = refused("{\n  \"a/b~c\": }");
        assert_eq!(problem["status"], 400);
        assert_eq!(problem["line"], 2);
        assert_eq!(refused("{} x")["status"], 400);
        assert_eq!(refused("")["status"], 400);
    }

    #[test]
    fn a_raw_value_keeps_its_bytes() {
        let parsed: Outer = parse(br#"{"a/b~c": {"raw": { "n":1.0 }}}"#).unwrap();
        assert_eq!(parsed.inner.as_ref().unwrap().raw.as_ref().unwrap().get(), r#"{ "n":1.0 }"#);
        assert!(parsed.inner.unwrap().list.is_empty());
    }

    #[test]
    fn only_json_in_utf_8_is_json() {
        for good in ["application/json", "Application/JSON; charset=\"UTF-8\""] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["text/json", "application/json; charset=gbk", "application/jsonp", ""] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
