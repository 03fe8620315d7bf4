//! What came of it, from the stand-in's journal and the callbacks alone.

use std::collections::BTreeMap;

use outcomed::clock::{Clock, Steady};
use outcomed::mock_feishu::{Api, Poll};

use crate::bound::Grid;
use crate::settling::Settling;
use crate::stage::Stage;
use crate::{Run, parsed};

/// The published quota, polls a minute.
const PER_MINUTE: f64 = 1_000.0;

/// The run's moments.
pub(crate) struct Times {
    pub(crate) judged_from: Steady,
    pub(crate) killed_at: Steady,
    pub(crate) judged_to: Steady,
}

/// Prints the judgement; whether nothing went wrong.
#[expect(clippy::cast_precision_loss, reason = "counts of tasks")]
pub(crate) fn judge(stage: &Stage, run: &Run, times: &Times) -> bool {
    let settling: Settling = parsed(&run.settle.replace("mix:", ""));
    let (bound, _) = Grid::new(&settling).bound(PER_MINUTE / run.rate);
    println!("bound at {} tasks a minute of {}: {bound:.3} s", run.rate, run.settle);
    let delays = delays(stage, times);
    let (before, after): (Vec<_>, Vec<_>) =
        delays.iter().partition(|(at, ..)| *at < times.killed_at);
    for (name, part) in [("all", &delays), ("before the kill", &before), ("after it", &after)] {
        let mut seen: Vec<f64> = part.iter().map(|(_, seen, _)| *seen).collect();
        seen.sort_by(f64::total_cmp);
        let mean = seen.iter().sum::<f64>() / seen.len().max(1) as f64;
        let p99 = seen.get(seen.len() * 99 / 100).copied().unwrap_or_default();
        println!(
            "{name:16} {:5} tasks: mean {mean:6.3} s (x{:.3} of the bound), p99 {p99:6.2} s \
             (x{:.1} of the mean)",
            seen.len(),
            mean / bound,
            p99 / mean
        );
    }
    let told = delays.iter().map(|(.., told)| *told).sum::<f64>() / delays.len().max(1) as f64;
    println!("a callback came {:.0} ms after its task was seen, on average", told * 1000.0);
    wrongs(stage, times)
}

/// Registered, seen late by, told later by (seconds), of the tasks that are judged.
#[expect(clippy::cast_precision_loss, reason = "spans of time in ms")]
fn delays(stage: &Stage, times: &Times) -> Vec<(Steady, f64, f64)> {
    let told = stage.told.lock().expect("whole");
    let control = stage.feishu.control();
    let offset = stage.clock.wall().0 - stage.now().0;
    let judged = stage.registered.iter().filter(|it| it.at >= times.judged_from);
    judged
        .filter_map(|it| {
            let settled = control.task(&it.task)?.settles_at()?;
            let told = told.get(&it.task)?;
            let seen = told.settled_at.0 - offset - settled.0;
            let later = told.at.0 - told.settled_at.0;
            Some((it.at, seen as f64 / 1000.0, later as f64 / 1000.0))
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of polls")]
fn wrongs(stage: &Stage, times: &Times) -> bool {
    let control = stage.feishu.control();
    let polls: Vec<Poll> = control.journal(|journal| journal.polls().cloned().collect());
    let refused = control.journal(|journal| journal.answered(Api::Poll, "quota"));
    let told = stage.told.lock().expect("whole");
    let lost = stage.registered.iter().filter(|it| !told.contains_key(&it.task)).count();
    let twice = told.values().filter(|it| it.times > 1).count();
    let forged = told.values().filter(|it| !it.verified).count();
    let (again, excused) = polled_again(&polls, times.killed_at);
    let at: Vec<i64> = polls.iter().map(|poll| poll.at.0).collect();
    let (second, minute) = (peak(&at, 1_000), peak(&at, 60_000));
    let judged = |at: &&i64| (times.judged_from.0..times.judged_to.0).contains(*at);
    let spent = at.iter().filter(judged).count() as f64;
    let allowed = PER_MINUTE * times.judged_to.since(times.judged_from).as_secs_f64() / 60.0;
    println!("polls refused (429): {refused}");
    println!(
        "tasks lost: {lost} of {}; told twice: {twice}; not verified: {forged}",
        told.len() + lost
    );
    println!(
        "polled after they were seen settled: {again}, and {excused} whose reply the kill cut off"
    );
    println!(
        "most polls in any second {second}, in any minute {minute}; used {:.1} % of the quota",
        100.0 * spent / allowed
    );
    refused == 0 && lost == 0 && forged == 0 && again == 0 && second <= 50 && minute <= 1_000
}

/// Polls of tasks that an earlier poll had found settled: without excuse, and those where the kill
/// came between that reply and its fsync.
fn polled_again(polls: &[Poll], killed_at: Steady) -> (usize, usize) {
    let mut seen: BTreeMap<&str, Steady> = BTreeMap::new();
    let (mut again, mut excused) = (0, 0);
    for poll in polls {
        match seen.get(poll.task.as_str()) {
            Some(first)
                if (killed_at.0 - 500..=killed_at.0).contains(&first.0) && poll.at > killed_at =>
            {
                excused += 1;
            }
            Some(_) => again += 1,
            None if poll.answer == "succeeded" => {
                seen.insert(&poll.task, poll.at);
            }
            None => {}
        }
    }
    (again, excused)
}

/// The most in any window of so many milliseconds.
fn peak(times: &[i64], window: i64) -> usize {
    let (mut peak, mut oldest) = (0, 0);
    for (newest, at) in times.iter().enumerate() {
        while times[oldest] <= at - window {
            oldest += 1;
        }
        peak = peak.max(newest - oldest + 1);
    }
    peak
}
