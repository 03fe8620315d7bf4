//! One history: daemons are driven side by side, things happen to them, then all is calm and
//! everything must come to rest.

use std::path::Path;
use std::sync::{Arc, Mutex};

use outcomed::store::sqlite::Sqlite;
use rand::RngExt;

use super::invariants;
use super::node::{Driven, Halt, Node};
use super::store::Disk;
use super::world::Shared;

/// How long things happen.
pub const EVENTFUL: i64 = 150_000;
/// By then everything is at rest: what waits for a receiver that is never there goes there one by
/// one, and is given up only after the whole schedule.
const AT_REST_MAX: i64 = 2 * 3_600_000;
/// And after a wall clock that was wrong by an hour.
const AT_REST_AFTER_STEPS_MAX: i64 = 3 * 3_600_000;
/// A daemon that was told to stop has stopped by then.
const STOPPED_MAX: i64 = 60_000;
/// Daemons see each other's hints this late at most; the store keeps the order of the rest.
const TOGETHER: i64 = 50;
const SECOND: i64 = 1_000;

struct History<'a> {
    world: &'a Shared,
    path: &'a Path,
    disk: Disk,
    /// A daemon, or when it starts again.
    nodes: Vec<Result<Node, i64>>,
}

/// Runs the history of this seed in that file.
pub fn run(world: &Shared, path: &Path) {
    let disk = Arc::new(Mutex::new(Some(open(path))));
    let daemons = world.lock().daemons;
    let nodes = (0..daemons).map(|_| Err(0)).collect();
    let mut history = History { world, path, disk, nodes };
    while world.lock().at < EVENTFUL && world.violation().is_none() {
        history.strike();
        history.second();
    }
    history.calm();
    let steps = world.lock().faults.wall_steps;
    let over = EVENTFUL + if steps { AT_REST_AFTER_STEPS_MAX } else { AT_REST_MAX };
    while world.violation().is_none() {
        history.second();
        let at = world.lock().at;
        let Some(store) = history.store() else { continue };
        if at % 5_000 == 0 && invariants::is_at_rest(&store) {
            invariants::nothing_is_lost(world, &store);
            return;
        }
        if at > over {
            invariants::not_at_rest(world, &store);
        }
    }
}

fn open(path: &Path) -> Arc<Sqlite> {
    let store = Sqlite::open_simulated(path);
    Arc::new(store.unwrap_or_else(|error| panic!("the store does not open again: {error}")))
}

impl History<'_> {
    fn store(&self) -> Option<Arc<Sqlite>> {
        self.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// One second of everybody's life.
    fn second(&mut self) {
        let from = self.world.lock().at;
        let step = if self.nodes.len() == 1 { SECOND } else { TOGETHER };
        for until in (from + step..=from + SECOND).step_by(usize::try_from(step).unwrap_or(1)) {
            for index in 0..self.nodes.len() {
                self.drive(index, until);
            }
            self.world.lock().at = until;
        }
        invariants::bounds_are_kept(self.world);
    }

    fn drive(&mut self, index: usize, until: i64) {
        let at = self.world.lock().at;
        match &mut self.nodes[index] {
            Err(from) if *from <= at => {
                if self.nodes.len() == 1 && self.store().is_none() {
                    *self.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        Some(open(self.path));
                }
                self.nodes[index] = Ok(Node::start(self.world, &self.disk, index));
            }
            Err(_) => return,
            Ok(node) => {
                if node.halted.is_some_and(|(_, until)| until <= at) {
                    node.wake(at);
                }
            }
        }
        let Ok(node) = &mut self.nodes[index] else { return };
        let driven = node.drive(until);
        if driven != Driven::Running {
            self.world.tell(format_args!("d{index} {driven:?}"));
            let again = until + self.world.between(100, 8_000);
            self.bury(index, again);
        } else if node.stopping_since.is_some_and(|since| until - since > STOPPED_MAX)
            && node.halted.is_none()
        {
            self.world.violated(format!("d{index} does not stop when told to"));
        }
    }

    fn bury(&mut self, index: usize, again: i64) {
        self.nodes[index] = Err(again);
        if self.nodes.len() == 1 {
            *self.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        }
    }

    /// Whatever may happen in this second, happens or does not.
    fn strike(&mut self) {
        let faults = self.world.lock().faults.clone();
        let at = self.world.lock().at;
        if faults.store_stalls && self.world.chance(0.02) {
            let until = at + self.world.between(2_000, 20_000);
            self.world.lock().store_stalls_until = until;
            self.world.tell(format_args!("the store stalls until {until}"));
        }
        for index in 0..self.nodes.len() {
            let Ok(node) = &mut self.nodes[index] else { continue };
            if faults.crashes && self.world.chance(0.04) {
                let mut world = self.world.lock();
                let fuse = world.rng.random_range(1..100);
                world.fuses[index].get_or_insert(fuse);
            }
            if node.halted.is_some() || node.stopping_since.is_some() {
                continue;
            }
            if faults.stops && self.world.chance(0.025) {
                node.stop(at);
                continue;
            }
            let halts = [
                (Halt::Pause, faults.pauses),
                (Halt::Sleep, faults.sleeps),
                (Halt::VmPause, faults.vm_pauses),
            ];
            for (how, on) in halts {
                if on && node.halted.is_none() && self.world.chance(0.02) {
                    node.halt(how, at, at + self.world.between(500, 25_000));
                }
            }
            if faults.partitions && self.world.chance(0.025) {
                let until = at + self.world.between(1_000, 25_000);
                self.world.lock().cut_off_until[index] = until;
                self.world.tell(format_args!("d{index} is cut off until {until}"));
            }
            if faults.wall_steps && self.world.chance(0.025) {
                let far = if self.world.chance(0.2) { 3_600_000 } else { 60_000 };
                let by = self.world.between(-far, far);
                self.world.lock().step_wall(index, by);
                self.world.tell(format_args!("d{index}'s wall clock is stepped by {by}"));
            }
        }
    }

    /// From now on what all share is well.
    fn calm(&mut self) {
        let at = {
            let mut world = self.world.lock();
            world.calm = true;
            world.set_walls_right();
            world.fuses.iter_mut().for_each(|fuse| *fuse = None);
            world.cut_off_until.iter_mut().for_each(|until| *until = 0);
            world.store_stalls_until = 0;
            world.at
        };
        self.world.tell(format_args!("all is calm"));
        for node in self.nodes.iter_mut().flatten() {
            node.wake(at);
        }
    }
}
