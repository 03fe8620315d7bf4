//! The picture of `docs/polling.md`: mean detection delay over load, for four ways to poll.

use std::fmt::Write;
use std::time::Duration;

use outcomed::config::QuotaLimits;
use outcomed::replay::clockwork::replay;
use outcomed::replay::policy::Policy;

use crate::bound::Grid;
use crate::settling::Settling;
use crate::traces;

const LOADS: [f64; 8] = [60.0, 120.0, 200.0, 300.0, 400.0, 500.0, 650.0, 800.0];
const MINUTES: f64 = 30.0;
const WARM_UP: i64 = 600_000_000_000;
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;

/// The whole picture.
pub(crate) fn svg() -> String {
    let settling: Settling = crate::parsed("logn:0.6,15");
    let grid = Grid::new(&settling);
    let mut lines: [Vec<(f64, f64)>; 4] = Default::default();
    for load in LOADS {
        let mean = |policy: Policy| mean(&settling, load, policy);
        let fixed =
            (1..=12).map(|step| mean(Policy::Fixed(Duration::from_secs(step * step / 3 + 1))));
        let values = [
            grid.bound(1_000.0 / load).0,
            mean(Policy::Planned),
            fixed.fold(f64::INFINITY, f64::min),
            mean(Policy::Fixed(Duration::from_secs(1))),
        ];
        for (line, value) in lines.iter_mut().zip(values) {
            line.push((load, value));
        }
    }
    drawn(&lines)
}

#[expect(clippy::cast_precision_loss, reason = "counts of tasks, spans of time")]
fn mean(settling: &Settling, load: f64, policy: Policy) -> f64 {
    let rows = traces::steady(settling, load, MINUTES, 1);
    let mut poller = policy.poller(QuotaLimits::default(), 0);
    let replayed = replay(rows, &mut *poller, Duration::ZERO, |_| {});
    let delays: Vec<f64> = replayed
        .tasks
        .iter()
        .filter(|(row, _)| row.registered_at >= WARM_UP)
        .filter_map(|(row, seen)| {
            let settled = row.registered_at + row.settles_after?;
            Some((seen.as_ref()? * 1_000_000 - settled) as f64 / 1e9)
        })
        .collect();
    delays.iter().sum::<f64>() / delays.len().max(1) as f64
}

/// The figures behind the picture, for whoever cannot see it, and for the document's table.
fn told(lines: &[Vec<(f64, f64)>; 4]) -> String {
    let mut told =
        String::from("tasks a minute: bound, outcomed, best fixed interval, every second\n");
    for (place, (load, _)) in lines[0].iter().enumerate() {
        let delays: Vec<String> =
            lines.iter().map(|line| format!("{:.2}", line[place].1)).collect();
        let _ = writeln!(told, "{load}: {}", delays.join(", "));
    }
    told
}

fn drawn(lines: &[Vec<(f64, f64)>; 4]) -> String {
    let x = |load: f64| 60.0 + load / 800.0 * (WIDTH - 200.0);
    let y =
        |delay: f64| HEIGHT - 45.0 - (delay / 0.25).ln() / (32.0_f64 / 0.25).ln() * (HEIGHT - 75.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<desc>{}</desc>\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n<text x=\"60\" y=\"18\">mean detection delay, seconds (log-normal tasks, \
         15 s)</text>\n",
        told(lines)
    );
    for delay in [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0] {
        let _ = writeln!(
            svg,
            "<path d=\"M60 {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"52\" y=\"{2:.1}\" \
             text-anchor=\"end\">{delay}</text>",
            y(delay),
            x(800.0),
            y(delay) + 4.0
        );
    }
    for load in [60.0, 200.0, 400.0, 600.0, 800.0] {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{load}</text>",
            x(load),
            HEIGHT - 26.0
        );
    }
    let _ = writeln!(svg, "<text x=\"60\" y=\"{}\">tasks a minute</text>", HEIGHT - 8.0);
    let looks = [
        ("the bound", "#888", "4 3"),
        ("outcomed", "#0a7d4f", "none"),
        ("best fixed interval", "#c77700", "none"),
        ("every second", "#b3261e", "none"),
    ];
    for (line, (name, colour, dash)) in lines.iter().zip(looks) {
        let points: Vec<String> =
            line.iter().map(|(load, delay)| format!("{:.1},{:.1}", x(*load), y(*delay))).collect();
        let end = line.last().map_or(0.0, |(_, delay)| y(*delay));
        // Close lines would write their names over each other.
        let apart = match name {
            "outcomed" => 12.0,
            "every second" => -10.0,
            "the bound" => 24.0,
            _ => 0.0,
        };
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dash}\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            points.join(" "),
            x(800.0) + 8.0,
            end + apart
        );
    }
    svg + "</svg>\n"
}
