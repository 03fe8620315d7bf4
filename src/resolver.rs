//! Names to addresses, on threads of their own: the operating system's resolver may keep a thread
//! for half a minute after whoever asked has stopped waiting, and nothing else may lack one then.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{Semaphore, oneshot};

/// Threads for callbacks' names, and how many of them one client's names may hold.
pub const CALLBACK_THREADS_MAX: usize = 64;
const CALLBACK_THREADS_OF_CLIENT: usize = 8;
/// Threads for upstreams' names, and how many of them one name may hold.
pub const UPSTREAM_THREADS_MAX: usize = 16;
const UPSTREAM_THREADS_OF_NAME: usize = 4;

type Ask = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Resolves names; cheap to clone, all clones share the threads.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    threads: Arc<Semaphore>,
    of_one: usize,
    /// By who asks: the clients of the configuration, or the upstreams' hosts.
    shares: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    ask: Ask,
}

impl Resolver {
    /// For callbacks: each client has a share.
    #[must_use]
    pub fn for_callbacks() -> Self {
        Self::new(CALLBACK_THREADS_MAX, CALLBACK_THREADS_OF_CLIENT, ask_system)
    }

    /// For upstreams: each host has a share.
    #[must_use]
    pub fn for_upstreams() -> Self {
        Self::new(UPSTREAM_THREADS_MAX, UPSTREAM_THREADS_OF_NAME, ask_system)
    }

    fn new(threads: usize, of_one: usize, ask: Ask) -> Self {
        let threads = Arc::new(Semaphore::new(threads));
        Self(Arc::new(Inner { threads, of_one, shares: Mutex::default(), ask }))
    }

    /// Every address of `host`. Waits for a thread among the names that `who` asks for; the caller
    /// keeps the time. A lookup that nobody waits for any more holds its thread until it is over.
    pub async fn addresses(&self, who: &str, host: &str) -> io::Result<Vec<IpAddr>> {
        let share = self.share(who).acquire_owned().await.map_err(io::Error::other)?;
        let thread = Arc::clone(&self.0.threads).acquire_owned().await.map_err(io::Error::other)?;
        let (answer, answered) = oneshot::channel();
        let (host, ask) = (host.to_owned(), self.0.ask);
        std::thread::Builder::new().name("lookup".into()).spawn(move || {
            let _places = (share, thread);
            // Whoever asked may have stopped waiting.
            let _ = answer.send(ask(&host));
        })?;
        answered.await.map_err(io::Error::other)?
    }

    fn share(&self, who: &str) -> Arc<Semaphore> {
        let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(self.0.of_one));
        Arc::clone(shares.entry(who.to_owned()).or_insert_with(new))
    }
}

fn ask_system(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str(), name.as_str()).await?;
            let found: Addrs =
                Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    static ASKING: AtomicUsize = AtomicUsize::new(0);

    #[expect(clippy::unnecessary_wraps, reason = "as the system's resolver answers")]
    fn ask_silent(host: &str) -> io::Result<Vec<IpAddr>> {
        if host.starts_with("silent") {
            ASKING.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_secs(2));
        }
        Ok(vec![IpAddr::from([192, 0, 2, 1])])
    }

    #[tokio::test]
    async fn six_hundred_silent_names_of_one_client_hold_up_no_other() {
        let resolver = Resolver::new(64, 8, ask_silent);
        let begun = tokio::time::Instant::now();
        let mut sick = tokio::task::JoinSet::new();
        for number in 0..600 {
            let resolver = resolver.clone();
            sick.spawn(async move {
                let host = format!("silent-{number}.example");
                let asked = resolver.addresses("sick", &host);
                // Nobody waits as long as the operating system does.
                tokio::time::timeout(Duration::from_millis(300), asked).await.is_ok()
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..100 {
            assert_eq!(resolver.addresses("well", "hr.example").await.unwrap().len(), 1);
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(sick.join_all().await.iter().all(|answered| !answered));
        // All have stopped waiting, and none of the threads is free for that.
        assert_eq!(ASKING.load(Ordering::SeqCst), 8);
        let again = resolver.addresses("sick", "hr.example");
        assert!(tokio::time::timeout(Duration::from_millis(300), again).await.is_err());
        let later = resolver.addresses("sick", "hr.example");
        assert!(tokio::time::timeout(Duration::from_secs(10), later).await.is_ok());
    }
}
