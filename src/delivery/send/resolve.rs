//! Names to addresses, judged in the very place where the HTTP client asks for what it will dial.
//!
//! The client dials the addresses it is given here and no others, and asks only when it opens a
//! connection. So there is no moment between the check and the use in which a name could change
//! its mind (DNS rebinding), and connections can still be reused.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use crate::config::CallbackAllow;
use crate::delivery::guard::{Refusal, judge_addresses};
use crate::resolver::Resolver;

/// How long a name may take. Within an attempt's deadline, so that the error names the culprit.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Resolves names. A seam, so that tests can lie as an attacker's name server would.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// Every address of `host`, asked for on behalf of this client.
    async fn addresses(&self, client: &str, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver.
#[async_trait]
impl Lookup for Resolver {
    async fn addresses(&self, client: &str, host: &str) -> io::Result<Vec<IpAddr>> {
        Self::addresses(self, client, host).await
    }
}

tokio::task_local! {
    /// The client and URL of the attempt that this task is making. The client's resolver seam passes only the
    /// host's name, but scheme and port matter to the guard. Without it nothing is resolved.
    static TARGET: (String, Url);
}

/// Runs `attempt` with `url` as the target that the resolver judges by.
pub(super) async fn with_target<F: Future>(client: String, url: Url, attempt: F) -> F::Output {
    TARGET.scope((client, url), attempt).await
}

/// Why a name gave no addresses to dial. Found again at the bottom of the client's error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    /// What the name resolved to is the operator's to know: a client could map the inside with it.
    #[error(
        "the host resolves to an address that callbacks may not reach: point it at a public one, \
         or have a range that holds it added to the client's callback_allow"
    )]
    Forbidden,
    #[error(transparent)]
    Refused(Refusal),
    #[error("{0}")]
    Lookup(String),
}

/// A resolver that gives out what the guard lets through.
#[derive(Clone)]
pub(super) struct Guarded {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) allow: Arc<[CallbackAllow]>,
    pub(super) own_listeners: Arc<[SocketAddr]>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let target = TARGET.try_with(Clone::clone).ok();
        let guarded = self.clone();
        Box::pin(async move {
            let vetted = match target {
                Some((client, url)) if url.host_str() == Some(name.as_str()) => {
                    guarded.vetted(&client, &url).await?
                }
                _ => return Err("a name was asked for outside of an attempt to it".into()),
            };
            let addresses: Addrs =
                Box::new(vetted.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

impl Guarded {
    async fn vetted(&self, client: &str, url: &Url) -> Result<Vec<IpAddr>, Unresolved> {
        let host = url.host_str().unwrap_or_default();
        let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, self.lookup.addresses(client, host));
        let addresses = match lookup.await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                tracing::debug!(client, host, %error, "a callback's name cannot be resolved");
                let told = "the name cannot be resolved: check its DNS records";
                return Err(Unresolved::Lookup(told.to_owned()));
            }
            Err(_) => {
                let seconds = LOOKUP_TIMEOUT.as_secs();
                return Err(Unresolved::Lookup(format!("no answer within {seconds} s")));
            }
        };
        self.judge(url, &addresses).map_err(|refusal| match refusal {
            Refusal::Address { .. } | Refusal::OwnListener(_) => {
                tracing::info!(client, host, %refusal, "a callback's name leads where none may go");
                Unresolved::Forbidden
            }
            refusal => Unresolved::Refused(refusal),
        })
    }

    /// Judges addresses that are about to be dialled: those of a name, or the literal in the URL,
    /// for which the client asks no resolver.
    pub(super) fn judge(&self, url: &Url, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, Refusal> {
        let mut own = self.own_listeners.to_vec();
        let everywhere = self.own_listeners.iter().filter(|own| own.ip().is_unspecified());
        for listener in everywhere.filter(|own| Some(own.port()) == url.port_or_known_default()) {
            let here = addresses.iter().filter(|address| is_this_machine(**address));
            own.extend(
                here.map(|address| SocketAddr::new(address.to_canonical(), listener.port())),
            );
        }
        judge_addresses(url, addresses, &self.allow, &own)
    }
}

/// Only an address of this machine can be bound.
fn is_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
