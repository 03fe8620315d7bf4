//! One daemon: its real loops on a runtime of its own, which can be driven, stopped in its tracks,
//! put to sleep, killed and told to stop.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use outcomed::clock::Clock;
use outcomed::config::Polling;
use outcomed::delivery::handover::Handover;
use outcomed::delivery::{self, Parts};
use outcomed::observability::Metrics;
use outcomed::polling::board::Board;
use outcomed::polling::{self, Context, Follower, Upstream as Account};
use outcomed::store::Store;
use outcomed::store::fleet::{Alone, Fleet, Member};
use rand::RngExt;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clients;
use super::fleet::Members;
use super::receivers::{Receivers, config};
use super::store::{Disk, Door};
use super::upstream::{ACCOUNTS, Upstream};
use super::world::{NodeClock, Shared};

const DRAIN: Duration = Duration::from_secs(20);

/// What keeps a daemon from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// SIGSTOP: all clocks go on, and what they have due is late.
    Pause,
    /// The machine sleeps: the steady clock goes on, timers do not.
    Sleep,
    /// Its virtual machine is paused: only the wall goes on.
    VmPause,
}

pub struct Node {
    index: usize,
    world: Shared,
    runtime: Runtime,
    main: JoinHandle<()>,
    shutdown: CancellationToken,
    pub halted: Option<(Halt, i64)>,
    /// How long it is not driven any more.
    lag_from: i64,
    pub stopping_since: Option<i64>,
}

/// What became of driving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    Running,
    Crashed,
    Stopped,
}

impl Node {
    pub fn start(world: &Shared, disk: &Disk, index: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap_or_else(|error| panic!("no runtime: {error}"));
        let shutdown = CancellationToken::new();
        let main = {
            let _its_time = runtime.enter();
            world.lock().starts(index);
            tokio::spawn(daemon(world.clone(), Arc::clone(disk), index, shutdown.clone()))
        };
        world.tell(format_args!("d{index} starts"));
        let (halted, stopping_since, lag_from) = (None, None, 0);
        let world = world.clone();
        Self { index, world, runtime, main, shutdown, halted, lag_from, stopping_since }
    }

    /// Runs until the world's time is `until`.
    pub fn drive(&mut self, until: i64) -> Driven {
        if self.halted.is_some() {
            return Driven::Running;
        }
        let crashed = Arc::clone(&self.world.lock().crashed[self.index]);
        let at = self.world.lock().instant_of(self.index, until);
        let main = &mut self.main;
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = crashed.notified() => Driven::Crashed,
                _ = main => Driven::Stopped,
                () = async { if let Some(at) = at { tokio::time::sleep_until(at).await } } => {
                    Driven::Running
                }
            }
        })
    }

    pub fn halt(&mut self, how: Halt, at: i64, until: i64) {
        self.world.tell(format_args!("d{} halts: {how:?} until {until}", self.index));
        self.world.lock().halts += 1;
        (self.halted, self.lag_from) = (Some((how, until)), at);
    }

    /// Goes on, having missed everything since it was halted.
    pub fn wake(&mut self, at: i64) {
        let Some((how, _)) = self.halted.take() else { return };
        self.world.tell(format_args!("d{} goes on", self.index));
        let lag = at - self.lag_from;
        match how {
            Halt::Pause => {
                let lag = Duration::from_millis(lag.unsigned_abs());
                self.runtime.block_on(tokio::time::advance(lag));
            }
            Halt::Sleep => self.world.lock().overslept(self.index, lag, true),
            Halt::VmPause => self.world.lock().overslept(self.index, lag, false),
        }
    }

    /// SIGTERM.
    pub fn stop(&mut self, at: i64) {
        self.world.tell(format_args!("d{} is told to stop", self.index));
        self.stopping_since = Some(at);
        self.shutdown.cancel();
    }
}

async fn join(world: &Shared, fleet: &Arc<dyn Fleet>, clock: &NodeClock) -> Member {
    loop {
        if let Ok(member) = fleet.join("simulated", clock.wall()).await {
            return member;
        }
        world.delay(500, 1_500).await;
    }
}

/// Delivery hears which lanes are this daemon's, as in the app.
struct Deliveries(Handover);

impl Follower for Deliveries {
    fn claimed(&self, lane: i64) {
        self.0.claimed(lane);
    }
    fn given_up(&self, lane: i64) -> BoxFuture<'static, ()> {
        let handover = self.0.clone();
        Box::pin(async move { handover.give_up(lane).await })
    }
}

/// What `App::run` spawns, less the doors.
async fn daemon(world: Shared, disk: Disk, node: usize, shutdown: CancellationToken) {
    let door = Door::new(&disk, &world, node);
    let store: Arc<dyn Store> = door.clone();
    let fleet: Arc<dyn Fleet> = if world.lock().daemons == 1 {
        Arc::new(Alone::new(Arc::clone(&store)))
    } else {
        Arc::new(Members { door: Arc::clone(&door), world: world.clone(), node })
    };
    let clock = NodeClock(world.clone(), node);
    let member = tokio::select! {
        () = shutdown.cancelled() => return,
        member = join(&world, &fleet, &clock) => member,
    };
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let board = Arc::new(Board::default());
    let handover = Handover::new(store.clone());
    let context = Context {
        follower: Arc::new(Deliveries(handover.clone())),
        ..context(&world, node, (fleet, member), &clock, &board, &shutdown, &store)
    };
    let ours = {
        let (board, clock) = (Arc::clone(&board), Arc::clone(&clock));
        Arc::new(move || board.is_ours(clock.read()))
    };
    let (chance, (_health, questions)) = (world.clone(), delivery::health::desk());
    let parts = Parts {
        hints: store.hints(),
        outbox: store.clone(),
        config: watch::channel(Arc::new(config())).1,
        clock: Arc::clone(&clock),
        metrics: Arc::new(Metrics::default()),
        courier: Arc::new(Receivers { world: world.clone(), door: Arc::clone(&door), node }),
        questions,
        handover,
        closed: tokio::sync::mpsc::channel(1).0,
        ours,
        jitter: Arc::new(move || chance.lock().rng.random_range(-1.0..=1.0)),
    };
    let acting = tokio::spawn(clients::act(world.clone(), door, node));
    let redeliveries = delivery::redeliver::run(store, clock, shutdown.clone());
    let polling = tokio::spawn(polling::run(context));
    let delivery = tokio::spawn(delivery::run(parts, shutdown.clone(), DRAIN));
    let redeliveries = tokio::spawn(redeliveries);
    shutdown.cancelled().await;
    acting.abort();
    if tokio::try_join!(polling, delivery, redeliveries).is_err() {
        world.violated(format!("a part of d{node} has died"));
    }
}

fn context(
    world: &Shared,
    node: usize,
    (fleet, member): (Arc<dyn Fleet>, Member),
    clock: &Arc<dyn Clock>,
    board: &Arc<Board>,
    shutdown: &CancellationToken,
    store: &Arc<dyn Store>,
) -> Context {
    let quota = world.lock().quota;
    let account = |name: &&'static str| {
        let source = Arc::new(Upstream { world: world.clone(), node, account: name });
        ((*name).to_owned(), Account { source, quota })
    };
    Context {
        store: Arc::clone(store),
        fleet,
        member,
        upstreams: watch::channel(Arc::new(ACCOUNTS.iter().map(account).collect())).1,
        settings: Polling {
            give_up_after: Duration::from_secs(3_600),
            not_found_grace: Duration::from_secs(20),
            poll_worth: Duration::from_millis(10),
        },
        clock: Arc::clone(clock),
        follower: Arc::new(()),
        board: Arc::clone(board),
        metrics: Arc::new(Metrics::default()),
        shutdown: shutdown.clone(),
    }
}
