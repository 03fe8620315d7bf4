//! What must hold, whatever happens: some of it at every step, some of it at rest.

use std::collections::BTreeMap;

use outcomed::clock::Timestamp;
use outcomed::config::QuotaLimits;
use outcomed::outcome::{Class, Reason, Report};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{Filter, Registry};
use outcomed::task::{Registration, State, webhook_id};

use super::clients::is_sick;
use super::history::EVENTFUL;
use super::receivers::RETRY_DELAYS;
use super::world::{EPOCH, Life, Shared, World};

/// A healthy task is told this soon after it has settled and is known, whatever others do, once
/// what all share is well.
const TOLD_WITHIN: i64 = 20_000;
/// The same where what all share was unwell before.
const TOLD_AFTER_TROUBLE_WITHIN: i64 = 75_000;
/// A machine that has just started does not know what was spent of the last minute's quota.
const QUOTA_UNKNOWN: i64 = 60_000;
/// Whose quota was refused uses less of it for minutes.
const QUOTA_CUT: i64 = 240_000;
/// A healthy client's callback is first sent this soon after the outcome is stored.
const SENT_WITHIN: i64 = 5_000;

impl Shared {
    /// A poll is sent, and arrives at `arrives`.
    pub fn polled(&self, node: usize, account: &str, task: &str, now: i64, arrives: i64) {
        let mut world = self.lock();
        let limits = world.quota;
        let shared = world.daemons > 1;
        let holder = world.leases.holder(account, now);
        let settled = world.settled.get(task).copied();
        let arrivals = world.arrivals.entry(account.to_owned()).or_default();
        let place = arrivals.partition_point(|at| *at <= arrives);
        arrivals.insert(place, arrives);
        let over = over_the_quota(arrivals, place, limits);
        drop(world);
        if let Some(over) = over {
            self.violated(format!("{account}: {over}"));
        }
        if shared && holder != Some(node) {
            self.violated(format!("d{node} polls {account}, which is {holder:?}'s"));
        }
        if !shared && settled.is_some() {
            self.violated(format!("{task} is polled although its outcome is stored"));
        }
    }

    pub fn wall_of(&self, node: usize) -> Timestamp {
        use outcomed::clock::Clock;
        super::world::NodeClock(self.clone(), node).wall()
    }
}

/// The quota, for every position of both windows that holds this arrival.
fn over_the_quota(arrivals: &[i64], place: usize, limits: QuotaLimits) -> Option<String> {
    for (window, limit) in [(1_000, limits.per_second), (60_000, limits.per_minute)] {
        let after = arrivals[place..].iter().enumerate();
        for (index, end) in after.take_while(|(_, end)| **end < arrivals[place] + window) {
            let first = arrivals.partition_point(|at| *at <= end - window);
            let count = place + index + 1 - first;
            if count > limit as usize {
                return Some(format!("{count} polls within {window} ms before {end}"));
            }
        }
    }
    None
}

/// Sick things hold up nobody else: at every second.
pub fn bounds_are_kept(world: &Shared) {
    let (at, calm, faults) = {
        let world = world.lock();
        (world.at, world.calm, world.faults.clone())
    };
    let alone = faults.only_single_things_are_sick();
    if faults.wall_steps || !(alone || calm) {
        return;
    }
    // What is healthy competes for the quota, hundreds that expire together most of all.
    let reboots = if faults.crashes { QUOTA_UNKNOWN } else { 0 };
    let refusals = if faults.account_trouble { QUOTA_CUT } else { 0 };
    let (from, within) = match (alone, faults.mass_expiry) {
        (true, false) => (0, TOLD_WITHIN),
        (true, true) => (0, TOLD_AFTER_TROUBLE_WITHIN),
        (false, _) => (EVENTFUL, TOLD_AFTER_TROUBLE_WITHIN + reboots + refusals),
    };
    let broken = world.lock().late(at, alone, from, within);
    if let Some(late) = broken {
        world.violated(late);
    }
}

impl World {
    /// Who should have been told by now.
    fn late(&self, at: i64, alone: bool, from: i64, within: i64) -> Option<String> {
        let untold = self.promises.iter().filter(|(id, _)| !self.first_sent.contains_key(*id));
        for (id, promise) in untold {
            let life = self.lives[&promise.task];
            let healthy = life.end.is_some() && life.sick.is_none() && !promise.cancelled;
            let url = &promise.url;
            if !healthy || is_sick(&self.faults, url) || self.gone.contains(url) {
                continue;
            }
            let settled = life.settles_at.max(life.known_from).max(promise.accepted_at).max(from);
            let stored = self.settled.get(&promise.task);
            if at > settled + within {
                let stored = stored.map_or("no outcome".into(), |at| format!("stored at {at}"));
                return Some(format!("{id} is not told at {at}: {life:?}, {stored}"));
            }
            let due = stored.map(|stored| promise.accepted_at.max(*stored));
            if alone && due.is_some_and(|due| at > due + SENT_WITHIN) {
                return Some(format!("{id} is due since {due:?} and not sent at {at}"));
            }
        }
        None
    }
}

fn now<T>(answer: impl Future<Output = outcomed::store::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(answer).unwrap_or_else(|error| panic!("the store: {error}"))
}

fn is_open(state: State) -> bool {
    matches!(state, State::Watching | State::Delivering)
}

/// Whether nothing is left to do.
pub fn is_at_rest(store: &Sqlite) -> bool {
    now(store.counts()).iter().all(|(state, count)| !is_open(*state) || *count == 0)
}

/// Every registration there is.
fn all(store: &Sqlite) -> Vec<Registration> {
    let (mut all, mut before) = (Vec::new(), None::<String>);
    loop {
        let page = now(store.list(&Filter::default(), before.as_deref(), 1_000));
        before = page.items.last().map(|row| row.id.clone());
        all.extend(page.items);
        if before.is_none() {
            return all;
        }
    }
}

/// Something is watched or delivered for ever.
pub fn not_at_rest(world: &Shared, store: &Sqlite) {
    let rows = all(store);
    let open: Vec<&Registration> = rows.iter().filter(|row| is_open(row.state)).collect();
    let first = open.first().map(|row| format!("{row:?}"));
    world.violated(format!("{} are not at rest, such as {first:?}", open.len()));
}

/// Every promise is kept: told truly, a visible dead letter, or called off.
pub fn nothing_is_lost(world: &Shared, store: &Sqlite) {
    let promises = world.lock().promises.clone();
    let rows = all(store).into_iter().map(|row| (row.id.clone(), row));
    let rows: BTreeMap<String, Registration> = rows.collect();
    for (id, promise) in promises {
        let Some(row) = rows.get(&id) else {
            world.violated(format!("{id} has vanished"));
            continue;
        };
        if promise.cancelled && row.state == State::Cancelled {
            continue;
        }
        let Some(report) = row.outcome.clone() else {
            world.violated(format!("{id} ended without an outcome: {row:?}"));
            continue;
        };
        match row.state {
            State::Delivered => was_told(world, &id, &report),
            State::Undeliverable => gave_up_late(world, row),
            _ => world.violated(format!("{id}: {row:?}")),
        }
        let life = world.lock().lives[&promise.task];
        if let Err(lie) = told_truly(world, row, &report, life) {
            world.violated(format!("{lie}: {life:?} {row:?}"));
        }
    }
}

fn was_told(world: &Shared, id: &str, report: &Report) {
    let accepted = world.lock().accepted.get(&webhook_id(id)).cloned();
    let told = accepted.and_then(|(body, _)| outcomed::outcome::read(&body).ok());
    if told.as_ref() != Some(report) {
        world.violated(format!("{id} is delivered, but what was told is {told:?}"));
    }
}

/// A dead letter is one only after the whole schedule, or where the receiver is gone.
fn gave_up_late(world: &Shared, row: &Registration) {
    let world_ = world.lock();
    let url = &row.callback.url;
    let steps = world_.faults.wall_steps || world_.faults.vm_pauses;
    if world_.gone.contains(url) || steps || world_.times_asked(&row.id) > 0 {
        return;
    }
    let first = world_.first_sent.get(&row.id).copied();
    let last = world_.last_answered.get(&row.id).map(|answered| answered.at);
    drop(world_);
    let schedule: u64 = RETRY_DELAYS.iter().sum();
    let least = i64::try_from(schedule * 800).unwrap_or(0);
    if first.zip(last).is_none_or(|(first, last)| last - first < least) {
        world.violated(format!("{} was given up after {first:?} to {last:?}: {row:?}", row.id));
    }
}

fn told_truly(
    world: &Shared,
    row: &Registration,
    report: &Report,
    life: Life,
) -> Result<(), String> {
    let reason = report.failure.as_ref().map(|failure| failure.reason);
    let settled_at = report.observed.settled_at.0 - EPOCH;
    // One that was paused without its clock knows no better.
    let faults = world.lock().faults.clone();
    let steps = faults.wall_steps || faults.vm_pauses;
    match (report.outcome, reason) {
        (Class::Unresolved, Some(Reason::TaskNotFound)) => {
            if life.end.is_some() && !steps {
                return Err("a task that Feishu knows was called unknown".into());
            }
        }
        (Class::Unresolved, reason) => {
            let pending = report.observed.last_pending_at.is_some();
            if pending != (reason == Some(Reason::TimedOut)) {
                return Err("another reason".into());
            }
            // Another registration's deadline may have passed before this one was made.
            if report.observed.settled_at < row.give_up_at && !steps {
                return Err("given up too early".into());
            }
        }
        (class, _) => {
            if Some(class) != life.end {
                return Err("told another end".into());
            }
            let pending = report.observed.last_pending_at.map(|at| at.0 - EPOCH);
            let early = settled_at < life.settles_at;
            if !steps && (early || pending.is_some_and(|at| at > life.settles_at)) {
                return Err("seen before it happened, or pending after".into());
            }
        }
    }
    Ok(())
}
