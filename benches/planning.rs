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

/// Ten thousand tasks in flight; each settled one is replaced.
#[divan::bench(sample_count = 10)]
fn a_poll_among_ten_thousand_tasks(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(POLLS))
        .with_inputs(|| {
            let limits = QuotaLimits::default();
            let worth = Duration::from_millis(10);
            let mut lane = Lane::new(limits, Duration::from_secs(30), worth);
            for task in 0..TASKS {
                watch(&mut lane, task, Steady(task * 12));
            }
            let start = Steady(TASKS * 12);
            let now = poll(&mut lane, start, POLLS);
            (lane, now)
        })
        .bench_local_values(|(mut lane, now)| poll(&mut lane, now, POLLS));
}

fn watch(lane: &mut Lane, task: i64, now: Steady) {
    let give_up_at = now.after(Duration::from_secs(36_000));
    let watched =
        Watched { born: now, give_up_at, polls: 0, last_pending: None, not_found_since: None };
    lane.watch(TaskId(task), watched, now);
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
                let observation = if pending {
                    Observation::Pending { unknown_status: None }
                } else {
                    Observation::Settled(Outcome::succeeded(Ids::default()))
                };
                let _ = lane.replied(task, now, Ok(observation), now);
                if !pending {
                    lane.forget(task);
                    watch(lane, task.0 + 4 * TASKS, now);
                }
            }
            Step::GiveUp { task } => lane.gave_up(task, None, now),
            Step::Wait { until } => {
                if let Some(study) = lane.study() {
                    lane.learned(study.finished());
                }
                now = until.unwrap_or(now).max(Steady(now.0 + 1));
            }
        }
    }
    now
}
