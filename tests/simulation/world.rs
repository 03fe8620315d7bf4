//! The world the daemons live in: its time, its chance, the truth, and what is held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use outcomed::clock::{Clock, Steady, Timestamp};
use outcomed::config::QuotaLimits;
use outcomed::outcome::Class;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::faults::Faults;
use super::leases::{Leases, Row};

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
    /// What polling it comes to instead of an answer.
    pub sick: Option<Sickness>,
}

/// Why a task can never be polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sickness {
    /// A code nobody knows.
    UnknownCode,
    /// An edge's HTML.
    Html,
    /// A code that means the account, for this task alone.
    AccountCode,
    /// The connection is reset.
    Reset,
    /// It is answered after many seconds, with nothing.
    Hangs,
}

/// What the daemon has promised: a registration it has accepted.
#[derive(Clone, Debug)]
pub struct Promise {
    pub task: String,
    pub url: String,
    pub cancelled: bool,
    pub accepted_at: i64,
}

/// What a receiver said last about one callback, and who heard it.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub at: i64,
    pub accepted: bool,
    /// How often that daemon had started.
    pub start: u32,
}

/// Where one daemon stands in time.
#[derive(Clone, Copy, Debug)]
struct NodeTime {
    /// Where its runtime's time started, and the world's time then.
    started: tokio::time::Instant,
    base: i64,
    /// When its machine started, how often it has, and for how long its steady clock stood still.
    booted_at: i64,
    boots: u128,
    stood_still: i64,
    /// How far its wall clock is off.
    skew: i64,
}

/// Everything that outlives a daemon, seen from outside.
pub struct World {
    pub rng: StdRng,
    pub faults: Faults,
    pub daemons: usize,
    pub quota: QuotaLimits,
    /// The time up to which every daemon has been driven.
    pub at: i64,
    nodes: Vec<Option<NodeTime>>,
    /// The last thing the store did: nothing that is shared happens before it.
    pub store_at: i64,
    pub store_stalls_until: i64,
    pub cut_off_until: Vec<i64>,
    /// Whether what all share is well from now on. Sick tasks and receivers stay sick.
    pub calm: bool,
    pub leases: Leases,
    pub lives: BTreeMap<String, Life>,
    pub promises: BTreeMap<String, Promise>,
    /// When polls reached the upstream, by account, in order.
    pub arrivals: BTreeMap<String, Vec<i64>>,
    /// Tasks whose outcome the store has acknowledged, and when.
    pub settled: BTreeMap<String, i64>,
    /// Bodies that receivers accepted, by `webhook-id`, and when first.
    pub accepted: BTreeMap<String, (Vec<u8>, i64)>,
    /// Bodies that were ever sent, by `webhook-id`, and how often.
    pub sent: BTreeMap<String, (Vec<u8>, u32)>,
    /// When each registration was first sent, its last answer, and how often a person asked for it
    /// again.
    pub first_sent: BTreeMap<String, i64>,
    pub last_answered: BTreeMap<String, Answered>,
    pub sent_again: BTreeMap<String, u32>,
    /// How often for all at once, of which some may have been accepted without an answer.
    pub all_sent_again: u32,
    /// How often each daemon has started, halted or taken a lane, and walls were stepped.
    pub starts: Vec<u32>,
    pub halts: u32,
    pub claims: u32,
    pub wall_steps: u32,
    pub gone: BTreeSet<String>,
    pub tokens: BTreeSet<(usize, String)>,
    /// Attempts under way, by `webhook-id`, and whose they are.
    pub under_way: BTreeMap<String, usize>,
    /// Effects until the next crash of each daemon.
    pub fuses: Vec<Option<u32>>,
    pub crashed: Vec<Arc<Notify>>,
    /// Told when lanes or members move.
    pub moves: watch::Sender<u64>,
    violation: Option<String>,
    trace: Vec<String>,
}

/// The world, shared.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut faults = Faults::draw(&mut rng);
        // A wall clock that is set back by as long as a pause lasted hides it: no two clocks tell.
        faults.wall_steps &= !faults.vm_pauses;
        // Every fourth history is about isolation alone, and held to its bounds from the start.
        if seed % 4 == 3 {
            faults.leave_only_single_things_sick();
        }
        // Small, so that both windows are met; but no bound can be kept without quota.
        let quota = if faults.only_single_things_are_sick() {
            QuotaLimits { per_second: 50, per_minute: 1_000 }
        } else {
            QuotaLimits { per_second: 8, per_minute: 120 }
        };
        let daemons = if rng.random_bool(0.4) { rng.random_range(2..=3) } else { 1 };
        let world = World {
            rng,
            faults,
            daemons,
            quota,
            at: 0,
            nodes: vec![None; daemons],
            store_at: 0,
            store_stalls_until: 0,
            cut_off_until: vec![0; daemons],
            calm: false,
            leases: Leases::default(),
            lives: BTreeMap::new(),
            promises: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            settled: BTreeMap::new(),
            accepted: BTreeMap::new(),
            sent: BTreeMap::new(),
            first_sent: BTreeMap::new(),
            last_answered: BTreeMap::new(),
            sent_again: BTreeMap::new(),
            all_sent_again: 0,
            starts: vec![0; daemons],
            halts: 0,
            claims: 0,
            wall_steps: 0,
            gone: BTreeSet::new(),
            tokens: BTreeSet::new(),
            under_way: BTreeMap::new(),
            fuses: vec![None; daemons],
            crashed: (0..daemons).map(|_| Arc::default()).collect(),
            moves: watch::Sender::new(0),
            violation: None,
            trace: Vec::new(),
        };
        let shared = Self(Arc::new(Mutex::new(world)));
        let names = shared.lock().faults.names().join(" ");
        shared.tell(format_args!("seed {seed}: {daemons} daemons; {names}"));
        shared
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        // One history is one thread: whoever waited here would wait for ever.
        self.0.try_lock().unwrap_or_else(|error| panic!("the world is locked twice: {error}"))
    }

    pub fn chance(&self, share: f64) -> bool {
        self.lock().rng.random_bool(share)
    }

    /// A fault of what all share: not when the world is calm.
    pub fn fault(&self, on: impl Fn(&Faults) -> bool, share: f64) -> bool {
        let mut world = self.lock();
        on(&world.faults) && !world.calm && world.rng.random_bool(share)
    }

    pub fn between(&self, low: i64, high: i64) -> i64 {
        self.lock().rng.random_range(low..high)
    }

    /// One effect: the daemon may die before it, or after it.
    pub async fn effect(&self, node: usize) {
        let left = {
            let mut world = self.lock();
            let before = world.fuses[node];
            world.fuses[node] = before.map(|left| left.saturating_sub(1));
            before
        };
        if left == Some(1) {
            self.lock().crashed[node].notify_one();
        }
        if left.is_some_and(|left| left <= 1) {
            // Dead: whatever would have followed never happens.
            std::future::pending::<()>().await;
        }
    }

    /// Waits, on the timers of whoever asks.
    pub async fn delay(&self, low: i64, high: i64) {
        let delay = self.between(low, high).unsigned_abs();
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }

    /// A line of the history.
    pub fn tell(&self, line: Arguments<'_>) {
        let mut world = self.lock();
        let line = format!("{:>9} {line}", world.at);
        world.trace.push(line);
    }

    /// A line of the history that a daemon is part of.
    pub fn node_tells(&self, node: usize, line: Arguments<'_>) {
        let mut world = self.lock();
        let line = format!("{:>9} d{node} {line}", world.now_of(node));
        world.trace.push(line);
    }

    /// Something that must never be so. The first one stands.
    pub fn violated(&self, what: String) {
        let mut world = self.lock();
        world.trace.push(format!("          VIOLATION {what}"));
        world.violation.get_or_insert(what);
    }

    pub fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }
}

impl World {
    /// World time as this daemon's runtime has it. To be asked on that runtime.
    pub fn now_of(&self, node: usize) -> i64 {
        self.nodes[node].map_or(self.at, |time| time.base + time.running())
    }

    /// A daemon starts, on a runtime of its own. To be called on it.
    pub fn starts(&mut self, node: usize) {
        let started = tokio::time::Instant::now();
        let new = NodeTime {
            started,
            base: self.at,
            booted_at: self.at,
            boots: 1,
            stood_still: 0,
            skew: 0,
        };
        let machine = self.nodes[node].unwrap_or(new);
        let mut machine = NodeTime { started, base: self.at, ..machine };
        if self.faults.crashes && self.rng.random_bool(0.3) {
            // All of the machine went down.
            (machine.booted_at, machine.stood_still) = (self.at, 0);
            machine.boots += 1;
        }
        self.nodes[node] = Some(machine);
        self.starts[node] += 1;
        // What it held before is another member's, who is dead.
        self.leases.members.values_mut().filter(|row| row.node == node).for_each(Row::bury);
        self.tokens.retain(|(owner, _)| *owner != node);
        self.fuses[node] = None;
        self.crashed[node] = Arc::default();
    }

    /// The machine slept or was paused: its timers did not run for so long.
    pub fn overslept(&mut self, node: usize, lag: i64, steady_goes_on: bool) {
        if let Some(time) = &mut self.nodes[node] {
            time.base += lag;
            time.stood_still += if steady_goes_on { 0 } else { lag };
        }
    }

    pub fn step_wall(&mut self, node: usize, by: i64) {
        if let Some(time) = &mut self.nodes[node] {
            time.skew += by;
            self.wall_steps += 1;
        }
    }

    pub fn set_walls_right(&mut self) {
        for time in self.nodes.iter_mut().flatten().filter(|time| time.skew != 0) {
            time.skew = 0;
            self.wall_steps += 1;
        }
    }

    /// Where the runtime's time must be for the daemon to be at `at`.
    pub fn instant_of(&self, node: usize, at: i64) -> Option<tokio::time::Instant> {
        let time = self.nodes[node]?;
        let ahead = u64::try_from(at - time.base).unwrap_or(0);
        Some(time.started + Duration::from_millis(ahead))
    }
}

impl NodeTime {
    fn running(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// One daemon's clocks.
pub struct NodeClock(pub Shared, pub usize);

impl Clock for NodeClock {
    fn wall(&self) -> Timestamp {
        let world = self.0.lock();
        let skew = world.nodes[self.1].map_or(0, |time| time.skew);
        Timestamp(EPOCH + world.now_of(self.1) + skew)
    }

    fn steady(&self) -> Steady {
        let world = self.0.lock();
        let steady =
            |time: NodeTime| time.base + time.running() - time.booted_at - time.stood_still;
        Steady(world.nodes[self.1].map_or(0, steady))
    }

    fn boot(&self) -> Option<Uuid> {
        let world = self.0.lock();
        world.nodes[self.1].map(|time| Uuid::from_u128(time.boots))
    }
}
