//! The grid of ages on which everything about a lane's tasks is known: fine where tasks are young.

use std::sync::LazyLock;

/// Points of the grid.
pub const POINTS: usize = 320;
/// Distance of two points in `ln(1 + age in seconds)`: 0.03 s at birth, 3 % of the age later on,
/// which is finer than what a few thousand observations can tell. The last point is 3.9 hours.
pub const STEP: f64 = 0.03;

/// The age of each point, seconds.
static AGES: LazyLock<[f64; POINTS]> = LazyLock::new(|| {
    std::array::from_fn(|point| {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred points")]
        let point = point as f64;
        (point * STEP).exp_m1()
    })
});

/// The age of a point, seconds.
#[must_use]
pub fn age(point: usize) -> f64 {
    AGES[point]
}

/// The ages of all points, seconds.
#[must_use]
pub fn all() -> &'static [f64; POINTS] {
    &AGES
}

/// Where an age (seconds) lies: the point below it, and how far towards the next one, 0 to 1.
#[must_use]
pub fn place(age: f64) -> (usize, f64) {
    let place = age.max(0.0).ln_1p() / STEP;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
    let point = (place as usize).min(POINTS - 2);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred points")]
    let share = (place - point as f64).min(1.0);
    (point, share)
}

/// The point nearest to an age (seconds).
#[must_use]
pub fn nearest(age: f64) -> usize {
    let (point, share) = place(age);
    point + usize::from(share >= 0.5)
}

/// The value of a function known at the points, at a place between them.
#[must_use]
pub fn at(values: &[f32], (point, share): (usize, f64)) -> f64 {
    let (below, above) = (f64::from(values[point]), f64::from(values[point + 1]));
    below + (above - below) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_leads_back_to_its_age() {
        for seconds in [0.0, 0.01, 0.5, 8.0, 600.0, 3_600.0] {
            let (point, share) = place(seconds);
            let between = age(point) + (age(point + 1) - age(point)) * share;
            assert!((between - seconds).abs() <= 0.001 * seconds + 1e-3, "{seconds}: {between}");
        }
        assert_eq!(place(1e9), (POINTS - 2, 1.0));
        assert!(age(POINTS - 1) > 3.5 * 3_600.0);
    }
}
