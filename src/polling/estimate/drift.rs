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

/// The same for all regions together.
const ALARM_TREND: f64 = 13.0;

/// Surprises by region of age.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    surprise: [f32; REGIONS],
    spread: [f32; REGIONS],
}

impl Drift {
    /// A look at the age of `point` found a task settled or not, where `chance` was predicted.
    #[expect(clippy::cast_possible_truncation, reason = "a test statistic needs no more digits")]
    pub fn looked(&mut self, point: usize, chance: f64, settled: bool) {
        // Regions only where tasks usually are: up to about 20 minutes.
        let region = (point * REGIONS / (POINTS * 3 / 4)).min(REGIONS - 1);
        self.surprise[region] += (f64::from(u8::from(settled)) - chance) as f32;
        self.spread[region] += (chance * (1.0 - chance)) as f32;
        if settled {
            let fade = (1.0 - 1.0 / MEMORY) as f32;
            self.surprise.iter_mut().for_each(|value| *value *= fade);
            self.spread.iter_mut().for_each(|value| *value *= fade);
        }
    }

    /// Whether the estimate, made of so many observations, must be out of date.
    #[must_use]
    pub fn alarm(&self, observations: f64) -> bool {
        self.statistic(observations) > ALARM || self.trend(observations) > ALARM_TREND
    }

    /// The sum of squared, normalised surprises.
    #[must_use]
    pub fn statistic(&self, observations: f64) -> f64 {
        // A young estimate is itself uncertain: its error looks like surprise.
        let doubt = 1.0 + 2.0 * MEMORY / observations.max(1.0);
        let square = |(surprise, spread): (&f32, &f32)| {
            f64::from(*surprise).powi(2) / (f64::from(*spread) * doubt + 1.0)
        };
        self.surprise.iter().zip(&self.spread).map(square).sum()
    }

    /// The square of all surprises together: tasks settle sooner, or later, whatever their age.
    fn trend(&self, observations: f64) -> f64 {
        let doubt = 1.0 + 2.0 * MEMORY / observations.max(1.0);
        let surprise: f64 = self.surprise.iter().map(|value| f64::from(*value)).sum();
        let spread: f64 = self.spread.iter().map(|value| f64::from(*value)).sum();
        surprise.powi(2) / (spread * doubt + 1.0)
    }

    /// Starts afresh.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
