//! How far a migration is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::{Clock, Steady};
use crate::store::migration::{Event, Phase};

/// Between two lines: often enough to see that it lives, seldom enough for a log.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Tells on standard error.
pub(super) struct Reporter<'a> {
    clock: &'a dyn Clock,
    bar: Option<ProgressBar>,
    pace: Mutex<Option<Pace>>,
}

/// Where a step was when it began, and when its last line was said.
struct Pace {
    phase: Phase,
    began: Steady,
    from: u64,
    said: Steady,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(clock: &'a dyn Clock) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{msg:24} {bar:32} {pos} of {len} rows, {per_sec}, {eta} left";
            let style = ProgressStyle::with_template(style);
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { clock, bar, pace: Mutex::new(None) }
    }

    pub(super) fn report(&self, event: &Event<'_>) {
        match event {
            Event::StartingOver(error) => self.say(&format!("{error}; starting over")),
            Event::Rows { phase, table, done, of } => self.rows(*phase, table, *done, *of),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn rows(&self, phase: Phase, table: &str, done: u64, of: u64) {
        let doing = match phase {
            Phase::Copying => "copying",
            Phase::Comparing => "comparing",
        };
        let now = self.clock.steady();
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = &self.bar {
            if pace.as_ref().is_none_or(|pace| pace.phase != phase) {
                bar.reset();
            }
            bar.set_length(of);
            bar.set_message(format!("{doing} {table}"));
            bar.set_position(done);
        }
        match &mut *pace {
            Some(pace) if pace.phase == phase => {
                let due = now.since(pace.said) >= LINE_EVERY || done >= of;
                if self.bar.is_none() && due {
                    pace.said = now;
                    let rate = rate(done.saturating_sub(pace.from), now.since(pace.began));
                    self.say(&format!("{doing} {table}: {}{rate}", share(done, of)));
                }
            }
            pace => {
                if self.bar.is_none() {
                    self.say(&format!("{doing} {table}: {}", share(done, of)));
                }
                *pace = Some(Pace { phase, began: now, from: done, said: now });
            }
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // Nobody there to read it is no reason to stop.
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }
}

fn share(done: u64, of: u64) -> String {
    let percent = (done * 100).checked_div(of).unwrap_or(100).min(100);
    format!("{done} of {of} rows ({percent} %)")
}

fn rate(rows: u64, time: Duration) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    (rows * 1000).checked_div(ms).map(|rate| format!(", {rate} rows/s")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates_are_said_plainly() {
        assert_eq!(share(500, 2_000), "500 of 2000 rows (25 %)");
        assert_eq!(share(0, 0), "0 of 0 rows (100 %)");
        assert_eq!(rate(3_000, Duration::from_millis(1_500)), ", 2000 rows/s");
        assert_eq!(rate(3_000, Duration::ZERO), "");
    }
}
