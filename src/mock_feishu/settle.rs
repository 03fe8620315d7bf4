//! How long a task takes: a distribution, written as text and drawn from.

use std::f64::consts::TAU;
use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, RngExt};

/// Longer than any test or demo runs; keeps a wild draw inside a `Duration`.
const LONGEST_SECONDS: f64 = 1e9;

/// What can be written, for messages.
const FORMS: &str =
    "logn:SIGMA,MEDIAN, exp:MEAN, fixed:SECONDS, uniform:LOW,HIGH, never or mix:80%FORM+20%FORM";

/// A distribution of settling times, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Settle {
    /// `logn:SIGMA,MEDIAN`
    LogNormal {
        /// Of the logarithm.
        sigma: f64,
        /// The median, in seconds.
        median: f64,
    },
    /// `exp:MEAN`
    Exponential {
        /// In seconds.
        mean: f64,
    },
    /// `fixed:SECONDS`
    Fixed {
        /// In seconds.
        seconds: f64,
    },
    /// `uniform:LOW,HIGH`
    Uniform {
        /// In seconds.
        low: f64,
        /// In seconds.
        high: f64,
    },
    /// `never`
    Never,
    /// `mix:80%logn:0.5,8+20%logn:0.5,50`: parts with their weights.
    Mix(Vec<(f64, Settle)>),
}

impl Default for Settle {
    /// "Normally within a minute", says the document of the poll.
    fn default() -> Self {
        Self::LogNormal { sigma: 0.6, median: 15.0 }
    }
}

impl Settle {
    /// Draws one settling time; `None` never settles.
    pub fn draw(&self, random: &mut impl Rng) -> Option<Duration> {
        let seconds = match self {
            Self::LogNormal { sigma, median } => median * (sigma * normal(random)).exp(),
            Self::Exponential { mean } => -mean * unit(random).ln(),
            Self::Fixed { seconds } => *seconds,
            Self::Uniform { low, high } => low + (high - low) * unit(random),
            Self::Never => return None,
            Self::Mix(parts) => return pick(parts, unit(random))?.draw(random),
        };
        Some(Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_SECONDS)))
    }
}

/// The part in which `at` (0 to 1) falls, by weight.
fn pick(parts: &[(f64, Settle)], at: f64) -> Option<&Settle> {
    let total: f64 = parts.iter().map(|(weight, _)| weight).sum();
    let mut left = at * total;
    for (weight, part) in parts {
        left -= weight;
        if left <= 0.0 {
            return Some(part);
        }
    }
    parts.last().map(|(_, part)| part)
}

/// Uniform in (0, 1]: never 0, whose logarithm is infinite.
fn unit(random: &mut impl Rng) -> f64 {
    1.0 - random.random::<f64>()
}

/// Standard normal, by Box and Muller.
fn normal(random: &mut impl Rng) -> f64 {
    (-2.0 * unit(random).ln()).sqrt() * (TAU * unit(random)).cos()
}

impl FromStr for Settle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (form, rest) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        if form == "mix" {
            return rest.split('+').map(weighted).collect::<Result<_, _>>().map(Self::Mix);
        }
        let numbers: Option<Vec<f64>> = match rest {
            "" => Some(Vec::new()),
            list => list.split(',').map(|number| number.trim().parse().ok()).collect(),
        };
        let numbers = numbers.filter(|all| all.iter().all(|n| n.is_finite() && *n >= 0.0));
        match (form, numbers.as_deref()) {
            ("logn", Some(&[sigma, median])) => Ok(Self::LogNormal { sigma, median }),
            ("exp", Some(&[mean])) => Ok(Self::Exponential { mean }),
            ("fixed", Some(&[seconds])) => Ok(Self::Fixed { seconds }),
            ("uniform", Some(&[low, high])) if low <= high => Ok(Self::Uniform { low, high }),
            ("never", Some(&[])) => Ok(Self::Never),
            _ => Err(format!("`{text}` is not a settling time; give {FORMS}")),
        }
    }
}

fn weighted(text: &str) -> Result<(f64, Settle), String> {
    let (weight, form) = text
        .split_once('%')
        .ok_or_else(|| format!("`{text}` has no weight; write mix:80%logn:0.5,8+20%logn:0.5,50"))?;
    let weight: f64 = weight.trim().parse().map_err(|_| format!("`{weight}` is not a weight"))?;
    if !(weight > 0.0 && weight <= 100.0) {
        return Err(format!("`{weight}%` is not a weight between 0% and 100%"));
    }
    Ok((weight, form.parse()?))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn sorted_draws(text: &str) -> Vec<f64> {
        let settle: Settle = text.parse().unwrap();
        let mut random = StdRng::seed_from_u64(7);
        let mut draws: Vec<f64> =
            (0..4001).map(|_| settle.draw(&mut random).unwrap().as_secs_f64()).collect();
        draws.sort_by(f64::total_cmp);
        draws
    }

    #[test]
    fn a_log_normal_has_its_median_and_its_spread() {
        let draws = sorted_draws("logn:0.6,15");
        assert!((14.0..16.0).contains(&draws[2000]), "median {}", draws[2000]);
        // One sigma above the median, by the normal distribution's 84.13 %: 15·e^0.6 = 27.3 s.
        assert!((25.5..29.5).contains(&draws[3366]), "84 % {}", draws[3366]);
    }

    #[test]
    fn an_exponential_has_its_mean() {
        let draws = sorted_draws("exp:20");
        let mean = draws.iter().sum::<f64>() / 4001.0;
        assert!((19.0..21.0).contains(&mean), "mean {mean}");
    }

    #[test]
    fn a_mixture_keeps_its_weights() {
        let draws = sorted_draws("mix:80%fixed:8+20%fixed:50");
        let short = draws.iter().filter(|seconds| **seconds < 20.0).count();
        assert!((3100..3300).contains(&short), "{short} of 4001");
    }

    #[test]
    fn never_never_settles_and_nonsense_is_refused() {
        assert_eq!(Settle::Never.draw(&mut StdRng::seed_from_u64(1)), None);
        for text in ["logn:0.6", "logn:-1,2", "gauss:1,2", "uniform:3,1", "mix:logn:1,1", ""] {
            assert!(text.parse::<Settle>().is_err(), "{text}");
        }
    }
}
