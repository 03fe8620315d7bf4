//! Connections, kept apart by the policy they were opened under.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect, retry};

use super::Tls;
use super::resolve::{Guarded, Lookup};
use super::timing::TimedLayer;
use crate::config::CallbackAllow;

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

/// Connections made under one policy. They are never used under another: what one client may call,
/// or whom it claims to be, must not reach the next over a connection that is open already.
#[derive(Clone)]
pub(super) struct Pool {
    pub(super) guarded: Guarded,
    pub(super) client: Client,
    tls: Tls,
}

/// What every pool is made with.
pub(super) struct Pools {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) own_listeners: Arc<[SocketAddr]>,
    pub(super) roots: Vec<Certificate>,
    pub(super) timed: TimedLayer,
    pub(super) window: u32,
    open: Mutex<Vec<Pool>>,
}

impl Pools {
    pub(super) fn new(
        lookup: Arc<dyn Lookup>,
        own_listeners: Vec<SocketAddr>,
        timed: TimedLayer,
        window: u32,
    ) -> Self {
        let own_listeners = own_listeners.into();
        let (roots, open) = (Vec::new(), Mutex::default());
        Self { lookup, own_listeners, roots, timed, window, open }
    }

    /// The pool of this policy, made if need be.
    pub(super) fn get(&self, allow: &[CallbackAllow], tls: &Tls) -> Result<Pool, reqwest::Error> {
        let mut pools = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |pool: &Pool| *pool.guarded.allow == *allow && pool.tls == *tls;
        // The latest used stands last.
        let pool = match pools.iter().position(is_same) {
            Some(index) => pools.remove(index),
            None => self.make(allow, tls)?,
        };
        if pools.len() == POOLS_MAX {
            pools.remove(0);
        }
        pools.push(pool.clone());
        Ok(pool)
    }

    fn make(&self, allow: &[CallbackAllow], tls: &Tls) -> Result<Pool, reqwest::Error> {
        let guarded = Guarded {
            lookup: Arc::clone(&self.lookup),
            allow: allow.into(),
            own_listeners: Arc::clone(&self.own_listeners),
        };
        let extra = tls.extra_ca.iter().flat_map(|file| file.certificates.iter());
        let roots = extra.map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        let roots = [self.roots.clone(), roots].concat();
        let builder = || -> Result<ClientBuilder, reqwest::Error> {
            let builder = self.client(&guarded);
            let Some(identity) = &tls.identity else { return Ok(builder) };
            let (key, chain) = (identity.key.expose(), identity.certificate.expose());
            let pem = format!("{}\n{}\n", key.trim_end(), chain.trim_end());
            Ok(builder.identity(Identity::from_pem(pem.as_bytes())?))
        };
        let client =
            builder()?.tls_certs_merge(roots.iter().cloned()).build().or_else(|error| {
                // A machine without certificate authorities can still deliver where https is lifted,
                // and to the authorities it was given.
                tracing::warn!(%error, "the system's certificate authorities cannot be used");
                builder()?.tls_certs_only(roots.iter().cloned()).build()
            })?;
        Ok(Pool { guarded, client, tls: tls.clone() })
    }

    fn client(&self, guarded: &Guarded) -> ClientBuilder {
        Client::builder()
            .user_agent(concat!("outcomed/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .dns_resolver(guarded.clone())
            .connector_layer(self.timed.clone())
            .pool_max_idle_per_host(IDLE_PER_ORIGIN_MAX)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_max_headers(REPLY_HEADERS_MAX)
            .http2_max_header_list_size(REPLY_HEADER_BYTES_MAX)
            // What a receiver may push at us before we read it.
            .http2_initial_stream_window_size(self.window)
            // One connection carries all attempts to an origin: a dead one must not outlive them.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
    }
}
