//! The courier over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, redirect, retry};
use url::{Host, Url};

use super::classify::classify;
use super::resolve::{Guarded, Lookup, SystemLookup, with_target};
use super::{Broken, Class, Courier, Parcel, Reply, excerpt};
use crate::config::CallbackAllow;
use crate::delivery::guard::judge_url;
use crate::delivery::sign;

/// How much of a reply's body is read (the contract's 64 KiB); the rest is not waited for.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Header lines in a reply; a receiver has no reason to send even half as many.
const REPLY_HEADERS_MAX: usize = 64;
/// The same bound for HTTP/2, in bytes.
const REPLY_HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Connections kept for an origin's next attempt: half of its usual limit, so that a busy origin
/// seldom connects anew, and 500 idle ones hold little.
const IDLE_PER_ORIGIN_MAX: usize = 8;
/// How long they are kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an HTTP/2 connection in use is asked whether it is alive, and how long it may take to
/// say so: together below the usual deadline of an attempt.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Policies with a connection pool of their own. Clients with equal policies share one; beyond
/// this many different ones, the pool unused for longest is dropped and made anew when needed.
const POOLS_MAX: usize = 64;

/// Delivers over HTTP(S), straight: no proxy, no redirects, no retries of its own.
pub struct HttpCourier {
    lookup: Arc<dyn Lookup>,
    own_listeners: Arc<[SocketAddr]>,
    roots: Vec<Certificate>,
    pools: Mutex<Vec<Pool>>,
}

/// Connections made under one policy. They are never used under another: what one client may call
/// must not become reachable for the next over a connection that is open already.
#[derive(Clone)]
struct Pool {
    guarded: Guarded,
    client: Client,
}

impl HttpCourier {
    /// A courier that never calls `own_listeners`.
    #[must_use]
    pub fn new(own_listeners: Vec<SocketAddr>) -> Self {
        // The TLS library wants to be told once per process which cryptography it uses; if
        // somebody has done so already, that stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            lookup: Arc::new(SystemLookup::default()),
            own_listeners: own_listeners.into(),
            roots: Vec::new(),
            pools: Mutex::default(),
        }
    }

    /// Resolves names with `lookup` instead of the operating system.
    #[must_use]
    pub fn with_lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.lookup = lookup;
        self
    }

    /// Trusts these certificate authorities besides the operating system's.
    #[must_use]
    pub fn with_roots(mut self, roots: Vec<Certificate>) -> Self {
        self.roots = roots;
        self
    }

    fn pool(&self, allow: &[CallbackAllow]) -> Result<Pool, reqwest::Error> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        // The latest used stands last.
        let pool = match pools.iter().position(|pool| *pool.guarded.allow == *allow) {
            Some(index) => pools.remove(index),
            None => self.new_pool(allow)?,
        };
        if pools.len() == POOLS_MAX {
            pools.remove(0);
        }
        pools.push(pool.clone());
        Ok(pool)
    }

    fn new_pool(&self, allow: &[CallbackAllow]) -> Result<Pool, reqwest::Error> {
        let guarded = Guarded {
            lookup: Arc::clone(&self.lookup),
            allow: allow.into(),
            own_listeners: Arc::clone(&self.own_listeners),
        };
        let client = self.client(&guarded).build().or_else(|error| {
            // A machine without certificate authorities can still deliver where https is lifted,
            // and to the authorities it was given.
            tracing::warn!(%error, "the system's certificate authorities cannot be used");
            self.client(&guarded).tls_certs_only(self.roots.iter().cloned()).build()
        })?;
        Ok(Pool { guarded, client })
    }

    fn client(&self, guarded: &Guarded) -> ClientBuilder {
        Client::builder()
            .user_agent(concat!("outcomed/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .dns_resolver(guarded.clone())
            .tls_certs_merge(self.roots.iter().cloned())
            .pool_max_idle_per_host(IDLE_PER_ORIGIN_MAX)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_max_headers(REPLY_HEADERS_MAX)
            .http2_max_header_list_size(REPLY_HEADER_BYTES_MAX)
            // What a receiver may push at us before we read it.
            .http2_initial_stream_window_size(u32::try_from(REPLY_BYTES_MAX).ok())
            // One connection carries all attempts to an origin: a dead one must not outlive them.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
    }

    /// Fills `reply` as far as it gets.
    async fn exchange(&self, parcel: Parcel, reply: &mut Reply) -> Result<(), Broken> {
        let url = parcel.url;
        let refused = |detail: String| Broken { class: Class::RefusedAddress, detail };
        let internal = |detail: String| Broken { class: Class::Internal, detail };
        judge_url(&url, &parcel.allow).map_err(|refusal| refused(refusal.to_string()))?;
        let pool = self.pool(&parcel.allow).map_err(|error| internal(error.to_string()))?;
        if let Some(address) = literal(&url) {
            let judged = pool.guarded.judge(&url, &[address]);
            judged.map_err(|refusal| refused(refusal.to_string()))?;
        }
        let headers = headers(&parcel.headers)
            .map_err(|_| internal("the webhook headers are not printable".to_owned()))?;
        let request = pool.client.post(url.clone()).headers(headers).body(parcel.body).send();
        let mut response =
            with_target(url, request).await.map_err(|error| classify(&error.without_url()))?;
        reply.status = Some(response.status().as_u16());
        let retry_after = response.headers().get(RETRY_AFTER);
        reply.retry_after = retry_after.and_then(|value| Some(value.to_str().ok()?.to_owned()));

        let (mut beginning, mut read) = (Vec::new(), 0);
        while read < REPLY_BYTES_MAX {
            let chunk = response.chunk().await.map_err(|error| classify(&error.without_url()));
            let Some(chunk) = chunk? else { break };
            read += chunk.len();
            let room = super::EXCERPT_BYTES_MAX - beginning.len();
            beginning.extend_from_slice(&chunk[..chunk.len().min(room)]);
            reply.excerpt = excerpt(&beginning);
        }
        Ok(())
    }
}

#[async_trait]
impl Courier for HttpCourier {
    async fn send(&self, parcel: Parcel) -> Reply {
        let timeout = parcel.timeout;
        let mut reply = Reply::default();
        let exchange = tokio::time::timeout(timeout, self.exchange(parcel, &mut reply)).await;
        reply.broken = match exchange {
            Ok(Ok(())) => None,
            Ok(Err(broken)) => Some(broken),
            Err(_) => {
                let what = if reply.status.is_some() { "complete reply" } else { "reply" };
                let detail = format!("no {what} within {} s", timeout.as_secs_f64());
                Some(Broken { class: Class::Timeout, detail })
            }
        };
        reply
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

fn headers(signed: &sign::Headers) -> Result<HeaderMap, reqwest::header::InvalidHeaderValue> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        (sign::ID, &signed.id),
        (sign::TIMESTAMP, &signed.timestamp),
        (sign::SIGNATURE, &signed.signature),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
    }
    Ok(headers)
}
