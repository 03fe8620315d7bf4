//! One lane's shell: performs the steps its brain asks for and feeds it what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, mpsc, watch};

use super::board::{QUESTIONS_MAX, Question};
use super::fleet::seat::Seat;
use super::lane::{Follows, Lane, Step, Watched};
use super::restored::reserved_at;
use super::{Context, Upstream, Upstreams};
use crate::clock::{Steady, Timestamp};
use crate::outcome::Outcome;
use crate::source::AccountProblem;
use crate::store::{Change, Ending, Lease, StoreError, Watch};
use crate::task::{LaneName, TaskId};

mod ask;
mod effects;
mod ending;
mod names;
mod progress;
mod show;

use self::effects::{Event, PollResult, Told};
use self::names::Names;
use self::progress::Unwritten;
use self::show::Shown;

/// The longest wait: a loop that comes round shows that it is alive.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// While polls still count in a window, what the board shows is at most this old.
const BOARD_FRESH: Duration = Duration::from_secs(1);
/// How long the last write may take.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// Whether changed tasks are being read.
#[derive(PartialEq, Eq)]
enum Loading {
    Idle,
    UnderWay,
    /// Something changed meanwhile.
    Again,
}

/// One lane at work.
pub(super) struct Worker {
    context: Context,
    name: LaneName,
    seat: Seat,
    lease: Lease,
    lane: Lane,
    names: Names,
    unwritten: Unwritten,
    version: u64,
    /// Tasks that changed while their end was being stored, and to which version.
    ending: BTreeMap<TaskId, u64>,
    /// Tasks that ended while changes were being read, perhaps as they were before.
    ended: BTreeSet<TaskId>,
    /// The first version that was read too early.
    again_from: Option<u64>,
    /// As long as the lane is loaded for the first time: the version up to which it is.
    first_load: Option<u64>,
    loading: Loading,
    upstreams: watch::Receiver<Arc<Upstreams>>,
    effects: FuturesUnordered<BoxFuture<'static, Event>>,
    shown: Shown,
    questions: mpsc::Receiver<Question>,
    lost: bool,
}

impl Worker {
    /// Runs the lane until told to stop, or until it belongs to somebody else.
    pub(super) async fn run(context: Context, name: LaneName, seat: Seat, changed: Arc<Notify>) {
        let mut worker = Self::new(context, name, seat);
        worker.work(&changed).await;
        worker.drain().await;
    }

    fn new(context: Context, name: LaneName, seat: Seat) -> Self {
        let taken = &seat.claimed.lane;
        let mut upstreams = context.upstreams.clone();
        let limits = upstreams.borrow_and_update().get(&name.account).map(|u| u.quota);
        let (grace, worth) = (context.settings.not_found_grace, context.settings.poll_worth);
        let mut lane = Lane::new(limits.unwrap_or_default(), grace, worth);
        if let Some(memory) = &taken.memory {
            lane.remember(memory);
        }
        let (now, ago) = (context.clock.read(), seat.claimed.reserved_ago);
        // A lease for ever: a store on this machine. Other machines have other starts.
        let boot = context.clock.boot().filter(|_| seat.claimed.lasts == Duration::MAX);
        lane.restore(&reserved_at(&taken.reservations, ago, boot, now), now.steady);
        let (inbox, questions) = mpsc::channel(QUESTIONS_MAX);
        context.board.answers(&name, inbox);
        Self {
            context,
            name,
            lease: taken.lease,
            version: taken.version,
            seat,
            lane,
            names: Names::default(),
            unwritten: Unwritten::default(),
            ending: BTreeMap::new(),
            ended: BTreeSet::new(),
            again_from: None,
            first_load: Some(0),
            loading: Loading::Idle,
            upstreams,
            effects: FuturesUnordered::new(),
            shown: Shown::default(),
            questions,
            lost: false,
        }
    }

    /// In this order: what happened, then what to do about it, then wait.
    async fn work(&mut self, changed: &Notify) {
        self.load();
        let stop = self.seat.stop.clone();
        let mut renewals = self.seat.term.until.clone();
        while !self.lost && !stop.is_cancelled() {
            let until = self.take_steps();
            self.show();
            let now = self.context.clock.steady();
            let wait = until.map_or(WAIT_MAX, |at| at.since(now)).min(self.wait_max(now));
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(event) = self.effects.next() => self.happened(event),
                () = changed.notified() => self.load(),
                Some(question) = self.questions.recv() => self.answer(question),
                Ok(()) = self.upstreams.changed() => self.reconfigure(),
                Ok(()) = renewals.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Performs steps until the brain says to wait, and says until when. While the lane may be
    /// another's, nothing is done and nothing forgotten.
    fn take_steps(&mut self) -> Option<Steady> {
        loop {
            let reading = self.context.clock.read();
            let now = reading.steady;
            if !self.seat.is_ours(reading) {
                return None;
            }
            match self.lane.next(now) {
                Step::Reserve { polls } => self.reserve(polls, now),
                Step::Prepare => self.effects.push(effects::prepare(self.upstream())),
                Step::Poll { task } => self.poll(task, now),
                Step::GiveUp { task } => self.give_up(task),
                Step::Wait { until } => {
                    self.effects.extend(self.lane.study().map(effects::study));
                    self.write_progress(now);
                    return until;
                }
            }
        }
    }

    fn happened(&mut self, event: Event) {
        let now = self.context.clock.steady();
        match event {
            Event::Reserved { polls, progress, stored } => {
                match &stored {
                    Ok(()) => self.lane.reserved(polls, now),
                    Err(_) => self.lane.not_reserved(now),
                }
                self.progress_written(progress, stored, now);
            }
            Event::ProgressWritten { progress, stored } => {
                self.progress_written(progress, stored, now);
            }
            Event::Prepared(result) => {
                self.count("prepare", &result, Duration::ZERO);
                self.lane.prepared(result, now);
            }
            Event::Replied { task, sent, received, result } => {
                self.replied(task, sent, received, *result);
            }
            Event::Ended { task, next: Ok(next) } => {
                let next = next.map(|at| self.steady_of(at));
                self.lane.gave_up(task, next, now);
                if next.is_none() {
                    self.forget(task);
                    self.has_ended(task);
                }
            }
            Event::Ended { task, next: Err(error) } => {
                self.lane.not_ended(task, now);
                self.not_stored("a task's end", &error);
            }
            Event::Learned(study) => self.lane.learned(*study),
            Event::Loaded(Ok(changes)) => self.loaded(changes, now),
            Event::Loaded(Err(error)) => {
                self.loading = Loading::Idle;
                self.not_stored("which tasks changed", &error);
            }
        }
    }

    fn replied(&mut self, task: TaskId, sent: Steady, received: Steady, result: PollResult) {
        let took = received.since(sent);
        self.count("poll", &result, took);
        if let Ok(polled) = &result {
            self.shown.answered = Some((self.wall_of(received), polled.word()));
        }
        let log_id = result.as_ref().ok().and_then(|polled| polled.log_id.clone());
        let result = result.map(|polled| polled.observation);
        if let Follows::Settle(outcome) = self.lane.replied(task, sent, result, received) {
            self.settle(task, *outcome, log_id);
        } else if self.lane.watched(task).is_some() {
            self.unwritten.insert(task, received);
        }
        self.warn();
    }

    // ---- effects ----

    fn poll(&mut self, task: TaskId, sent: Steady) {
        let Some((website, delivery_task)) = self.names.get(task) else { return };
        let clock = Arc::clone(&self.context.clock);
        let upstream = self.upstream();
        let until = self.seat.term.clone();
        let poll = effects::poll(upstream, clock, until, task, website, delivery_task, sent);
        self.effects.push(poll);
    }

    fn settle(&mut self, task: TaskId, outcome: Outcome, log_id: Option<String>) {
        let Some(ending) = self.ending(task, log_id) else { return };
        let seen = ending.progress.last_pending_at.map_or(Duration::ZERO, |at| ending.at.since(at));
        let (class, reason) = outcome.words();
        let delivery_task_id = self.names.id(task);
        tracing::info!(lane = %self.name, delivery_task_id, outcome = class, reason,
            polls = ending.progress.polls, log_id = ending.log_id, "task settled");
        self.context.metrics.settled(&self.name, &outcome, seen);
        let store = Arc::clone(&self.context.store);
        self.effects.push(effects::settle(store, self.lease, ending, outcome));
    }

    fn load(&mut self) {
        if self.loading != Loading::Idle {
            self.loading = Loading::Again;
            return;
        }
        self.loading = Loading::UnderWay;
        let store = Arc::clone(&self.context.store);
        let load = if let Some(version) = self.first_load {
            effects::first_load(store, self.lease, version)
        } else {
            let again_from = self.again_from.take().map_or(u64::MAX, |version| version - 1);
            self.version = self.version.min(again_from);
            effects::load(store, self.lease, self.version)
        };
        self.effects.push(load);
    }

    fn loaded(&mut self, changes: Vec<Change>, now: Steady) {
        let again = std::mem::replace(&mut self.loading, Loading::Idle) == Loading::Again;
        let full = changes.len() >= effects::CHANGES_MAX as usize;
        let first = self.first_load.is_some();
        let mut last = self.first_load.unwrap_or(self.version);
        for change in changes {
            last = last.max(change.version);
            match change.watch {
                Some(_) if self.ended.contains(&change.task) => self.read_too_early(change.version),
                Some(watch) => {
                    if self.lane.is_ending(change.task) {
                        self.ending.insert(change.task, change.version);
                    }
                    self.watch(change.task, &watch, now);
                }
                None => self.forget(change.task),
            }
        }
        // After the first load comes whatever has changed since the lane was taken.
        let loaded = first && !full;
        if first {
            self.first_load = full.then_some(last);
        } else {
            self.version = last;
        }
        if loaded {
            self.names.compact();
            self.lane.compact();
        }
        self.ended.clear();
        if again || full || loaded || self.again_from.is_some() {
            self.load();
        }
    }

    fn watch(&mut self, task: TaskId, watch: &Watch, now: Steady) {
        // What has happened is not in the future, though the wall clock was set back since.
        let past = |at| self.steady_of(at).min(now);
        let watched = Watched {
            born: past(watch.registered_at),
            give_up_at: self.steady_of(watch.give_up_at),
            polls: watch.progress.polls,
            last_pending: watch.progress.last_pending_at.map(past),
            not_found_since: watch.progress.not_found_since.map(past),
        };
        self.lane.watch(task, watched, now);
        self.names.insert(task, &watch.website_id, &watch.delivery_task_id);
    }

    fn forget(&mut self, task: TaskId) {
        self.lane.forget(task);
        self.names.remove(task);
        self.unwritten.remove(task);
    }

    fn reconfigure(&mut self) {
        let limits = self.upstreams.borrow_and_update().get(&self.name.account).map(|u| u.quota);
        self.lane.reconfigure(limits.unwrap_or_default());
    }

    fn not_stored(&mut self, what: &str, error: &StoreError) {
        if matches!(error, StoreError::LeaseLost) {
            self.lost = true;
            self.context.metrics.fleet.refused();
            tracing::warn!(lane = %self.name, "the lane belongs to another daemon now");
        } else {
            tracing::error!(lane = %self.name, what, %error, "the store did not take or give it");
        }
    }

    /// Lets polls under way end, and writes down what must not be forgotten.
    async fn drain(&mut self) {
        self.lost |= self.seat.is_lost();
        let deadline = tokio::time::sleep(self.seat.drain_max());
        tokio::pin!(deadline);
        while !self.effects.is_empty() {
            tokio::select! {
                biased;
                Some(event) = self.effects.next() => self.happened(event),
                () = &mut deadline => break,
            }
        }
        if !self.lost {
            // What was reserved and not spent is given back: the next owner polls at once.
            let spent = self.lane.quota().closing(self.context.clock.steady());
            let written = self.last_write(spent);
            let stored = tokio::time::timeout(LAST_WRITE, written).await;
            if let Ok(Err(error)) = stored {
                tracing::warn!(lane = %self.name, %error, "the lane's last state is not stored");
            }
        }
        self.context.board.remove(&self.name);
    }

    // ---- what it knows ----

    fn upstream(&self) -> Result<Upstream, AccountProblem> {
        self.upstreams.borrow().get(&self.name.account).cloned().ok_or_else(|| AccountProblem {
            reason: "not_configured",
            message: format!(
                "the account `{}` is not configured: add it to [[accounts]], or cancel its registrations",
                self.name.account
            ),
        })
    }

    fn ending(&self, task: TaskId, log_id: Option<String>) -> Option<Ending> {
        let progress = self.progress(task)?;
        Some(Ending { task, at: self.context.clock.wall(), progress, log_id })
    }

    fn steady_of(&self, at: Timestamp) -> Steady {
        steady_of(at, self.context.clock.wall(), self.context.clock.steady())
    }

    fn wall_of(&self, at: Steady) -> Timestamp {
        let ago = self.context.clock.steady().0 - at.0;
        Timestamp(self.context.clock.wall().0.saturating_sub(ago))
    }

    fn wait_max(&self, now: Steady) -> Duration {
        if self.lane.quota().used(now).1 > 0 { BOARD_FRESH } else { WAIT_MAX }
    }
}

/// A wall time on the steady scale, given both readings of now.
fn steady_of(at: Timestamp, wall: Timestamp, steady: Steady) -> Steady {
    Steady(steady.0.saturating_sub(wall.0.saturating_sub(at.0)))
}

#[cfg(test)]
mod tests;
