//! Distributions of settling times, as a person writes them.

use std::str::FromStr;

use rand::RngExt;

/// A mixture of simple distributions.
#[derive(Clone, Debug)]
pub(crate) struct Settling(Vec<(f64, Part)>);

#[derive(Clone, Copy, Debug)]
enum Part {
    /// Log-normal: spread of the logarithm, median.
    Logn(f64, f64),
    /// Exponential: mean.
    Exp(f64),
    /// Lomax (Pareto II): shape, scale.
    Lomax(f64, f64),
    /// Weibull: shape, scale.
    Weibull(f64, f64),
    /// Between two ages.
    Uniform(f64, f64),
}

impl FromStr for Settling {
    type Err = String;

    /// `logn:0.6,15` or `0.8*logn:0.25,8+0.2*logn:0.2,50`
    fn from_str(text: &str) -> Result<Self, String> {
        text.split('+').map(part).collect::<Result<_, _>>().map(Self)
    }
}

fn part(text: &str) -> Result<(f64, Part), String> {
    let bad = || format!("`{text}` is not like 0.8*logn:0.25,8");
    let (weight, shape) = text.split_once('*').unwrap_or(("1", text));
    let (name, numbers) = shape.split_once(':').ok_or_else(bad)?;
    let numbers: Vec<f64> = numbers.split(',').filter_map(|n| n.parse().ok()).collect();
    let part = match (name, numbers[..].as_ref()) {
        ("logn", [a, b]) => Part::Logn(*a, *b),
        ("exp", [a]) => Part::Exp(*a),
        ("lomax", [a, b]) => Part::Lomax(*a, *b),
        ("weibull", [a, b]) => Part::Weibull(*a, *b),
        ("uniform", [a, b]) => Part::Uniform(*a, *b),
        _ => return Err(bad()),
    };
    Ok((weight.parse().map_err(|_| bad())?, part))
}

impl Settling {
    /// The share settled by an age.
    pub(crate) fn settled(&self, age: f64) -> f64 {
        self.0.iter().map(|(weight, part)| weight * part.settled(age)).sum()
    }

    /// One age at random.
    pub(crate) fn sample(&self, random: &mut impl RngExt) -> f64 {
        let mut pick: f64 = random.random();
        for (weight, part) in &self.0 {
            if pick < *weight {
                return part.quantile(random.random());
            }
            pick -= weight;
        }
        self.0[0].1.quantile(random.random())
    }
}

impl Part {
    fn settled(self, age: f64) -> f64 {
        if age <= 0.0 {
            return 0.0;
        }
        match self {
            Self::Logn(spread, median) => normal((age / median).ln() / spread),
            Self::Exp(mean) => 1.0 - (-age / mean).exp(),
            Self::Lomax(shape, scale) => 1.0 - (1.0 + age / scale).powf(-shape),
            Self::Weibull(shape, scale) => 1.0 - (-(age / scale).powf(shape)).exp(),
            Self::Uniform(low, high) => ((age - low) / (high - low)).clamp(0.0, 1.0),
        }
    }

    fn quantile(self, share: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1e7);
        for _ in 0..80 {
            let middle = f64::midpoint(low, high);
            if self.settled(middle) < share { low = middle } else { high = middle }
        }
        low
    }
}

/// The normal distribution function, by the complementary error function (W. J. Cody's bounds are
/// not needed: Numerical Recipes' rational fit is good to 1e-7).
fn normal(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let series = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let sum = series.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let tail = t * (-x * x + sum).exp() / 2.0;
    if z < 0.0 { tail } else { 1.0 - tail }
}
