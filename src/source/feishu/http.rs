//! One exchange with Feishu: deadlines, a bounded body, and nothing behind the caller's back (no
//! redirect, no retry).

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};
use serde::Serialize;
use url::{Host, Url};

use super::reply::Reply;
use crate::config::secret::Secret;
use crate::resolver::Resolver;
use crate::source::{AccountProblem, PollError, TransientClass};

/// A poll's reply has about 500 bytes; an edge's error page a few KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Edges close idle connections after a minute or so; ours go first, so that no poll is written
/// into a connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(25);
/// Enough for a second's worth of polls over HTTP/1.
const POOL_IDLE_PER_HOST_MAX: usize = 64;
/// An HTTP/2 connection that died silently is noticed by the second poll, not by all of them.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(10);
/// How long such a ping may take.
const HTTP2_PING_WAIT: Duration = Duration::from_secs(5);
/// A request that the network swallows is sent again by the kernel for minutes, and would arrive
/// when the quota no longer counts it. After this it is given up: by then a poll has certainly
/// arrived, or never will (the same two seconds in `polling/quota.rs`).
const UNHEARD_MAX: Duration = Duration::from_secs(2);
/// How much of an error's causes is told.
const CAUSES_MAX: usize = 5;

/// How long an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Until there is a connection, TLS included.
    pub connect: Duration,
    /// Until the whole body is there.
    pub total: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(10) }
    }
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not set up the HTTP client for Feishu")]
pub struct HttpError(#[source] reqwest::Error);

/// The HTTP client, one for all accounts: they share its connections and its TLS settings. Cheap
/// to clone.
#[derive(Clone, Debug)]
pub struct Http {
    /// Goes through the proxy that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name:
    /// where Feishu can only be reached through a company's proxy, those are how it is said, and
    /// `base_url` is the operator's own word, so there is nobody to guard against.
    ///
    /// Without CA certificates there is none: that is the problem of the accounts that need it,
    /// told when they use it, and none of a demonstration on a bare machine.
    outward: Result<Client, String>,
    /// For an upstream in plain http on this machine (a mock), which no proxy can reach and no
    /// certificate protects.
    direct: Client,
}

impl Http {
    /// A client with these deadlines. A rustls provider must have been installed.
    pub fn new(deadlines: Deadlines) -> Result<Self, HttpError> {
        let outward = builder(deadlines).build().map_err(|error| causes(&error));
        let direct = builder(deadlines).no_proxy().tls_certs_only([]).build().map_err(HttpError)?;
        Ok(Self { outward, direct })
    }

    /// GETs `path` below `base_url`, once.
    pub(super) async fn get(
        &self,
        base_url: &Url,
        path: &[&str],
        token: &Secret,
    ) -> Result<Reply, PollError> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| network("the access token does not fit into a header".to_owned()))?;
        bearer.set_sensitive(true);
        let request = self.client(base_url)?.get(below(base_url, path)?);
        exchange(request.header(AUTHORIZATION, bearer)).await
    }

    /// POSTs `body` to `path` below `base_url`, once.
    pub(super) async fn post(
        &self,
        base_url: &Url,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Reply, PollError> {
        let request = self.client(base_url)?.post(below(base_url, path)?);
        exchange(request.header(CONTENT_TYPE, "application/json; charset=utf-8").json(body)).await
    }

    fn client(&self, base_url: &Url) -> Result<&Client, PollError> {
        if is_plain_loopback(base_url) {
            return Ok(&self.direct);
        }
        self.outward.as_ref().map_err(|cause| {
            let message = format!(
                "install the system's CA certificates (Debian's package ca-certificates), then \
                 restart outcomed: it cannot verify who answers for `base_url` ({cause})"
            );
            PollError::Account(AccountProblem { reason: "no_ca_certificates", message })
        })
    }
}

fn builder(deadlines: Deadlines) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("outcomed/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Resolver::for_upstreams())
        // Each request counts against the quota: none may be sent that the lane does not know of.
        .retry(reqwest::retry::never())
        // The token must not follow a redirect to another host.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(deadlines.connect)
        .timeout(deadlines.total)
        .tcp_user_timeout(UNHEARD_MAX)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_IDLE_PER_HOST_MAX)
        .http2_keep_alive_interval(HTTP2_PING_EVERY)
        .http2_keep_alive_timeout(HTTP2_PING_WAIT)
}

fn is_plain_loopback(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    loopback && url.scheme() == "http"
}

/// The URL of `path` below `base_url`, each segment percent-encoded.
fn below(base_url: &Url, path: &[&str]) -> Result<Url, PollError> {
    let mut url = base_url.clone();
    url.path_segments_mut()
        .map_err(|()| network("`base_url` is no http or https URL".to_owned()))?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

async fn exchange(request: RequestBuilder) -> Result<Reply, PollError> {
    let mut response = request.send().await.map_err(broken)?;
    let body = bounded_body(&mut response).await?;
    let headers = response.headers();
    let logged = text(headers, "x-tt-logid").or_else(|| text(headers, "x-request-id"));
    Ok(Reply {
        status: response.status().as_u16(),
        content_type: text(headers, CONTENT_TYPE.as_str()),
        log_id: logged,
        ratelimit_reset: text(headers, "x-ogw-ratelimit-reset"),
        body,
    })
}

async fn bounded_body(response: &mut Response) -> Result<Vec<u8>, PollError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            let detail = format!("HTTP {} with more than 64 KiB", response.status().as_u16());
            return Err(PollError::Transient { class: TransientClass::Unreadable, detail });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn broken(error: reqwest::Error) -> PollError {
    let class = if error.is_timeout() { TransientClass::Timeout } else { TransientClass::Network };
    // The URL adds nothing that the task does not say.
    PollError::Transient { class, detail: causes(&error.without_url()) }
}

/// An error with its causes: the telling one ("connection refused", "certificate expired") is the
/// last.
fn causes(error: &reqwest::Error) -> String {
    let outermost: &dyn Error = error;
    let all = std::iter::successors(Some(outermost), |error| (*error).source());
    all.take(CAUSES_MAX).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn network(detail: String) -> PollError {
    PollError::Transient { class: TransientClass::Network, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_segment_is_percent_encoded_below_the_base_url() {
        let base: Url = "https://feishu.example.com/gateway".parse().unwrap();
        let url = below(&base, &["open-apis", "a/b", "c?d#e", "f g", "%2F"]).unwrap();
        assert_eq!(
            url.as_str(),
            "https://feishu.example.com/gateway/open-apis/a%2Fb/c%3Fd%23e/f%20g/%252F"
        );
        let root: Url = "https://open.feishu.cn".parse().unwrap();
        assert_eq!(below(&root, &["x"]).unwrap().as_str(), "https://open.feishu.cn/x");
    }

    #[test]
    fn only_plain_http_on_this_machine_goes_past_the_proxy() {
        for (url, loopback) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("https://open.feishu.cn", false),
            ("http://10.0.0.1", false),
            ("https://127.0.0.1", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(is_plain_loopback(&url.parse().unwrap()), loopback, "{url}");
        }
    }
}
