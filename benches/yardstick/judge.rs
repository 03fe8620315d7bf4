//! Recomputes from a trace and a poll log what a policy achieved, and what it broke.

use std::fs::read_to_string;

const CLOSED: f64 = 1e-9;

/// Prints the judgement on the tasks registered at `from` or later.
#[expect(clippy::cast_precision_loss, reason = "counts of tasks")]
pub(crate) fn judge(trace: &str, polls: &str, from: f64) {
    let tasks = pairs(trace);
    let polls = pairs(polls);
    let mut seen = vec![None; tasks.len()];
    let (mut again, mut early) = (0, 0);
    for (at, task) in &polls {
        let (Some(at), Some(row)) = (at, task.map(index)) else { panic!("a poll without a task") };
        let (Some(registered), settles) = tasks[row] else { panic!("a task without a time") };
        early += usize::from(at + CLOSED < registered);
        if seen[row].is_some() {
            again += 1;
        } else if let Some(after) = settles
            && at + CLOSED >= registered + after
        {
            seen[row] = Some(at - registered - after);
        }
    }
    let lost = tasks.iter().zip(&seen).filter(|((_, s), seen)| s.is_some() && seen.is_none());
    println!("lost {}, polled once more {again}, polled too early {early}", lost.count());
    let mut delays: Vec<f64> = tasks
        .iter()
        .zip(&seen)
        .filter(|((registered, _), _)| registered.is_some_and(|at| at >= from))
        .filter_map(|(_, seen)| *seen)
        .collect();
    delays.sort_by(f64::total_cmp);
    let mean = delays.iter().sum::<f64>() / delays.len().max(1) as f64;
    let p99 = delays.get(delays.len() * 99 / 100).copied().unwrap_or_default();
    println!("{} tasks: mean {mean:.3} s, p99 {p99:.3} s (x{:.1})", delays.len(), p99 / mean);
    let times: Vec<f64> = polls.iter().filter_map(|(at, _)| *at).collect();
    println!("most polls in 1 s {}, in 60 s {}", peak(&times, 1.0), peak(&times, 60.0));
}

/// The most in any closed window.
fn peak(times: &[f64], window: f64) -> usize {
    let (mut peak, mut oldest) = (0, 0);
    for (newest, at) in times.iter().enumerate() {
        while times[oldest] < at - window - CLOSED {
            oldest += 1;
        }
        peak = peak.max(newest - oldest + 1);
    }
    peak
}

fn pairs(path: &str) -> Vec<(Option<f64>, Option<f64>)> {
    let text = read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    text.lines()
        .skip(1)
        .map(|line| {
            let mut columns = line.split(',');
            (number(columns.next()), number(columns.next()))
        })
        .collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a row's number")]
fn index(row: f64) -> usize {
    row as usize
}
