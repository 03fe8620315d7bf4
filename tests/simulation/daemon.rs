//! One incarnation of the daemon after another, each on a runtime of its own, until it is killed,
//! told to stop, or has nothing left to do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::Clock;
use outcomed::config::{Polling, QuotaLimits};
use outcomed::observability::Metrics;
use outcomed::polling::board::Board;
use outcomed::polling::{self, Context, Upstream as Account};
use outcomed::store::fleet::{Alone, Fleet};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{Registry, Store};
use outcomed::task::State;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clients;
use super::receivers;
use super::store::Mortal;
use super::upstream::Upstream;
use super::world::Shared;

/// Small, so that both windows are met.
pub const QUOTA: QuotaLimits = QuotaLimits { per_second: 8, per_minute: 120 };

/// How an incarnation ends.
pub enum End {
    /// At the next effect after so many.
    Crash(u32),
    /// By SIGTERM after so many milliseconds.
    Stop(u64),
    /// When nothing is left to do.
    Quiet,
}

/// Runs one incarnation.
pub fn live(world: &Shared, path: &Path, end: &End) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        world.begin(if let End::Crash(fuse) = end { Some(*fuse) } else { None });
        let store = Arc::new(Sqlite::open_simulated(path).unwrap());
        let mortal: Arc<dyn Store> =
            Arc::new(Mortal { inner: Arc::clone(&store), world: world.clone() });
        let shutdown = CancellationToken::new();
        let polling = polling::run(context(world, &mortal, &shutdown).await);
        let delivery = receivers::run_delivery(world, &mortal, &shutdown);
        let daemon = async { tokio::join!(polling, delivery) };
        let acting = async {
            match end {
                End::Crash(_) => clients::act(world.clone(), Arc::clone(&mortal)).await,
                End::Stop(after) => {
                    let acting = clients::act(world.clone(), Arc::clone(&mortal));
                    let _ = tokio::time::timeout(Duration::from_millis(*after), acting).await;
                }
                End::Quiet => until_quiet(&store).await,
            }
            shutdown.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = world.crashed() => {}
            _ = daemon => assert!(shutdown.is_cancelled(), "the daemon ended by itself"),
            () = acting => {}
        }
        world.end();
    });
}

async fn context(world: &Shared, store: &Arc<dyn Store>, shutdown: &CancellationToken) -> Context {
    let account = Account { source: Arc::new(Upstream(world.clone())), quota: QUOTA };
    let upstreams = [("default".to_owned(), account)].into();
    let fleet = Arc::new(Alone::new(Arc::clone(store)));
    let member = fleet.join("simulated", world.wall()).await.unwrap();
    Context {
        store: Arc::clone(store),
        fleet,
        member,
        upstreams: watch::channel(Arc::new(upstreams)).1,
        settings: Polling {
            give_up_after: Duration::from_secs(3_600),
            not_found_grace: Duration::from_secs(20),
            poll_worth: Duration::from_millis(10),
        },
        clock: Arc::new(world.clone()),
        board: Arc::new(Board::default()),
        follower: Arc::new(()),
        metrics: Arc::new(Metrics::default()),
        shutdown: shutdown.clone(),
    }
}

async fn until_quiet(store: &Sqlite) {
    loop {
        let counts = store.counts().await.unwrap();
        let open = |state: &State| matches!(state, State::Watching | State::Delivering);
        if counts.iter().all(|(state, count)| !open(state) || *count == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
