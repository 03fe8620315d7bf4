//! What it costs to plan one poll, everything included, in a lane with ten thousand tasks.

use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use outcomed::clock::Steady;
use outcomed::config::QuotaLimits;
use outcomed::outcome::{Ids, Outcome};
use outcomed::polling::lane::{Lane, Step, Watched};
use outcomed::source::Observation;
use outcomed::task::TaskId;

const TASKS: i64 = 10_000;
const POLLS: u32 = 2_000;

fn main() {
    divan::main();
}

/// Ten thousand tasks in flight as they come: 800 a minute, that take ten minutes at the median.
/// Half an hour of them goes by first.
#[divan::bench(sample_count = 10)]
fn a_poll_of_800_tasks_a_minute(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(POLLS))
        .with_inputs(|| {
            let mut stream = Stream::new();
            while stream.now < Steady(1_800_000) {
                stream.poll(POLLS);
            }
            stream
        })
        .bench_local_refs(|stream| stream.poll(POLLS));
}

/// Tasks that come one by one and settle by themselves.
struct Stream {
    lane: Lane,
    now: Steady,
    next: i64,
}

impl Stream {
    const EVERY: i64 = 75;

    fn new() -> Self {
        Self { lane: lane(), now: Steady(0), next: 0 }
    }

    fn born(task: i64) -> i64 {
        task * Self::EVERY
    }

    /// When a task settles: ten minutes after its birth at the median, with a spread of e^0.6.
    #[expect(clippy::cast_possible_truncation, reason = "ms within hours")]
    fn settles(task: i64) -> i64 {
        let mut seed = task.cast_unsigned();
        // The sum of twelve evenly spread numbers is nearly normal.
        let mut normal = -6.0;
        for _ in 0..12 {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let high = u32::try_from(seed >> 32).unwrap_or(u32::MAX);
            normal += f64::from(high) / f64::from(u32::MAX);
        }
        Self::born(task) + (600_000.0 * (0.6 * normal).exp()) as i64
    }

    fn poll(&mut self, polls: u32) {
        let mut sent = 0;
        while sent < polls {
            while Self::born(self.next) <= self.now.0 {
                watch(&mut self.lane, self.next, Steady(Self::born(self.next)));
                self.next += 1;
            }
            match self.lane.next(self.now) {
                Step::Reserve { polls } => self.lane.reserved(polls, self.now),
                Step::Prepare => self.lane.prepared(Ok(()), self.now),
                Step::Poll { task } => {
                    sent += 1;
                    reply(&mut self.lane, task, Self::settles(task.0) > self.now.0, self.now);
                }
                Step::GiveUp { task } => self.lane.gave_up(task, None, self.now),
                Step::Wait { until } => {
                    study(&mut self.lane);
                    let born = Steady(Self::born(self.next));
                    self.now = until.map_or(born, |until| until.min(born)).max(after(self.now));
                }
            }
        }
    }
}

/// Ten thousand tasks at once, of which three in four have settled whenever they are looked at;
/// each of these is replaced. What was learned is soon out of date, again and again.
#[divan::bench(sample_count = 10)]
fn a_poll_among_ten_thousand_tasks(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(POLLS))
        .with_inputs(|| {
            let mut lane = lane();
            for task in 0..TASKS {
                watch(&mut lane, task, Steady(task * 12));
            }
            let start = Steady(TASKS * 12);
            let now = poll(&mut lane, start, POLLS);
            (lane, now)
        })
        .bench_local_values(|(mut lane, now)| poll(&mut lane, now, POLLS));
}

fn lane() -> Lane {
    Lane::new(QuotaLimits::default(), Duration::from_secs(30), Duration::from_millis(10))
}

fn watch(lane: &mut Lane, task: i64, now: Steady) {
    let give_up_at = now.after(Duration::from_secs(36_000));
    let watched =
        Watched { born: now, give_up_at, polls: 0, last_pending: None, not_found_since: None };
    lane.watch(TaskId(task), watched, now);
}

fn reply(lane: &mut Lane, task: TaskId, pending: bool, now: Steady) {
    let observation = if pending {
        Observation::Pending { unknown_status: None }
    } else {
        Observation::Settled(Outcome::succeeded(Ids::default()))
    };
    let _ = lane.replied(task, now, Ok(observation), now);
    if !pending {
        lane.forget(task);
    }
}

fn study(lane: &mut Lane) {
    if let Some(study) = lane.study() {
        lane.learned(study.finished());
    }
}

fn after(now: Steady) -> Steady {
    Steady(now.0 + 1)
}

/// Sends so many polls; of four tasks one is still pending. Returns when.
fn poll(lane: &mut Lane, mut now: Steady, polls: u32) -> Steady {
    let mut sent = 0;
    while sent < polls {
        match lane.next(now) {
            Step::Reserve { polls } => lane.reserved(polls, now),
            Step::Prepare => lane.prepared(Ok(()), now),
            Step::Poll { task } => {
                sent += 1;
                let pending = task.0 % 4 == 0;
                reply(lane, task, pending, now);
                if !pending {
                    watch(lane, task.0 + 4 * TASKS, now);
                }
            }
            Step::GiveUp { task } => lane.gave_up(task, None, now),
            Step::Wait { until } => {
                study(lane);
                now = until.unwrap_or(now).max(after(now));
            }
        }
    }
    now
}
