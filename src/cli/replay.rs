//! `outcomed replay`: the scheduler over a trace, in virtual time.

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Exit;
use crate::config::QuotaLimits;
use crate::replay::clockwork::{Replayed, replay};
use crate::replay::policy::{Policy, zero_or_more};
use crate::replay::report::{Report, write_polls, write_tasks};
use crate::replay::trace;

/// Traces shorter than this are over before a progress bar is read.
const PROGRESS_TASKS_MIN: usize = 20_000;
/// Steps between two updates of the progress bar.
const PROGRESS_STEPS: usize = 1_024;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CSV with the header `registered_at,settles_after`: seconds, ascending; an empty
    /// `settles_after` never settles
    trace: PathBuf,
    /// planned (the daemon's), fixed:1s, or backoff:1s,60s (doubling)
    #[arg(long, default_value = "planned")]
    policy: Policy,
    /// The quota: both windows hold at once
    #[arg(long, default_value = "1000/60s,50/1s", value_parser = quota)]
    quota: QuotaLimits,
    /// How long a poll takes
    #[arg(long, default_value = "0s", value_parser = rtt)]
    rtt: Duration,
    /// Seed of the policy's choices, where it makes any at random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write every poll there: at,task (seconds; the task's row, from 0)
    #[arg(long, value_name = "FILE")]
    polls: Option<PathBuf>,
    /// Write every task there: `registered_at,settles_after,detected_at,polls`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("{path}: {error}", path = path.display())]
    Trace { path: PathBuf, error: trace::TraceError },
    #[error("cannot write {path}: {error}", path = path.display())]
    Write { path: PathBuf, error: std::io::Error },
    #[error("cannot print the summary: {0}")]
    Print(std::io::Error),
}

/// Runs the command.
#[expect(clippy::needless_pass_by_value, reason = "every command takes its arguments")]
#[expect(clippy::print_stderr, reason = "the command line speaks on standard error")]
pub fn run(args: Args) -> Exit {
    match run_args(&args) {
        Ok(()) => Exit::Success,
        Err(error) => {
            eprintln!("outcomed replay: {error}");
            Exit::Failure
        }
    }
}

fn run_args(args: &Args) -> Result<(), ReplayError> {
    let unreadable = |error| ReplayError::Trace { path: args.trace.clone(), error };
    let file = File::open(&args.trace).map_err(|error| unreadable(error.into()))?;
    let rows = trace::read(BufReader::new(file)).map_err(unreadable)?;
    let bar = progress_bar(rows.len());
    let mut steps = 0_usize;
    let mut poller = args.policy.poller(args.quota, args.seed);
    let replayed = replay(rows, &mut *poller, args.rtt, |registered| {
        steps += 1;
        if steps.is_multiple_of(PROGRESS_STEPS) {
            bar.set_position(registered as u64);
        }
    });
    bar.finish_and_clear();
    if let Some(path) = &args.polls {
        write(path, |out| write_polls(out, &replayed))?;
    }
    if let Some(path) = &args.out {
        write(path, |out| write_tasks(out, &replayed))?;
    }
    print(&replayed, args.json).map_err(ReplayError::Print)
}

fn progress_bar(tasks: usize) -> ProgressBar {
    if tasks < PROGRESS_TASKS_MIN || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(tasks as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} tasks, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn write(
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), ReplayError> {
    let failed = |error| ReplayError::Write { path: path.to_owned(), error };
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    contents(&mut out).map_err(failed)
}

fn print(replayed: &Replayed, json: bool) -> std::io::Result<()> {
    let report = Report::of(replayed);
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &report)?;
        return writeln!(out);
    }
    let delay = report.detection_delay;
    writeln!(
        out,
        "tasks            {} ({} settle, {} undetected)",
        report.tasks, report.settled, report.undetected
    )?;
    writeln!(
        out,
        "detection delay  mean {:.3} s, p50 {:.3} s, p99 {:.3} s, max {:.3} s",
        delay.mean, delay.p50, delay.p99, delay.max
    )?;
    writeln!(out, "polls            {} ({:.2} a task)", report.polls, report.polls_per_task)?;
    writeln!(
        out,
        "peak             {} in a second, {} in a minute",
        report.peak_polls_per_second, report.peak_polls_per_minute
    )
}

fn rtt(text: &str) -> Result<Duration, String> {
    zero_or_more(text).ok_or_else(|| format!("`{text}` must be a duration such as 80ms or 0s"))
}

/// `1000/60s,50/1s`, in either order.
fn quota(text: &str) -> Result<QuotaLimits, String> {
    let bad = || format!("`{text}` must name both windows, such as 1000/60s,50/1s");
    let (mut per_second, mut per_minute) = (None, None);
    for part in text.split(',') {
        let (polls, window) = part.split_once('/').ok_or_else(bad)?;
        let polls = polls.trim().parse::<u32>().ok().filter(|polls| *polls > 0).ok_or_else(bad)?;
        match zero_or_more(window.trim()).map(|window| window.as_secs()) {
            Some(1) => per_second = Some(polls),
            Some(60) => per_minute = Some(polls),
            _ => return Err(bad()),
        }
    }
    match (per_second, per_minute) {
        (Some(per_second), Some(per_minute)) => Ok(QuotaLimits { per_second, per_minute }),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_names_both_windows_in_either_order() {
        let feishu = QuotaLimits { per_second: 50, per_minute: 1000 };
        assert_eq!(quota("1000/60s,50/1s"), Ok(feishu));
        assert_eq!(quota("50/1s, 1000/1m"), Ok(feishu));
        for bad in ["", "1000/60s", "1000/60s,50/2s", "0/60s,50/1s", "many"] {
            assert!(quota(bad).is_err(), "{bad}");
        }
    }
}
