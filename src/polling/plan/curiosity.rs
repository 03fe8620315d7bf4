//! Looks taken to learn. When looks are dear, every task gets its first one late, and nobody would
//! ever find out that most had settled long before: so a few are looked at early, at random.

use crate::task::TaskId;

/// Where the first look comes sooner than this (seconds), looks are so cheap that they tell
/// everything by themselves.
const FIRST_LOOK_MIN: f64 = 4.0;
/// The share of tasks probed while nothing is known, and in the long run.
const SHARE_FIRST: f64 = 0.08;
const SHARE_LAST: f64 = 0.01;
/// So many probes bring the share down to half.
const PROBES_HALF: f64 = 30.0;
/// Probes go to ages between this share of the first look's and all of it. Near it they tell soonest
/// which way to move it; what they find moves it, and so they come to still earlier ages. Of 0.15
/// to 0.75 this came nearest to the bound, and followed changes soonest.
const EARLIEST: f64 = 0.65;
/// A look sooner than this share of the first look's age was a probe.
const PROBE_BEFORE: f64 = 0.93;

/// When to probe.
#[derive(Clone, Debug, Default)]
pub struct Curiosity {
    probes: f64,
    seed: u64,
}

impl Curiosity {
    /// Curiosity that chooses by this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { probes: 0.0, seed }
    }

    /// Nothing is known any more: probes as if new.
    pub fn revive(&mut self) {
        self.probes = 0.0;
    }

    /// The age (seconds) at which to look at a new task to learn from it, if at all; `first` is
    /// the age at which it would be looked at anyway.
    pub fn probe(&mut self, task: TaskId, first: f64) -> Option<f64> {
        if !worth_it(first) {
            return None;
        }
        let share = SHARE_LAST + SHARE_FIRST / (1.0 + (self.probes / PROBES_HALF).powi(2));
        let (chosen, place) = dice(task, self.seed);
        if chosen >= share {
            return None;
        }
        self.probes += 1.0;
        // Even in the logarithm of age.
        Some(first * EARLIEST.powf(place))
    }

    /// Whether a first look at this age (seconds) was taken to learn, where it would usually come
    /// at `first`.
    #[must_use]
    pub fn was_probe(age: f64, first: f64) -> bool {
        worth_it(first) && age < PROBE_BEFORE * first
    }
}

/// Whether looks are so dear that some have to be taken out of curiosity.
fn worth_it(first: f64) -> bool {
    first >= FIRST_LOOK_MIN
}

/// Two numbers between 0 and 1, random enough, and the same for the same task (splitmix64).
fn dice(task: TaskId, seed: u64) -> (f64, f64) {
    let mut bits =
        (task.0.cast_unsigned() ^ seed.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let half =
        |bits: u64| f64::from(u32::try_from(bits & 0xffff_ffff).unwrap_or(0)) / 4_294_967_296.0;
    (half(bits), half(bits >> 32))
}
