//! Every error of the API, as RFC 9457 `application/problem+json`.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::store::StoreError;

/// Seconds a client should wait when the store is away: about what a busy disk or a failover takes.
const STORE_RETRY_SECONDS: u32 = 2;
/// Seconds a client should wait when we are overloaded or restarting.
const OVERLOAD_RETRY_SECONDS: u32 = 1;

/// Which problem it is: fixes `type`, `title` and `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body is not JSON.
    MalformedJson,
    /// The request cannot be understood, and it is not the JSON.
    MalformedRequest,
    /// No token, or one that nobody has.
    Unauthorized,
    /// The token is good, but not for this.
    Forbidden,
    /// The client has no key to sign its callbacks with.
    NoSigningSecret,
    /// No such thing, or not this client's.
    NotFound,
    /// Not with this method.
    MethodNotAllowed,
    /// The request came too slowly.
    RequestTimeout,
    /// Not in this state.
    WrongState,
    /// More bytes than allowed.
    TooLarge,
    /// Not `application/json`.
    UnsupportedMediaType,
    /// Well-formed, but a field or parameter is wrong.
    Invalid,
    /// This client asks too much at once.
    TooManyRequests,
    /// Our own mistake.
    Internal,
    /// Nothing durable can be done right now.
    StoreUnavailable,
    /// All clients together ask too much at once.
    Overloaded,
    /// The daemon is stopping.
    Draining,
}

impl Kind {
    /// The stable name within the URN, the status, and the title.
    fn facts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::MalformedJson => {
                ("malformed-json", S::BAD_REQUEST, "The body is not well-formed JSON")
            }
            Self::MalformedRequest => {
                ("malformed-request", S::BAD_REQUEST, "The request cannot be understood")
            }
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A valid token is needed"),
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "This token may not do that"),
            Self::NoSigningSecret => {
                ("no-signing-secret", S::FORBIDDEN, "This client cannot receive callbacks")
            }
            Self::NotFound => ("not-found", S::NOT_FOUND, "There is no such thing"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", S::METHOD_NOT_ALLOWED, "Not with this method")
            }
            Self::RequestTimeout => {
                ("request-timeout", S::REQUEST_TIMEOUT, "The request came too slowly")
            }
            Self::WrongState => {
                ("wrong-state", S::CONFLICT, "The registration's state does not allow it")
            }
            Self::TooLarge => ("too-large", S::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", S::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON")
            }
            Self::Invalid => {
                ("invalid", S::UNPROCESSABLE_ENTITY, "A field or parameter is not valid")
            }
            Self::TooManyRequests => {
                ("too-many-requests", S::TOO_MANY_REQUESTS, "Too many requests at once")
            }
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "The daemon made a mistake"),
            Self::StoreUnavailable => {
                ("store-unavailable", S::SERVICE_UNAVAILABLE, "The store is unavailable")
            }
            Self::Overloaded => ("overloaded", S::SERVICE_UNAVAILABLE, "The daemon is overloaded"),
            Self::Draining => ("draining", S::SERVICE_UNAVAILABLE, "The daemon is stopping"),
        }
    }
}

/// What is wrong with one field of the body, or one parameter of the query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// RFC 6901 pointer into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/callback/url")]
    pub pointer: Option<String>,
    /// Name of the query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl FieldError {
    /// About a field of the body.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), parameter: None, detail: detail.into() }
    }

    /// About a parameter of the query.
    pub fn of_parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: None, parameter: Some(name.into()), detail: detail.into() }
    }
}

/// One problem, ready to be sent.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which.
    pub kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    extra: Map<String, Value>,
}

/// What every handler returns.
pub type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    /// A problem; `detail` says what to do.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            extra: Map::new(),
        }
    }

    /// 422 about these fields and parameters.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => only.detail.clone(),
            several => format!("{} things are wrong; `errors` names each", several.len()),
        };
        Self { errors, ..Self::new(Kind::Invalid, detail) }
    }

    /// 404, in the same words whether it does not exist or is somebody else's.
    pub fn no_registration() -> Self {
        Self::new(Kind::NotFound, "there is no registration with this id for this client")
    }

    /// 503: all clients together ask too much.
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(Kind::Overloaded, detail).retry_after(OVERLOAD_RETRY_SECONDS)
    }

    /// 503: stopping.
    pub fn draining() -> Self {
        Self::new(Kind::Draining, "the daemon is stopping; send the request again")
            .retry_after(OVERLOAD_RETRY_SECONDS)
            .header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// 503: the store did not answer.
    pub fn store_unavailable(detail: impl Into<String>) -> Self {
        Self::new(Kind::StoreUnavailable, detail).retry_after(STORE_RETRY_SECONDS)
    }

    /// With `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, seconds.into())
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With an extension member (RFC 9457, 3.2).
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind.facts().1
    }

    /// The body.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (name, status, title) = self.kind.facts();
        let mut body = Map::new();
        body.insert("type".into(), format!("urn:outcomed:problem:{name}").into());
        body.insert("title".into(), title.into());
        body.insert("status".into(), status.as_u16().into());
        body.insert("detail".into(), self.detail.clone().into());
        if !self.errors.is_empty() {
            let errors = serde_json::to_value(&self.errors).unwrap_or_default();
            body.insert("errors".into(), errors);
        }
        body.extend(self.extra.clone());
        Value::Object(body)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Stopped(_) | StoreError::LeaseLost => {
                Self::store_unavailable("nothing was changed; send the request again")
            }
            StoreError::Corrupt(_) => {
                Self::new(Kind::Internal, "what is stored cannot be read; see the daemon's log")
            }
            StoreError::Fault(_) => {
                let detail = "outcomed met a fault of its own and changed nothing; see its log";
                Self::new(Kind::Internal, detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.extend(self.headers);
        let media_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, media_type);
        response
    }
}

/// The body of every error (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "only its schema is used; `Problem::to_json` writes the body")]
pub struct ProblemBody {
    /// Stable: `urn:outcomed:problem:…`.
    #[schema(example = "urn:outcomed:problem:invalid")]
    r#type: String,
    /// The same for every problem of this type.
    title: String,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// What to do about this one.
    detail: String,
    /// Each wrong field or parameter.
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_rfc_9457_says() {
        let problem = Problem::invalid(vec![FieldError::at("/callback/url", "is required")]);
        assert_eq!(
            problem.to_json(),
            serde_json::json!({
                "type": "urn:outcomed:problem:invalid",
                "title": "A field or parameter is not valid",
                "status": 422,
                "detail": "is required",
                "errors": [{"pointer": "/callback/url", "detail": "is required"}],
            })
        );
    }
}
