//! The courier over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Certificate;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use url::{Host, Url};

use super::classify::classify;
use super::pool::Pools;
use super::resolve::{Lookup, with_target};
use super::timing::{TimedLayer, with_connect_time};
use super::{Broken, Class, Courier, Parcel, Reply, excerpt};
use crate::clock::{Clock, SystemClock};
use crate::delivery::guard::judge_url;
use crate::delivery::sign;
use crate::resolver::Resolver;

/// How much of a reply's body is read (the contract's 64 KiB); the rest is not waited for.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Delivers over HTTP(S), straight: no proxy, no redirects, no retries of its own.
pub struct HttpCourier {
    pools: Pools,
    clock: Arc<SystemClock>,
}

impl HttpCourier {
    /// A courier that never calls `own_listeners`.
    #[must_use]
    pub fn new(own_listeners: Vec<SocketAddr>) -> Self {
        // The TLS library wants to be told once per process which cryptography it uses; if
        // somebody has done so already, that stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(SystemClock::new());
        let (lookup, timed) = (Arc::new(Resolver::for_callbacks()), TimedLayer(Arc::clone(&clock)));
        let window = u32::try_from(REPLY_BYTES_MAX).unwrap_or(u32::MAX);
        Self { pools: Pools::new(lookup, own_listeners, timed, window), clock }
    }

    /// Resolves names with `lookup` instead of the operating system.
    #[must_use]
    pub fn with_lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.pools.lookup = lookup;
        self
    }

    /// Trusts these certificate authorities besides the operating system's.
    #[must_use]
    pub fn with_roots(mut self, roots: Vec<Certificate>) -> Self {
        self.pools.roots = roots;
        self
    }

    /// Fills `reply` as far as it gets.
    async fn exchange(&self, parcel: Parcel, reply: &mut Reply) -> Result<(), Broken> {
        let url = parcel.url;
        let refused = |detail: String| Broken { class: Class::RefusedAddress, detail };
        let internal = |detail: String| Broken { class: Class::Internal, detail };
        judge_url(&url, &parcel.allow).map_err(|refusal| refused(refusal.to_string()))?;
        let pool = self
            .pools
            .get(&parcel.allow, &parcel.tls)
            .map_err(|error| internal(error.to_string()))?;
        if let Some(address) = literal(&url) {
            let judged = pool.guarded.judge(&url, &[address]);
            judged.map_err(|refusal| refused(refusal.to_string()))?;
        }
        let headers = headers(&parcel.headers)
            .map_err(|_| internal("the webhook headers are not printable".to_owned()))?;
        let request = pool.client.post(url.clone()).headers(headers).body(parcel.body).send();
        let began = self.clock.steady();
        let mut response = with_target(parcel.client, url, request)
            .await
            .map_err(|error| classify(&error.without_url()))?;
        reply.first_byte = Some(self.clock.steady().since(began));
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
        let exchange = tokio::time::timeout(timeout, self.exchange(parcel, &mut reply));
        let (exchange, connect) = with_connect_time(exchange).await;
        reply.connect = connect;
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
