//! What the planner makes of restarts, clocks that jump, bursts, stragglers and waiters that leave.

use std::collections::BTreeMap;

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// Far longer than the quota needs for the tasks of any of these tests.
const STEPS_MAX: u32 = 1_000_000;

/// A lane whose tasks settle by themselves, at their time or never, and which is asked at once.
struct World {
    lane: Lane,
    now: i64,
    /// When each task was born and when it settles.
    tasks: BTreeMap<TaskId, (i64, Option<i64>)>,
    polls: Vec<(i64, TaskId)>,
    delays: BTreeMap<TaskId, i64>,
}

impl World {
    fn new() -> Self {
        Self {
            lane: Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10)),
            now: 0,
            tasks: BTreeMap::new(),
            polls: Vec::new(),
            delays: BTreeMap::new(),
        }
    }

    fn add(&mut self, takes: Option<i64>) -> TaskId {
        self.add_old(self.now, takes, None)
    }

    fn add_old(&mut self, born: i64, takes: Option<i64>, last_pending: Option<i64>) -> TaskId {
        let id = TaskId(i64::try_from(self.tasks.len()).unwrap());
        let last_pending = last_pending.map(Steady);
        let watched = Watched { last_pending, ..watched(born, born + 100 * HOUR) };
        self.lane.watch(id, watched, Steady(self.now));
        self.tasks.insert(id, (born, takes.map(|takes| born + takes)));
        id
    }

    fn run(&mut self, until: i64) {
        for _ in 0..STEPS_MAX {
            let now = Steady(self.now);
            match self.lane.next(now) {
                Step::Reserve { polls } => self.lane.reserved(polls, now),
                Step::Prepare => self.lane.prepared(Ok(()), now),
                Step::Poll { task } => self.poll(task),
                Step::GiveUp { task } => panic!("{task:?} was given up"),
                Step::Wait { until: next } => {
                    if let Some(study) = self.lane.study() {
                        self.lane.learned(study.finished());
                    }
                    self.now = next.map_or(until, |next| next.0.clamp(self.now + 1, until));
                }
            }
            if self.now >= until {
                return;
            }
        }
        panic!("it polls without end at {} ms", self.now);
    }

    fn poll(&mut self, task: TaskId) {
        let now = Steady(self.now);
        self.polls.push((self.now, task));
        let Some(at) = self.tasks[&task].1.filter(|at| *at <= self.now) else {
            let _ = self.lane.replied(task, now, PENDING, now);
            return;
        };
        let settled = Observation::Settled(Outcome::succeeded(Ids::default()));
        let _ = self.lane.replied(task, now, Ok(settled), now);
        self.lane.forget(task);
        self.delays.insert(task, self.now - at);
    }

    fn polls_of(&self, wanted: TaskId, from: i64, to: i64) -> usize {
        let within = |(at, task): &&(i64, TaskId)| *task == wanted && (from..to).contains(at);
        self.polls.iter().filter(within).count()
    }

    fn most_in(&self, window: i64) -> usize {
        let end = |first: usize| {
            self.polls.partition_point(|(at, _)| *at <= self.polls[first].0 + window)
        };
        (0..self.polls.len()).map(|first| end(first) - first).max().unwrap_or(0)
    }

    fn assert_quota(&self) {
        assert!(self.most_in(1_000) <= 50 && self.most_in(60_000) <= 1_000);
    }

    fn mean_delay(&self, tasks: impl Iterator<Item = TaskId>) -> i64 {
        let delays: Vec<i64> = tasks.map(|task| self.delays[&task]).collect();
        delays.iter().sum::<i64>() / i64::try_from(delays.len()).unwrap()
    }
}

#[test]
fn tasks_that_never_settle_take_what_is_left_over_and_hold_up_nobody() {
    let mut world = World::new();
    let never: Vec<TaskId> = (0..300).map(|_| world.add(None)).collect();
    let mut others = Vec::new();
    for second in 0..40 * 60 {
        world.run(second * 1_000);
        if second < 39 * 60 {
            others.push(world.add(Some(8_000 + second % 5 * 1_000)));
        }
    }
    world.run(42 * MINUTE);
    let late = |id| world.polls_of(id, 30 * MINUTE, 40 * MINUTE);
    let asked: usize = never.iter().map(|id| late(*id)).sum();
    assert!(asked < 3_000, "{asked} of 10,000 polls go to tasks that never settle");
    assert!(never.iter().all(|id| world.polls_of(*id, 20 * MINUTE, 42 * MINUTE) > 0), "given up");
    let mean = world.mean_delay(others.into_iter().skip(600));
    assert!(mean < 1_000, "the others are seen after {mean} ms");
    world.assert_quota();
}

#[test]
fn what_was_learned_and_could_not_be_stored_is_given_again() {
    let mut world = World::new();
    for second in 0..5 * 60 {
        world.run(second * 1_000);
        world.add(Some(8_000));
    }
    let memory = world.lane.memory().unwrap();
    assert_eq!(world.lane.memory(), None, "it is being stored");
    world.lane.not_kept();
    assert_eq!(world.lane.memory(), Some(memory));
}

#[test]
fn a_clock_that_jumps_ahead_makes_everything_due_and_the_quota_holds() {
    let mut world = World::new();
    for _ in 0..600 {
        world.add(Some(HOUR / 2));
    }
    world.run(5 * MINUTE);
    let before = world.polls.len();
    world.now += HOUR;
    let woke = world.now;
    world.run(woke + 70_000);
    assert_eq!(world.delays.len(), 600, "each needed one look");
    assert_eq!(world.polls.len() - before, 600);
    world.assert_quota();
}

#[test]
fn a_new_owner_goes_on_where_the_last_one_was() {
    let mut world = World::new();
    world.now = HOUR;
    let asleep = world.add_old(HOUR - 10 * MINUTE, None, Some(HOUR - 1_000));
    let due = world.add_old(HOUR - 10 * MINUTE, None, Some(HOUR - 9 * MINUTE));
    let fresh = world.add(None);
    world.run(HOUR + MINUTE);
    let first = |id| world.polls.iter().find(|(_, task)| *task == id).unwrap().0 - HOUR;
    assert!(first(due) < 100, "not seen for nine minutes: looked at after {} ms", first(due));
    assert!(first(asleep) > 1_000, "seen a second ago: looked at after {} ms", first(asleep));
    assert!((100..10_000).contains(&first(fresh)), "{} ms", first(fresh));
}

#[test]
fn nobody_starves_in_a_burst_of_thousands() {
    let mut world = World::new();
    let burst: Vec<TaskId> =
        (0..3_000).map(|n| world.add(Some(5_000 + n * 7_919 % 20_000))).collect();
    world.run(10 * MINUTE);
    assert_eq!(world.delays.len(), burst.len());
    // Three minutes' quota for a look at each, and some looks come too early.
    assert!(world.delays.values().all(|delay| *delay < 6 * MINUTE), "somebody starved");
    world.assert_quota();
}

#[test]
fn waiters_that_leave_make_room_for_the_others() {
    let delay = |leave: bool| {
        let mut world = World::new();
        let tasks: Vec<TaskId> = (0..2_000).map(|_| world.add(Some(MINUTE))).collect();
        world.run(10_000);
        let (leaving, staying) = tasks.split_at(1_900);
        if leave {
            for task in leaving {
                world.lane.forget(*task);
            }
        }
        world.run(10 * MINUTE);
        world.assert_quota();
        let gone = |(at, task): &(i64, TaskId)| leave && *at > 10_000 && leaving.contains(task);
        assert!(!world.polls.iter().any(gone), "a task that nobody waits for is polled");
        world.mean_delay(staying.iter().copied())
    };
    let (alone, crowded) = (delay(true), delay(false));
    assert!(alone * 4 < crowded, "{alone} ms alone, {crowded} ms with all");
}

#[test]
fn after_a_burst_nobody_waits_for_a_look_at_the_burst_s_price() {
    for first in 0..10 {
        let mut world = World::new();
        for _ in 0..600 + first {
            world.add(Some(0));
        }
        world.run(MINUTE / 2);
        assert_eq!(world.delays.len(), 600 + first, "all were seen");
        for wait in [MINUTE, 10 * MINUTE] {
            world.run(world.now + wait);
            let few: Vec<TaskId> = (0..10).map(|_| world.add(Some(3_000))).collect();
            world.run(world.now + MINUTE);
            let slowest = few.iter().map(|task| world.delays[task]).max().unwrap();
            assert!(slowest < 2_500, "{first}, after {wait} ms: seen {slowest} ms after its end");
        }
        world.assert_quota();
    }
}
