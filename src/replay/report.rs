//! What a replay is summed up to.

use std::io::Write;

use serde::Serialize;

use super::clockwork::Replayed;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// The sum of a replay. Delays are seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Tasks of the trace.
    pub tasks: usize,
    /// Of these, how many settle.
    pub settled: usize,
    /// Of these, how many were never seen settled.
    pub undetected: usize,
    /// How long after they settled tasks were seen settled.
    pub detection_delay: Delays,
    /// Polls sent.
    pub polls: usize,
    /// Per task of the trace.
    pub polls_per_task: f64,
    /// The most in any second.
    pub peak_polls_per_second: usize,
    /// The most in any 60 seconds.
    pub peak_polls_per_minute: usize,
}

/// A distribution of delays, seconds; all zero when there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Delays {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// One in a hundred is longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Report {
    /// Sums up a replay.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub fn of(replayed: &Replayed) -> Self {
        let settled = replayed.tasks.iter().filter(|(row, _)| row.settles_after.is_some()).count();
        let delays: Vec<f64> = replayed
            .tasks
            .iter()
            .filter_map(|(row, seen)| {
                let settled_at = row.registered_at + row.settles_after?;
                Some(((*seen)? * NANOS_PER_MILLI - settled_at) as f64 / 1e9)
            })
            .collect();
        let (tasks, polls) = (replayed.tasks.len(), replayed.polls.len());
        Self {
            tasks,
            settled,
            undetected: settled - delays.len(),
            detection_delay: Delays::of(delays),
            polls,
            polls_per_task: if tasks == 0 { 0.0 } else { polls as f64 / tasks as f64 },
            peak_polls_per_second: peak(&replayed.polls, 1_000),
            peak_polls_per_minute: peak(&replayed.polls, 60_000),
        }
    }
}

impl Delays {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn of(mut delays: Vec<f64>) -> Self {
        delays.sort_by(f64::total_cmp);
        let Some(max) = delays.last().copied() else { return Self::default() };
        // The smallest value that so many hundredths do not exceed.
        let rank = |hundredths: usize| delays[(delays.len() * hundredths).div_ceil(100) - 1];
        let mean = delays.iter().sum::<f64>() / delays.len() as f64;
        Self { mean, p50: rank(50), p99: rank(99), max }
    }
}

/// The most polls in any window of so many milliseconds.
fn peak(polls: &[(i64, usize)], window: i64) -> usize {
    let (mut peak, mut oldest) = (0, 0);
    for (newest, (at, _)) in polls.iter().enumerate() {
        while polls[oldest].0 <= at - window {
            oldest += 1;
        }
        peak = peak.max(newest - oldest + 1);
    }
    peak
}

/// Writes the poll log: `at,task`.
pub fn write_polls(out: &mut impl Write, replayed: &Replayed) -> std::io::Result<()> {
    writeln!(out, "at,task")?;
    for (at, task) in &replayed.polls {
        writeln!(out, "{}.{:03},{task}", at / 1_000, at % 1_000)?;
    }
    out.flush()
}

/// Writes every task: `registered_at,settles_after,detected_at,polls`.
pub fn write_tasks(out: &mut impl Write, replayed: &Replayed) -> std::io::Result<()> {
    let mut polls = vec![0_u32; replayed.tasks.len()];
    for (_, task) in &replayed.polls {
        polls[*task] += 1;
    }
    writeln!(out, "registered_at,settles_after,detected_at,polls")?;
    for ((row, seen), polls) in replayed.tasks.iter().zip(polls) {
        let settles_after = row.settles_after.map(decimal).unwrap_or_default();
        let detected_at = seen.map(|at| decimal(at * NANOS_PER_MILLI)).unwrap_or_default();
        writeln!(out, "{},{settles_after},{detected_at},{polls}", decimal(row.registered_at))?;
    }
    out.flush()
}

/// Nanoseconds as seconds, without needless digits.
fn decimal(nanos: i64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::trace::Row;
    use super::*;

    #[test]
    fn a_report_counts_what_the_books_say() {
        let row = |registered_at, settles_after| Row { registered_at, settles_after };
        let replayed = Replayed {
            tasks: vec![
                (row(0, Some(1_500_000_000)), Some(2_000)),
                (row(500_000_000, Some(0)), Some(2_000)),
                (row(500_000_000, None), None),
                (row(500_000_000, Some(9_000_000_000)), None),
            ],
            polls: vec![(1_000, 0), (1_999, 1), (2_000, 0), (2_000, 1)],
        };
        let report = Report::of(&replayed);
        assert_eq!((report.tasks, report.settled, report.undetected), (4, 3, 1));
        let delays = Delays { mean: 1.0, p50: 0.5, p99: 1.5, max: 1.5 };
        assert_eq!(report.detection_delay, delays);
        assert_eq!((report.polls, report.peak_polls_per_second), (4, 3));
        assert_eq!(report.peak_polls_per_minute, 4);
        let mut out = Vec::new();
        write_tasks(&mut out, &replayed).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "registered_at,settles_after,detected_at,polls\n\
             0,1.5,2,2\n0.5,0,2,2\n0.5,,,0\n0.5,9,,0\n"
        );
    }
}
