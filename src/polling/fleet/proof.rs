//! Whether a lease that was proved by a heartbeat may still be trusted: only while wall and steady
//! clock have gone on together since. A virtual machine that is paused stops both, and its wall clock
//! is set right afterwards; a person who sets the wall clock costs a heartbeat.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Reading;

/// What the two clocks may part by: less than the margin at the end of a lease, more than what the
/// system's time keeping corrects at once.
const APART_MAX_MS: i64 = 250;
/// Nobody else can take the lanes: there is nothing to prove.
const ALONE: i64 = i64::MIN;
/// No heartbeat was answered yet.
const UNPROVED: i64 = i64::MAX;

/// How far apart the clocks were at the last heartbeat that was answered.
#[derive(Debug)]
pub struct Proof(AtomicI64);

impl Default for Proof {
    fn default() -> Self {
        Self(AtomicI64::new(UNPROVED))
    }
}

impl Proof {
    /// A heartbeat that was sent then was answered.
    pub fn renew(&self, asked: Reading) {
        self.0.store(asked.apart(), Ordering::SeqCst);
    }

    /// No other daemon can come.
    pub fn waive(&self) {
        self.0.store(ALONE, Ordering::SeqCst);
    }

    /// Whether the clocks have gone on together since the last heartbeat.
    #[must_use]
    pub fn stands(&self, now: Reading) -> bool {
        match self.0.load(Ordering::SeqCst) {
            ALONE => true,
            UNPROVED => false,
            apart => now.apart().abs_diff(apart) <= APART_MAX_MS.unsigned_abs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Steady, Timestamp};

    fn at(wall: i64, steady: i64) -> Reading {
        Reading { wall: Timestamp(wall), steady: Steady(steady) }
    }

    #[test]
    fn nothing_is_proved_before_the_first_heartbeat_and_nothing_needs_it_alone() {
        let proof = Proof::default();
        assert!(!proof.stands(at(0, 0)));
        proof.waive();
        assert!(proof.stands(at(0, 0)) && proof.stands(at(99_000, 0)));
    }

    proptest! {
        /// However long both go on; a suspend that both count included.
        #[test]
        fn clocks_that_go_on_together_are_trusted(
            wall in 0..i64::MAX / 4, steady in 0..i64::MAX / 4, on in 0..i64::MAX / 4,
            jitter in -250_i64..=250,
        ) {
            let proof = Proof::default();
            proof.renew(at(wall, steady));
            prop_assert!(proof.stands(at(wall + on + jitter, steady + on)));
        }

        /// A pause that stopped the steady clock, a step by a person forward or back.
        #[test]
        fn clocks_that_part_are_not_until_the_next_heartbeat(
            wall in 0..i64::MAX / 4, steady in 0..i64::MAX / 4, on in 0..100_000_i64,
            step in 251..i64::MAX / 4, back in any::<bool>(),
        ) {
            let step = if back { -step } else { step };
            let proof = Proof::default();
            proof.renew(at(wall, steady));
            let now = at(wall + on + step, steady + on);
            prop_assert!(!proof.stands(now));
            proof.renew(now);
            prop_assert!(proof.stands(at(now.wall.0 + 1_000, now.steady.0 + 1_000)));
        }
    }
}
