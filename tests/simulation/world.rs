//! The world the daemon lives in: its time, its chance, its catastrophes, and the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use outcomed::clock::{Clock, Steady, Timestamp};
use outcomed::outcome::Class;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

/// Where the world's time starts: some moment of 2026.
pub const EPOCH: i64 = 1_780_000_000_000;

/// What really happens to one upstream task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Before then Feishu does not know it yet (replication lag).
    pub known_from: i64,
    /// When it ends.
    pub settles_at: i64,
    /// How it ends; `None`: Feishu never knows it.
    pub end: Option<Class>,
}

/// What the daemon has promised: a registration it has accepted.
#[derive(Clone, Debug)]
pub struct Promise {
    pub task: String,
    pub cancelled: bool,
}

/// Everything that outlives a crash of the daemon, seen from outside.
pub struct World {
    pub rng: StdRng,
    pub seed: u64,
    /// World time at which the present incarnation of the daemon started.
    born: i64,
    instant: Option<tokio::time::Instant>,
    /// How far the wall clock is off.
    pub skew: i64,
    /// Effects until the next crash.
    pub fuse: Option<u32>,
    /// Whether the moment's faults happen at all.
    pub calm: bool,
    pub lives: BTreeMap<String, Life>,
    pub promises: BTreeMap<String, Promise>,
    /// When polls reached the upstream.
    pub arrivals: Vec<i64>,
    /// Tasks whose outcome the store has acknowledged.
    pub settled: BTreeSet<String>,
    /// Bodies that receivers accepted, by `webhook-id`, and how often.
    pub accepted: BTreeMap<String, (Vec<u8>, u32)>,
    /// Bodies that were ever sent, by `webhook-id`.
    pub sent: BTreeMap<String, Vec<u8>>,
    pub token_valid: bool,
    pub crashes: u32,
}

/// The world, shared.
#[derive(Clone)]
pub struct Shared {
    world: Arc<Mutex<World>>,
    crashed: Arc<Notify>,
}

impl Shared {
    pub fn new(seed: u64) -> Self {
        let world = World {
            rng: StdRng::seed_from_u64(seed),
            seed,
            born: 0,
            instant: None,
            skew: 0,
            fuse: None,
            calm: false,
            lives: BTreeMap::new(),
            promises: BTreeMap::new(),
            arrivals: Vec::new(),
            settled: BTreeSet::new(),
            accepted: BTreeMap::new(),
            sent: BTreeMap::new(),
            token_valid: false,
            crashes: 0,
        };
        Self { world: Arc::new(Mutex::new(world)), crashed: Arc::new(Notify::new()) }
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// World time, in milliseconds.
    pub fn now(&self) -> i64 {
        self.lock().now()
    }

    pub fn chance(&self, share: f64) -> bool {
        let mut world = self.lock();
        !world.calm && world.rng.random_bool(share)
    }

    pub fn between(&self, low: i64, high: i64) -> i64 {
        self.lock().rng.random_range(low..high)
    }

    /// A new incarnation of the daemon starts, on a runtime of its own.
    pub fn begin(&self, fuse: Option<u32>) {
        let mut world = self.lock();
        world.instant = Some(tokio::time::Instant::now());
        world.fuse = fuse;
        // The access token lived in the memory of the one before.
        world.token_valid = false;
    }

    /// The incarnation is over; time stands still until the next one.
    pub fn end(&self) {
        let mut world = self.lock();
        world.born = world.now();
        world.instant = None;
    }

    /// One effect: the daemon may die before it, or after it.
    pub async fn effect(&self) {
        let left = {
            let mut world = self.lock();
            let before = world.fuse;
            world.fuse = before.map(|left| left.saturating_sub(1));
            before
        };
        if left == Some(1) {
            self.crashed.notify_one();
        }
        if left.is_some_and(|left| left <= 1) {
            // Dead: whatever would have followed never happens.
            std::future::pending::<()>().await;
        }
    }

    pub async fn crashed(&self) {
        self.crashed.notified().await;
        self.lock().crashes += 1;
    }
}

impl World {
    pub fn now(&self) -> i64 {
        let running =
            self.instant.map_or(0, |start| i64::try_from(start.elapsed().as_millis()).unwrap());
        self.born + running
    }
}

impl Clock for Shared {
    fn wall(&self) -> Timestamp {
        let world = self.lock();
        Timestamp(EPOCH + world.now() + world.skew)
    }

    fn steady(&self) -> Steady {
        let world = self.lock();
        Steady(world.now() - world.born)
    }
}
