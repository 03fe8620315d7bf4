//! What a lane's schedule amounts to, for people: what a poll costs, how late a task's end is seen,
//! and how late it would be seen at least, whatever the schedule.

use std::time::Duration;

use super::schedule::waiting;
use super::table::{self, PRICES, Table};
use crate::config::QuotaLimits;
use crate::polling::estimate::lifetimes::Lifetimes;

/// What a lane's schedule amounts to, for people.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figures {
    /// What one poll must save at present, in expected waiting.
    pub price: Duration,
    /// New tasks a minute.
    pub tasks_per_minute: f64,
    /// Polls that a new task can expect.
    pub polls_per_task: f64,
    /// How long after a new task settles it can expect to be seen.
    pub expected_delay: Duration,
    /// How long after they settled the latest tasks were seen, on average; `None` until there were
    /// a few. When exactly a task settled nobody is told, so this is what the looks before and
    /// after it leave to expect.
    pub mean_delay: Option<Duration>,
    /// The least mean delay that any schedule can have with that many tasks a minute, the quota,
    /// and polls that are each worth their price.
    pub bound: Duration,
    /// How many times the bound, as it was at the time, the mean delay is; of the expected delay
    /// while there is no other.
    pub ratio_to_bound: f64,
}

/// The figures of a lane that takes `rate` tasks a second. `level` is the price, `lowest` the least
/// that it may be, both as levels of the table.
#[must_use]
pub fn figures(table: &Table, level: f64, lowest: f64, rate: f64, limits: QuotaLimits) -> Figures {
    let (polls, delay) = at(table, level);
    let quota = f64::from(limits.per_minute).min(f64::from(limits.per_second) * 60.0);
    let bound = bound(table, level, lowest, quota / (rate * 60.0).max(1e-6));
    Figures {
        price: Duration::from_secs_f64(table::price_at(level)),
        tasks_per_minute: rate * 60.0,
        polls_per_task: polls,
        expected_delay: seconds(delay),
        mean_delay: None,
        bound: seconds(bound),
        ratio_to_bound: delay / bound.max(1e-9),
    }
}

/// The least mean delay (seconds) where each task can have so many polls: the best schedules are
/// those of the table, so it is that of the schedule which costs just as many. At the lowest price
/// it ends: polls beyond that are not worth it by the operator's own word.
fn bound(table: &Table, near: f64, lowest: f64, polls: f64) -> f64 {
    // Following each look at the lowest price takes long, and where the quota is the limit there is
    // no need to: the table knows about how many there are.
    let about = table.row(split(lowest).0).looks(f64::INFINITY);
    if about < 2.0 * polls {
        let (most, least_delay) = at(table, lowest);
        if most <= polls {
            return least_delay;
        }
    }
    let cost = |row: usize| table.row(row).expected(table.life());
    let mut row = split(near).0;
    while row > 0 && cost(row).0 < polls {
        row -= 1;
    }
    while row + 2 < PRICES && cost(row + 1).0 > polls {
        row += 1;
    }
    let (dear, cheap) = (cost(row), cost(row + 1));
    let share = (dear.0 / polls).ln() / (dear.0 / cheap.0).ln();
    between(dear.1, cheap.1, if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 })
}

/// Polls and delay (seconds) of a new task at a level of the table.
fn at(table: &Table, level: f64) -> (f64, f64) {
    let (row, share) = split(level);
    let (low, high) =
        (table.row(row).expected(table.life()), table.row(row + 1).expected(table.life()));
    (between(low.0, high.0, share), between(low.1, high.1, share))
}

/// Both polls and delay go with a power of the price.
fn between(low: f64, high: f64, share: f64) -> f64 {
    let (low, high) = (low.max(1e-9), high.max(1e-9));
    low * (high / low).powf(share)
}

fn split(level: f64) -> (usize, f64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let row = (level.max(0.0) as usize).min(PRICES - 2);
    #[expect(clippy::cast_precision_loss, reason = "a few dozen rows")]
    let share = (level - row as f64).clamp(0.0, 1.0);
    (row, share)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}

/// The mean fades over so many settled tasks, and is told from so many on.
const MEMORY: f64 = 300.0;
const ENOUGH: f64 = 8.0;

/// How late the latest tasks were seen, on average.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lately {
    tasks: f64,
    seconds: f64,
    /// Of those for which a bound was known: their delays, and their bounds.
    judged: (f64, f64),
}

impl Lately {
    /// A task pending at age `last` was seen settled at age `at` (seconds), when the bound was this.
    pub fn settled(&mut self, life: &Lifetimes, last: f64, at: f64, bound: Option<Duration>) {
        let gap = (at - last).max(0.0);
        let settled = life.survival(last) - life.survival(at);
        // Where the estimate knows of no settling at all, any moment of the gap is as likely.
        let late = if settled > 1e-6 { waiting(life, last, at) / settled } else { gap / 2.0 };
        let fade = 1.0 - 1.0 / MEMORY;
        let late = late.clamp(0.0, gap);
        self.tasks = self.tasks * fade + 1.0;
        self.seconds = self.seconds * fade + late;
        if let Some(bound) = bound {
            let (seconds, bounds) = self.judged;
            self.judged = (seconds * fade + late, bounds * fade + bound.as_secs_f64());
        }
    }

    /// The figures, with what was so lately.
    #[must_use]
    pub fn added_to(&self, figures: Figures) -> Figures {
        let (seconds, bounds) = self.judged;
        let judged = self.tasks >= ENOUGH && bounds > 0.0;
        let ratio_to_bound = if judged { seconds / bounds } else { figures.ratio_to_bound };
        Figures { mean_delay: self.mean(), ratio_to_bound, ..figures }
    }

    /// The mean.
    fn mean(&self) -> Option<Duration> {
        (self.tasks >= ENOUGH).then(|| seconds(self.seconds / self.tasks))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::polling::estimate::ages::{self, POINTS};

    /// The normal distribution function: Zelen and Severo, good to 1e-7.
    fn normal(z: f64) -> f64 {
        let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
        let series = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
        let sum = series.iter().fold(0.0, |sum, c| (sum + c) * t);
        let tail = sum * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
        if z < 0.0 { tail } else { 1.0 - tail }
    }

    fn log_normal() -> Table {
        let settled = |age: f64| if age > 0.0 { normal((age / 15.0).ln() / 0.6) } else { 0.0 };
        let share = |cell| settled(ages::age(cell + 1)) - settled(ages::age(cell));
        let cells: Vec<f64> = (0..POINTS - 1).map(share).collect();
        Table::new(Arc::new(Lifetimes::of_cells(&cells)))
    }

    #[test]
    fn the_bound_is_the_one_that_brute_force_finds() {
        let table = log_normal();
        let lowest = table::level_of(0.01);
        // `cargo bench --bench yardstick -- bound logn:0.6,15`
        for (load, least) in [(60.0, 0.440), (200.0, 1.533), (500.0, 4.713), (800.0, 11.57)] {
            for near in [lowest, 20.0, 30.0] {
                let found =
                    figures(&table, near, lowest, load / 60.0, QuotaLimits::default()).bound;
                let off = found.as_secs_f64() / least;
                assert!((0.98..1.02).contains(&off), "{load} near {near}: {found:?}");
            }
        }
    }

    #[test]
    fn an_idle_lane_is_at_its_bound_though_the_quota_would_allow_more() {
        let table = log_normal();
        let lowest = table::level_of(0.01);
        let idle = figures(&table, lowest, lowest, 0.001, QuotaLimits::default());
        assert_eq!(idle.bound, idle.expected_delay);
        assert!((idle.ratio_to_bound - 1.0).abs() < 1e-9);
        assert_eq!(idle.price, Duration::from_millis(10));
        // 10 ms a poll: "about 30 polls for a 20 s task", 30 polls at ages up to about 20 s.
        assert!((20.0..60.0).contains(&idle.polls_per_task), "{}", idle.polls_per_task);
    }

    #[test]
    fn the_latest_delays_are_what_the_looks_leave_to_expect() {
        let table = log_normal();
        let mut lately = Lately::default();
        for _ in 0..7 {
            lately.settled(table.life(), 14.0, 15.0, Some(Duration::from_millis(400)));
        }
        assert_eq!(lately.mean(), None, "a few tell nothing");
        for _ in 0..2_000 {
            lately.settled(table.life(), 14.0, 15.0, Some(Duration::from_millis(400)));
        }
        let mean = lately.mean().unwrap();
        // Around the median the density is nearly flat: the middle of the gap.
        assert!((0.48..0.52).contains(&mean.as_secs_f64()), "{mean:?}");
        let lowest = table::level_of(0.01);
        let figures = figures(&table, lowest, lowest, 0.1, QuotaLimits::default());
        let shown = lately.added_to(figures);
        assert_eq!(shown.mean_delay, Some(mean));
        // 0.5 s where 0.4 s was the least, whatever the bound is by now.
        assert!((1.2..1.3).contains(&shown.ratio_to_bound), "{}", shown.ratio_to_bound);
        let at_birth = {
            let mut lately = Lately::default();
            (0..10).for_each(|_| lately.settled(table.life(), 0.0, 6.0, None));
            lately.mean().unwrap()
        };
        assert!(at_birth < Duration::from_secs(2), "few settle early in it: {at_birth:?}");
    }
}
