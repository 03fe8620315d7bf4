//! A lane among tasks that settle, fail or hang, and whose polls take time.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::outcome::Ids;

/// What an upstream says of a task.
#[derive(Clone, Debug)]
pub(super) enum Says {
    /// Pending until then.
    Settles(i64),
    /// This, whenever it is asked.
    Fails(PollError),
    /// Pending until then, from then on this.
    FailsFrom(i64, PollError),
}

pub(super) struct World {
    pub(super) lane: Lane,
    pub(super) now: i64,
    rtt: i64,
    says: BTreeMap<TaskId, Says>,
    /// Every answer is this error between these times, for so many polls of a hundred.
    pub(super) outage: Option<(i64, i64, u64)>,
    under_way: BTreeMap<(i64, u64), TaskId>,
    pub(super) polls: Vec<(i64, TaskId)>,
    pub(super) told: BTreeMap<TaskId, i64>,
    pub(super) given_up: BTreeMap<TaskId, i64>,
    giving_up: BTreeSet<TaskId>,
    pub(super) suspended_ever: bool,
    pub(super) warned: Vec<TaskId>,
}

/// How long it takes to store an end.
const STORED_AFTER: i64 = 10;

impl World {
    pub(super) fn new(rtt: i64) -> Self {
        Self {
            lane: Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10)),
            now: 0,
            rtt,
            says: BTreeMap::new(),
            outage: None,
            under_way: BTreeMap::new(),
            polls: Vec::new(),
            told: BTreeMap::new(),
            given_up: BTreeMap::new(),
            giving_up: BTreeSet::new(),
            suspended_ever: false,
            warned: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, says: Says) -> TaskId {
        self.add_until(self.now + 36_000_000, says)
    }

    pub(super) fn add_until(&mut self, give_up_at: i64, says: Says) -> TaskId {
        let id = TaskId(i64::try_from(self.says.len()).unwrap());
        self.lane.watch(id, watched(self.now, give_up_at), Steady(self.now));
        self.says.insert(id, says);
        id
    }

    pub(super) fn run(&mut self, until: i64) {
        while self.now < until {
            let now = Steady(self.now);
            match self.lane.next(now) {
                Step::Reserve { polls } => self.lane.reserved(polls, now),
                Step::Prepare => self.lane.prepared(Ok(()), now),
                Step::Poll { task } => {
                    let number = self.polls.len() as u64;
                    self.polls.push((self.now, task));
                    self.under_way.insert((self.now + self.rtt, number), task);
                }
                Step::GiveUp { task } => {
                    assert!(self.giving_up.insert(task), "{task:?} is given up twice at once");
                    assert!(self.giving_up.len() <= expiry::GIVE_UPS_MAX);
                    if self.giving_up.len() == expiry::GIVE_UPS_MAX {
                        self.store(self.now + STORED_AFTER);
                    }
                }
                Step::Wait { until: next } => self.wait(next, until),
            }
        }
    }

    fn wait(&mut self, next: Option<Steady>, until: i64) {
        if let Some(study) = self.lane.study() {
            self.lane.learned(study.finished());
        }
        self.suspended_ever |= self.lane.suspended().is_some();
        let next = next.map_or(until, |next| next.0.clamp(self.now + 1, until));
        if !self.giving_up.is_empty() {
            return self.store(next.min(self.now + STORED_AFTER));
        }
        let Some(((at, number), task)) = self.under_way.pop_first() else {
            self.now = next;
            return;
        };
        if at > next {
            self.under_way.insert((at, number), task);
            self.now = next;
            return;
        }
        self.now = self.now.max(at);
        self.reply(task, number, at - self.rtt);
    }

    fn store(&mut self, at: i64) {
        self.now = at;
        for task in std::mem::take(&mut self.giving_up) {
            self.lane.gave_up(task, None, Steady(at));
            self.given_up.insert(task, at);
        }
    }

    fn reply(&mut self, task: TaskId, number: u64, sent: i64) {
        let answer = self.answer(task, number, sent);
        let now = Steady(self.now);
        if let Follows::Settle(_) = self.lane.replied(task, Steady(sent), answer, now) {
            self.lane.forget(task);
            self.told.insert(task, self.now);
        }
        self.warned.extend(self.lane.warnings().iter().map(|warning| warning.task));
    }

    fn answer(&self, task: TaskId, number: u64, sent: i64) -> Result<Observation, PollError> {
        if let Some((from, to, of_hundred)) = self.outage
            && (from..to).contains(&sent)
            && number.wrapping_mul(7_919) % 100 < of_hundred
        {
            return Err(transient());
        }
        match &self.says[&task] {
            Says::Settles(at) if sent >= *at => {
                Ok(Observation::Settled(Outcome::succeeded(Ids::default())))
            }
            Says::Fails(error) => Err(error.clone()),
            Says::FailsFrom(at, error) if sent >= *at => Err(error.clone()),
            Says::Settles(_) | Says::FailsFrom(..) => PENDING,
        }
    }

    pub(super) fn polls_of(&self, tasks: &[TaskId], from: i64, to: i64) -> usize {
        let tasks: BTreeSet<TaskId> = tasks.iter().copied().collect();
        let of_them = |(at, task): &&(i64, TaskId)| (from..to).contains(at) && tasks.contains(task);
        self.polls.iter().filter(of_them).count()
    }

    /// The longest time between settling and being told.
    pub(super) fn latest(&self, tasks: &[TaskId]) -> i64 {
        let late = |task: &TaskId| {
            let Says::Settles(at) = self.says[task] else { panic!("{task:?} does not settle") };
            self.told.get(task).unwrap_or_else(|| panic!("{task:?} is not told")) - at
        };
        tasks.iter().map(late).max().unwrap()
    }
}
