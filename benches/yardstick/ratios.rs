//! How near to the bound the scheduler comes: the tables of `docs/polling.md`.

use std::time::Duration;

use outcomed::config::QuotaLimits;
use outcomed::replay::clockwork::replay;
use outcomed::replay::policy::Policy;
use outcomed::replay::trace::Row;

use crate::bound::Grid;
use crate::settling::Settling;
use crate::{BURSTS, LOADS, PER_MINUTE, PER_SECOND, sliding, traces};

/// One hump wide and narrow, two humps, no memory, a heavy tail.
const LAWS: [&str; 6] = [
    "logn:0.6,15",
    "logn:0.3,20",
    "0.8*logn:0.25,8+0.2*logn:0.2,50",
    "exp:15",
    "exp:40",
    "lomax:2.5,20",
];
/// What tasks take before and after, and how many a minute there are.
const CHANGES: [(&str, &str, f64); 6] = [
    ("logn:0.6,15", "logn:0.6,7", 60.0),
    ("logn:0.6,15", "logn:0.6,30", 60.0),
    ("logn:0.6,15", "logn:0.6,7", 500.0),
    ("logn:0.6,15", "0.8*logn:0.3,8+0.2*logn:0.3,50", 200.0),
    ("logn:0.6,15", "0.8*logn:0.3,8+0.2*logn:0.3,50", 500.0),
    ("logn:0.6,15", "0.8*logn:0.3,8+0.2*logn:0.3,50", 800.0),
];
const SEEDS: u64 = 4;
const MINUTES: f64 = 40.0;
const WARM_UP: f64 = 600.0;

/// Mean delays at steady loads, divided by the bound.
pub(crate) fn steady() {
    println!("| tasks take | {} |", LOADS.map(|load| load.to_string()).join(" | "));
    for law in LAWS {
        let settling: Settling = crate::parsed(law);
        let grid = Grid::new(&settling);
        let ratios = LOADS.map(|load| {
            let trace = |seed| traces::steady(&settling, load, MINUTES, seed);
            let span = (WARM_UP, MINUTES * 60.0);
            mean(trace, span) / grid.bound(PER_MINUTE / load).0
        });
        println!("| `{law}` | {} |", ratios.map(|ratio| format!("{ratio:.3}")).join(" | "));
    }
}

/// Mean delays of bursts, divided by the floor under windows that slide; that floor, divided by
/// the bound with aligned minutes.
pub(crate) fn bursts() {
    println!("| tasks take | {} |", BURSTS.map(|tasks| tasks.to_string()).join(" | "));
    for law in LAWS {
        let settling: Settling = crate::parsed(law);
        let grid = Grid::new(&settling);
        let cells = BURSTS.map(|tasks| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "tasks")]
            let trace = |seed| traces::burst(&settling, tasks as u32, seed);
            let bound = grid.burst(tasks, PER_MINUTE, 6);
            // Each is a floor; the one with windows that slide looks less far ahead.
            let floor = sliding::floor(&settling, tasks, PER_MINUTE, PER_SECOND).max(bound);
            let mean = mean(trace, (traces::BURST_AT, f64::INFINITY));
            format!("{:.2} ({:.2})", mean / floor, floor / bound)
        });
        println!("| `{law}` | {} |", cells.join(" | "));
    }
}

/// Mean delays of the tasks of the ten minutes after a change, divided by the new bound.
pub(crate) fn changes() {
    for (before, after, load) in CHANGES {
        let (old, new): (Settling, Settling) = (crate::parsed(before), crate::parsed(after));
        let trace = |seed| traces::change(&old, &new, load, seed);
        let span = (traces::CHANGE_AT, traces::CHANGE_AT + 600.0);
        let ratio = mean(trace, span) / Grid::new(&new).bound(PER_MINUTE / load).0;
        println!("| `{before}` → `{after}` | {load} | {ratio:.2} |");
    }
}

/// The mean delay (seconds) of the tasks registered within a span, over all seeds.
#[expect(clippy::cast_precision_loss, reason = "counts of tasks, spans of time")]
fn mean(trace: impl Fn(u64) -> Vec<Row>, (from, until): (f64, f64)) -> f64 {
    let mut delays: Vec<f64> = Vec::new();
    for seed in 1..=SEEDS {
        let mut poller = Policy::Planned.poller(QuotaLimits::default(), seed);
        let replayed = replay(trace(seed), &mut *poller, Duration::ZERO, |_| {});
        let counted = replayed.tasks.iter().filter_map(|(row, seen)| {
            let registered = row.registered_at as f64 / 1e9;
            let delay =
                (*seen)? as f64 / 1e3 - (row.registered_at + row.settles_after?) as f64 / 1e9;
            (from..until).contains(&registered).then_some(delay)
        });
        delays.extend(counted);
    }
    delays.iter().sum::<f64>() / delays.len().max(1) as f64
}
