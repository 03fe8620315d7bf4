//! The sockets: accept, bound, serve, drain.
//!
//! Our own loop around hyper's HTTP/1, because the usual ones bound neither the number of
//! connections nor the time of a silent one, and know no deadline for draining.

mod connection;
mod listen;
mod peer;
mod seats;
mod stall;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::openapi;
use super::shared::{ApiState, Limits, Shared};
use listen::Stream;
pub use listen::{Door, Listener};
use peer::Peer;
use seats::Seats;

/// Out of file descriptors or memory: accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections over the limit that wait for a place, or are told 503, at the same time; beyond
/// that they are dropped.
const STANDING_MAX: usize = 64;
/// Of those, connections of one address beyond this host.
const STANDING_OF_ONE_MAX: usize = 16;
/// For a place to become free; a short burst passes unnoticed.
const STANDING_TIME_MAX: Duration = Duration::from_secs(1);
/// Each of those waiting asks one idle connection to leave this often.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// For the connections that are cut off to notice it.
const ABORT_TIME_MAX: Duration = Duration::from_secs(1);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request was finished.
    Clean,
    /// Some were cut off at the deadline.
    Aborted {
        /// How many connections.
        connections: usize,
    },
}

/// Serves the API until `shutdown` is cancelled, then finishes what was begun: long polls answer
/// at once with what they have, and whatever is unfinished at the deadline is cut off.
pub async fn serve(
    listeners: Vec<Listener>,
    state: ApiState,
    shutdown: CancellationToken,
) -> Drained {
    let limits = state.limits;
    let server = Arc::new(Server {
        limits,
        router: openapi::routes(Shared::new(state, shutdown.clone())),
        places: Arc::new(Semaphore::new(limits.connections_max)),
        standing: Mutex::default(),
        seats: Arc::default(),
        open: TaskTracker::new(),
        shutdown: shutdown.clone(),
        abort: CancellationToken::new(),
    });
    let accepting = listeners.into_iter().map(|listener| server.accept(listener));
    join_all(accepting).await;
    // Without a listener there is nothing to do but to wait for the end.
    shutdown.cancelled().await;
    server.drain().await
}

struct Server {
    limits: Limits,
    router: Router,
    places: Arc<Semaphore>,
    standing: Mutex<BTreeMap<Peer, usize>>,
    seats: Arc<Seats>,
    open: TaskTracker,
    shutdown: CancellationToken,
    abort: CancellationToken,
}

impl Server {
    async fn accept(self: &Arc<Self>, listener: Listener) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(stream) => {
                    failing = false;
                    self.admit(stream);
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "no connection can be accepted; trying again");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: Stream) {
        let server = self.clone();
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            self.open.spawn(async move { server.seat(stream, place).await });
        } else if let Some(standing) = self.stand(stream.peer()) {
            self.open.spawn(async move {
                let Some(place) = server.wait_for_place().await else {
                    return connection::refuse(stream).await;
                };
                drop(standing);
                server.seat(stream, place).await;
            });
        }
    }

    /// A place to wait in; no one address can take them all.
    fn stand(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Standing> {
        let peer = Peer::of(address);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let own = standing.get(&peer).copied().unwrap_or(0);
        let most = if Peer::is_local(address) { STANDING_MAX } else { STANDING_OF_ONE_MAX };
        if own >= most || standing.values().sum::<usize>() >= STANDING_MAX {
            return None;
        }
        standing.insert(peer, own + 1);
        Some(Standing { server: self.clone(), peer })
    }

    /// Has idle connections make way, one after the other, until a place is free.
    async fn wait_for_place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.places.clone().acquire_owned();
        tokio::pin!(place);
        let mut asking = tokio::time::interval(ASK_EVERY);
        let waiting = async {
            loop {
                tokio::select! {
                    place = place.as_mut() => return place.ok(),
                    _ = asking.tick() => self.seats.ask_one_to_leave(),
                }
            }
        };
        tokio::time::timeout(STANDING_TIME_MAX, waiting).await.ok().flatten()
    }

    async fn seat(&self, stream: Stream, place: OwnedSemaphorePermit) {
        let (shutdown, abort) = (&self.shutdown, &self.abort);
        let seat = self.seats.take(Peer::of(stream.peer()));
        connection::serve(stream, seat, &self.router, self.limits, shutdown, abort).await;
        drop(place);
    }

    async fn drain(&self) -> Drained {
        self.open.close();
        if tokio::time::timeout(self.limits.drain_time_max, self.open.wait()).await.is_ok() {
            tracing::info!("the API has finished every request");
            return Drained::Clean;
        }
        let connections = self.open.len();
        tracing::warn!(connections, "the API cut off unfinished requests at the deadline");
        self.abort.cancel();
        let _ = tokio::time::timeout(ABORT_TIME_MAX, self.open.wait()).await;
        Drained::Aborted { connections }
    }
}

/// A place to wait in; dropping it leaves.
struct Standing {
    server: Arc<Server>,
    peer: Peer,
}

impl Drop for Standing {
    fn drop(&mut self) {
        let mut standing = self.server.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = standing.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                standing.remove(&self.peer);
            }
        }
    }
}

/// A peer that went away between connecting and being accepted is no trouble of ours.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
