//! Traces: tasks that arrive at random.

use std::fmt::Write;

use outcomed::replay::trace::Row;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::settling::Settling;

/// Tasks that arrive at random, so many a minute on average.
pub(crate) fn steady(settling: &Settling, load: f64, minutes: f64, seed: u64) -> Vec<Row> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows = Vec::new();
    let mut at = 0.0;
    loop {
        at -= (1.0 - random.random::<f64>()).ln() * 60.0 / load;
        if at > minutes * 60.0 {
            return rows;
        }
        let settles_after = Some(micros(settling.sample(&mut random)));
        rows.push(Row { registered_at: micros(at), settles_after });
    }
}

/// When a burst comes, seconds.
pub(crate) const BURST_AT: f64 = 900.0;
/// When tasks begin to take another time, seconds.
pub(crate) const CHANGE_AT: f64 = 1_800.0;

/// Tasks that arrive at random, and from half an hour on take another time.
pub(crate) fn change(old: &Settling, new: &Settling, load: f64, seed: u64) -> Vec<Row> {
    let mut rows = steady(old, load, CHANGE_AT / 60.0, seed);
    let later = steady(new, load, 15.0, seed + 1_000);
    let at = |row: Row| Row { registered_at: row.registered_at + micros(CHANGE_AT), ..row };
    rows.extend(later.into_iter().map(at));
    rows
}

/// So many tasks at once, after a quarter of an hour of one a second to learn from.
pub(crate) fn burst(settling: &Settling, tasks: u32, seed: u64) -> Vec<Row> {
    let mut rows = steady(settling, 60.0, 13.0, seed);
    let mut random = StdRng::seed_from_u64(seed + 1);
    rows.extend((0..tasks).map(|_| {
        let settles_after = Some(micros(settling.sample(&mut random)));
        Row { registered_at: micros(BURST_AT), settles_after }
    }));
    rows
}

/// Nanoseconds, whole microseconds.
#[expect(clippy::cast_possible_truncation, reason = "seconds of a trace")]
fn micros(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64 * 1_000
}

/// A trace as `outcomed replay` reads it.
pub(crate) fn csv(rows: &[Row]) -> String {
    let mut text = "registered_at,settles_after\n".to_owned();
    let seconds =
        |nanos: i64| format!("{}.{:06}", nanos / 1_000_000_000, nanos / 1_000 % 1_000_000);
    for row in rows {
        let after = row.settles_after.map(seconds).unwrap_or_default();
        let _ = writeln!(text, "{},{after}", seconds(row.registered_at));
    }
    text
}
