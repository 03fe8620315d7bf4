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

#[cfg(test)]
mod tests {
    use super::super::classes::Waiting;
    use super::*;
    use crate::task::TaskId;

    /// So many tasks registered at once, asked about this long before their first looks are due.
    fn at_once(tasks: i64, before: f64) -> (Option<Bunch>, Steady) {
        let (table, level, born) = (Table::prior(), 20.0, Steady(0));
        let mut classes = Classes::default();
        for task in 0..tasks {
            let waiting = Waiting { looked: born, task: TaskId(task), born };
            classes.insert(waiting, |_, _| Steady(0));
        }
        let now = later(born, table.gap(level, (0, 0.0)) - before);
        (coming(&table, level, &classes, 50.0, now), now)
    }

    #[test]
    fn half_of_a_bunch_is_served_before_it_is_due() {
        // 500 looks take ten seconds: they begin five seconds before they are due.
        let (Some(bunch), now) = at_once(500, 5.9) else { panic!("500 looks are a bunch") };
        assert_eq!((bunch.begins, bunch.ends), (later(now, 1.0), later(now, 6.0)));
        assert_eq!(Bunch::reach(Some(bunch), now), now);
        assert_eq!(Bunch::reach(Some(bunch), bunch.begins), bunch.ends);
    }

    #[test]
    fn a_few_looks_wait_until_they_are_due() {
        assert_eq!(at_once(20, 5.9).0, None);
    }
}
