//! Notices that tasks no longer take as long as was learned.
//!
//! Every look is a coin whose chance the estimate predicts. Summed over looks at similar ages, the
//! surprises stay near zero while the estimate is right; when they do not, it is out of date.

use super::ages::POINTS;

/// Ages are told apart by so many regions of the grid.
const REGIONS: usize = 10;
/// Surprises fade over so many settled tasks.
const MEMORY: f64 = 120.0;
/// The sum of squared, normalised surprises that chance alone does not reach.
const ALARM: f64 = 28.0;

/// That tasks of any age settle so many times as readily is tested for by itself, since so few
/// tasks tell: the sum of log-likelihoods against what was learned, never below zero (Page's
/// cumulative sum, 1954), and where it alarms.
const PACES: [f64; 2] = [2.0, 0.5];
const ALARM_PACE: f64 = 9.0;

/// Surprises by region of age.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    surprise: [f32; REGIONS],
    spread: [f32; REGIONS],
    paces: [f32; PACES.len()],
}

impl Drift {
    /// A look at the age of `point` found a task settled or not, where `chance` was predicted.
    #[expect(clippy::cast_possible_truncation, reason = "a test statistic needs no more digits")]
    pub fn looked(&mut self, point: usize, chance: f64, settled: bool) {
        // Regions only where tasks usually are: up to about 20 minutes.
        let region = (point * REGIONS / (POINTS * 3 / 4)).min(REGIONS - 1);
        self.surprise[region] += (f64::from(u8::from(settled)) - chance) as f32;
        self.spread[region] += (chance * (1.0 - chance)) as f32;
        let hazard = -(-chance.clamp(1e-6, 0.999)).ln_1p();
        for (sum, pace) in self.paces.iter_mut().zip(PACES) {
            let gain = if settled {
                ((-pace * hazard).exp_m1() / (-hazard).exp_m1()).ln()
            } else {
                (1.0 - pace) * hazard
            };
            *sum = (*sum + gain as f32).max(0.0);
        }
        if settled {
            let fade = (1.0 - 1.0 / MEMORY) as f32;
            self.surprise.iter_mut().for_each(|value| *value *= fade);
            self.spread.iter_mut().for_each(|value| *value *= fade);
        }
    }

    /// Whether the estimate, made of so many observations, must be out of date.
    #[must_use]
    pub fn alarm(&self, observations: f64) -> bool {
        // A young estimate is itself uncertain: its error looks like surprise.
        let doubt = 1.0 + 2.0 * MEMORY / observations.max(1.0);
        self.statistic(doubt) > ALARM
            || self.paces.iter().any(|sum| f64::from(*sum) > ALARM_PACE * doubt)
    }

    /// The sum of squared, normalised surprises.
    fn statistic(&self, doubt: f64) -> f64 {
        let square = |(surprise, spread): (&f32, &f32)| {
            f64::from(*surprise).powi(2) / (f64::from(*spread) * doubt + 1.0)
        };
        self.surprise.iter().zip(&self.spread).map(square).sum()
    }

    /// Starts afresh.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANCE: f64 = 0.1;
    const OBSERVATIONS: f64 = 1_000.0;

    /// A task seen pending so often, then settled, where one look in ten was to find it so.
    fn task(drift: &mut Drift, pending: usize) {
        for _ in 0..pending {
            drift.looked(50, CHANCE, false);
        }
        drift.looked(50, CHANCE, true);
    }

    #[test]
    fn forty_tasks_are_enough_to_notice_that_tasks_settle_sooner() {
        let mut drift = Drift::default();
        for _ in 0..1_000 {
            task(&mut drift, 9);
            assert!(!drift.alarm(OBSERVATIONS), "one in ten, as predicted");
        }
        let noticed = (1..=40).find(|_| {
            task(&mut drift, 2);
            drift.alarm(OBSERVATIONS)
        });
        assert!(noticed.is_some(), "one in three");
    }
}
