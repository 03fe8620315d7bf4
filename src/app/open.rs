//! Opening what the configuration names: the store with its fleet, and the sockets.

use std::sync::Arc;

use super::StartError;
use crate::api::Listener;
use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::observability::Metrics;
use crate::service::{Passed, PassedListener};
use crate::store::Store;
use crate::store::fleet::{Alone, Fleet, Member};
use crate::store::postgres::Postgres;
use crate::store::sqlite::Sqlite;

/// The name of the API's socket in `outcomed.socket`.
const API_SOCKET: &str = "api";

/// A socket passed by systemd wins over the configured address.
pub(super) async fn listeners(
    config: &Config,
    passed: Vec<Passed>,
) -> Result<Vec<Listener>, StartError> {
    let named = |passed: &Passed| passed.name == API_SOCKET;
    let any_named = passed.iter().any(named);
    let of_systemd =
        |source| StartError::Listen { address: "the socket of systemd".into(), source };
    let listeners: Vec<Listener> = passed
        .into_iter()
        .filter(|passed| named(passed) || !any_named)
        .map(|passed| match passed.listener {
            PassedListener::Tcp(tcp) => Listener::from_tcp(tcp),
            PassedListener::Unix(unix) => Listener::from_unix(unix),
        })
        .collect::<std::io::Result<_>>()
        .map_err(of_systemd)?;
    if !listeners.is_empty() {
        return Ok(listeners);
    }
    let address = &config.http.listen;
    let bound = Listener::bind(address).await;
    let listener =
        bound.map_err(|source| StartError::Listen { address: address.to_string(), source })?;
    Ok(vec![listener])
}

/// The two views of one store: what is durable, and who works on it.
pub(super) async fn store(
    url: &StoreUrl,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<dyn Store>, Arc<dyn Fleet>), StartError> {
    match url {
        StoreUrl::Sqlite(path) => {
            let metrics = Arc::clone(metrics);
            let on_commit = move |writes, took| metrics.commit(writes, took);
            let (path, clock) = (path.clone(), Arc::clone(clock));
            // It waits for the disk: on a thread that may, so that a signal is heard meanwhile.
            let open = move || Sqlite::open(&path, clock, Arc::new(on_commit));
            let opened = tokio::task::spawn_blocking(open).await;
            let store = opened.map_err(|error| StartError::Died(error.to_string()))??;
            let store: Arc<dyn Store> = Arc::new(store);
            Ok((Arc::clone(&store), Arc::new(Alone::new(store))))
        }
        StoreUrl::Postgres(url) => {
            let store = Arc::new(Postgres::open(url.expose()).await?);
            Ok((Arc::clone(&store) as Arc<dyn Store>, store))
        }
    }
}

/// Makes this daemon a member, under its host's name.
pub(super) async fn join(fleet: &dyn Fleet, clock: &dyn Clock) -> Result<Member, StartError> {
    let host = rustix::system::uname();
    let name = host.nodename().to_string_lossy();
    fleet.join(&name, clock.wall()).await.map_err(StartError::Join)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_the_sockets_that_systemd_passes_those_named_for_the_api_are_its_own() {
        for (names, kept) in [(&["api", "other"][..], 1), (&["one", "other"], 2), (&["api"], 1)] {
            let mut bound = Vec::new();
            let passed = |name: &&str| {
                let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                bound.push(format!("http://{}", tcp.local_addr().unwrap()));
                Passed { name: (*name).to_owned(), listener: PassedListener::Tcp(tcp) }
            };
            let passed = names.iter().map(passed).collect();
            let taken = listeners(&Config::default(), passed).await.unwrap();
            let taken: Vec<String> = taken.iter().map(Listener::address).collect();
            assert_eq!(taken, bound[..kept], "{names:?}");
        }
    }
}
