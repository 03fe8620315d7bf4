//! `outcomed replay` as its users run it, judged from the poll log alone.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const MINUTE: f64 = 60.0;

/// Exponential settling times, `per_minute` tasks a minute; (registered, settles after).
fn trace(per_minute: f64, minutes: f64, mean: f64, seed: u64) -> Vec<(f64, f64)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut exponential = |mean: f64| -mean * (1.0 - random.random::<f64>()).ln();
    let mut tasks = Vec::new();
    let mut at = 0.0;
    loop {
        at += exponential(MINUTE / per_minute);
        if at > minutes * MINUTE {
            return tasks;
        }
        tasks.push((round(at), round(exponential(mean))));
    }
}

fn round(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

fn write_trace(path: &Path, tasks: &[(f64, f64)]) {
    let mut text = "registered_at,settles_after\n".to_owned();
    for (at, after) in tasks {
        writeln!(text, "{at},{after}").unwrap();
    }
    std::fs::write(path, text).unwrap();
}

fn replay(trace: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outcomed"))
        .arg("replay")
        .arg(trace)
        .args(more)
        .output()
        .unwrap()
}

fn polls(path: &Path) -> Vec<(f64, usize)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("at,task"));
    lines
        .map(|line| {
            let (at, task) = line.split_once(',').unwrap();
            (at.parse().unwrap(), task.parse().unwrap())
        })
        .collect()
}

/// The most polls in any closed window of so many seconds.
fn peak(polls: &[(f64, usize)], window: f64) -> usize {
    (0..polls.len())
        .map(|first| {
            let end = polls[first].0 + window + 1e-9;
            polls[first..].iter().take_while(|(at, _)| *at <= end).count()
        })
        .max()
        .unwrap_or(0)
}

struct Judged {
    mean: f64,
    lost: usize,
    after_settled: usize,
}

/// Recomputes what became of each task from the poll log, where a poll sees what is so `way`
/// seconds after it was sent.
fn judge(tasks: &[(f64, f64)], polls: &[(f64, usize)], from: f64, way: f64) -> Judged {
    let mut seen = vec![None; tasks.len()];
    let mut after_settled = 0;
    for (at, task) in polls {
        let (registered, after) = tasks[*task];
        assert!(*at >= registered - 1e-9, "task {task} was polled before it was registered");
        if seen[*task].is_some() {
            after_settled += 1;
        } else if *at + way >= registered + after - 1e-9 {
            seen[*task] = Some(at - registered - after);
        }
    }
    let lost = seen.iter().filter(|delay| delay.is_none()).count();
    let late: Vec<f64> = tasks
        .iter()
        .zip(&seen)
        .filter(|((at, _), _)| *at >= from)
        .filter_map(|(_, delay)| *delay)
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand tasks")]
    let mean = late.iter().sum::<f64>() / late.len().max(1) as f64;
    Judged { mean, lost, after_settled }
}

#[test]
fn a_busy_lane_stays_near_the_bound_and_inside_the_quota() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, log) = (dir.path().join("trace.csv"), dir.path().join("polls.csv"));
    let tasks = trace(500.0, 16.0, 15.0, 7);
    write_trace(&csv, &tasks);
    let output = replay(&csv, &["--json", "--polls", log.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let polls = polls(&log);
    assert!(peak(&polls, 1.0) <= 50);
    assert!(peak(&polls, 60.0) <= 1_000);
    let judged = judge(&tasks, &polls, 6.0 * MINUTE, 0.0);
    assert_eq!((judged.lost, judged.after_settled), (0, 0));
    // The bound for exponential times of mean 15 s at this load is 5.8 s: with the gap g that two
    // polls a task pay for, g = 10.3 s, the delay is g / (1 - exp(-g/15)) - 15.
    assert!(judged.mean < 5.8 * 1.12, "mean {}", judged.mean);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["tasks"], tasks.len());
    assert_eq!(report["undetected"], 0);
    assert_eq!(report["polls"], polls.len());
}

#[test]
fn a_burst_keeps_to_the_quota_and_loses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, log) = (dir.path().join("trace.csv"), dir.path().join("polls.csv"));
    let tasks: Vec<(f64, f64)> =
        trace(500.0, 3.0, 15.0, 3).into_iter().map(|(_, after)| (0.0, after)).collect();
    write_trace(&csv, &tasks);
    let output = replay(&csv, &["--polls", log.to_str().unwrap(), "--rtt", "80ms"]);
    assert!(output.status.success());
    let polls = polls(&log);
    assert!(peak(&polls, 1.0) <= 50 && peak(&polls, 60.0) <= 1_000);
    assert_eq!(judge(&tasks, &polls, 0.0, 0.04).lost, 0, "half a round trip on the way");
}

#[test]
fn the_same_trace_gives_the_same_polls() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("trace.csv");
    write_trace(&csv, &trace(100.0, 3.0, 10.0, 1));
    let logs = ["a", "b"].map(|name| dir.path().join(name));
    for log in &logs {
        assert!(replay(&csv, &["--polls", log.to_str().unwrap()]).status.success());
    }
    assert_eq!(std::fs::read(&logs[0]).unwrap(), std::fs::read(&logs[1]).unwrap());
}

#[test]
fn a_fixed_interval_polls_at_that_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, log) = (dir.path().join("trace.csv"), dir.path().join("polls.csv"));
    std::fs::write(&csv, "registered_at,settles_after\n0.5,2.2\n1,\n").unwrap();
    let arguments = ["--policy", "fixed:1s", "--polls", log.to_str().unwrap(), "--json"];
    let output = replay(&csv, &arguments);
    assert!(output.status.success());
    let polls = polls(&log);
    assert_eq!(polls, [(1.5, 0), (2.0, 1), (2.5, 0), (3.0, 1), (3.5, 0)]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["tasks"], &report["settled"]), (&2.into(), &1.into()));
    assert!((report["detection_delay"]["mean"].as_f64().unwrap() - 0.8).abs() < 1e-9);
}

#[test]
fn a_bad_trace_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("trace.csv");
    std::fs::write(&csv, "registered_at,settles_after\n0,1\n1,soon\n").unwrap();
    let output = replay(&csv, &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("trace.csv: line 3: settles_after must be seconds"), "{error}");
}
