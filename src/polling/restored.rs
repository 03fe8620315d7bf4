//! When polls were reserved that an earlier owner of a lane may have spent, on this process's steady
//! clock. Pure.

use std::time::Duration;

use uuid::Uuid;

use crate::clock::{Reading, Steady};
use crate::store::Reservation;

/// When the machine started.
const STARTED: Steady = Steady(0);

/// `ago` is how long ago the last reservation was stored, by the clock of a store that has one. A
/// store without one is on this machine: then time since the machine's start tells, and the wall
/// clock, which may have been set meanwhile, only where nothing else does.
pub(super) fn reserved_at(
    reservations: &[Reservation],
    ago: Option<Duration>,
    boot: Option<Uuid>,
    now: Reading,
) -> Vec<(Steady, u32)> {
    // What the last owner's wall clock shows now.
    let theirs = reservations.last().zip(ago).map(|(last, ago)| last.at.after(ago));
    let wall = theirs.unwrap_or(now.wall);
    let by_wall =
        |it: &Reservation| Steady(now.steady.0.saturating_sub(wall.0.saturating_sub(it.at.0)));
    let ended = |it: &Reservation| match it.boot.filter(|_| theirs.is_none()).zip(boot) {
        Some((then, boot)) if then.id == boot => (then.at, false),
        // Whoever reserved them ended before this machine started.
        Some(_) => (STARTED, true),
        None => (by_wall(it), false),
    };
    // Nothing is reserved in the future; a clock that was set back must not close the quota.
    let mut reserved: Vec<(Steady, u32)> =
        reservations.iter().map(|it| (ended(it).0.min(now.steady), it.polls)).collect();
    if reservations.last().is_some_and(|last| ended(last).1) {
        // The last one was not spent later either.
        reserved.push((STARTED, 0));
    }
    reserved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::config::QuotaLimits;
    use crate::polling::quota::Quota;
    use crate::store::Boot;

    const THIS: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn reserved(wall: i64, boot: Option<(Uuid, i64)>) -> Reservation {
        let boot = boot.map(|(id, at)| Boot { id, at: Steady(at) });
        Reservation { at: Timestamp(wall), polls: 50, boot }
    }

    fn at(wall: i64, steady: i64) -> Reading {
        Reading { wall: Timestamp(wall), steady: Steady(steady) }
    }

    #[test]
    fn the_stores_own_clock_goes_first_and_without_any_the_wall_clock_tells() {
        let one = [reserved(100_000, Some((THIS, 3_000)))];
        let ago = Some(Duration::from_secs(2));
        assert_eq!(reserved_at(&one, ago, Some(THIS), at(0, 9_000)), [(Steady(7_000), 50)]);
        let old = [reserved(100_000, None)];
        let now = at(101_000, 9_000);
        assert_eq!(reserved_at(&old, None, Some(THIS), now), [(Steady(8_000), 50)]);
        assert_eq!(reserved_at(&one, None, None, now), [(Steady(8_000), 50)]);
        assert_eq!(reserved_at(&old, None, None, at(1_000, 9_000)), [(Steady(9_000), 50)]);
    }

    proptest! {
        #[test]
        fn within_a_boot_no_step_of_the_wall_clock_forgets_or_prolongs_anything(
            then in 0_i64..100_000_000, wall in any::<i32>(), stepped in any::<i32>(), on in 0_i64..100_000,
        ) {
            let one = [reserved(i64::from(wall), Some((THIS, then)))];
            let now = at(i64::from(stepped), then + on);
            prop_assert_eq!(reserved_at(&one, None, Some(THIS), now), [(Steady(then), 50)]);
        }

        #[test]
        fn after_another_boot_they_are_as_old_as_this_one_whatever_the_wall_clock_says(
            then in 0_i64..100_000_000, stepped in any::<i32>(), uptime in 0_i64..60_000,
        ) {
            let one = [reserved(0, Some((OTHER, then)))];
            let now = at(i64::from(stepped), uptime);
            let reserved = reserved_at(&one, None, Some(THIS), now);
            prop_assert_eq!(&reserved, &[(Steady(0), 50), (Steady(0), 0)]);
            let mut quota = Quota::new(QuotaLimits { per_second: 50, per_minute: 50 });
            quota.restore(&reserved, now.steady);
            prop_assert!(quota.earliest(now.steady) >= Steady(60_000), "a minute from the start");
            let later = Steady(61_000);
            let mut quota = Quota::new(QuotaLimits { per_second: 50, per_minute: 50 });
            quota.restore(&reserved_at(&one, None, Some(THIS), at(0, later.0)), later);
            prop_assert_eq!(quota.earliest(later), later);
        }
    }

    #[test]
    fn a_step_forward_over_a_restart_leaves_the_minute_closed() {
        let limits = QuotaLimits { per_second: 50, per_minute: 50 };
        let an_hour = 3_600_000;
        let reserved = [reserved(1_000_000, Some((THIS, 500_000)))];
        let now = at(1_001_000 + an_hour, 501_000);
        let mut quota = Quota::new(limits);
        quota.restore(&reserved_at(&reserved, None, Some(THIS), now), now.steady);
        assert!(quota.earliest(now.steady) > now.steady.after(Duration::from_secs(58)));
    }
}
