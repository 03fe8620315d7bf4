//! Many looks that fall due at once, after a burst of tasks: the limit a second spreads them over
//! the time after it. Begun early, half of them come a little before their best time and half a
//! little after, which costs far less waiting than all of them after it.

use super::classes::{Classes, seconds};
use super::table::Table;
use crate::clock::Steady;

/// How far ahead bunches are looked for, seconds: one that takes twice as long to serve is all
/// that the limit a minute allows.
const AHEAD: [f64; 8] = [0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];

/// A bunch that takes less than so long to serve is not worth the trouble, seconds.
const TAKES_MIN: f64 = 0.5;

/// Looks to be begun before they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bunch {
    /// When to begin.
    pub begins: Steady,
    /// The last of them is due then.
    pub ends: Steady,
}

impl Bunch {
    /// Until when looks may be due that are begun by `now`.
    #[must_use]
    pub fn reach(bunch: Option<Self>, now: Steady) -> Steady {
        bunch.filter(|bunch| bunch.begins <= now).map_or(now, |bunch| bunch.ends.max(now))
    }
}

/// The bunch to begin first at the price of `level`, if `pace` looks a second are served: looks
/// due within some time that take more than twice this time to serve.
#[must_use]
pub fn coming(
    table: &Table,
    level: f64,
    classes: &Classes,
    pace: f64,
    now: Steady,
) -> Option<Bunch> {
    let mut due = [0_usize; AHEAD.len()];
    for class in classes.iter() {
        let (Some(head), Some(last)) = (class.queue.front(), class.queue.back()) else { continue };
        let gap = table.gap(level, class.place);
        let (first, last) = (seconds(head.looked.0 - now.0), seconds(last.looked.0 - now.0));
        for (due, ahead) in due.iter_mut().zip(AHEAD) {
            let until = ahead - gap;
            *due += if last <= until {
                class.queue.len()
            } else if first > until {
                0
            } else {
                class.queue.partition_point(|task| seconds(task.looked.0 - now.0) <= until)
            };
        }
    }
    let begins = |(due, ahead): (&usize, f64)| {
        #[expect(clippy::cast_precision_loss, reason = "tasks of one lane")]
        let takes = *due as f64 / pace;
        (takes >= TAKES_MIN).then_some((ahead - takes / 2.0, ahead))
    };
    let (begins, ends) =
        due.iter().zip(AHEAD).filter_map(begins).min_by(|one, other| one.0.total_cmp(&other.0))?;
    Some(Bunch { begins: later(now, begins), ends: later(now, ends) })
}

#[expect(clippy::cast_possible_truncation, reason = "ms within seconds")]
fn later(now: Steady, wait: f64) -> Steady {
    Steady(now.0.saturating_add((wait * 1000.0) as i64))
}
